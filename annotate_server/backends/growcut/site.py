"""The site of a correction: what lies about a stroke, as far as it may reach."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from annotate_server.backends.growcut.appearance import Appearance, Depths, of_segment
from annotate_server.backends.growcut.grid import Grid, bounds
from annotate_server.backends.growcut.stroke import Scene, stroke_voxels
from annotate_server.domain.geometry import Box, Geometry, Shape
from annotate_server.domain.prompt import Prompt
from annotate_server.imaging.distance import depth_mm
from annotate_server.imaging.rasterise import Voxels

REACH_DEPTHS, REACH_CELLS = 8.0, 6.0
"""How far a stroke reaches: so many times the depth that it lies in, and at least so many cells."""
_LOOK_MM, _FARTHEST_LOOK_MM = 40.0, 300.0
_RING_MM = 15.0
_MOST_RADIUS_MM = 60.0


@dataclass(frozen=True)
class Site:
    """The block about a stroke: all arrays (k, j, i) on its working grid.

    `free` are the cells that the stroke may change, `depth_mm` how far each is from those that it would join, `away_mm`
    the distance to the stroke and `radius_mm` how deep the stroke lies in what it may change. `rivals` are the cells of
    earlier prompts of the other sort.
    """

    grid: Grid
    stroke: Voxels
    positive: bool
    depths: Depths
    free: NDArray[np.bool_]
    depth_mm: NDArray[np.float32]
    away_mm: NDArray[np.float32]
    radius_mm: float
    rivals: NDArray[np.bool_]
    looks: Appearance

    @property
    def segment(self) -> NDArray[np.bool_]:
        """Return the cells of the segment as it stands."""
        return self.depths.segment


def site_of(
    scene: Scene, segment: NDArray[np.bool_], earlier: Sequence[Prompt], prompt: Prompt, stroke: Voxels
) -> Site:
    """Look about the stroke: nearby, and at the whole segment as well where the stroke is not too small for it."""
    radius, nearby = _measured(scene, segment, prompt, stroke)
    whole = bounds(segment)
    box = nearby if whole is None else nearby.union(whole.grown(_margin(scene.geometry, _RING_MM), segment.shape))
    grid = Grid.over(scene.geometry, box, scene.most_cells)
    if not grid.is_full and grid.cell_mm > 0.5 * radius:
        grid = Grid.over(scene.geometry, nearby, scene.most_cells)
    places = np.unique(grid.cells(stroke), axis=0)
    mine, rivals = grid.occupied(segment), np.zeros(grid.shape, np.bool_)
    for other in earlier:
        if other.positive != prompt.positive:
            rivals[tuple(grid.cells(stroke_voxels(other, scene.geometry)).T)] = True
    free = _free(mine, places, prompt)
    depth = depth_mm(free, grid.spacing_mm)
    depths = Depths.of(mine, grid.spacing_mm)
    radius = _radius(float(depths.inside_mm.max()), depth, places, grid) if mine.any() else radius
    away = np.ones(grid.shape, np.bool_)
    away[tuple(places.T)] = False
    distance = depth_mm(away, grid.spacing_mm)
    free &= ~grid.half_full(scene.others(grid.box))
    looks = of_segment(scene.intensity(grid), depths, grid.spacing_mm, grid.cell_mm)
    return Site(grid, places, prompt.positive, depths, free, depth, distance, radius, rivals, looks)


def _measured(scene: Scene, segment: NDArray[np.bool_], prompt: Prompt, stroke: Voxels) -> tuple[float, Box]:
    """Return how deep a stroke lies in what it would change, and the block that it may reach."""
    reach_mm = _LOOK_MM
    while True:
        box = _about(stroke, reach_mm, scene)
        grid = Grid.over(scene.geometry, box, scene.most_cells)
        places, mine = np.unique(grid.cells(stroke), axis=0), grid.occupied(segment)
        depth = depth_mm(_free(mine, places, prompt), grid.spacing_mm)
        thickness = float(depth_mm(mine, grid.spacing_mm).max()) if mine.any() else _LOOK_MM
        radius = _radius(thickness, depth, places, grid)
        if not mine.any():
            radius = min(radius, 0.5 * _ball_radius_mm(segment, scene))
        needed = max(REACH_DEPTHS * radius, REACH_CELLS * grid.cell_mm)
        if needed <= reach_mm or reach_mm > _FARTHEST_LOOK_MM:
            return radius, box
        reach_mm = needed * 1.01


def _free(mine: NDArray[np.bool_], stroke: Voxels, prompt: Prompt) -> NDArray[np.bool_]:
    """Return the cells that a stroke could change: those of the other sort, and its own."""
    free = ~mine if prompt.positive else mine.copy()
    free[tuple(stroke.T)] = True
    return free


def _about(stroke: Voxels, reach_mm: float, scene: Scene) -> Box:
    low, high = stroke.min(axis=0), stroke.max(axis=0) + 1
    tight = Box((int(low[0]), int(low[1]), int(low[2])), (int(high[0]), int(high[1]), int(high[2])))
    return tight.grown(_margin(scene.geometry, reach_mm), scene.geometry.shape)


def _margin(geometry: Geometry, reach_mm: float) -> Shape:
    k, j, i = (int(np.ceil(reach_mm / side)) + 1 for side in geometry.spacing_mm)
    return k, j, i


def _radius(thickness_mm: float, depth_mm: NDArray[np.float32], stroke: Voxels, grid: Grid) -> float:
    """Return how deep the stroke lies; never more than the segment is thick, never less than half a cell."""
    deepest = float(depth_mm[tuple(stroke.T)].max())
    return max(0.5 * grid.cell_mm, min(deepest, max(thickness_mm, grid.cell_mm), _MOST_RADIUS_MM))


def _ball_radius_mm(segment: NDArray[np.bool_], scene: Scene) -> float:
    """Return the radius of a ball of the segment's volume."""
    volume_mm3 = float(segment.sum()) * scene.geometry.voxel_ml * 1000.0
    return float(np.cbrt(volume_mm3 * 3.0 / (4.0 * np.pi)))
