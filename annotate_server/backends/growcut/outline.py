"""What lassos and boxes say of a structure: where it certainly is, where it is not, and how deep between."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from annotate_server.backends.growcut.grid import Grid
from annotate_server.domain.geometry import Geometry
from annotate_server.domain.prompt import Prompt
from annotate_server.imaging.distance import depth_mm
from annotate_server.imaging.rasterise import Voxels, box_of, lasso_sheet

GROW = 0.35
"""Of a voxel: how far outside the last voxel's centre the border is taken to run, less half a voxel."""

_CORE_VOXELS = 0.5
_SOLID_CORE = 0.5
"""Of the way from a box's centre to its faces: what is nearer belongs to the structure."""
_FAR_MM = 1e4


@dataclass(frozen=True)
class Outline:
    """What a lasso says about the whole layer of voxels in its plane.

    `voxels` (n, 3) lie in the block that is looked at, `axis` is the array axis that the plane's normal runs nearest
    to. `depth_mm` (n,) is how far each voxel lies inside the structure's border as the line lets expect: a person
    draws round a structure, so the border is taken to run one voxel inside the line. `core` are voxels that belong to
    the structure, `outside` those beyond the line.
    """

    voxels: Voxels
    axis: int
    depth_mm: NDArray[np.float32]
    core: NDArray[np.bool_]
    outside: NDArray[np.bool_]

    @property
    def radius_mm(self) -> float:
        """Return how deep the deepest voxel lies."""
        return max(float(self.depth_mm.max()), 1e-3)


@dataclass(frozen=True)
class Solid:
    """What a box says about every cell of a working grid; as `Outline`, but by cell (k, j, i)."""

    depth_mm: NDArray[np.float32]
    core: NDArray[np.bool_]
    outside: NDArray[np.bool_]


def outline_of(lasso: Prompt, geometry: Geometry) -> Outline:
    """Return what a positive lasso says of the voxels of a grid (the block that is looked at)."""
    sheet = lasso_sheet(lasso, geometry, _FAR_MM)
    across = [axis for axis in range(3) if axis != sheet.axis]
    place = (sheet.voxels[:, across[0]], sheet.voxels[:, across[1]])
    enclosed = np.zeros((geometry.shape[across[0]], geometry.shape[across[1]]), np.bool_)
    enclosed[place] = sheet.depth_mm > 0
    drawn = shrunk(enclosed)
    scale = (geometry.spacing_mm[across[0]], geometry.spacing_mm[across[1]])
    depth = _signed_depth(drawn, scale)[place] + GROW * min(scale)
    steps = depth_mm(np.pad(drawn, 1), (1, 1))[1:-1, 1:-1][place]
    core = (steps > min(_CORE_VOXELS, 0.5 * float(steps.max()))) & (sheet.depth_mm > 0)
    return Outline(sheet.voxels, sheet.axis, depth.astype(np.float32), core, sheet.depth_mm < 0)


def solid_of(box: Prompt, geometry: Geometry, grid: Grid) -> Solid:
    """Return what a positive box says of the cells of a working grid: an ellipsoid that touches the box's faces.

    A flat box says so of its own slice, and of the others that the structure is round.
    """
    block = box_of(box, geometry)
    half = np.array(block.shape) / 2.0
    flat = half < 1.0
    radius = float(np.min(half * geometry.spacing_mm, where=~flat, initial=np.inf))
    reach = np.where(flat & (flat.sum() == 1), radius / np.array(geometry.spacing_mm), half)
    centre = np.array(block.start) + half - 0.5
    axes = [(np.arange(n) + 0.5) * f - 0.5 for n, f in zip(grid.shape, grid.factors, strict=True)]
    away = [np.abs(axis - c) for axis, c in zip(np.ix_(*axes), centre, strict=True)]
    scaled = np.sqrt(sum(np.square(a / r) for a, r in zip(away, reach, strict=True)))
    outside = np.zeros(grid.shape, np.bool_)
    for a, h in zip(away, reach, strict=True):
        outside |= a > h
    depth = (min(radius, float(np.max(reach * geometry.spacing_mm))) * (1.0 - scaled)).astype(np.float32)
    return Solid(depth, scaled < _SOLID_CORE, outside)


def gathered(outlines: Sequence[Outline], grid: Grid) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return, cell by cell, the mean depth (mm) that the outlines give, and which cells they speak about."""
    total = np.zeros(grid.shape, np.float64)
    count = np.zeros(grid.shape, np.int32)
    for outline in outlines:
        flat = np.ravel_multi_index(tuple((outline.voxels // np.array(grid.factors)).T), grid.shape)
        total += np.bincount(flat, outline.depth_mm, total.size).reshape(grid.shape)
        count += np.bincount(flat, minlength=total.size).reshape(grid.shape)
    return (total / np.maximum(count, 1)).astype(np.float32), count > 0


def marked(voxels: Voxels, grid: Grid) -> NDArray[np.bool_]:
    """Return the cells in which any of the block's voxels (n, 3) lies."""
    cells = np.zeros(grid.shape, np.bool_)
    cells[tuple((voxels // np.array(grid.factors)).T)] = True
    return cells


def shrunk(enclosed: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return an enclosed area (2-D) without its outermost pixels; of what is too thin for that, the middle line."""
    smaller = ndimage.binary_erosion(np.pad(enclosed, 1, mode="edge"))[1:-1, 1:-1]
    lost = enclosed & ~ndimage.binary_dilation(smaller, np.ones((3, 3)))
    if lost.any():
        depth = depth_mm(np.pad(enclosed, 1), (1, 1))[1:-1, 1:-1]
        smaller |= lost & (depth >= ndimage.maximum_filter(depth, 3))
    result: NDArray[np.bool_] = smaller
    return result


def _signed_depth(drawn: NDArray[np.bool_], scale_mm: tuple[float, float]) -> NDArray[np.float32]:
    half = min(scale_mm) / 2
    inside = depth_mm(np.pad(drawn, 1), scale_mm)[1:-1, 1:-1]
    depth: NDArray[np.float32] = np.where(drawn, inside - half, half - depth_mm(~drawn, scale_mm))
    return depth
