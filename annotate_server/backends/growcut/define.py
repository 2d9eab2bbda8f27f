"""A structure from its outlines: shape and appearance say what is sure, GrowCut settles the rest."""

from collections.abc import Sequence
from dataclasses import dataclass

import cc3d
import numpy as np
from numpy.typing import NDArray

from annotate_server.backends.growcut.appearance import Appearance, appearance
from annotate_server.backends.growcut.flood import WHOLE_RANGE, flood
from annotate_server.backends.growcut.grid import Grid
from annotate_server.backends.growcut.outline import Outline, Solid, marked, outline_of, solid_of
from annotate_server.backends.growcut.refine import refined
from annotate_server.backends.growcut.shape import Shape, shape_of
from annotate_server.backends.growcut.stroke import Scene, is_outline, stroke_voxels
from annotate_server.domain.geometry import Box, Geometry
from annotate_server.domain.prompt import Prompt, PromptKind
from annotate_server.imaging.rasterise import box_of

MINE, OTHER = 1, 2
"""Labels of the flood: the structure, and what is not."""

_SURE = 1.8
"""Log odds beyond which a cell seeds the flood, about six to one."""
_BORDER_CELLS = (0.8, 0.4)
"""How uncertain the border is in the plane of a lasso, in cells; this and the next two without and with full trust."""
_DRIFT = (0.4, 0.1)
"""How much more uncertain it is for every mm away from the nearest lasso, in mm."""
_VOICE = (1.0, 0.5)
"""How much the appearance counts beside the shape."""
_MOST_SHAPE = 6.0
_NEVER = -8.0
_MARGIN, _LEAST_MARGIN = 0.25, 3
"""How far beyond the prompts to look: this share of their extent, and at least so many voxels."""
_ROUNDS = 4


@dataclass(frozen=True)
class Evidence:
    """What the outlines, taken together, say of each cell: its log odds, sure cells of both sorts, the appearance."""

    log_odds: NDArray[np.float32]
    core: NDArray[np.bool_]
    outside: NDArray[np.bool_]
    looks: Appearance


def defined(scene: Scene, prompts: Sequence[Prompt]) -> tuple[Box, NDArray[np.bool_]]:
    """Return the structure that lassos, boxes and strokes describe: a box of the volume and the voxels in it (k, j, i).

    The box is as large as the prompts ask for, and grows while the structure runs into its faces.
    """
    box = _first_box(scene.geometry, prompts)
    for _ in range(_ROUNDS):
        scene.control.check()
        grid = Grid.over(scene.geometry, box, scene.most_cells)
        segment = _within(scene, prompts, grid)
        larger = grown_where_touched(box, segment, scene.geometry)
        if larger == box:
            break
        box = larger
    return grid.box, segment


def grown_where_touched(box: Box, segment: NDArray[np.bool_], geometry: Geometry) -> Box:
    """Return the box, longer by half on each side on whose face (not the volume's) the segment lies broadly.

    Broadly: a face holds a tenth as many voxels as the segment's usual slice along that axis.
    """
    start, stop = list(box.start), list(box.stop)
    for axis in range(3):
        rest = tuple(other for other in range(3) if other != axis)
        areas = segment.sum(axis=rest)
        usual = areas.sum() / max(1, int((areas > 0).sum()))
        more = -(-segment.shape[axis] // 2)
        if areas[0] > 0.1 * usual:
            start[axis] = max(0, start[axis] - more)
        if areas[-1] > 0.1 * usual:
            stop[axis] = min(geometry.shape[axis], stop[axis] + more)
    return Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))


