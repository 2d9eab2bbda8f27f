"""What the network is about to see: voxel values on a grid that knows its place in the world."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from annotate_server.domain.errors import NotMadeFor
from annotate_server.domain.geometry import Box, Geometry, Shape, Vector
from annotate_server.domain.volume import Volume
from annotate_server.imaging.reorientation import Reorientation, reoriented


@dataclass(frozen=True)
class Canvas:
    """`values` are (a, b, c), float32, in the order in which the bundle counts the axes; `geometry` is their grid."""

    values: Tensor
    geometry: Geometry

    @classmethod
    def of(cls, volume: Volume) -> "Canvas":
        """Return a volume with the axes as MONAI reads them from a file: i, j, k."""
        turn = as_read(volume.geometry)
        # Whole numbers are turned as they are stored, which moves half the bytes, and are always finite.
        values = np.ascontiguousarray(turn.apply(volume.voxels)).astype(np.float32)
        if volume.voxels.dtype.kind == "f":
            values = np.nan_to_num(values, copy=False)
        return cls(torch.from_numpy(values), turn.geometry)

    @property
    def shape(self) -> Shape:
        """Return the sides of the grid."""
        return self.geometry.shape

    def turned(self, axes: str) -> "Canvas":
        """Return the same voxels with axes that run towards the sides of the patient that `axes` names."""
        turn = reoriented(self.geometry, axes)
        values = self.values.permute(turn.axes)
        flipped = [axis for axis, is_flipped in enumerate(turn.flipped) if is_flipped]
        return Canvas(values.flip(flipped) if flipped else values, turn.geometry)

    def resampled(self, spacing_mm: Vector, *, nearest: bool) -> "Canvas":
        """Return values on a grid of another spacing whose first voxel stays in its place, as MONAI's Spacing does."""
        old, sides = self.geometry.spacing_mm, self.shape
        new = [
            side if wanted <= 0 or abs(wanted - side) <= _SAME_MM else wanted
            for wanted, side in _pairs(spacing_mm, old)
        ]
        counts = [
            side if step == own else max(1, round((side - 1) * own / step + 1))
            for side, own, step in zip(sides, old, new, strict=True)
        ]
        _check_size(counts)
        values = self.values
        for axis in sorted(range(3), key=lambda each: counts[each] / sides[each]):
            if new[axis] != old[axis]:
                places = torch.arange(counts[axis], dtype=torch.float64) * (new[axis] / old[axis])
                values = along(values, axis, places.round() if nearest else places)
        shape, spacing = (counts[0], counts[1], counts[2]), (new[0], new[1], new[2])
        return Canvas(values, replace(self.geometry, shape=shape, spacing_mm=spacing))

    def cut(self, box: Box, outside: float) -> "Canvas":
        """Return a box, which may reach beyond the grid, where the values become `outside`."""
        _check_size(box.shape)
        inside = Box(_clipped(box.start, self.shape), _clipped(box.stop, self.shape))
        amounts = [
            (first - start, stop - last)
            for start, stop, first, last in zip(box.start, box.stop, inside.start, inside.stop, strict=True)
        ]
        values = self.values[inside.slices]
        if any(amount for pair in amounts for amount in pair):
            values = functional.pad(values, [n for pair in reversed(amounts) for n in pair], value=outside)
        return Canvas(values, self.geometry.cropped(box))


_MOST_VOXELS = 1_000_000_000
_SAME_MM = 1e-3
"""MONAI takes spacings that differ by less for the same."""


def as_read(geometry: Geometry) -> Reorientation:
    """Return how to turn an array (k, j, i) into the order in which MONAI reads a file: i, j, k."""
    k, j, i = geometry.shape
    turned = replace(
        geometry, shape=(i, j, k), spacing_mm=geometry.spacing_mm[::-1], direction=geometry.direction[::-1]
    )
    return Reorientation((2, 1, 0), (False, False, False), turned)


def along(values: Tensor, axis: int, places: Tensor) -> Tensor:
    """Return values read at places (in voxels) of one axis, linearly between voxels, the last ones beyond the ends."""
    last = values.shape[axis] - 1
    inside = places.to(values.device).clamp(0, last)
    low = inside.floor()
    share = (inside - low).to(values.dtype)
    first = values.index_select(axis, low.long())
    if not bool(share.any()):
        return first
    second = values.index_select(axis, (low.long() + 1).clamp(max=last))
    sides = [1] * values.ndim
    sides[axis] = -1
    return torch.lerp(first, second, share.view(sides))


def _check_size(sides: Sequence[int]) -> None:
    if math.prod(sides) > _MOST_VOXELS:
        raise NotMadeFor(f"the network's grid over this volume would have {' x '.join(map(str, sides))} voxels")


def _pairs(first: Vector, second: Vector) -> list[tuple[float, float]]:
    return list(zip(first, second, strict=True))


def _clipped(corner: Shape, shape: Shape) -> Shape:
    k, j, i = (min(max(n, 0), side) for n, side in zip(corner, shape, strict=True))
    return k, j, i
