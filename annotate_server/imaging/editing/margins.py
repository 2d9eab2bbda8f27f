"""A segment made larger or smaller by a length."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from annotate_server.domain.geometry import Vector
from annotate_server.imaging.distance import depth_mm

_BORDER = 0.25
"""How far beyond the centre of the outermost voxel a segment is taken to reach, as a share of the voxel along the way.

Centre to centre (0) a ball grown by 3 mm on voxels of 3.1 x 0.7 x 1.3 mm misses 14 to 24 % of its volume, face to
centre (0.5) it gets 7 to 16 % too much: a digital border runs between the two.
"""


def grown(segment: NDArray[np.bool_], spacing_mm: Vector, margin_mm: float) -> NDArray[np.bool_]:
    """Return every voxel (k, j, i) whose centre lies within `margin_mm` of a segment, by exact Euclidean distance.

    A margin of less than about three quarters of a voxel's side adds nothing along that side.
    """
    if not segment.any():
        return segment.copy()
    away = depth_mm(~segment, spacing_mm)
    result: NDArray[np.bool_] = away <= margin_mm + _BORDER * min(spacing_mm)
    unsure = away <= margin_mm + _BORDER * max(spacing_mm)
    unsure &= ~result
    if unsure.any():
        result[unsure] = away[unsure] <= margin_mm + _reach(away, unsure, spacing_mm)
    return result


def shrunk(segment: NDArray[np.bool_], spacing_mm: Vector, margin_mm: float) -> NDArray[np.bool_]:
    """Return what of a segment (k, j, i) lies deeper than `margin_mm`; beyond the array it is taken to go on."""
    return ~grown(~segment, spacing_mm, margin_mm)


def _reach(away_mm: NDArray[np.float32], places: NDArray[np.bool_], spacing_mm: Vector) -> NDArray[np.float64]:
    """Return, for some voxels, how far (mm) the segment reaches towards them beyond its outermost centre."""
    steepness = [axis[places] for axis in _gradient(away_mm, spacing_mm)]
    length = np.maximum(np.sqrt(sum(np.square(s) for s in steepness)), 1e-6)
    sides = sum(np.square(s * side / length) for s, side in zip(steepness, spacing_mm, strict=True))
    reach: NDArray[np.float64] = _BORDER * np.sqrt(sides)
    return reach


def _gradient(away_mm: NDArray[np.float32], spacing_mm: Vector) -> Iterator[NDArray[np.float32]]:
    """Yield the slope along each axis, one at a time since each is as large as the array; 0 along a single voxel."""
    for axis, side in enumerate(spacing_mm):
        yield np.gradient(away_mm, side, axis=axis) if away_mm.shape[axis] > 1 else np.zeros_like(away_mm)
