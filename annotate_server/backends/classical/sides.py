"""Left lung and right lung: which is which, also where they touch."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import watershed

from annotate_server.backends.classical.body import AIR_HU, Body
from annotate_server.backends.classical.scan import Scan
from annotate_server.backends.classical.shapes import Mask, centres_of, depth_in, grown, parts_of, sizes_of

CORES = tuple((hu, cut) for hu in (AIR_HU, -500.0, -600.0, -700.0) for cut in (0.0, 2.1, 4.1, 7.1))
"""How the cores of two lungs are looked for: below which HU, how many mm deep. A junction of two millimetres of pleura
is brighter than lung even where it is blurred, so limits in HU cut what depth alone cannot."""
SECOND_SHARE = 0.12
APART_MM = 25.0
MEDIASTINUM_MM = 15.0
ALONE_SHARE = 0.25
CRUMBS_ML = 3.0


@dataclass(frozen=True)
class Sides:
    """The two lungs on the working grid."""

    left: Mask
    right: Mask

    @property
    def either(self) -> Mask:
        """Return both."""
        both: Mask = self.left | self.right
        return both


def sides_of(scan: Scan, lungs: Mask, lumen: Mask, middle_mm: float) -> Sides:
    """Return the lungs without the lumen of the airways, told apart by where they lie in the patient.

    Touching lungs are reduced until two large pieces remain on either side, and cut where they touch (watershed of the
    depth). `middle_mm` is the LPS x of the midline, for a lung that is alone or cannot be cut.
    """
    lungs = lungs & ~grown(lumen, 1.1 * min(scan.spacing_mm), scan.spacing_mm)
    for limit_hu, cut_mm in CORES:
        depth = depth_in(lungs & (scan.hu < limit_hu), scan.spacing_mm)
        markers = _markers(scan, depth > cut_mm)
        if markers is not None:
            basins = watershed(-depth, markers=markers, mask=lungs)
            loose = _by_part(scan, lungs & (basins == 0), middle_mm)
            return Sides((basins == 1) | loose.left, (basins == 2) | loose.right)
    return _without_crumbs(scan, _by_midline(scan, lungs, middle_mm))


def _without_crumbs(scan: Scan, sides: Sides) -> Sides:
    """Return the lungs without a side that is nothing but crumbs: the other lung is alone."""
    left, right = int(sides.left.sum()), int(sides.right.sum())
    if min(left, right) > min(scan.voxels_of(CRUMBS_ML), 0.01 * max(left, right)):
        return sides
    nothing = np.zeros_like(sides.left)
    return Sides(sides.left, nothing) if left > right else Sides(nothing, sides.right)


def midline_mm(scan: Scan, body: Body) -> float:
    """Return the LPS x of the patient's midline: the centre of bone and other dense tissue, else of the volume."""
    dense = body.tissue & (scan.hu > 200.0)
    if not dense.any():
        dense = np.ones_like(dense)
    return float(scan.geometry.world([np.argwhere(dense).mean(axis=0)])[0, 0])


def _markers(scan: Scan, core: Mask) -> NDArray[np.int32] | None:
    """Return 1 in the left lung's core and 2 in the right one's; None where there are no two large pieces apart."""
    parts, count = parts_of(core)
    if count < 2:
        return None
    sizes = sizes_of(parts, count)
    first, second = (int(number) for number in np.argsort(sizes)[::-1][:2])
    centres = centres_of(parts)
    x = scan.geometry.world(centres)[:, 0]
    if sizes[second] < SECOND_SHARE * sizes[first] or abs(x[first] - x[second]) < APART_MM:
        return None
    if _tissue_between_mm(scan, centres[first], centres[second]) < MEDIASTINUM_MM:
        return None
    left, right = (first, second) if x[first] > x[second] else (second, first)
    markers: NDArray[np.int32] = (parts == left) + 2 * (parts == right).astype(np.int32)
    return markers


def _tissue_between_mm(scan: Scan, start: NDArray[np.float64], end: NDArray[np.float64]) -> float:
    """Return how much of the straight way between two centres is no lung: two lungs have the mediastinum between."""
    steps = np.linspace(start, end, 200)
    k, j, i = np.round(steps).astype(int).T
    length = float(np.linalg.norm((end - start) * np.array(scan.spacing_mm)))
    return length * float(np.mean(scan.hu[k, j, i] > AIR_HU))


def _by_midline(scan: Scan, lungs: Mask, middle_mm: float) -> Sides:
    """Return each part on the side of its centre; one that spreads over both sides is cut at the midline."""
    whole = _by_part(scan, lungs, middle_mm)
    k, j, i = np.ogrid[tuple(slice(0, n) for n in lungs.shape)]
    affine = scan.geometry.affine
    beyond = affine[0, 3] + k * affine[0, 0] + j * affine[0, 1] + i * affine[0, 2] > middle_mm
    count = int(lungs.sum())
    on_left = int((lungs & beyond).sum())
    if min(on_left, count - on_left) < ALONE_SHARE * count or (whole.left.any() and whole.right.any()):
        return whole
    return Sides(lungs & beyond, lungs & ~beyond)


def _by_part(scan: Scan, lungs: Mask, middle_mm: float) -> Sides:
    """Return each connected part whole, on the side where its centre lies."""
    parts, _ = parts_of(lungs, 26)
    is_left = scan.geometry.world(centres_of(parts))[:, 0] > middle_mm
    is_left[0] = False
    left: Mask = is_left[parts]
    return Sides(left, lungs & ~left)
