"""The features of a whole crop in one buffer, and what is summed over them."""

from collections.abc import Iterator

import torch
from torch import Tensor

EPSILON = 1e-5
"""What instance normalisation adds to the variance, as in training."""


class Moments:
    """Mean and variance of each channel over all voxels, summed slab by slab."""

    def __init__(self, row_width: int, device: torch.device) -> None:
        """Begin with nothing; a row has `row_width` numbers (voxels times channels)."""
        self._row_width = row_width
        self._sums = torch.zeros((2, row_width), dtype=torch.float64, device=device)
        self._voxels = 0
        self._channels = 0

    def add(self, features: Tensor) -> None:
        """Take in features (1, channels, n, h, w), channels last: rows of w x channels are summed at once."""
        rows = features.permute(0, 2, 3, 4, 1).reshape(-1, self._row_width).float()
        self._channels = features.shape[1]
        self._voxels += features.numel() // self._channels
        self._sums[0] += rows.sum(0)
        self._sums[1] += rows.square().sum(0)

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """Return what a row (w x channels) is multiplied by, and what is added, to be normalised."""
        mean, square = self._sums.view(2, -1, self._channels).sum(1) / self._voxels
        scale = (square - mean.square()).clamp(min=0).add(EPSILON).rsqrt()
        repeats = self._row_width // self._channels
        return scale.repeat(repeats), (-mean * scale).repeat(repeats)


class PaddedInput:
    """The network's input as the first layer reads it."""

    def __init__(self, padded: Tensor) -> None:
        """Take the volume (planes, h, w, channels) with the planes of zeros that the first layer reads at both ends."""
        self._padded = padded

    def window(self, first: int, last: int, margin: int) -> Tensor:
        """Return the planes from `first` to `last` with the zeros or planes around them, (1, channels, n, h, w)."""
        return self._padded[first : last + 2 * margin].permute(3, 0, 1, 2)[None]


class Planes:
    """The features of every plane of the crop, in a buffer with room at both ends to move them layer by layer."""

    def __init__(self, buffer: Tensor, depth: int, reach: int, slab: int) -> None:
        """Take a buffer (depth + 4 reach, h, w, channels); `slab` planes are computed at a time."""
        self._buffer = buffer
        self._depth = depth
        self._reach = reach
        self._slab = slab
        self._read = 2 * reach
        self._write = self._read

    @property
    def row_width(self) -> int:
        """Return the numbers in one row of voxels."""
        return self._buffer.shape[2] * self._buffer.shape[3]

    def begin(self, shift: int) -> Iterator[tuple[int, int]]:
        """Yield the slabs of a layer of dilation `shift` in an order in which none overwrites what others read.

        The zeros that the layer reads beyond the first and last plane are laid down here.
        """
        self._buffer[self._read - shift : self._read] = 0
        self._buffer[self._read + self._depth : self._read + self._depth + shift] = 0
        forwards = self._read - shift >= self._reach
        self._write = self._read - shift if forwards else self._read + shift
        yield from self.slabs() if forwards else reversed(self.slabs())

    def slabs(self) -> list[tuple[int, int]]:
        """Return first and last plane (excluded) of what is computed at a time."""
        return [(first, min(first + self._slab, self._depth)) for first in range(0, self._depth, self._slab)]

    def end(self) -> None:
        """Let the next layer read what this one wrote."""
        self._read = self._write

    def window(self, first: int, last: int, margin: int) -> Tensor:
        """Return planes with `margin` more at both ends, (1, channels, n, h, w), channels last; a view."""
        return self._buffer[self._read + first - margin : self._read + last + margin].permute(3, 0, 1, 2)[None]

    def write(self, first: int, last: int, features: Tensor) -> None:
        """Keep features (1, channels, n, h, w) of the planes from `first` to `last`."""
        self._buffer[self._write + first : self._write + last] = features[0].permute(1, 2, 3, 0)
