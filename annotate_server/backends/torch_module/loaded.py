"""A network of `torch_module` that is ready to answer: a volume whole, or tile by tile."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from annotate_server.backends.devices import processor
from annotate_server.backends.engine.engine import Engine, SlidingWindow
from annotate_server.backends.engine.precision import Precision
from annotate_server.backends.label_votes import on_grid
from annotate_server.backends.torch_module.grid import CanonicalGrid, FloatArray, check_size
from annotate_server.backends.torch_module.parameters import TorchModuleParameters
from annotate_server.backends.torch_module.prediction import predict_probabilities
from annotate_server.domain.errors import InvalidApp, PredictionFailed
from annotate_server.domain.geometry import Box, Shape
from annotate_server.domain.labelmap import labelmap_dtype
from annotate_server.domain.model import ModelVersion, Prediction, Situation
from annotate_server.domain.ports import Control
from annotate_server.domain.volume import Volume
from annotate_server.imaging.components import largest_part
from annotate_server.imaging.resampling import Interpolation, resample

Classes = NDArray[np.uint8] | NDArray[np.uint16]
_BEGUN, _COMPUTED = 0.1, 0.9
"""Shares of the time that are over when the network begins and ends."""


@dataclass
class LoadedTorchModule:
    """A network in memory; to be used from one thread."""

    version: ModelVersion
    parameters: TorchModuleParameters
    network: nn.Module
    engine: Engine | None = None

    def predict(self, volumes: Mapping[str, Volume], situation: Situation, control: Control) -> Prediction:
        """Return a whole draft of the reference volume; prompts are not looked at."""
        volume = next(iter(volumes.values()))
        grid = CanonicalGrid.over(volume.geometry, self.parameters)
        tile = self._tile(grid.geometry.shape)
        control.check()
        control.report(0.0, "resampling")
        values = grid.values(volume.voxels, self.parameters)
        control.check()
        control.report(_BEGUN, "predicting")
        classes, certainty = self._whole(grid, values) if tile is None else self._tiled(grid, values, tile, control)
        control.check()
        control.report(_COMPUTED, "labelling")
        return self._prediction(classes, certainty)

    def close(self) -> None:
        """Give the card's memory back."""
        self.engine = None
        self.network.to("cpu")

    def _tile(self, shape: Shape) -> Shape | None:
        """Return the window for a volume that is predicted piece by piece; None for one that fits in whole."""
        check_size(shape, self.parameters, self.version.model)
        tile = self.parameters.tile
        is_larger = tile is not None and any(side > own for side, own in zip(shape, tile, strict=True))
        return tile if is_larger else None

    def _whole(self, grid: CanonicalGrid, values: FloatArray) -> tuple[Classes, FloatArray]:
        """Return the likeliest class and its probability of every voxel of the volume, in one pass."""
        try:
            probabilities = predict_probabilities(
                self.network,
                values,
                smallest_grid=self.parameters.smallest_grid,
                mirror_axes=self.parameters.mirror_axes,
                precision=self._precision(),
            )
        except torch.OutOfMemoryError as error:
            raise PredictionFailed(
                f"the card has too little memory for {values.shape} voxels", source=self.version.model
            ) from error
        shares = grid.shares(probabilities)
        return shares.argmax(axis=0).astype(np.uint16), shares.max(axis=0)

    def _tiled(
        self, grid: CanonicalGrid, values: FloatArray, tile: Shape, control: Control
    ) -> tuple[Classes, FloatArray]:
        """Return the same window by window; probabilities of all classes exist for a few planes only."""

        def report(fraction: float, message: str) -> None:
            control.report(_BEGUN + (_COMPUTED - _BEGUN) * fraction, message)

        if self.engine is None:
            self.engine = self._engine(tile)
        answer = self.engine.labels(values, None, replace(control, report=report), confidence=True)
        if answer.confidence is None:
            raise PredictionFailed("the network gave no probabilities")
        labels = answer.labels.astype(np.uint8, copy=False)
        if grid.is_the_volumes:
            return grid.turn.undo(labels), grid.turn.undo(answer.confidence)
        own = grid.turn.geometry
        classes = np.zeros(own.shape, dtype=np.uint8)
        found, box = on_grid(labels, grid.geometry, own)
        classes[box.slices] = found
        certainty = resample(answer.confidence, grid.geometry, own, Interpolation.LINEAR, outside=1.0)
        return grid.turn.undo(classes), grid.turn.undo(certainty.astype(np.float32, copy=False))

    def _engine(self, tile: Shape) -> Engine:
        reduced = self._precision() is not torch.float32
        window = SlidingWindow(tile, precision=Precision.REDUCED if reduced else Precision.FLOAT32)
        axes = self.parameters.mirror_axes
        network = Mirrored(self.network, axes) if axes else self.network
        return Engine(network, window, device=str(next(self.network.parameters()).device))

    def _precision(self) -> torch.dtype:
        """Return what the device computes fastest in without other labels."""
        if next(self.network.parameters()).device.type == "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
        has_bfloat16 = not {"avx512_bf16", "amx_bf16"}.isdisjoint(processor().features)
        return torch.bfloat16 if self.parameters.reduced_precision and has_bfloat16 else torch.float32

    def _prediction(self, classes: Classes, certainty: FloatArray) -> Prediction:
        """Return segments instead of classes: class n is the card's nth segment, class 0 background."""
        segments = self.version.app.card.segments
        table = np.array([0, *(segment.index for segment in segments)], dtype=labelmap_dtype(segments))
        labels = cast("Classes", table[classes])
        if self.parameters.one_part:
            labels *= largest_part(labels != 0)
        return Prediction(Box.whole(labels.shape), labels, segments, uncertainty=1.0 - certainty)


class Mirrored(nn.Module):
    """A network whose probabilities are the mean over a volume and its mirror images."""

    def __init__(self, network: nn.Module, axes: tuple[int, ...]) -> None:
        """Mirror each of `axes` (0 is k) by itself."""
        super().__init__()
        self.network = network
        self.axes = axes

    def forward(self, volume: Tensor) -> Tensor:
        """Return logits whose softmax is the mean of the probabilities."""
        total = self.network(volume).float().softmax(1)
        for axis in self.axes:
            total = total + self.network(volume.flip(axis + 2)).float().softmax(1).flip(axis + 2)
        mean: Tensor = total / (1 + len(self.axes))
        return mean.clamp_min(1e-8).log()


def check_classes(network: nn.Module, version: ModelVersion) -> None:
    """Refuse an app whose segments are not the network's classes."""
    heads = [value for name, value in network.named_parameters() if name.endswith("heads.0.weight")]
    segments = len(version.app.card.segments)
    if heads and len(heads[0]) != segments + 1:
        raise InvalidApp(f"its network has {len(heads[0])} classes for {segments} segments", source=version.model)
    if segments > np.iinfo(np.uint8).max:
        raise InvalidApp(f"it has {segments} segments; up to 255 can be told apart", source=version.model)
