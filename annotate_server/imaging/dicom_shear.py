"""Taking the shear of a tilted gantry out of a stack, and putting it back into a labelmap."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from annotate_server.domain.geometry import Shape

Array = NDArray[np.float64]
Scalar = TypeVar("Scalar", bound=np.generic)


def upright(slices: NDArray[np.generic], shifts: Array, shape: Shape, outside: float) -> NDArray[np.float32]:
    """Return slices (k, rows, columns) on the upright grid `shape`, each moved in its plane by `shifts` (k, 2) voxels.

    A slice keeps its place along the normal, so only two axes are interpolated (linearly). What no slice covers becomes
    `outside`.
    """
    result = np.full(shape, outside, dtype=np.float32)
    for k, plane in enumerate(slices):
        whole = np.floor(shifts[k] + 1e-6).astype(int)
        moved = _by_fraction(plane.astype(np.float32), np.clip(shifts[k] - whole, 0, None), outside)
        j, i = whole
        rows, columns = min(moved.shape[0], shape[1] - j), min(moved.shape[1], shape[2] - i)
        result[k, j : j + rows, i : i + columns] = moved[:rows, :columns]
    return result


def _by_fraction(plane: NDArray[np.float32], fraction: Array, outside: float) -> NDArray[np.float32]:
    """Return a plane moved by less than one voxel along both axes; it gains a row and a column."""
    moved = np.pad(plane, ((0, 1), (0, 1)), constant_values=outside)
    for axis, part in enumerate(fraction):
        if part > 1e-6:
            before = np.roll(moved, 1, axis=axis)
            before[(slice(None),) * axis + (0,)] = outside
            moved = (1 - np.float32(part)) * moved + np.float32(part) * before
    return moved


def sheared_back(labels: NDArray[Scalar], shifts: Array, shape: tuple[int, int]) -> NDArray[Scalar]:
    """Return a labelmap (k, j, i) of the upright grid on the slices as they were taken: (k, *shape), nearest voxel."""
    rows, columns = shape
    result = np.empty((len(labels), rows, columns), dtype=labels.dtype)
    for k, plane in enumerate(labels):
        j, i = np.rint(shifts[k]).astype(int)
        result[k] = plane[j : j + rows, i : i + columns]
    return result
