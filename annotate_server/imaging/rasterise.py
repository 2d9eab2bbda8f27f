"""Prompts in LPS millimetres to voxels of a grid: the volume's own or any other over the same space."""

from dataclasses import dataclass
from itertools import pairwise

import edt
import numpy as np
from numpy.typing import NDArray

from annotate_server.domain.errors import InvalidPrompt
from annotate_server.domain.geometry import Box, Geometry
from annotate_server.domain.prompt import Prompt, PromptKind

Voxels = NDArray[np.intp]
"""Positions (n, 3) in (k, j, i)."""

FLATNESS_VOXELS = 1.0
"""How far, in voxels, the corners of a lasso may lie off their common plane: what rounding in a viewer does."""


@dataclass(frozen=True)
class Sheet:
    """The one voxel thick layer of a grid that lies in a lasso's plane, near the lasso.

    `voxels` is (n, 3) in (k, j, i), without doubles and inside the grid. `depth_mm` (n,) is how far the centre of each
    lies inside the polygon, measured in the plane: positive inside, negative outside. `axis` is the array axis that
    the plane's normal runs nearest to.
    """

    voxels: Voxels
    depth_mm: NDArray[np.float32]
    axis: int

    @property
    def inside(self) -> Voxels:
        """Return the voxels that the lasso encloses."""
        return self.voxels[self.depth_mm > 0]


def voxels_of(prompt: Prompt, geometry: Geometry) -> Voxels:
    """Return the voxels (n, 3) in (k, j, i) that a prompt covers, without doubles, those outside the grid left out.

    A point is the voxel that holds it; a scribble every voxel that its line passes; a box all voxels from corner to
    corner; a lasso the voxels of its plane whose centres it encloses. Raises InvalidPrompt where nothing is covered.
    """
    prompt.check_within(geometry)
    match prompt.kind:
        case PromptKind.POINT | PromptKind.SCRIBBLE:
            return _line(prompt, geometry)
        case PromptKind.BOX:
            box = box_of(prompt, geometry)
            voxels: Voxels = np.argwhere(np.ones(box.shape, dtype=np.bool_)) + np.array(box.start)
            return voxels
        case PromptKind.LASSO:
            return lasso_sheet(prompt, geometry, margin_mm=0.0).inside


def box_of(prompt: Prompt, geometry: Geometry) -> Box:
    """Return the voxels that the corners of a prompt span, cut off at the grid.

    Each side reaches from the voxel that holds one corner to the voxel that holds the other, both included, so a flat
    box is one voxel thick. Works for every kind of prompt. Raises InvalidPrompt where no voxel of the grid is in it.
    """
    index = np.floor(geometry.index(prompt.points_mm) + 0.5)
    start = np.maximum(index.min(axis=0), 0).astype(int)
    stop = np.minimum(index.max(axis=0) + 1, geometry.shape).astype(int)
    if (stop <= start).any():
        raise InvalidPrompt(f"the {prompt.kind} lies outside the volume")
    return Box((int(start[0]), int(start[1]), int(start[2])), (int(stop[0]), int(stop[1]), int(stop[2])))


def lasso_sheet(lasso: Prompt, geometry: Geometry, margin_mm: float) -> Sheet:
    """Return the layer of voxels in a lasso's plane, up to `margin_mm` beyond the lasso.

    The plane may have any orientation: for each voxel column along the axis nearest to its normal, the one voxel that
    the plane passes is taken. Points are judged by the even-odd rule. A lasso that encloses no voxel's centre still
    counts the voxels under its outline. Raises InvalidPrompt for points that lie on a line or far off one plane.
    """
    corners = geometry.index(lasso.points_mm)
    centre, normal = _plane(corners)
    axis = int(np.argmax(np.abs(normal)))
    across = [a for a in range(3) if a != axis]
    window = _window(corners[:, across], geometry, across, margin_mm)
    filled = _filled(corners[:, across] - [w.start for w in window], (len(window[0]), len(window[1])))
    if not filled.any():
        outline = np.floor(corners[:, across] - [w.start for w in window] + 0.5).astype(int)
        on_grid = ((outline >= 0) & (outline < filled.shape)).all(axis=1)
        filled[tuple(outline[on_grid].T)] = True
    depth_mm = _depth(filled, _scale_mm(normal, geometry, axis, across))
    first, second = np.meshgrid(window[0], window[1], indexing="ij")
    slope = -normal[across] / normal[axis]
    height = centre[axis] + slope[0] * (first - centre[across[0]]) + slope[1] * (second - centre[across[1]])
    level = np.floor(height + 0.5).astype(np.intp)
    on_grid = (level >= 0) & (level < geometry.shape[axis])
    voxels = np.empty((int(on_grid.sum()), 3), dtype=np.intp)
    voxels[:, axis], voxels[:, across[0]], voxels[:, across[1]] = level[on_grid], first[on_grid], second[on_grid]
    if not (depth_mm[on_grid] > 0).any():
        raise InvalidPrompt("the lasso lies outside the volume")
    return Sheet(voxels, depth_mm[on_grid], axis)


