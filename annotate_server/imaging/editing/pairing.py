"""Which parts of one slice go on as which parts of the next."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Area = NDArray[np.bool_]

_FARTHEST_RADII = 6.0
"""Parts that do not overlap belong together up to this distance of their centres, in mean radii of the two."""


def paired(before: Area, after: Area, pixel_mm: tuple[float, float]) -> Iterator[tuple[Area, Area]]:
    """Yield areas (rows, columns; pixels of `pixel_mm`) of two slices that belong together; one may be empty.

    Parts (joined by edges or corners) that overlap belong together, over several links. Of the rest, a part belongs to
    the one that is nearest to it, if it is nearest to that one too and not far; what then is left has no partner.
    """
    corners = np.ones((3, 3))
    first, count = ndimage.label(before, corners)
    second, more = ndimage.label(after, corners)
    both = before & after
    links = list(zip(first[both] - 1, second[both] - 1, strict=True))
    rest = _left_over(first, {a for a, _ in links}), _left_over(second, {b for _, b in links})
    links += _near_ones(*rest, pixel_mm)
    rows, columns = np.array([a for a, _ in links], np.intp), np.array([b for _, b in links], np.intp) + count
    graph = coo_array((np.ones(len(links)), (rows, columns)), shape=(count + more, count + more))
    groups, group_of = connected_components(graph, directed=False)
    for group in range(groups):
        members = np.flatnonzero(group_of == group)
        yield (
            np.isin(first, members[members < count] + 1),
            np.isin(second, members[members >= count] - count + 1),
        )


def _left_over(parts: NDArray[np.int32], partnered: set[int]) -> dict[int, NDArray[np.intp]]:
    """Return the pixels (n, 2) of each part, by number from 0, that has no partner yet."""
    return {n: np.argwhere(parts == n + 1) for n in range(int(parts.max())) if n not in partnered}


def _near_ones(
    mine: dict[int, NDArray[np.intp]], theirs: dict[int, NDArray[np.intp]], pixel_mm: tuple[float, float]
) -> list[tuple[int, int]]:
    """Return pairs of parts that are each other's nearest, and near enough."""
    if not mine or not theirs:
        return []
    here, there = ([_centre_mm(part, pixel_mm) for part in side.values()] for side in (mine, theirs))
    away = np.linalg.norm(np.array(here)[:, None] - np.array(there)[None], axis=2)
    radii = [[_radius_mm(part, pixel_mm) for part in side.values()] for side in (mine, theirs)]
    reach = _FARTHEST_RADII * (np.array(radii[0])[:, None] + np.array(radii[1])[None]) / 2.0
    numbers = list(mine), list(theirs)
    return [
        (numbers[0][a], numbers[1][b])
        for a, b in enumerate(away.argmin(axis=1))
        if away[:, b].argmin() == a and away[a, b] <= reach[a, b]
    ]


def _centre_mm(places: NDArray[np.intp], pixel_mm: tuple[float, float]) -> NDArray[np.float64]:
    centre: NDArray[np.float64] = places.mean(axis=0) * np.array(pixel_mm)
    return centre


def _radius_mm(places: NDArray[np.intp], pixel_mm: tuple[float, float]) -> float:
    """Return the radius of a disc of the same area."""
    return float(np.sqrt(len(places) * pixel_mm[0] * pixel_mm[1] / np.pi))
