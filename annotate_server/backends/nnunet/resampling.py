"""From one number of voxels to another along each axis, by nnU-Net's rules and with scikit-image's numbers.

nnU-Net calls `skimage.transform.resize` on whole volumes. A spline is separable and linear, so the same is done here
axis by axis with a matrix that `resize` itself gives, in single precision: a third of the memory and of the time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from skimage.transform import resize

from annotate_server.backends.nnunet.plans import Resampling
from annotate_server.domain.geometry import Shape

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Taps:
    """For each new voxel of an axis the two old ones that it lies between, and the share of the second.

    `is_nearest` says that both are the same one.
    """

    low: NDArray[np.intp]
    high: NDArray[np.intp]
    share: FloatArray
    is_nearest: bool = False

    @classmethod
    def along(cls, old: int, new: int, order: int) -> "Taps":
        """Return those of an axis of `old` voxels that gets `new`; order 0 takes the nearest, 1 lies between."""
        places = np.clip((np.arange(new) + 0.5) * (old / new) - 0.5, 0, old - 1)
        if order == 0:
            nearest = np.floor(places + 0.5).astype(np.intp)
            return cls(nearest, nearest, np.zeros(new, np.float32), is_nearest=True)
        low = np.floor(places).astype(np.intp)
        return cls(low, np.minimum(low + 1, old - 1), (places - low).astype(np.float32))


def thick_axis(current_mm: Sequence[float], new_mm: Sequence[float], rule: Resampling) -> int | None:
    """Return the axis along which slices are not mixed; None where all are treated alike.

    It is the one of the largest spacing, where one spacing (the current one, else the new) is far from isotropic.
    """
    if rule.separates is False:
        return None
    if rule.separates or _is_anisotropic(current_mm, rule):
        return _coarsest(current_mm)
    return _coarsest(new_mm) if _is_anisotropic(new_mm, rule) else None


def _is_anisotropic(spacing_mm: Sequence[float], rule: Resampling) -> bool:
    return max(spacing_mm) / min(spacing_mm) > rule.anisotropy


def _coarsest(spacing_mm: Sequence[float]) -> int | None:
    """Return the axis of the largest spacing, None where two share it: then no axis is thick."""
    largest = [axis for axis, side in enumerate(spacing_mm) if side == max(spacing_mm)]
    return largest[0] if len(largest) == 1 else None


def resampled(values: FloatArray, shape: Shape, thick: int | None, rule: Resampling) -> FloatArray:
    """Return an array (k, j, i) with another number of voxels; it is the array itself where nothing changes.

    Results are kept within the values that there were: of the whole array, or of each slice across the thick axis.
    """
    if values.shape == shape:
        return values
    across = None if thick is None else tuple(axis for axis in range(3) if axis != thick)
    low, high = values.min(axis=across, keepdims=True), values.max(axis=across, keepdims=True)
    result = values
    axes = [axis for axis in range(3) if axis != thick and values.shape[axis] != shape[axis]]
    # What makes it smaller goes first, so that the rest has less to do.
    for axis in sorted(axes, key=lambda axis: shape[axis] / values.shape[axis]):
        result = _along(result, _matrix(values.shape[axis], shape[axis], rule.order), axis)
    if result is not values:
        np.clip(result, low, high, out=result)
    return result if thick is None else _across_slices(result, shape[thick], thick, rule)


def _across_slices(values: FloatArray, count: int, axis: int, rule: Resampling) -> FloatArray:
    if values.shape[axis] == count:
        return values
    taps = Taps.along(values.shape[axis], count, rule.order_thick)
    result = values.take(taps.low, axis=axis)
    if not taps.is_nearest:
        share = taps.share.reshape([-1 if each == axis else 1 for each in range(3)])
        result = result * (1 - share) + values.take(taps.high, axis=axis) * share
    return result


def _matrix(old: int, new: int, order: int) -> FloatArray:
    """Return what maps `old` voxels of an axis to `new`: the columns are what becomes of each voxel alone."""
    if old == 1:
        return np.ones((new, 1), np.float32)
    alone: FloatArray = resize(np.eye(old), (new, old), order=order, mode="edge", anti_aliasing=False, clip=False)
    return alone.astype(np.float32)


def _along(values: FloatArray, matrix: FloatArray, axis: int) -> FloatArray:
    """Return the array with a matrix applied along an axis."""
    if axis == 0:
        depth, height, width = values.shape
        return (matrix @ values.reshape(depth, -1)).reshape(-1, height, width)
    result: FloatArray = np.matmul(matrix, values) if axis == 1 else np.matmul(values, matrix.T)
    return result
