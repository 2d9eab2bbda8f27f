"""GrowCut by one flood: every free voxel goes to the seed from which it is reached at the least cost.

The cost of a path is a price for every step and one for every change of intensity, so the flood is a shortest path
search (Dijkstra) from all seeds at once; with whole-number costs a circular row of buckets replaces the heap and the
time is linear in the voxels (Vezhnevets and Konouchine 2005 for GrowCut, Zhu et al. 2014 for the shortest paths, Dial
1969 for the buckets).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from annotate_server.imaging.compiled import compiled

FREE, BARRIER = 0, 255
"""Labels of a voxel that the flood may take, and of one that it goes around."""

UNREACHED = 2**30
"""The cost of a voxel that no seed reaches."""

STEP = 10.0
"""The price of a step along the finest axis; a step along another axis costs more by the ratio of the spacings."""

WHOLE_RANGE = 1000.0
"""What the whole range of intensities costs where borders are to hold: a hundred steps."""

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
def _neighbour(v: int, side: int, place: tuple[int, int, int], shape: tuple[int, int, int]) -> int:
    """Return the number of the voxel beyond one of the six faces of voxel `v` at `place`, -1 outside the grid."""
    axis = side // 2
    stride = 1
    if axis < 2:
        stride *= shape[2]
    if axis < 1:
        stride *= shape[1]
    if side % 2 == 0:
        return v + stride if place[axis] < shape[axis] - 1 else -1
    return v - stride if place[axis] > 0 else -1


@compiled
def _put(v: int, bucket: int, first: NDArray[np.int32], links: NDArray[np.int32]) -> None:
    """Put a voxel at the head of a bucket; `links` holds (after, before) of each voxel."""
    links[v, 0] = first[bucket]
    links[v, 1] = -1
    if first[bucket] >= 0:
        links[first[bucket], 1] = v
    first[bucket] = v


@compiled
def _pull(v: int, bucket: int, first: NDArray[np.int32], links: NDArray[np.int32]) -> None:
    """Take a voxel out of its bucket."""
    after, before = links[v, 0], links[v, 1]
    if before >= 0:
        links[before, 0] = after
    else:
        first[bucket] = after
    if after >= 0:
        links[after, 1] = before


@compiled
def _flood(
    intensity: NDArray[np.float32], seeds: NDArray[np.uint8], prices: NDArray[np.float32], toll: NDArray[np.float32]
) -> tuple[NDArray[np.uint8], NDArray[np.int32], NDArray[np.int32]]:
    """Run the flood. A voxel waits in at most one bucket: buckets are doubly linked lists through `links`."""
    values, tolls, labels = intensity.reshape(-1), toll.reshape(-1), seeds.copy().reshape(-1)
    cost = np.full(labels.size, UNREACHED, np.int32)
    done = labels == BARRIER
    first = np.full(_BUCKETS, -1, np.int32)
    links = np.full((labels.size, 2), -1, np.int32)
    order = np.empty(labels.size, np.int32)
    reached, waiting, level = 0, 0, 0
    for v in range(labels.size - 1, -1, -1):
        if labels[v] != FREE and not done[v]:
            cost[v] = 0
            _put(v, 0, first, links)
            waiting += 1
    while waiting > 0:
        while first[level % _BUCKETS] < 0:
            level += 1
        v = first[level % _BUCKETS]
        _pull(v, level % _BUCKETS, first, links)
        waiting -= 1
        done[v] = True
        order[reached] = v
        reached += 1
        column = v // seeds.shape[2]
        place = (column // seeds.shape[1], column % seeds.shape[1], v % seeds.shape[2])
        for side in range(6):
            w = _neighbour(v, side, place, seeds.shape)
            if w < 0 or done[w]:
                continue
            price = prices[side // 2] * (np.float32(1.0) + tolls[w]) if tolls.size == labels.size else prices[side // 2]
            reach = level + max(1, min(_BUCKETS - 1, int(price + abs(values[v] - values[w]))))
            if reach < cost[w]:
                if cost[w] < UNREACHED:
                    _pull(w, cost[w] % _BUCKETS, first, links)
                else:
                    waiting += 1
                cost[w] = reach
                labels[w] = labels[v]
                _put(w, reach % _BUCKETS, first, links)
    return labels.reshape(seeds.shape), cost.reshape(seeds.shape), order[:reached]
