"""An edge-aware fill: how far a voxel is from the seed when edges make the way long.

The price of a step is its length, more of it where the intensity is unlike the seed's, and a fixed share of the whole
distance for every unit of change of intensity beyond noise: a clear edge costs the whole distance however blurred it
is. Distances of this kind: Criminisi, Sharp and Blake 2008 (GeoS, ECCV), here by Dijkstra's search.
"""

import heapq
import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from annotate_server.domain.geometry import Box, Shape, Vector
from annotate_server.imaging.compiled import compiled

_SEEN_MM, _SEEN_VOXELS = 2.5, 1.5
"""Radius about the seed from which its intensity and spread are taken: the larger of the two."""
_BLUR_VOXELS = 0.5
_NOISE_STEPS = 1.0
"""Changes of intensity from voxel to voxel that cost nothing, in spreads: the noise that the blur has left."""
_EDGE = 3.0
"""The change of intensity, in spreads beyond noise, that costs the whole distance."""
_ALIKE = 2.0
"""How far the intensity may be from the seed's, in spreads, without making the way longer."""
_UNLIKE, _MOST_UNLIKE = 1.0, 20.0


def reach_of(seed: Shape, distance_mm: float, spacing_mm: Vector, shape: Shape) -> Box:
    """Return the box of the array that a fill from the seed can reach at most."""
    k, j, i = (math.ceil(distance_mm / side) for side in spacing_mm)
    one = Box(seed, (seed[0] + 1, seed[1] + 1, seed[2] + 1))
    return one.grown((k, j, i), shape)


def filled_from(
    voxels: NDArray[np.generic], allowed: NDArray[np.bool_], seed: Shape, spacing_mm: Vector, distance_mm: float
) -> NDArray[np.bool_]:
    """Return the voxels (k, j, i) that are no further than `distance_mm` from the seed along a way through `allowed`.

    Give the block of `reach_of`. Steps go to the 26 neighbours. What is not finite counts as the least intensity.
    """
    level = _level(voxels, seed, spacing_mm)
    away = np.maximum(np.abs(level - level[seed]) - _ALIKE, 0.0)
    toll = 1.0 + np.minimum(_UNLIKE * np.square(away), _MOST_UNLIKE)
    start = int(np.ravel_multi_index(seed, level.shape))
    limits = (distance_mm, distance_mm / _EDGE)
    free = np.ascontiguousarray(allowed)
    cost = _search(level, toll.astype(np.float32), free, start, _steps(spacing_mm), limits)
    reached: NDArray[np.bool_] = cost <= distance_mm
    reached &= allowed
    return reached


def _level(voxels: NDArray[np.generic], seed: Shape, spacing_mm: Vector) -> NDArray[np.float32]:
    """Return the intensities, a little blurred, in units of their spread about the seed."""
    values = np.array(voxels, np.float32)
    finite = np.isfinite(values)
    if not finite.all():
        values[~finite] = values[finite].min() if finite.any() else 0.0
    finest = min(spacing_mm)
    smooth = ndimage.gaussian_filter(values, [_BLUR_VOXELS * finest / side for side in spacing_mm], mode="nearest")
    radius = max(_SEEN_MM, _SEEN_VOXELS * max(spacing_mm))
    axes = [(np.arange(n) - s) * side for n, s, side in zip(values.shape, seed, spacing_mm, strict=True)]
    ball = smooth[sum(np.square(axis) for axis in np.ix_(*axes)) <= radius**2]
    steps = np.abs(np.diff(smooth, axis=2))
    noise = 1.05 * float(np.median(steps)) if steps.size else 0.0
    low, high = np.percentile(smooth, [1.0, 99.0])
    spread = 1.48 * float(np.median(np.abs(ball - np.median(ball))))
    level: NDArray[np.float32] = smooth / np.float32(max(spread, noise, 0.01 * float(high - low), 1e-6))
    return level


def _steps(sides_mm: Vector) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return the 26 steps (n, 3) and their lengths in mm."""
    steps = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), -1).reshape(-1, 3)
    steps = steps[np.abs(steps).sum(axis=1) > 0].astype(np.intp)
    return steps, np.sqrt(np.square(steps * np.array(sides_mm)).sum(axis=1)).astype(np.float32)


@compiled
def _search(
    level: NDArray[np.float32],
    toll: NDArray[np.float32],
    allowed: NDArray[np.bool_],
    start: int,
    steps: tuple[NDArray[np.intp], NDArray[np.float32]],
    limits: tuple[float, float],
) -> NDArray[np.float32]:
    """Return the cost of each voxel by Dijkstra's search, which ends at the distance; infinite beyond it."""
    offsets, lengths = steps
    farthest, change = limits
    K, J, I = level.shape
    cost = np.full(level.shape, np.inf, np.float32)
    cost[start // (J * I), start // I % J, start % I] = 0.0
    waiting = [(np.float32(0.0), start)]
    while len(waiting) > 0:
        reached, v = heapq.heappop(waiting)
        k, j, i = v // (J * I), v // I % J, v % I
        if reached > cost[k, j, i]:
            continue
        for n in range(lengths.size):
            a, b, c = k + offsets[n, 0], j + offsets[n, 1], i + offsets[n, 2]
            if a < 0 or a >= K or b < 0 or b >= J or c < 0 or c >= I or not allowed[a, b, c]:
                continue
            step = max(np.float32(0.0), abs(level[a, b, c] - level[k, j, i]) - np.float32(_NOISE_STEPS))
            price = np.float32(reached + lengths[n] * toll[a, b, c] + step * np.float32(change))
            if price <= farthest and price < cost[a, b, c]:
                cost[a, b, c] = price
                heapq.heappush(waiting, (price, a * J * I + b * I + c))
    return cost
