"""A network that is kept loaded, over volumes that are larger than its window."""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from annotate_server.backends.engine.blending import Blend, ClassPlanes, FinishedPlanes
from annotate_server.backends.engine.pages import pages_kept
from annotate_server.backends.engine.precision import Precision
from annotate_server.backends.engine.runners import Runner, Trial, averaged, runner_for
from annotate_server.backends.engine.tiles import Layout, TileGrid
from annotate_server.domain.errors import PredictionFailed
from annotate_server.domain.geometry import Box, Shape
from annotate_server.domain.ports import Control

_BATCH = {"cuda": 4}
"""A card is not busy with one window; a CPU is, and its caches hold no more."""


@dataclass(frozen=True)
class SlidingWindow:
    """How a network is run over a volume.

    `window` (k, j, i) is what it was trained on, `overlap` the part that neighbours share, `batch` how many windows it
    gets at a time (None: what suits the device). `outside` is the value beyond a volume that is smaller than the
    window. `uniform` lets every voxel of a window count the same (MONAI's mode "constant"), which leaves no tile out;
    else those around its centre count more. `layout` says whose rules place and weigh the windows. Class values are
    averaged over a window and its mirror images along every choice of `mirror_axes` (0 is k). `faster_layers` lets a
    timed trial choose other layers on a CPU; `only_body` leaves out the tiles that the body does not need; `keep_pages`
    holds on to memory between the layers.
    """

    window: Shape
    overlap: float = 0.5
    batch: int | None = None
    precision: Precision = Precision.FLOAT32
    outside: float = 0.0
    uniform: bool = False
    layout: Layout = Layout.MONAI
    mirror_axes: tuple[int, ...] = ()
    faster_layers: bool = True
    only_body: bool = True
    keep_pages: bool = True

    def __post_init__(self) -> None:
        """Refuse what is no window."""
        batch = 1 if self.batch is None else self.batch
        if min(self.window) < 1 or not 0 <= self.overlap < 1 or batch < 1:
            raise ValueError(f"no sliding window: {self.window}, overlap {self.overlap}, batch {self.batch}")


@dataclass(frozen=True)
class Answer:
    """Labels (k, j, i), uint8 up to 256 classes; where asked for, the probability of each, 0 to 1; tiles computed."""

    labels: NDArray[np.uint8] | NDArray[np.uint16]
    confidence: NDArray[np.float32] | None
    tiles: int


