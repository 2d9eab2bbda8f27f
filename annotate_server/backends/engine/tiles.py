"""Where the tiles of a sliding window lie, how much each counts, and which of them the body needs.

Positions and weights are those of MONAI's `sliding_window_inference` with `mode="gaussian"` or those of nnU-Net, so
that a network gives the same labels as there: one that normalises over its window answers differently when a window is
moved.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from annotate_server.domain.geometry import Box, Shape

Bell: TypeAlias = NDArray[np.float32] | NDArray[np.float64]
_SIGMA = 0.125
"""Standard deviation of the weights in windows (MONAI and nnU-Net), and below it the least weight (MONAI's default)."""
_LEAST_WEIGHT = 1e-3

_LEAST_SHARE = 0.1
"""A tile with less of the weight than this, in all but this part of the body, changes no label to speak of."""
_LEAST_PART_OF_BODY = 1e-5


class Layout(StrEnum):
    """Whose rules place and weigh the tiles.

    MONAI takes steps of one length and lets the last tile end at the side; nnU-Net spreads the tiles evenly.
    """

    MONAI = "monai"
    NNUNET = "nnunet"


@dataclass(frozen=True)
class TileGrid:
    """A sliding window over an array (k, j, i): `tiles` in the order of k, then j, then i.

    `padded` is the array's shape with what a window needs that is larger than it; `inside` is where the array lies in
    there. All tiles have the shape `window`.
    """

    window: Shape
    padded: Shape
    inside: Box
    tiles: tuple[Box, ...]
    layout: Layout = Layout.MONAI

    @classmethod
    def over(cls, shape: Shape, window: Shape, overlap: float, layout: Layout = Layout.MONAI) -> "TileGrid":
        """Return the grid whose neighbours share `overlap` (0 to below 1) of a window, or a little more."""
        padded = _shape(max(n, w) for n, w in zip(shape, window, strict=True))
        before = _shape((p - n) // 2 for p, n in zip(padded, shape, strict=True))
        inside = Box(before, _shape(b + n for b, n in zip(before, shape, strict=True)))
        starts = [_STARTS[layout](p, w, overlap) for p, w in zip(padded, window, strict=True)]
        tiles = tuple(
            Box((k, j, i), (k + window[0], j + window[1], i + window[2]))
            for k in starts[0]
            for j in starts[1]
            for i in starts[2]
        )
        return cls(window, padded, inside, tiles, layout)

    @property
    def weights(self) -> NDArray[np.float32]:
        """Return how much each voxel of a tile counts, (k, j, i) of the window."""
        return window_weights(self.window, self.layout)

    def needed_for(self, body: NDArray[np.bool_]) -> tuple[Box, ...]:
        """Return the tiles without which labels in the body (the array's shape) could change.

        A tile goes when it has more than a tenth of the weight in less than a hundred-thousandth of the body: the tiles
        that stay decide there.
        """
        occupied = np.zeros(self.padded, dtype=np.bool_)
        occupied[self.inside.slices] = body
        least = _LEAST_PART_OF_BODY * int(body.sum())
        weights, total = self.weights, self.total_weight(self.tiles)
        return tuple(
            tile
            for tile in self.tiles
            if np.count_nonzero((weights > _LEAST_SHARE * total[tile.slices]) & occupied[tile.slices]) > least
        )

    def total_weight(self, tiles: Sequence[Box]) -> NDArray[np.float32]:
        """Return the sum of the weights of tiles, (k, j, i) of the padded array; 0 where no tile lies."""
        total = np.zeros(self.padded, dtype=np.float32)
        weights = self.weights
        for tile in tiles:
            total[tile.slices] += weights
        return total


def window_weights(window: Shape, layout: Layout = Layout.MONAI) -> NDArray[np.float32]:
    """Return how much each voxel of a window counts, (k, j, i): a Gaussian around its centre."""
    axes = [_BELLS[layout](side) for side in window]
    weights = axes[0][:, None, None] * axes[1][None, :, None] * axes[2][None, None, :]
    least = max(float(weights.min()), _LEAST_WEIGHT)
    if layout is Layout.NNUNET:
        # They are kept in half precision there: what vanishes in it counts as the least that does not.
        weights = (10 * weights / weights.max()).astype(np.float16).astype(np.float32)
        least = float(weights[weights > 0].min())
    bounded: NDArray[np.float32] = np.maximum(weights, least).astype(np.float32)
    return bounded


def _sampled_bell(side: int) -> Bell:
    """Return a Gaussian around the middle of a side (MONAI)."""
    x = np.arange(side, dtype=np.float32) - np.float32((side - 1) / 2)
    bell: Bell = np.exp(x**2 / np.float32(-2 * (_SIGMA * side) ** 2)).astype(np.float32)
    return bell


def _filtered_bell(side: int) -> Bell:
    """Return what a Gaussian filter, cut off at four deviations, makes of one voxel at half a side (nnU-Net)."""
    spike = np.zeros(side)
    spike[side // 2] = 1
    bell: Bell = ndimage.gaussian_filter1d(spike, _SIGMA * side, mode="constant")
    return bell


def _even_starts(side: int, window: int, overlap: float) -> list[int]:
    """Return as many starts as steps of at most that length need, as evenly apart as whole voxels allow (nnU-Net)."""
    last = side - window
    steps = math.ceil(last / max(1.0, window * (1 - overlap)))
    return [int(np.round(n * (last / steps))) for n in range(steps + 1)] if steps else [0]


def _starts(side: int, window: int, overlap: float) -> list[int]:
    """Return where the windows along an axis begin."""
    step = window if window == side else max(1, int(window * (1 - overlap)))
    count = 1 + math.ceil((side - window) / step)
    return [min(n * step, side - window) for n in range(count)]


_BELLS: Mapping[Layout, Callable[[int], Bell]] = {Layout.MONAI: _sampled_bell, Layout.NNUNET: _filtered_bell}
_STARTS: Mapping[Layout, Callable[[int, int, float], list[int]]] = {Layout.MONAI: _starts, Layout.NNUNET: _even_starts}


def _shape(values: Iterable[int]) -> Shape:
    k, j, i = values
    return k, j, i
