"""Voxels by their intensity."""

from typing import cast

import numpy as np
from numpy.typing import NDArray


def within_range(voxels: NDArray[np.generic], low: float, high: float) -> NDArray[np.bool_]:
    """Return the voxels (k, j, i) from `low` to `high`, both included, in the unit of the voxels.

    What is not a number lies in no range.
    """
    values = cast("NDArray[np.float64]", voxels)  # for the type checker: every real type compares alike
    first, last = _exact(voxels.dtype, low, high)
    inside: NDArray[np.bool_] = values >= first
    inside &= values <= last
    return inside


def _exact(dtype: np.dtype[np.generic], low: float, high: float) -> tuple[float | int, float | int]:
    """Return the ends as numbers of the voxels' own type, so that nothing is converted: -0.5 is 0 for whole numbers.

    An end beyond what the type can hold is drawn in to it, except where the whole range lies beyond.
    """
    if dtype.kind not in "iu":
        return low, high
    limits = np.iinfo(dtype)  # type: ignore[type-var]  # the kind says that it is an integer type
    if high < limits.min or low > limits.max:
        return int(limits.max), int(limits.min)
    return int(np.ceil(max(low, limits.min))), int(np.floor(min(high, limits.max)))
