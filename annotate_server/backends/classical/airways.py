"""Trachea and main bronchi: followed from above, stopped before they leak into the lung."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.graph import MCP_Geometric

from annotate_server.backends.classical.body import TISSUE_HU, Body
from annotate_server.backends.classical.scan import Scan
from annotate_server.backends.classical.shapes import Mask, grown, parts_of, shrunk
from annotate_server.domain.geometry import Box

LUMEN_HU = -880.0
LIMITS_HU = (-750.0, -800.0, -850.0, -880.0, -910.0, -940.0)
"""Tried from lax to strict until the growth does not leak: thin walls are blurred in thick slices."""
SMALLEST_MM2, LARGEST_MM2 = 30.0, 900.0
"""Cross-sections of a trachea: a small child's to that of a tracheomegaly."""
SHORTEST_MM = 25.0
WALL_MM = 6.0
BRONCHI_MM = 45.0
"""How far from the carina the main bronchi are followed."""
FRONT_MM = 4.0
THREAD_MM = 2.0
EDGE_HU = -500.0
"""Half way between air and tissue."""
CROSS_IN_PLANE = np.array([[[0, 1, 0], [1, 1, 1], [0, 1, 0]]], dtype=np.bool_)


@dataclass(frozen=True)
class _Section:
    """A round piece of air in slice k: its voxels (j, i), centre and area."""

    k: int
    plane: Mask
    centre_mm: tuple[float, float]
    area_mm2: float


def find_airways(scan: Scan, body: Body, lungs: Mask) -> Mask:
    """Return the lumen of trachea and main bronchi; empty where the scan begins below the trachea or shows no lung."""
    trachea = _trachea(scan, body, lungs)
    lumen = np.zeros_like(lungs)
    if not trachea:
        return lumen
    for section in trachea:
        lumen[section.k] |= section.plane
    lumen |= _bronchi(scan, body, trachea[-1])
    beside = ndimage.binary_dilation(lumen, CROSS_IN_PLANE)
    edge: Mask = lumen | (beside & body.region & (scan.hu < EDGE_HU))
    return edge


def _trachea(scan: Scan, body: Body, lungs: Mask) -> list[_Section]:
    """Return the longest chain of round sections, downwards, that begins above the lungs or at the scan's upper end."""
    slices = np.flatnonzero(lungs.any(axis=(1, 2)))
    if slices.size == 0:
        return []
    top = scan.hu.shape[0] - 1
    chains: list[list[_Section]] = []
    for k in range(top, int(slices[0]) - 1, -1):
        for section in _sections(scan, body, k):
            chain = next((c for c in chains if _continues(c[-1], section, scan)), None)
            if chain is None:
                chains.append([section])
            else:
                chain.append(section)
    highest = min(int(slices[-1]), top - 2)
    begins_high = [c for c in chains if c[0].k >= highest and _length_mm(c, scan) >= SHORTEST_MM]
    return max(begins_high, key=lambda c: _length_mm(c, scan), default=[])


def _length_mm(chain: Sequence[_Section], scan: Scan) -> float:
    return (chain[0].k - chain[-1].k + 1) * scan.spacing_mm[0]


def _continues(above: _Section, below: _Section, scan: Scan) -> bool:
    """Say whether a section lies just below another one, at nearly its place and of nearly its size."""
    gap = above.k - below.k
    moved = np.hypot(above.centre_mm[0] - below.centre_mm[0], above.centre_mm[1] - below.centre_mm[1])
    near = 1 <= gap <= 2 and moved <= 3.0 + gap * scan.spacing_mm[0]
    return bool(near and 0.4 < below.area_mm2 / above.area_mm2 < 2.5)


def _sections(scan: Scan, body: Body, k: int) -> list[_Section]:
    """Return the round pieces of air in a slice that are surrounded by soft tissue."""
    labels, _ = ndimage.label(body.region[k] & (scan.hu[k] < LUMEN_HU))
    _, dj, di = scan.spacing_mm
    found = []
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        piece = labels[box] == number
        area = float(piece.sum()) * dj * di
        if SMALLEST_MM2 <= area <= LARGEST_MM2 and _is_round(piece, scan) and _has_wall(scan, k, labels == number):
            plane = labels == number
            j, i = ndimage.center_of_mass(plane)
            found.append(_Section(k, plane, (float(j) * dj, float(i) * di), area))
    return found


