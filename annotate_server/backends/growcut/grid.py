"""The working grid: a block of the volume, reduced by whole factors until it is small enough to answer at once."""

import math
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from annotate_server.domain.geometry import Box, Geometry, Shape, Vector

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True)
class Grid:
    """A block of a volume in cells of `factors` voxels (k, j, i); the last cell of an axis may reach beyond the block.

    `full` is the block's own grid, voxel by voxel.
    """

    box: Box
    factors: Shape
    full: Geometry

    @classmethod
    def over(cls, geometry: Geometry, box: Box, most_cells: int) -> "Grid":
        """Return the finest grid over a block that has at most `most_cells`; the finest axis is reduced first."""
        factors = [1, 1, 1]
        while math.prod(-(-n // f) for n, f in zip(box.shape, factors, strict=True)) > most_cells:
            coarse = [
                side * f if f < n else math.inf
                for side, f, n in zip(geometry.spacing_mm, factors, box.shape, strict=True)
            ]
            factors[int(np.argmin(coarse))] += 1
        return cls(box, (factors[0], factors[1], factors[2]), geometry.cropped(box))

    @property
    def shape(self) -> Shape:
        """Return the number of cells (k, j, i)."""
        k, j, i = (-(-n // f) for n, f in zip(self.box.shape, self.factors, strict=True))
        return k, j, i

    @property
    def spacing_mm(self) -> Vector:
        """Return the size of a cell (k, j, i)."""
        k, j, i = (side * f for side, f in zip(self.full.spacing_mm, self.factors, strict=True))
        return k, j, i

    @property
    def cell_mm(self) -> float:
        """Return one length for a cell: the geometric mean of its longest and its shortest side."""
        return math.sqrt(max(self.spacing_mm) * min(self.spacing_mm))

    @property
    def is_full(self) -> bool:
        """Say whether a cell is a voxel."""
        return self.factors == (1, 1, 1)

    def mean(self, voxels: NDArray[np.generic]) -> NDArray[np.float32]:
        """Return the mean of each cell of an array (k, j, i) of the volume; what is not finite counts as the least."""
        block = voxels[self.box.slices]
        values = block.astype(np.float32)
        if block.dtype.kind == "f" and not np.isfinite(values).all():
            finite = values[np.isfinite(values)]
            values = (
                np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
                if finite.size == 0
                else np.where(np.isfinite(values), values, finite.min())
            )
        if self.is_full:
            return np.ascontiguousarray(values)
        beyond = [(0, n * f - old) for n, f, old in zip(self.shape, self.factors, values.shape, strict=True)]
        padded = np.pad(values, beyond, mode="edge")
        k, j, i = self.shape
        fk, fj, fi = self.factors
        cells: NDArray[np.float32] = padded.reshape(k, fk, j, fj, i, fi).mean(axis=(1, 3, 5), dtype=np.float32)
        return cells

    def occupied(self, voxels: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return the cells of which at least half is occupied, of an array (k, j, i) of the volume."""
        return voxels[self.box.slices].copy() if self.is_full else self.mean(voxels) >= 0.5

    def cells(self, voxels: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return the cells (n, 3) of voxels (n, 3) of the volume, in the same order, without those beyond the block."""
        inside = ((voxels >= self.box.start) & (voxels < self.box.stop)).all(axis=1)
        places: NDArray[np.intp] = (voxels[inside] - self.box.start) // np.array(self.factors)
        return places

    def spread(self, cells: NDArray[Scalar]) -> NDArray[Scalar]:
        """Return an array of the block's voxels in which each has the value of its cell."""
        if self.is_full:
            return cells
        for axis, factor in enumerate(self.factors):
            cells = np.repeat(cells, factor, axis=axis)
        k, j, i = self.box.shape
        return cells[:k, :j, :i]

    def interpolated(self, cells: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return an array of the block's voxels, linear between the centres of the cells."""
        return cells if self.is_full else stretched(cells, self.factors, self.box.shape)


def bounds(occupied: NDArray[np.bool_]) -> Box | None:
    """Return the smallest box that holds every voxel of an array (k, j, i), in one pass; None if there is none."""
    slices = np.flatnonzero([plane.any() for plane in occupied])
    if slices.size == 0:
        return None
    k, stop = int(slices[0]), int(slices[-1]) + 1
    flat = np.logical_or.reduce(occupied[k:stop], axis=0)
    inner = Box.around(flat[None])
    return inner and Box((k, *inner.start[1:]), (stop, *inner.stop[1:]))


def stretched(
    values: NDArray[np.float32], factors: tuple[float, float, float] | Shape, shape: Shape
) -> NDArray[np.float32]:
    """Return an array (k, j, i) of `shape` whose voxels are `factors` times finer: linear between, level beyond."""
    scale = 1.0 / np.array(factors, dtype=np.float64)
    result: NDArray[np.float32] = ndimage.affine_transform(
        values, scale, offset=0.5 * scale - 0.5, output_shape=shape, order=1, mode="nearest", output=np.float32
    )
    return result