class Engine:
    """A network, or several whose class values are averaged, warmed up on one device; used from one thread."""

    def __init__(
        self,
        network: nn.Module | Sequence[nn.Module],
        options: SlidingWindow,
        *,
        device: str = "cpu",
        channels: int = 1,
    ) -> None:
        """Put the network (class values, the input's sides) on the device and try it out with one batch.

        Raises BackendUnavailable for OpenVINO where it is not installed.
        """
        networks = [network] if isinstance(network, nn.Module) else list(network)
        self._options = options
        self._device = torch.device(device)
        self._batch = options.batch or _BATCH.get(self._device.type, 1)
        self._keeps_pages = options.keep_pages and self._device.type == "cpu"
        try:
            self._runner = self._tried(networks, channels)
        except torch.OutOfMemoryError:
            self._give_way()
            self._runner = self._tried(networks, channels)

    def _tried(self, networks: Sequence[nn.Module], channels: int) -> Runner:
        options = self._options
        trial = Trial(self._batch, channels, options.window, options.faster_layers)
        runners = [runner_for(network, self._device, options.precision, trial) for network in networks]
        return averaged(runners, options.mirror_axes)

    def _give_way(self) -> None:
        """Make do with smaller batches from now on."""
        self._batch = max(1, self._batch // 4)
        torch.cuda.empty_cache()

    def labels(
        self,
        values: NDArray[np.float32],
        body: NDArray[np.bool_] | Box | None = None,
        control: Control | None = None,
        *,
        confidence: bool = False,
    ) -> Answer:
        """Return the most likely class of every voxel of normalised values, (k, j, i) or (channels, k, j, i).

        With `body`, only the box around it is answered: class 0 and confidence 0 outside. Asks `control` between
        batches. Raises PredictionFailed where the device has too little memory for one window.
        """
        channels = values if values.ndim == 4 else values[None]
        work = _Work(channels, body, confidence, control or Control())
        with pages_kept() if self._keeps_pages else nullcontext():
            return self._twice(work)

    def class_planes(self, values: NDArray[np.float32], control: Control | None = None) -> Iterator[ClassPlanes]:
        """Yield the network's blended class values for whoever decides by more than the largest of each voxel.

        Takes what `labels` takes; the planes come in the order of k, and only a window's height of them exists.
        """
        channels = values if values.ndim == 4 else values[None]
        work, is_first_try = _Work(channels, None, True, control or Control()), True
        while True:
            has_told = False
            try:
                for planes in self._planes(work):
                    has_told = True
                    yield planes
                return
            except torch.OutOfMemoryError as error:
                self._give_way()
                if has_told or not is_first_try:
                    raise self._too_little() from error
                is_first_try = False

    def _planes(self, work: "_Work") -> Iterator[ClassPlanes]:
        grid = self._grid(work)
        with pages_kept() if self._keeps_pages else nullcontext():
            for blend, until in self._blends(work, grid, grid.tiles, Box.whole(work.shape)):
                yield from blend.finish_values(until)

    def _twice(self, work: "_Work") -> Answer:
        """Answer, after one failure for lack of memory with smaller batches."""
        try:
            return self._answer(work)
        except torch.OutOfMemoryError:
            self._give_way()
        try:
            return self._answer(work)
        except torch.OutOfMemoryError as error:
            raise self._too_little() from error

    def _too_little(self) -> PredictionFailed:
        return PredictionFailed(
            f"the device has too little memory for windows of {self._options.window} voxels",
            remedy="Close other programs on the card, or use --device cpu.",
        )

    def _answer(self, work: "_Work") -> Answer:
        options, shape, grid = self._options, work.shape, self._grid(work)
        tiles, box = work.tiles(grid, only_body=options.only_body and not options.uniform)
        labels: NDArray[np.uint8] | NDArray[np.uint16] = np.zeros(shape, dtype=np.uint8)
        confidence = np.zeros(shape, dtype=np.float32) if work.confidence else None
        for planes in self._finished(work, grid, tiles, box):
            place = (slice(box.start[0] + planes.first, box.start[0] + planes.last), *box.slices[1:])
            if planes.labels.dtype == np.uint16 and labels.dtype == np.uint8:
                labels = labels.astype(np.uint16)
            labels[place] = planes.labels
            if confidence is not None and planes.confidence is not None:
                confidence[place] = planes.confidence
        return Answer(labels, confidence, len(tiles))

    def _grid(self, work: "_Work") -> TileGrid:
        options = self._options
        return TileGrid.over(work.shape, options.window, options.overlap, options.layout)

    def _finished(self, work: "_Work", grid: TileGrid, tiles: Sequence[Box], box: Box) -> Iterator[FinishedPlanes]:
        """Run the tiles a batch at a time, and yield the planes that none of the rest reaches."""
        for blend, until in self._blends(work, grid, tiles, box):
            yield from blend.finish(until)

    def _blends(self, work: "_Work", grid: TileGrid, tiles: Sequence[Box], box: Box) -> Iterator[tuple[Blend, int]]:
        """Run the tiles a batch at a time, and yield the blend with the plane up to which no other tile reaches."""
        region = Box(_sum(box.start, grid.inside.start), _sum(box.stop, grid.inside.start))
        blend: Blend | None = None
        with torch.inference_mode():
            volume = self._padded(work.values, grid)
            for done, windows in _batches(tiles, self._batch):
                work.control.check()
                work.control.report(done / len(tiles), f"tile {done + 1} of {len(tiles)}")
                values = self._runner(torch.stack([volume[(slice(None), *tile.slices)] for tile in windows]))
                if blend is None:
                    weights = self._weights(grid)
                    blend = Blend(region, weights, values.shape[1], self._device, confidence=work.confidence)
                yield blend, windows[0].start[0]
                for tile, window in zip(windows, values, strict=True):
                    blend.add(tile, window)
            if blend is not None:
                yield blend, region.stop[0]
        work.control.report(1.0, "every tile done")

    def _weights(self, grid: TileGrid) -> NDArray[np.float32]:
        return np.ones(grid.window, dtype=np.float32) if self._options.uniform else grid.weights

    def _padded(self, values: NDArray[np.float32], grid: TileGrid) -> Tensor:
        """Return the volume on the device, as large as a window at least."""
        volume = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
        if self._device.type == "cuda":
            volume = volume.pin_memory().to(self._device, non_blocking=True)
        sides = zip(grid.inside.start, grid.inside.stop, grid.padded, strict=True)
        amounts = [(start, side - stop) for start, stop, side in sides]
        return functional.pad(volume, [n for pair in reversed(amounts) for n in pair], value=self._options.outside)


@dataclass(frozen=True)
class _Work:
    """One question: `values` are (channels, k, j, i)."""

    values: NDArray[np.float32]
    body: NDArray[np.bool_] | Box | None
    confidence: bool
    control: Control

    @property
    def shape(self) -> Shape:
        _, k, j, i = self.values.shape
        return k, j, i

    def tiles(self, grid: TileGrid, *, only_body: bool) -> tuple[Sequence[Box], Box]:
        """Return the tiles to compute, and the box of the array that is answered; none for an empty body."""
        if self.body is None or not only_body:
            return grid.tiles, Box.whole(self.shape)
        if isinstance(self.body, Box):
            body = np.zeros(self.shape, dtype=np.bool_)
            body[self.body.slices] = True
        else:
            body = self.body
        box = Box.around(body)
        if box is None:
            return (), Box((0, 0, 0), (0, 0, 0))
        return grid.needed_for(body), box


def _batches(tiles: Sequence[Box], batch: int) -> Iterator[tuple[int, Sequence[Box]]]:
    """Yield how many tiles were before, and the next ones: at most `batch`, all at the same height."""
    done = 0
    for _, level in groupby(tiles, key=lambda tile: tile.start[0]):
        row = list(level)
        for first in range(0, len(row), batch):
            yield done, row[first : first + batch]
            done += len(row[first : first + batch])


def _sum(a: Shape, b: Shape) -> Shape:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]
