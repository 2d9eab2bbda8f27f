"""A structure from its first click or scribble: the region about it whose border is the best one."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from annotate_server.backends.growcut.appearance import Depths, of_segment
from annotate_server.backends.growcut.define import grown_where_touched
from annotate_server.backends.growcut.flood import BARRIER, FREE, flood
from annotate_server.backends.growcut.grid import Grid
from annotate_server.backends.growcut.refine import refined
from annotate_server.backends.growcut.stroke import Scene
from annotate_server.domain.geometry import Box, Vector
from annotate_server.imaging.rasterise import Voxels

_REACH_MM = 40.0
"""How far from the stroke the first look goes."""
_SEEN_CELLS, _SEEN_MM = 1.5, 2.5
"""The radius about the stroke from which its intensity is taken: the larger of the two."""
_CONTRAST = 10.0
_TOLERANCE = 0.75
"""Deviations from the stroke's intensity, in its own spread, that cost nothing."""
_TOLL, _FARTHEST = 1.3, 19.25
_EDGE = 1.0
"""The change of intensity, in spreads, at which a border is a clear one."""
_LEAST_CELLS = 60
_MOST_SHARE = 0.5
_SMALL_ML = 0.2
"""Below this the measure is doubled: a few cells have a small surface by chance."""
_ROUNDS = 3


@dataclass(frozen=True)
class _Look:
    """Intensity in units of the stroke's own spread, and the toll of each cell for being unlike the stroke."""

    level: NDArray[np.float32]
    toll: NDArray[np.float32]


def begun(scene: Scene, stroke: Voxels) -> tuple[Box, NDArray[np.bool_]]:
    """Return the structure about a positive stroke (n, 3): a box of the volume and the voxels in it (k, j, i).

    The cells are taken in the order in which a flood from the stroke reaches them; of all the regions that arise so,
    the one with the least clear-border-free surface for its size is kept (the sweep of local graph partitioning, with
    the surface of a ball of the same volume as the measure). Nothing is assumed about the size.
    """
    margin = [int(np.ceil(_REACH_MM / side)) for side in scene.geometry.spacing_mm]
    low, high = stroke.min(axis=0), stroke.max(axis=0) + 1
    tight = Box((int(low[0]), int(low[1]), int(low[2])), (int(high[0]), int(high[1]), int(high[2])))
    box = tight.grown((margin[0], margin[1], margin[2]), scene.geometry.shape)
    for _ in range(_ROUNDS):
        scene.control.check()
        grid = Grid.over(scene.geometry, box, scene.most_cells)
        intensity = scene.intensity(grid)
        cells = _best_region(intensity, grid.cells(stroke), grid.half_full(scene.others(grid.box)), grid.spacing_mm)
        larger = grown_where_touched(box, cells, scene.geometry) if grid.is_full else _grown(grid, cells, scene)
        if larger == box:
            break
        box = larger
    looks = of_segment(intensity, Depths.of(cells, grid.spacing_mm), grid.spacing_mm, grid.cell_mm)
    return grid.box, refined(cells, grid, scene, looks)


def _grown(grid: Grid, cells: NDArray[np.bool_], scene: Scene) -> Box:
    return grown_where_touched(grid.box, np.ascontiguousarray(grid.spread(cells)), scene.geometry)


def _best_region(
    intensity: NDArray[np.float32], stroke: Voxels, others: NDArray[np.bool_], spacing_mm: Vector
) -> NDArray[np.bool_]:
    look = _looked(intensity, stroke, spacing_mm)
    seeds = np.where(others, BARRIER, FREE).astype(np.uint8)
    seeds[tuple(stroke.T)] = 1
    reached = flood(look.level * _CONTRAST, seeds, spacing_mm, look.toll)
    rank = np.full(intensity.size, intensity.size, np.int64)
    rank[reached.order] = np.arange(reached.order.size)
    surface = _surface(look.level, rank.reshape(intensity.shape), spacing_mm)[: reached.order.size]
    sizes = np.arange(1, reached.order.size + 1)
    sizes_ml = sizes * float(np.prod(spacing_mm)) / 1000.0
    ratio = surface / sizes ** (2.0 / 3.0) * (1.0 + np.cbrt(_SMALL_ML / sizes_ml))
    usable = (sizes >= max(min(_LEAST_CELLS, sizes.size), len(stroke))) & (sizes <= max(1, _MOST_SHARE * sizes.size))
    best = int(np.where(usable, ratio, np.inf).argmin()) if usable.any() else sizes.size - 1
    region: NDArray[np.bool_] = ndimage.binary_fill_holes((rank <= best).reshape(intensity.shape)) & ~others
    return region


def _looked(intensity: NDArray[np.float32], stroke: Voxels, spacing_mm: Vector) -> _Look:
    """Measure intensities by their distance from the stroke's, in units of its spread."""
    finest = min(spacing_mm)
    smooth = ndimage.gaussian_filter(intensity, [0.5 * finest / side for side in spacing_mm], truncate=3.0)
    about = smooth[_ball(stroke, max(_SEEN_CELLS * max(spacing_mm), _SEEN_MM), intensity.shape, spacing_mm)]
    usual = float(np.median(about))
    low, high = np.percentile(intensity, [10.0, 90.0])
    steps = np.abs(np.diff(intensity, axis=2))
    noise = 1.05 * float(np.median(steps)) if steps.size else 0.0
    spread = max(1.48 * float(np.median(np.abs(about - usual))), noise, 0.01 * float(high - low), 1e-6)
    away = np.clip(np.abs(smooth - usual) / spread - _TOLERANCE, 0.0, _FARTHEST)
    return _Look((smooth / spread).astype(np.float32), (_TOLL * np.square(away)).astype(np.float32))


def _ball(
    stroke: Voxels, radius_mm: float, shape: tuple[int, ...], spacing_mm: Vector
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Return the indices of the cells within a radius of any of the stroke's (at most 64 of them are looked at)."""
    reach = [int(radius_mm // side) for side in spacing_mm]
    offsets = np.stack(np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing="ij"), -1).reshape(-1, 3)
    offsets = offsets[np.square(offsets * np.array(spacing_mm)).sum(axis=1) <= radius_mm**2]
    some = stroke[:: -(-len(stroke) // 64)]
    cells = np.unique((some[:, None] + offsets).reshape(-1, 3), axis=0)
    k, j, i = cells[((cells >= 0) & (cells < shape)).all(axis=1)].T
    return k, j, i


def _surface(level: NDArray[np.float32], rank: NDArray[np.int64], spacing_mm: Vector) -> NDArray[np.float64]:
    """Return the surface of the first 1, 2, 3, … cells of an order, a face counting the less the clearer it is.

    `rank` is each cell's place in the order. A face opens when its first cell is taken and closes with its second.
    """
    change = np.zeros(rank.size + 1)
    faces = np.array([1.0 / side for side in spacing_mm])
    faces /= faces.max()
    for axis in range(3):
        near = rank.take(range(rank.shape[axis] - 1), axis).ravel()
        far = rank.take(range(1, rank.shape[axis]), axis).ravel()
        weight = faces[axis] * np.exp(-np.square(np.diff(level, axis=axis).ravel() / _EDGE))
        change += np.bincount(np.minimum(near, far), weight, change.size)
        change -= np.bincount(np.maximum(near, far), weight, change.size)
        for end in (0, -1):
            edge = rank.take(end, axis).ravel()
            change += np.bincount(edge, minlength=change.size) * faces[axis]
    surface: NDArray[np.float64] = np.cumsum(change)[:-1]
    return np.maximum(surface, 0.0)
