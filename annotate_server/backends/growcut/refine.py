"""From the working grid back to the volume's own: only the border is looked at again."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from annotate_server.backends.growcut.appearance import Appearance
from annotate_server.backends.growcut.flood import BARRIER, FREE, WHOLE_RANGE, flood
from annotate_server.backends.growcut.grid import Grid
from annotate_server.backends.growcut.stroke import Scene
from annotate_server.domain.geometry import Box

_INSIDE, _OUTSIDE = 1, 2


def refined(cells: NDArray[np.bool_], grid: Grid, scene: Scene, looks: Appearance) -> NDArray[np.bool_]:
    """Return the segment voxel by voxel: a flood at full resolution settles the cells on both sides of the border.

    `cells` is (k, j, i) of the working grid, the result of its block. Cells further from the border keep what they are.
    """
    if grid.is_full or not cells.any():
        return np.ascontiguousarray(grid.spread(cells))
    cube = np.ones((3, 3, 3), np.bool_)
    border = ndimage.binary_dilation(cells, cube) & ~ndimage.binary_erosion(cells, cube, border_value=1)
    near = ndimage.binary_dilation(border, cube)
    seeds = np.where(border, FREE, np.where(near, np.where(cells, _INSIDE, _OUTSIDE), BARRIER)).astype(np.uint8)
    window = Box.around(near)
    if window is None:
        return np.ascontiguousarray(grid.spread(cells))
    part = _cropped(grid, window)
    finest = Grid(part.box, (1, 1, 1), part.full)
    level = looks.on_scale(finest.mean(scene.voxels))
    settled = flood(level * WHOLE_RANGE, part.spread(seeds[window.slices]), finest.spacing_mm)
    segment = np.ascontiguousarray(grid.spread(cells))
    place = tuple(slice(a - b, c - b) for a, b, c in zip(part.box.start, grid.box.start, part.box.stop, strict=True))
    segment[place] = np.where(settled.labels == BARRIER, segment[place], settled.labels == _INSIDE)
    return segment


def _cropped(grid: Grid, window: Box) -> Grid:
    """Return the part of a working grid that a box of its cells covers."""
    ends = zip(grid.box.start, window.start, window.stop, grid.factors, grid.box.stop, strict=True)
    start, stop = zip(*((a + first * f, min(a + last * f, end)) for a, first, last, f, end in ends), strict=True)
    local = Box(
        (start[0] - grid.box.start[0], start[1] - grid.box.start[1], start[2] - grid.box.start[2]),
        (stop[0] - grid.box.start[0], stop[1] - grid.box.start[1], stop[2] - grid.box.start[2]),
    )
    return Grid(
        Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2])), grid.factors, grid.full.cropped(local)
    )
