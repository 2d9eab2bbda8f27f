"""The shape of a structure between its outlines: a smooth field of depths, and how far it can be trusted."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from annotate_server.backends.growcut.grid import Grid, stretched
from annotate_server.backends.growcut.outline import Outline, gathered
from annotate_server.backends.growcut.relax import relaxed
from annotate_server.domain.geometry import Box, Geometry
from annotate_server.imaging.distance import depth_mm

_SHAPE_CELLS = 40_000
_TRIAL_CELLS = 12_000
"""Cells of the grids on which shapes are computed, and tried: shapes are smooth, so that few cells do."""

_BULGES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
_EXTRA_BULGE, _MOST_BULGE = 0.1, 0.5
_UNTRIED_TRUST = 0.5
"""For one or two lassos, of which none can be left out."""
_DISTRUSTED, _TRUSTED = 0.5, 0.9
"""Dice at which outlines that predict each other earn no trust, and full trust."""


@dataclass(frozen=True)
class Shape:
    """Depth (mm) of each cell (k, j, i) below the structure's surface, as its outlines let expect.

    `far_mm` is the distance to the nearest outline's cell. `trust` is 0 to 1: how well the outlines predict each other.
    """

    depth_mm: NDArray[np.float32]
    far_mm: NDArray[np.float32]
    trust: float


def shape_of(outlines: Sequence[Outline], geometry: Geometry, grid: Grid) -> Shape:
    """Return the shape on a working grid over the block `geometry`.

    Between the planes of lassos the depth is the smoothest field through what they say, bulging: a harmonic field
    alone is a soap film and hangs through. How much it bulges, and the trust, come from leaving out each of three or
    more lassos in turn and predicting it from the others.
    """
    bulge, trust = _best_bulge(outlines, geometry) if len(outlines) > 2 else (0.0, _UNTRIED_TRUST)
    known = gathered(outlines, grid)[1]
    far = depth_mm(~known, grid.spacing_mm)
    return Shape(_between(outlines, geometry, grid, bulge), far, trust)


def _between(sheets: Sequence[Outline], geometry: Geometry, grid: Grid, bulge: float) -> NDArray[np.float32]:
    """Return the depths on the working grid, from a coarser one where the shape is computed."""
    if len(sheets) < 3:
        return _blended(sheets, grid)
    coarse = _coarse(geometry, _SHAPE_CELLS)
    flat, bulging, _ = _fields(sheets, coarse)
    ratio = tuple(c / f for c, f in zip(coarse.factors, grid.factors, strict=True))
    smooth = stretched(flat + bulge * bulging, (ratio[0], ratio[1], ratio[2]), grid.shape)
    values, known = gathered(sheets, grid)
    return np.where(known, values, smooth)


def _fields(
    sheets: Sequence[Outline], grid: Grid
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
    """Return the harmonic field through the outlines, what one unit of bulge adds to it, and the cells they fix."""
    values, known = gathered(sheets, grid)
    radius = max(sheet.radius_mm for sheet in sheets)
    flat = relaxed(np.where(known, values, 0.0), known, grid.spacing_mm)
    bulging = relaxed(np.zeros(grid.shape, np.float32), known, grid.spacing_mm, source=1.0 / radius)
    return flat, bulging, known


def _best_bulge(sheets: Sequence[Outline], geometry: Geometry) -> tuple[float, float]:
    """Return the bulge with which the outlines predict each other best, a little more, and the trust this earns.

    A little more: with one outline fewer the field has less to hold on to, and bulges more by itself.
    """
    grid = _coarse(geometry, _TRIAL_CELLS)
    scores = np.zeros(len(_BULGES))
    for left_out in sheets:
        flat, bulging, known = _fields([sheet for sheet in sheets if sheet is not left_out], grid)
        values, mine = gathered([left_out], grid)
        judged = mine & ~known
        truth = values[judged] > 0
        for n, bulge in enumerate(_BULGES):
            guess = (flat[judged] + bulge * bulging[judged]) > 0
            scores[n] += 2.0 * (truth & guess).sum() / max(1, truth.sum() + guess.sum()) / len(sheets)
    best = int(scores.argmax())
    trust = float(np.clip((scores[best] - _DISTRUSTED) / (_TRUSTED - _DISTRUSTED), 0.0, 1.0))
    return min(_MOST_BULGE, _BULGES[best] + _EXTRA_BULGE), trust


def _blended(sheets: Sequence[Outline], grid: Grid) -> NDArray[np.float32]:
    """Return the depths that one or two outlines let expect: each outline's own, the nearer one counting the more.

    With fewer than three the smoothest field has nothing to hold on to further out.
    """
    total, weights = np.zeros(grid.shape), np.zeros(grid.shape)
    for sheet in sheets:
        far = depth_mm(~gathered([sheet], grid)[1], grid.spacing_mm)
        weight = 1.0 / np.square(far + 0.1 * grid.cell_mm)
        total += weight * _rounded(sheet, grid)
        weights += weight
    blended: NDArray[np.float32] = (total / weights).astype(np.float32)
    return blended


def _rounded(sheet: Outline, grid: Grid) -> NDArray[np.float32]:
    """Return the depths below a surface as round as its one outline: a disc becomes a ball, a band a tube."""
    values, known = gathered([sheet], grid)
    nearest = depth_mm(~known, grid.spacing_mm)
    lowest = known.argmax(axis=sheet.axis)
    extruded = np.take_along_axis(values, np.expand_dims(lowest, sheet.axis), sheet.axis)
    radius = sheet.radius_mm
    depth: NDArray[np.float32] = radius - np.hypot(radius - extruded, nearest)
    return depth.astype(np.float32)


def _coarse(geometry: Geometry, most_cells: int) -> Grid:
    return Grid.over(geometry, Box.whole(geometry.shape), most_cells)