def _within(scene: Scene, prompts: Sequence[Prompt], grid: Grid) -> NDArray[np.bool_]:
    """Return the structure in one block."""
    block = grid.full
    outlines = [outline_of(p, block) for p in prompts if p.kind is PromptKind.LASSO and p.positive]
    solids = [solid_of(p, block, grid) for p in prompts if p.kind is PromptKind.BOX and p.positive]
    intensity = scene.intensity(grid)
    scene.control.check()
    shape = shape_of(outlines, block, grid) if outlines else None
    evidence = _evidence(intensity, grid, outlines, solids, shape)
    seeds = np.zeros(grid.shape, np.uint8)
    seeds[evidence.log_odds > _SURE] = MINE
    seeds[evidence.log_odds < -_SURE] = OTHER
    seeds[grid.half_full(scene.others(grid.box))] = OTHER
    for prompt in prompts:
        if not is_outline(prompt):
            seeds[tuple(grid.cells(stroke_voxels(prompt, scene.geometry)).T)] = MINE if prompt.positive else OTHER
    scene.control.check()
    settled = flood(evidence.looks.level * WHOLE_RANGE, seeds, grid.spacing_mm)
    cells = _held((settled.labels == MINE) & ~evidence.outside, evidence.core)
    return refined(cells, grid, scene, evidence.looks)


def _evidence(
    intensity: NDArray[np.float32],
    grid: Grid,
    outlines: Sequence[Outline],
    solids: Sequence[Solid],
    shape: Shape | None,
) -> Evidence:
    """Weigh shape against appearance, cell by cell."""
    core, outside = np.zeros(grid.shape, np.bool_), np.zeros(grid.shape, np.bool_)
    ring = np.zeros(grid.shape, np.bool_)
    widest = max([o.radius_mm for o in outlines] + [float(s.depth_mm.max()) for s in solids])
    for outline in outlines:
        core |= marked(outline.voxels[outline.core], grid)
        outside |= marked(outline.voxels[outline.outside], grid)
        ring |= marked(outline.voxels[outline.outside & (outline.depth_mm > -widest)], grid)
    for solid in solids:
        outside |= solid.outside
        ring |= solid.outside & (solid.depth_mm > -widest)
    for solid in solids:
        core |= solid.core if not outlines else False
    core &= ~outside
    looks = appearance(intensity, core, ring & outside, grid.spacing_mm)
    log_odds = _weighed(shape, solids, grid, looks)
    log_odds[outside] = _NEVER
    return Evidence(log_odds, core, outside, looks)


def _weighed(shape: Shape | None, solids: Sequence[Solid], grid: Grid, looks: Appearance) -> NDArray[np.float32]:
    """Return the log odds of each cell: depth over its uncertainty, plus what the intensity says."""
    trust = shape.trust if shape else 0.0
    border = _between(_BORDER_CELLS, trust) * grid.cell_mm
    log_odds = np.full(grid.shape, _MOST_SHAPE, np.float32)
    if shape:
        log_odds = shape.depth_mm / (border + _between(_DRIFT, trust) * shape.far_mm)
    for solid in solids:
        loose = border + 0.5 * float(solid.depth_mm.max())
        log_odds = np.minimum(log_odds, solid.depth_mm / loose + (1.0 if shape else 0.0))
    clipped: NDArray[np.float32] = np.clip(log_odds, -_MOST_SHAPE, _MOST_SHAPE)
    return clipped + np.float32(_between(_VOICE, trust)) * looks.log_odds


def _between(ends: tuple[float, float], trust: float) -> float:
    return ends[0] + (ends[1] - ends[0]) * trust


def _held(cells: NDArray[np.bool_], core: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the parts that hang together with the core; all of them where none does."""
    parts = cc3d.connected_components(cells, connectivity=6)
    kept = np.unique(parts[core & cells])
    held: NDArray[np.bool_] = np.isin(parts, kept[kept > 0]) if (kept > 0).any() else cells
    return held


def _first_box(geometry: Geometry, prompts: Sequence[Prompt]) -> Box:
    """Return the block that the positive prompts span, with a margin; a flat one gets a depth."""
    spans = [box_of(prompt, geometry) for prompt in prompts if prompt.positive]
    box = spans[0]
    for span in spans[1:]:
        box = box.union(span)
    extent_mm = [n * side for n, side in zip(box.shape, geometry.spacing_mm, strict=True)]
    middle = sorted(extent_mm)[1]
    margins = [
        max(_LEAST_MARGIN, int(np.ceil(n * _MARGIN)), int(np.ceil((0.75 * middle - n * side) / 2 / side)))
        for n, side in zip(box.shape, geometry.spacing_mm, strict=True)
    ]
    return box.grown((margins[0], margins[1], margins[2]), geometry.shape)
