"""Intensities as the whole numbers that DICOM stores, exactly where that is possible.

A stored number n means n x slope + intercept (PS3.3 C.11.1); slope and intercept are decimal strings of at most 16
characters, and the numbers are of 16 bits because every viewer reads those. Whole intensities that span less than
65,536 are exact, and so are fractions that are equal steps, as NIfTI's own scale makes them. Anything else is rounded
to 65,536 steps between its ends.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Voxels = NDArray[np.generic]
_STEPS = 65_535
_RANGES = {"int16": (-32_768, 32_767), "uint16": (0, 65_535)}
_SAMPLED_SLICES = 5
_MOST_DIVISORS = 4


@dataclass(frozen=True)
class Scaling:
    """How intensities are stored: numbers of `dtype`, slope and intercept as they are written.

    `largest_error` is how far the intensity that a viewer computes may lie from the true one, in its unit.
    """

    dtype: str
    slope: str = "1"
    intercept: str = "0"
    largest_error: float = 0.0

    def stored(self, values: Voxels) -> Voxels:
        """Return intensities of any shape as stored numbers, little endian."""
        low, high = (0, 255) if self.dtype == "uint8" else _RANGES[self.dtype]
        numbers = np.clip(self._numbers(values), low, high)
        return numbers.astype(np.dtype(self.dtype).newbyteorder("<"))

    def intensities(self, numbers: Voxels) -> NDArray[np.float64]:
        """Return what stored numbers mean."""
        return numbers.astype(np.float64) * float(self.slope) + float(self.intercept)

    def error(self, values: Voxels) -> float:
        """Return how far an intensity may come back from what it was; infinite beyond the range of the numbers."""
        numbers = self._numbers(values)
        low, high = _RANGES[self.dtype]
        if numbers.min() < low or numbers.max() > high:
            return math.inf
        back = self.intensities(numbers).astype(values.dtype)
        return float(np.abs(back.astype(np.float64) - values.astype(np.float64)).max())

    def _numbers(self, values: Voxels) -> NDArray[np.float64]:
        return np.rint((values.astype(np.float64) - float(self.intercept)) / float(self.slope))


def decimal_string(value: float) -> str:
    """Return a number as DICOM's decimal string: the nearest of at most 16 characters (PS3.5 6.2)."""
    for digits in range(17, 0, -1):
        text = f"{value + 0.0:.{digits}g}"
        if len(text) <= 16:
            return text
    raise ValueError(f"{value} is no number of 16 characters")


def scaling_of(voxels: Voxels) -> Scaling:
    """Return how to store a volume (k, j, i), looked at slice by slice."""
    if voxels.dtype.kind == "b" or voxels.dtype == np.uint8:
        return Scaling("uint8")
    if voxels.dtype in (np.int8, np.int16):
        return Scaling("int16")
    if voxels.dtype == np.uint16:
        return Scaling("uint16")
    low, high = _ends(voxels)
    tolerance = _tolerance(voxels.dtype, low, high)
    for candidate in _candidates(voxels, low, high, tolerance):
        largest = 0.0
        for plane in voxels:
            largest = max(largest, candidate.error(plane))
            if largest > tolerance:
                break
        else:
            return replace(candidate, largest_error=largest)
    return _rounded(voxels, low, high)


def _tolerance(dtype: np.dtype[np.generic], low: float, high: float) -> float:
    """Return what counts as the same intensity: one unit in the last place of the largest, for fractions.

    Where a product lies halfway between two numbers of 32 bits, the 16 characters of a decimal string decide otherwise
    than the file's own arithmetic did.
    """
    return float(np.spacing(np.float32(max(abs(low), abs(high))))) if dtype.kind == "f" else 0.0


def _ends(voxels: Voxels) -> tuple[float, float]:
    """Return the smallest and the largest intensity."""
    ends = [(float(plane.min()), float(plane.max())) for plane in voxels]
    return min(low for low, _ in ends), max(high for _, high in ends)


def _candidates(voxels: Voxels, low: float, high: float, tolerance: float) -> list[Scaling]:
    """Return scalings that may be exact, those first that are on a few slices."""
    chosen = np.unique(np.linspace(0, len(voxels) - 1, _SAMPLED_SLICES).astype(int))
    sample = np.unique(np.concatenate([voxels[k].ravel() for k in chosen]))
    found: list[tuple[float, Scaling]] = []
    for slope in (1.0, *_steps(sample, high - low)):
        for anchor in (0.0, float(sample[0])):
            candidate = _within_range(slope, anchor, low, high)
            error = math.inf if candidate is None else candidate.error(sample)
            if candidate is not None and error <= tolerance:
                found.append((error, candidate))
            if error == 0.0:
                break
    return [candidate for _, candidate in sorted(found, key=lambda pair: pair[0])[:3]]


def _steps(sample: Voxels, span: float) -> Iterator[float]:
    """Yield what may be the step between intensities: parts of the smallest gap, and numbers of 32 bits near them."""
    values = sample.astype(np.float64)
    if not 2 <= len(values) <= _STEPS + 1:
        return
    gap = float(np.diff(values).min())
    for divisor in range(1, _MOST_DIVISORS + 1):
        if span > 1.01 * _STEPS * gap / divisor:
            return
        step = _refined(values, gap / divisor)
        near = np.float32(step)
        below, above = np.nextafter(near, np.float32(0)), np.nextafter(near, np.float32(np.inf))
        yield from (float(near), float(below), float(above), step)


def _refined(values: NDArray[np.float64], step: float) -> float:
    """Return a step that fits ever longer distances: the rounding of two neighbours would add up over thousands."""
    distances = values - values[0]
    reach = 2.0
    while True:
        within = distances[distances <= reach * step]
        number = np.rint(within[-1] / step)
        if number > 0:
            step = float(within[-1] / number)
        if len(within) == len(distances):
            return step
        reach *= 2.0


def _within_range(slope: float, anchor: float, low: float, high: float) -> Scaling | None:
    """Return a scaling with this slope on whose steps `anchor` lies, whose numbers reach from `low` to `high`."""
    first, last = (round((end - anchor) / slope) for end in (low, high))
    for dtype, (least, most) in _RANGES.items():
        if least <= first and last <= most:
            return Scaling(dtype, decimal_string(slope), decimal_string(anchor))
    if last - first <= _STEPS:
        return Scaling("uint16", decimal_string(slope), decimal_string(anchor + first * slope))
    return None


def _rounded(voxels: Voxels, low: float, high: float) -> Scaling:
    """Return the scaling with the finest steps between the ends, and what its rounding costs."""
    span = max(high - low, abs(high) * 1e-7, 1e-30)
    plain = Scaling("uint16", decimal_string(span / _STEPS), decimal_string(low))
    error = max(float(np.abs(plain.intensities(plain.stored(plane)) - plane).max()) for plane in voxels)
    return Scaling(plain.dtype, plain.slope, plain.intercept, error)
