"""GrowCut by one flood: every free voxel goes to the seed from which it is reached at the least cost.

The cost of a path is a price for every step and one for every change of intensity, so the flood is a shortest path
search (Dijkstra) from all seeds at once; with whole-number costs a circular row of buckets replaces the heap and the
time is linear in the voxels (Vezhnevets and Konouchine 2005 for GrowCut, Zhu et al. 2014 for the shortest paths, Dial
1969 for the buckets).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from annotate_server.backends.growcut.compiled import compiled

FREE, BARRIER = 0, 255
"""Labels of a voxel that the flood may take, and of one that it goes around."""

UNREACHED = 2**30
"""The cost of a voxel that no seed reaches."""

STEP = 10.0
"""The price of a step along the finest axis; a step along another axis costs more by the ratio of the spacings."""

_BUCKETS = 4096
"""One step costs less than this: dearer ones are cut off."""


@dataclass(frozen=True)
class Flood:
    """What a flood did to each voxel (k, j, i): whose it became, at what cost, and (voxel numbers) in which order."""

    labels: NDArray[np.uint8]
    cost: NDArray[np.int32]
    order: NDArray[np.int32]


def flood(
    intensity: NDArray[np.float32],
    seeds: NDArray[np.uint8],
    spacing_mm: tuple[float, float, float],
    toll: NDArray[np.float32] | None = None,
) -> Flood:
    """Let seeds compete for the free voxels of a grid (k, j, i).

    `intensity` is in units of which one costs as much as a tenth of a step along the finest axis. `seeds` holds FREE,
    BARRIER or the label of a seed (1 to 254). `toll` multiplies the price of the step into a voxel by 1 + its value.
    A barrier keeps its label; what no seed reaches stays FREE. Of equal costs the earlier seed in memory order wins.
    """
    finest = min(spacing_mm)
    prices = np.array([STEP * side / finest for side in spacing_mm], dtype=np.float32)
    tolls = np.zeros((1, 1, 1), np.float32) if toll is None else np.ascontiguousarray(toll, np.float32)
    labels, cost, order = _flood(
        np.ascontiguousarray(intensity, np.float32), np.ascontiguousarray(seeds, np.uint8), prices, tolls
    )
    return Flood(labels, cost, order)


@compiled
def _flood(
    intensity: NDArray[np.float32], seeds: NDArray[np.uint8], prices: NDArray[np.float32], toll: NDArray[np.float32]
) -> tuple[NDArray[np.uint8], NDArray[np.int32], NDArray[np.int32]]:
    """Run the flood. Each voxel is in at most one bucket: buckets are doubly linked lists through `after`, `before`."""
    K, J, I = seeds.shape
    total = K * J * I
    values, tolls = intensity.reshape(-1), toll.reshape(-1)
    labels = seeds.copy().reshape(-1)
    has_toll = tolls.size == total
    cost = np.full(total, UNREACHED, np.int32)
    done = np.zeros(total, np.uint8)
    after = np.full(total, -1, np.int32)
    before = np.full(total, -1, np.int32)
    first = np.full(_BUCKETS, -1, np.int32)
    order = np.empty(total, np.int32)
    strides = (J * I, J * I, I, I, 1, 1)
    reached, waiting, level = 0, 0, 0
    for v in range(total - 1, -1, -1):
        if labels[v] == BARRIER:
            done[v] = 1
        elif labels[v] != FREE:
            cost[v] = 0
            after[v] = first[0]
            if first[0] >= 0:
                before[first[0]] = v
            first[0] = v
            waiting += 1
    while waiting > 0:
        bucket = level % _BUCKETS
        while first[bucket] < 0:
            level += 1
            bucket = level % _BUCKETS
        v = first[bucket]
        first[bucket] = after[v]
        if after[v] >= 0:
            before[after[v]] = -1
        waiting -= 1
        done[v] = 1
        order[reached] = v
        reached += 1
        k, rest = v // (J * I), v % (J * I)
        j, i = rest // I, rest % I
        for side in range(6):
            forward = side % 2 == 0
            place = (k, k, j, j, i, i)[side]
            length = (K, K, J, J, I, I)[side]
            if (forward and place == length - 1) or (not forward and place == 0):
                continue
            w = v + strides[side] if forward else v - strides[side]
            if done[w]:
                continue
            price = prices[side // 2]
            if has_toll:
                price *= np.float32(1.0) + tolls[w]
            price += abs(values[v] - values[w])
            reach = level + max(1, min(_BUCKETS - 1, int(price)))
            if reach >= cost[w]:
                continue
            if cost[w] < UNREACHED:
                if before[w] >= 0:
                    after[before[w]] = after[w]
                else:
                    first[cost[w] % _BUCKETS] = after[w]
                if after[w] >= 0:
                    before[after[w]] = before[w]
            else:
                waiting += 1
            cost[w] = reach
            labels[w] = labels[v]
            target = reach % _BUCKETS
            before[w] = -1
            after[w] = first[target]
            if first[target] >= 0:
                before[first[target]] = w
            first[target] = w
    return labels.reshape(K, J, I), cost.reshape(K, J, I), order[:reached]
