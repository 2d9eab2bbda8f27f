"""Adding up what tiles say, a slab at a time: only the planes that a tile can still reach are kept."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from annotate_server.domain.errors import PredictionFailed
from annotate_server.domain.geometry import Box

_PLANES = 8
"""How many planes of class values are given out at a time: they are copies, one of every class."""


@dataclass(frozen=True)
class ClassPlanes:
    """Planes `first` to `last` (k, half open) of the region: class values (classes, planes, j, i) on the device."""

    first: int
    last: int
    values: Tensor


@dataclass(frozen=True)
class FinishedPlanes:
    """Planes `first` to `last` (k, half open) of the region: their labels and, where asked for, confidence."""

    first: int
    last: int
    labels: NDArray[np.uint8] | NDArray[np.uint16]
    confidence: NDArray[np.float32] | None


class Blend:
    """Weighted sums of class values over a region of the padded array; tiles come in the order of k.

    The sums of `window[0]` planes are kept in a ring: plane k lies in row k modulo that. They are never divided by
    the weights' sum, which does not change which class is largest, unless the confidence is wanted.
    """

    def __init__(
        self, region: Box, weights: NDArray[np.float32], classes: int, device: torch.device, *, confidence: bool
    ) -> None:
        """Begin with no tile; `weights` (k, j, i) say how much each voxel of a window counts.

        Nothing is kept outside of the region.
        """
        window = weights.shape
        self._region = region
        self._depth = window[0]
        self._next = region.start[0]
        self._weights = torch.from_numpy(weights).to(device)
        self._sums = torch.zeros((classes, window[0], *region.shape[1:]), device=device)
        self._total = torch.zeros((1, window[0], *region.shape[1:]), device=device) if confidence else None

    def add(self, tile: Box, values: Tensor) -> None:
        """Add the class values (classes, k, j, i), float32, of a tile."""
        start, stop = self._region.start, self._region.stop
        first = [max(a, b) for a, b in zip(tile.start, start, strict=True)]
        last = [min(a, b) for a, b in zip(tile.stop, stop, strict=True)]
        if any(b <= a for a, b in zip(first, last, strict=True)):
            return
        across = [slice(a - s, b - s) for a, b, s in zip(first[1:], last[1:], start[1:], strict=True)]
        within = [slice(a - t, b - t) for a, b, t in zip(first[1:], last[1:], tile.start[1:], strict=True)]
        for begin, end in self._unbroken(first[0], last[0]):
            rows = slice(begin % self._depth, (end - 1) % self._depth + 1)
            planes = slice(begin - tile.start[0], end - tile.start[0])
            weights = self._weights[planes, within[0], within[1]]
            self._sums[:, rows, across[0], across[1]].addcmul_(values[:, planes, within[0], within[1]], weights)
            if self._total is not None:
                self._total[0, rows, across[0], across[1]] += weights

    def finish(self, until: int) -> Iterator[FinishedPlanes]:
        """Yield the planes before `until` (of the padded array), which no later tile reaches, and forget them."""
        until = min(until, self._region.stop[0])
        for begin, end in self._unbroken(self._next, until):
            rows = slice(begin % self._depth, (end - 1) % self._depth + 1)
            labels, best = most_likely(self._sums[:, rows])
            _check_finite(best)
            confidence = self._confidence(rows, best)
            self._sums[:, rows] = 0
            offset = self._region.start[0]
            yield FinishedPlanes(begin - offset, end - offset, unsigned(labels), confidence)
        self._next = max(self._next, until)

    def finish_values(self, until: int) -> Iterator[ClassPlanes]:
        """Yield the planes before `until` as class values, each the weighted mean of the tiles that lie there.

        For a blend with confidence: the others do not add up the weights.
        """
        if self._total is None:
            raise ValueError("this blend does not add up weights")
        until, offset = min(until, self._region.stop[0]), self._region.start[0]
        for piece, stop in self._unbroken(self._next, until):
            for begin in range(piece, stop, _PLANES):
                end = min(stop, begin + _PLANES)
                rows = slice(begin % self._depth, (end - 1) % self._depth + 1)
                values = self._sums[:, rows] / self._total[:, rows]
                _check_finite(values)
                self._sums[:, rows] = 0
                self._total[:, rows] = 0
                yield ClassPlanes(begin - offset, end - offset, values)
        self._next = max(self._next, until)

    def _confidence(self, rows: slice, best: Tensor) -> NDArray[np.float32] | None:
        """Return the probability of the most likely class; 0 where no tile lay."""
        if self._total is None:
            return None
        total = self._total[:, rows]
        probability = 1 / ((self._sums[:, rows] - best) / total.clamp_min(1e-6)).exp_().sum(0)
        found: NDArray[np.float32] = torch.where(total[0] > 0, probability, 0.0).cpu().numpy()
        total.zero_()
        return found

    def _unbroken(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Yield the planes from `first` to `last` in pieces that lie side by side in the ring."""
        while first < last:
            end = min(last, (first // self._depth + 1) * self._depth)
            yield first, end
            first = end


def most_likely(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the class of the largest value, the lowest of equal ones, and that value, of (classes, k, j, i).

    A loop over the classes: an argmax over the outermost axis takes several times as long on a CPU.
    """
    best = values[0].clone()
    labels = torch.zeros(best.shape, dtype=torch.uint8 if len(values) <= 256 else torch.int16, device=values.device)
    for index in range(1, len(values)):
        labels.masked_fill_(values[index] > best, index)
        torch.maximum(best, values[index], out=best)
    return labels, best


def _check_finite(values: Tensor) -> None:
    if not bool(torch.isfinite(values).all()):
        raise PredictionFailed("the network's class values are not finite numbers")


def unsigned(labels: Tensor) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Return labels of `most_likely` as a labelmap's voxels."""
    found: NDArray[np.uint8] = labels.cpu().numpy()
    return found if found.dtype == np.uint8 else found.view(np.uint16)