def _line(prompt: Prompt, geometry: Geometry) -> Voxels:
    """Return the voxels on the open line through the points of a prompt."""
    corners = geometry.index(prompt.points_mm)
    pieces = [corners[:1]]
    for a, b in pairwise(corners):
        steps = max(1, int(np.ceil(np.abs(b - a).max() * 4)))
        pieces.append(a + (b - a) * (np.arange(1, steps + 1) / steps)[:, None])
    voxels = np.unique(np.floor(np.concatenate(pieces) + 0.5).astype(np.intp), axis=0)
    inside: Voxels = voxels[((voxels >= 0) & (voxels < geometry.shape)).all(axis=1)]
    return inside


def _plane(corners: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return centre and unit normal, in index space, of the plane through the corners of a lasso."""
    centre = corners.mean(axis=0)
    _, sizes, axes = np.linalg.svd(corners - centre, full_matrices=False)
    if sizes[1] < 1e-6 * max(1.0, sizes[0]):
        raise InvalidPrompt("the points of the lasso lie on one line: it encloses nothing")
    normal = axes[2]
    if np.abs((corners - centre) @ normal).max() > FLATNESS_VOXELS:
        raise InvalidPrompt("the points of the lasso do not lie in one plane")
    return centre, normal


def _window(polygon: NDArray[np.float64], geometry: Geometry, across: list[int], margin_mm: float) -> list[range]:
    """Return, for the two axes in the plane, the indices from the lasso's first to its last, margin included."""
    window = []
    for column, axis in enumerate(across):
        margin = margin_mm / geometry.spacing_mm[axis]
        first = max(0, int(np.floor(polygon[:, column].min() - margin)))
        last = min(geometry.shape[axis] - 1, int(np.ceil(polygon[:, column].max() + margin)))
        window.append(range(first, max(first, last + 1)))
    if not all(window):
        raise InvalidPrompt("the lasso lies outside the volume")
    return window


def _filled(polygon: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return which grid points (rows, columns) a closed polygon (n, 2) encloses, by the even-odd rule.

    Every edge toggles, in each row that it crosses, all points behind the crossing (half open in both directions, so
    that a corner counts once).
    """
    a, b = polygon, np.roll(polygon, -1, axis=0)
    low, high = np.where((a[:, :1] <= b[:, :1]), a, b), np.where((a[:, :1] <= b[:, :1]), b, a)
    toggles = np.zeros((shape[0], shape[1] + 1), dtype=np.int32)
    for (row_a, column_a), (row_b, column_b) in zip(low, high, strict=True):
        rows = np.arange(max(0, int(np.ceil(row_a))), min(shape[0], int(np.ceil(row_b))))
        if rows.size:
            crossing = column_a + (rows - row_a) * ((column_b - column_a) / (row_b - row_a))
            np.add.at(toggles, (rows, np.clip(np.ceil(crossing), 0, shape[1]).astype(int)), 1)
    odd: NDArray[np.bool_] = toggles.cumsum(axis=1)[:, :-1] % 2 == 1
    return odd


def _scale_mm(normal: NDArray[np.float64], geometry: Geometry, axis: int, across: list[int]) -> tuple[float, float]:
    """Return how many mm in the plane one step along each of the two other axes is."""
    depth = geometry.spacing_mm[axis]
    first, second = (
        float(np.hypot(geometry.spacing_mm[other], depth * normal[other] / normal[axis])) for other in across
    )
    return first, second


def _depth(filled: NDArray[np.bool_], scale_mm: tuple[float, float]) -> NDArray[np.float32]:
    """Return the distance (mm) to the polygon: positive inside; half a step is counted from a centre to the border."""
    half = min(scale_mm) / 2
    padded = np.pad(filled, 1)
    inside = edt.edt(padded, anisotropy=scale_mm)[1:-1, 1:-1]
    outside = edt.edt(~padded, anisotropy=scale_mm)[1:-1, 1:-1]
    depth: NDArray[np.float32] = np.where(filled, inside - half, half - outside).astype(np.float32)
    return depth