def _is_round(piece: Mask, scan: Scan) -> bool:
    """Say whether a piece fills its box and is not much longer than wide."""
    height, width = piece.shape[0] * scan.spacing_mm[1], piece.shape[1] * scan.spacing_mm[2]
    return max(height, width) / min(height, width) < 2.5 and float(piece.mean()) > 0.5


def _has_wall(scan: Scan, k: int, plane: Mask) -> bool:
    """Say whether at least half of what surrounds a piece is soft tissue: a bronchus within the lung has air around."""
    ring = grown(plane[None], WALL_MM, scan.spacing_mm)[0] & ~plane
    return bool(2 * np.count_nonzero(scan.hu[k][ring] > TISSUE_HU) > np.count_nonzero(ring))


def _bronchi(scan: Scan, body: Body, carina: _Section) -> Mask:
    """Return the lumen around and below the lowest section of the trachea.

    The growth is repeated with stricter limits until its front stays as narrow as bronchi are; a front that widens
    has leaked into the lung, and what was reached up to there is kept.
    """
    shape = scan.geometry.shape
    j, i = (int(c / s) for c, s in zip(carina.centre_mm, scan.spacing_mm[1:], strict=True))
    k_margin, j_margin, i_margin = (int(1.5 * BRONCHI_MM / s) for s in scan.spacing_mm)
    box = Box((carina.k, j, i), (carina.k + 1, j + 1, i + 1)).grown((k_margin, j_margin, i_margin), shape)
    hu, inside = scan.hu[box.slices], body.region[box.slices]
    start = np.zeros(box.shape, dtype=np.bool_)
    start[carina.k - box.start[0]] = carina.plane[box.slices[1:]]
    best, reached = start, 0.0
    for limit in LIMITS_HU:
        away = _geodesic_mm(inside & (hu < limit), start, scan)
        depth = _depth_without_leak(away, carina.area_mm2, scan.geometry.voxel_ml)
        if depth > reached:
            best, reached = away <= depth, depth
    bronchi = np.zeros(shape, dtype=np.bool_)
    bronchi[box.slices] = start | _without_threads(best, start, scan)
    return bronchi


def _without_threads(lumen: Mask, start: Mask, scan: Scan) -> Mask:
    """Return the lumen without what is too thin for a main bronchus: noise that grew into the lung."""
    radius = max(THREAD_MM, min(scan.spacing_mm[1:]))
    cores, _ = parts_of(shrunk(lumen, radius, scan.spacing_mm) | start, 26)
    kept = np.isin(cores, np.unique(cores[start])) & (cores > 0)
    thick: Mask = lumen & grown(kept, radius + max(scan.spacing_mm[1:]), scan.spacing_mm)
    return thick


def _geodesic_mm(lumen: Mask, start: Mask, scan: Scan) -> NDArray[np.float64]:
    """Return the length of the shortest way through the lumen from the start, in mm; infinite outside."""
    costs = np.where(lumen | start, 1.0, -1.0)
    paths = MCP_Geometric(costs, sampling=scan.spacing_mm)
    away, _ = paths.find_costs(np.argwhere(start))
    length: NDArray[np.float64] = away
    return length


def _depth_without_leak(away: NDArray[np.float64], trachea_mm2: float, voxel_ml: float) -> float:
    """Return how far the front goes (at most BRONCHI_MM) before it is wider than two bronchi."""
    steps = int(BRONCHI_MM / FRONT_MM)
    reached = away[away <= steps * FRONT_MM]
    volumes = np.bincount((reached / FRONT_MM).astype(int), minlength=steps + 1)[:steps] * voxel_ml * 1000
    leaks = np.flatnonzero(volumes / FRONT_MM > 2.2 * trachea_mm2 + 100.0)
    return float(leaks[0] if leaks.size else steps) * FRONT_MM
