"""Which air of the body is lung: not bowel gas, not stool, not the air of the room."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import watershed

from annotate_server.backends.classical.body import AIR_HU, Body
from annotate_server.backends.classical.scan import Scan
from annotate_server.backends.classical.shapes import (
    Mask,
    Part,
    Parts,
    centres_of,
    described,
    distance_to,
    grown,
    largest_part,
    numbered,
    parts_of,
    shrunk,
    sizes_of,
)

GAS_HU = -950.0
"""Parenchyma is rarely below (emphysema is defined by it); gas in bowel or stomach mostly is."""
LUNG_HU = (-945.0, -500.0)
LUNG, OTHER = 1, 2
WALL_HU = -800.0
SMALLEST_ML = 0.3
SMALL_ML = 15.0
LARGE_ML = 300.0
CUT_MM = 2.1
RIB_HU = 250.0
RIB_REACH_MM = 25.0


def air_of(scan: Scan, body: Body) -> Mask:
    """Return the air that the body encloses: lungs, airways, bowel gas."""
    air: Mask = body.region & (scan.hu < AIR_HU) & ~scan.padding
    return air


def lungs_among(scan: Scan, body: Body, air: Mask) -> Mask:
    """Return the part of the body's air that is lung, with the airways that are open to it.

    The air is cut at thin places, because the diaphragm with a bowel wall beside it may be thinner than a voxel. Each
    piece is judged by where it lies and by the intensities of its inside, where no voxel is shared with tissue.
    """
    inner = shrunk(air, max(CUT_MM, min(scan.spacing_mm[1:])), scan.spacing_mm)
    cores, count = numbered(inner, 6, max(3.0, scan.voxels_of(SMALLEST_ML)))
    pieces = described(cores, count, scan.hu, scan.geometry.voxel_ml, GAS_HU)
    accepted = [pieces[n - 1] for n in _accepted(pieces, cores, scan, body)]
    if not accepted:
        return np.zeros_like(air)
    markers = np.where(np.isin(cores, [p.number for p in accepted]), LUNG, np.where(cores > 0, OTHER, 0))
    markers[_bubbles(scan, air, cores, accepted)] = OTHER
    basins = watershed(scan.hu, markers=markers.astype(np.int32), mask=air)
    lung: Mask = basins == LUNG
    return lung | _fragments(scan, air & (basins == 0), lung)


def _bubbles(scan: Scan, air: Mask, cores: Parts, lungs: Sequence[Part]) -> Mask:
    """Return gas of stomach or bowel that is joined to a lung through a wall thinner than a voxel.

    It lies in the lower half of the piece that it is joined to, is small beside it, and a wall, however blurred, is
    brighter than both: a bulla or emphysema goes over into the lung without one.
    """
    found = np.zeros_like(air)
    gas = air & (ndimage.uniform_filter(scan.hu, 3) < GAS_HU)
    for lung in lungs:
        box = lung.box.slices
        core = cores[box] == lung.number
        parts, count = numbered(gas[box] & core, 6, scan.voxels_of(2.0))
        low = np.zeros(count + 1, dtype=np.bool_)
        low[1:] = centres_of(parts)[1:, 0] < (lung.box.stop[0] - lung.box.start[0]) / 2
        low &= sizes_of(parts, count) * scan.geometry.voxel_ml < 0.3 * lung.volume_ml
        candidates = np.where(low[parts], parts, 0).astype(np.int32)
        if candidates.any():
            parenchyma = largest_part(core & ~grown(candidates > 0, 2.1 * max(scan.spacing_mm), scan.spacing_mm))
            found[box] |= _behind_walls(scan.hu[box], air[box], candidates, parenchyma)
    return found


def _behind_walls(hu: NDArray[np.float32], air: Mask, bubbles: NDArray[np.int32], lung: Mask) -> Mask:
    """Return the bubbles, up to their walls, that meet the lung at a brighter border (its median HU decides)."""
    number = int(bubbles.max()) + 1
    basins = watershed(hu, markers=bubbles + number * lung.astype(np.int32), mask=air)
    beside_lung = ndimage.binary_dilation(basins == number)
    walled = [
        bubble
        for bubble in np.unique(bubbles[bubbles > 0])
        if (border := (basins == bubble) & beside_lung).any() and np.median(hu[border]) > WALL_HU
    ]
    behind: Mask = np.isin(basins, walled)
    return behind


def _accepted(pieces: Sequence[Part], cores: Parts, scan: Scan, body: Body) -> list[int]:
    """Return the numbers of the pieces that are lung.

    The first are those that could be nothing else: large, or lung-like and cut by the upper end of the scan (an
    abdomen shows the lung bases at its top). Others follow when they are lung-like and not below the lungs.
    """
    top = scan.hu.shape[0]
    large = [p for p in pieces if p.volume_ml >= LARGE_ML and -965.0 < p.median < LUNG_HU[1]]
    floor = _lower_third(large)
    first = [p for p in large if p.box.stop[0] > floor]
    others = [p for p in pieces if p not in large and _is_lung_like(p)]
    cut = [p for p in others if p.box.stop[0] == top or (p.box.start[0] == 0 and p.volume_ml > SMALL_ML)]
    cut = [p for p in cut if p.volume_ml >= SMALL_ML or _lies_at_ribs(p, cores, scan, body)]
    known = first + cut
    beside = [p for p in others if p not in cut and known and p.box.stop[0] > _lower_third(known)]
    return [p.number for p in (*known, *beside)]


def _lower_third(pieces: Sequence[Part]) -> float:
    """Return the slice at a third of the height of the largest piece; below its like no other lung begins."""
    if not pieces:
        return 0.0
    main = max(pieces, key=lambda p: p.volume_ml)
    return main.box.start[0] + (main.box.stop[0] - main.box.start[0]) / 3


def _is_lung_like(piece: Part) -> bool:
    """Say whether a piece has the intensities of parenchyma: neither those of gas nor as mixed as those of stool."""
    small = piece.volume_ml < SMALL_ML
    widest = 100.0 if small else 160.0
    return LUNG_HU[0] < piece.median < LUNG_HU[1] and piece.spread < widest and piece.share_below < 0.3


def _lies_at_ribs(piece: Part, cores: Parts, scan: Scan, body: Body) -> bool:
    """Say whether most of a piece lies at the bony wall of the chest, as a recess of the pleura does."""
    k, j, i = (int(RIB_REACH_MM / s) + 1 for s in scan.spacing_mm)
    shape = scan.geometry.shape
    box = piece.box.grown((k, j, i), shape)
    bone = body.tissue[box.slices] & (scan.hu[box.slices] > RIB_HU)
    if not bone.any():
        return False
    near = distance_to(bone, scan.spacing_mm) < RIB_REACH_MM
    return bool(near[cores[box.slices] == piece.number].mean() > 0.5)


def _fragments(scan: Scan, rest: Mask, lung: Mask) -> Mask:
    """Return small pieces of air within a few millimetres of the lung: tips of recesses, cut off by a thick slice."""
    near = grown(lung, 4.0, scan.spacing_mm)
    parts, count = parts_of(rest, 26)
    touching = np.bincount(parts[near].ravel(), minlength=count + 1) > 0
    small = sizes_of(parts, count) < scan.voxels_of(2.0)
    touching[0] = False
    fragments: Mask = (touching & small)[parts]
    return fragments
