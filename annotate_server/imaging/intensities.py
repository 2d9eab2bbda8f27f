"""From the numbers of a file to intensities: its scale applied, finite, and no wider than they need to be."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from annotate_server.domain.errors import UnsupportedInput

_INT16, _INT32 = np.iinfo(np.int16), np.iinfo(np.int32)


@dataclass(frozen=True, slots=True)
class Scale:
    """How a file's numbers become intensities: number x slope + intercept."""

    slope: float
    intercept: float = 0.0

    @property
    def is_whole(self) -> bool:
        """Say whether whole numbers stay whole."""
        return self.slope.is_integer() and self.intercept.is_integer()

    def applied(self, numbers: NDArray[np.generic]) -> NDArray[np.float64]:
        """Return the intensities of numbers."""
        return numbers.astype(np.float64) * self.slope + self.intercept


def intensities(numbers: NDArray[np.generic], scale: Scale | None) -> tuple[NDArray[np.generic], tuple[str, ...]]:
    """Return intensities (k, j, i) and what a person should know about them.

    Whole numbers become int16 where all fit, else uint16 or int32 (uint8 and int8 stay); everything else is float32.
    What is not finite takes the smallest finite value, with a warning; raises UnsupportedInput where that is more than
    half.
    """
    native = numbers.astype(numbers.dtype.newbyteorder("="), copy=False)
    if scale is None:
        values = _narrowed(native)
    elif native.dtype.kind in "iu" and scale.is_whole:
        values = _by_slices(native, _whole_dtype(*_scaled_ends(native, scale)), scale)
    else:
        values = _by_slices(native, np.dtype(np.float32), scale)
    return _finite(values) if values.dtype.kind == "f" else (values, ())


def _narrowed(numbers: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return the same values in the smallest type that backends take; float64 is rounded to float32."""
    if numbers.dtype.kind == "f":
        with np.errstate(over="ignore"):
            return numbers.astype(np.float32, copy=False)
    if numbers.dtype.itemsize == 1 or numbers.dtype == np.int16:
        return numbers
    dtype = _whole_dtype(int(numbers.min()), int(numbers.max()))
    keeps = numbers.dtype == np.uint16 and dtype != np.int16
    return numbers if keeps else numbers.astype(dtype, copy=False)


def _whole_dtype(low: int, high: int) -> np.dtype[np.generic]:
    """Return the type for whole numbers between two ends."""
    if _INT16.min <= low and high <= _INT16.max:
        return np.dtype(np.int16)
    return np.dtype(np.int32 if _INT32.min <= low and high <= _INT32.max else np.float32)


def _scaled_ends(numbers: NDArray[np.generic], scale: Scale) -> tuple[int, int]:
    """Return the smallest and largest value after scaling by whole numbers."""
    ends = [int(end) * int(scale.slope) + int(scale.intercept) for end in (numbers.min(), numbers.max())]
    return min(ends), max(ends)


def _by_slices(numbers: NDArray[np.generic], dtype: np.dtype[np.generic], scale: Scale) -> NDArray[np.generic]:
    """Return the scaled numbers; slice by slice, so that no copy of the volume is made in float64."""
    scaled = np.empty(numbers.shape, dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        for target, plane in zip(scaled, numbers, strict=True):
            target[...] = scale.applied(plane)
    return scaled


def _finite(values: NDArray[np.generic]) -> tuple[NDArray[np.generic], tuple[str, ...]]:
    """Return float32 values with what is not finite replaced; the array may be the one that came in, changed."""
    wrong = ~np.isfinite(values)
    count = int(np.count_nonzero(wrong))
    if count == 0:
        return values, ()
    if 2 * count > values.size:
        raise UnsupportedInput(f"{count} of its {values.size} intensities are not finite numbers")
    repaired = values if values.flags.writeable else values.copy()
    smallest = float(values[~wrong].astype(np.float32).min())
    repaired[wrong] = smallest
    return repaired, (f"{count} intensities were not finite numbers and were set to the smallest, {smallest:g}.",)
