"""The working grid: a block of the volume, reduced by whole factors until it is small enough to answer at once."""

import math
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from annotate_server.domain.geometry import Box, Geometry, Shape, Vector
from annotate_server.imaging.compiled import compiled
from annotate_server.imaging.editing.occupied import box_of_value

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
        """Return the mean of each cell of an array (k, j, i) of the volume; what is not finite counts as the least.

        A cell that reaches beyond the block goes on there as at the block's face.
        """
        values = _finite(voxels[self.box.slices])
        if self.is_full:
            return np.ascontiguousarray(values, np.float32)
        return _means(values, self.factors, self.shape)

    def occupied(self, voxels: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return the cells of which at least half is occupied, of an array (k, j, i) of the volume."""
        return self.half_full(voxels[self.box.slices])

    def half_full(self, block: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return the cells of which at least half is occupied, of an array (k, j, i) of the block; a new array."""
        if self.is_full:
            return block.copy()
        return 2.0 * _means(block.astype(np.uint8, order="C"), self.factors, self.shape) >= 1.0

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
    return box_of_value(occupied, 1)


def _finite(block: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return intensities with what is not finite replaced by the least; a copy of a type that `_means` is compiled for.

    Of the types of medical images these are nearly all: a new one would have the first prompt wait for the compiler.
    """
    if block.dtype.kind != "f":
        kind = next((kind for kind in (np.uint8, np.int16) if np.can_cast(block.dtype, kind)), np.float64)
        return block.astype(kind, order="C")
    values = block.astype(np.float32, order="C")
    finite = np.isfinite(values)
    if not finite.all():
        values[~finite] = values[finite].min() if finite.any() else 0.0
    return values


@compiled
def _means(values: NDArray[np.generic], factors: Shape, shape: Shape) -> NDArray[np.float32]:
    """Return the mean of each cell; summed exactly where the values are whole numbers."""
    K, J, I = values.shape
    sums = np.zeros(shape[1:], np.float64)
    means = np.empty(shape, np.float32)
    count = np.float32(factors[0] * factors[1] * factors[2])
    for a in range(shape[0]):
        sums[:] = 0.0
        for k in range(a * factors[0], (a + 1) * factors[0]):
            for b in range(shape[1]):
                total = sums[b]
                for j in range(b * factors[1], (b + 1) * factors[1]):
                    row = values[min(k, K - 1), min(j, J - 1)]
                    for c in range(shape[2]):
                        first = c * factors[2]
                        for i in range(first, first + factors[2]):
                            total[c] += row[min(i, I - 1)]
        means[a] = sums.astype(np.float32) / count
    return means


def stretched(
    values: NDArray[np.float32], factors: tuple[float, float, float] | Shape, shape: Shape
) -> NDArray[np.float32]:
    """Return an array (k, j, i) of `shape` whose voxels are `factors` times finer: linear between, level beyond."""
    scale = 1.0 / np.array(factors, dtype=np.float64)
    result: NDArray[np.float32] = ndimage.affine_transform(
        values, scale, offset=0.5 * scale - 0.5, output_shape=shape, order=1, mode="nearest", output=np.float32
    )
    return result
