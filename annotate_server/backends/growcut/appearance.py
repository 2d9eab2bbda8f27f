"""What the inside of a structure looks like, against what lies around it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from annotate_server.domain.geometry import Vector
from annotate_server.imaging.distance import depth_mm

_BINS = 64
_SMOOTH_BINS = 1.5
_FLOOR = 3e-3
"""Probability of an intensity that was never seen: a rare value speaks neither way."""
_CLIP = 3.0
"""Most that one voxel's intensity can say: odds of twenty to one."""
_BLUR_CELLS = 0.5


@dataclass(frozen=True)
class Appearance:
    """Intensities of a grid (k, j, i), and what they say.

    `level` is the intensity, a little smoothed, from 0 to 1 over the range that occurs in and around the structure.
    `log_odds` is how much likelier the level is inside than around, as a natural logarithm, cut off at 3.
    `noise` is the usual step of `level` between neighbours; `low` and `high` are the ends of the range.
    """

    level: NDArray[np.float32]
    log_odds: NDArray[np.float32]
    noise: float
    low: float
    high: float

    def on_scale(self, intensity: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return other intensities on the scale of `level`, not smoothed."""
        return _scaled(intensity, self.low, self.high)


def appearance(
    intensity: NDArray[np.float32], inside: NDArray[np.bool_], around: NDArray[np.bool_], spacing_mm: Vector
) -> Appearance:
    """Learn from two sets of voxels (k, j, i) how the structure differs from its surroundings.

    Where one of the sets is empty the intensity says nothing (log odds 0).
    """
    seen = intensity[inside | around]
    low, high = np.percentile(seen if seen.size else intensity, [1.0, 99.0])
    level = _blurred(_scaled(intensity, float(low), float(high)), spacing_mm)
    bins = np.minimum((level * _BINS).astype(np.intp), _BINS - 1)
    if inside.any() and around.any():
        odds = np.log(_histogram(bins[inside]) / _histogram(bins[around]))
    else:
        odds = np.zeros(_BINS)
    table = np.clip(odds, -_CLIP, _CLIP).astype(np.float32)
    return Appearance(level, table[bins], noise_of(level), float(low), float(high))


@dataclass(frozen=True)
class Depths:
    """A segment of a grid (k, j, i): how deep (mm) each cell lies in it, and how far from it; 0 on the other side."""

    segment: NDArray[np.bool_]
    inside_mm: NDArray[np.float32]
    outside_mm: NDArray[np.float32]

    @classmethod
    def of(cls, segment: NDArray[np.bool_], spacing_mm: Vector) -> "Depths":
        """Measure a segment."""
        return cls(segment, depth_mm(segment, spacing_mm), depth_mm(~segment, spacing_mm))


def of_segment(intensity: NDArray[np.float32], depths: Depths, spacing_mm: Vector, cell_mm: float) -> Appearance:
    """Learn the appearance from a segment as it stands: its core against a ring as wide as the core is deep."""
    deepest = max(float(depths.inside_mm.max()), cell_mm)
    core = depths.segment & (depths.inside_mm > min(cell_mm, 0.5 * deepest))
    ring = (depths.outside_mm > 0.5 * cell_mm) & (depths.outside_mm <= max(deepest, 3 * cell_mm))
    return appearance(intensity, core, ring, spacing_mm)


def noise_of(level: NDArray[np.float32]) -> float:
    """Return the usual step between neighbours along i, as a standard deviation (1.48 times the median step)."""
    steps = np.abs(np.diff(level, axis=2))
    return 1.48 * float(np.median(steps)) + 1e-3 if steps.size else 1e-3


def _scaled(intensity: NDArray[np.float32], low: float, high: float) -> NDArray[np.float32]:
    scaled: NDArray[np.float32] = np.clip((intensity - low) / max(high - low, 1e-6), 0.0, 1.0).astype(np.float32)
    return scaled


def _blurred(level: NDArray[np.float32], spacing_mm: Vector) -> NDArray[np.float32]:
    """Return the level blurred by half a voxel along the finest axis, and as much in mm along the others."""
    finest = min(spacing_mm)
    blur = [_BLUR_CELLS * finest / side for side in spacing_mm]
    smooth: NDArray[np.float32] = ndimage.gaussian_filter(level, blur, mode="nearest", truncate=3.0)
    return smooth


def _histogram(bins: NDArray[np.intp]) -> NDArray[np.float64]:
    counts = ndimage.gaussian_filter1d(np.bincount(bins, minlength=_BINS).astype(float), _SMOOTH_BINS, mode="nearest")
    shares: NDArray[np.float64] = counts / counts.sum() + _FLOOR
    return shares
