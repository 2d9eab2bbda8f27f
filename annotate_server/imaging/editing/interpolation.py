"""Slices between drawn ones: shape-based interpolation, part by part.

Signed distances to the outlines are interpolated between neighbouring drawn slices (Raya and Udupa 1990, IEEE
Trans. Med. Imaging 9, 32-42; Herman, Zheng and Bucholtz 1992). Which parts belong together is settled first, by
overlap, as ITK's morphological contour interpolation does (Zukic et al. 2016, Insight Journal): a part that moves is
moved along, one that branches meets all its branches, one without a partner runs out half way.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from annotate_server.domain.geometry import Vector
from annotate_server.imaging.distance import depth_mm
from annotate_server.imaging.editing.pairing import paired

Area = NDArray[np.bool_]
"""Pixels of one slice."""


@dataclass(frozen=True)
class _Between:
    """What leads from one drawn area to the next; distances in mm, positive inside, both moved onto each other.

    `shift` is the way (pixels) that the area moves from the first to the last slice.
    """

    first: NDArray[np.float32]
    last: NDArray[np.float32]
    shift: NDArray[np.float64]

    def at(self, share: float) -> Area:
        """Return the area at a share (0 to 1) of the way."""
        here = _moved(self.first, share * self.shift)
        there = _moved(self.last, (share - 1.0) * self.shift)
        area: Area = (1.0 - share) * here + share * there >= 0.0
        return area


def drawn_slices(segment: NDArray[np.bool_], axis: int) -> list[int]:
    """Return the slices across an axis on which a segment (k, j, i) is drawn, ascending."""
    rest = tuple(other for other in range(3) if other != axis)
    return [int(n) for n in np.flatnonzero(segment.any(axis=rest))]


def gaps(slices: list[int]) -> Iterator[tuple[int, int]]:
    """Yield the neighbouring drawn slices between which others are empty."""
    for before, after in pairwise(slices):
        if after > before + 1:
            yield before, after


def interpolated(before: Area, after: Area, count: int, pixel_mm: tuple[float, float]) -> Iterator[Area]:
    """Yield `count` evenly spaced areas between two drawn ones of the same shape (rows, columns)."""
    margin = 2 + max(before.shape) // 8
    framed = [np.pad(area, margin) for area in (before, after)]
    ways = [_between(first, last, pixel_mm) for first, last in paired(framed[0], framed[1], pixel_mm)]
    for n in range(1, count + 1):
        area = np.zeros(framed[0].shape, np.bool_)
        for way in ways:
            area |= way.at(n / (count + 1))
        yield area[margin:-margin, margin:-margin]


def in_plane_mm(spacing_mm: Vector, axis: int) -> tuple[float, float]:
    """Return the size of a pixel (rows, columns) of a slice across an axis."""
    first, second = (side for other, side in enumerate(spacing_mm) if other != axis)
    return first, second


def _between(first: Area, last: Area, pixel_mm: tuple[float, float]) -> _Between:
    """Return the way from one area to another; a missing one (no pixel) is reached half way."""
    still = np.zeros(2)
    if not last.any():
        depth = _depth(first, pixel_mm)
        return _Between(depth, depth - 2.0 * depth.max(), still)
    if not first.any():
        depth = _depth(last, pixel_mm)
        return _Between(depth - 2.0 * depth.max(), depth, still)
    branches = max(ndimage.label(area, np.ones((3, 3)))[1] for area in (first, last)) > 1
    shift = still if branches else _centre(last) - _centre(first)
    return _Between(_depth(first, pixel_mm), _depth(last, pixel_mm), shift)


def _depth(area: Area, pixel_mm: tuple[float, float]) -> NDArray[np.float32]:
    """Return how deep (mm) each pixel lies in an area, negative outside; 0 runs between the pixels of the border."""
    half = min(pixel_mm) / 2.0
    inside, outside = depth_mm(area, pixel_mm), depth_mm(~area, pixel_mm)
    depth: NDArray[np.float32] = np.where(area, inside - half, half - outside).astype(np.float32)
    return depth


def _centre(area: Area) -> NDArray[np.float64]:
    centre: NDArray[np.float64] = np.argwhere(area).mean(axis=0)
    return centre


def _moved(depth_mm: NDArray[np.float32], shift: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return distances moved by fractions of pixels; beyond the array they go on as at its edge (outside)."""
    if np.abs(shift).max() < 1e-6:
        return depth_mm
    moved: NDArray[np.float32] = ndimage.shift(depth_mm, shift, order=1, mode="nearest")
    return moved
