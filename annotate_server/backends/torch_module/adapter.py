"""The backend `torch_module`: networks of plain PyTorch that predict a whole volume on a canonical grid."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from annotate_server.backends.devices import processor
from annotate_server.backends.torch_module.network import build
from annotate_server.backends.torch_module.prediction import predict_probabilities
from annotate_server.domain.errors import InvalidApp, NotMadeFor, PredictionFailed, WeightsInvalid
from annotate_server.domain.geometry import Box, Geometry, Vector
from annotate_server.domain.labelmap import Segment, labelmap_dtype
from annotate_server.domain.model import ModelVersion, Prediction, Situation
from annotate_server.domain.ports import Control
from annotate_server.domain.volume import Volume
from annotate_server.imaging.components import largest_part
from annotate_server.imaging.spatial import Interpolation, reoriented, resample, smoothed_for

FloatArray = NDArray[np.float32]
WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class TorchModuleParameters:
    """What `[parameters]` of an app of this backend says.

    `architecture` and `network` go to `network.build`. `orientation` names the order of axes that the network was
    trained in ("SPL": k to superior, j to posterior, i to left), `spacing_mm` its grid. `smallest_grid` is padded to,
    `mirror_axes` are averaged over. `reduced_precision` allows bfloat16 on processors that compute with it, for a
    network whose labels were measured to stay the same. `one_part` keeps the largest connected part of all segments
    together, for a structure that is one piece. A volume of more than `most_voxels` at that spacing is refused.
    """

    architecture: str
    network: Mapping[str, object]
    spacing_mm: Vector
    orientation: str = "SPL"
    smallest_grid: tuple[int, int, int] = (1, 1, 1)
    mirror_axes: tuple[int, ...] = ()
    reduced_precision: bool = False
    one_part: bool = False
    most_voxels: int = 4_000_000

    @classmethod
    def of(cls, version: ModelVersion) -> "TorchModuleParameters":
        """Return the parameters of a version; InvalidApp names what is wrong."""
        table = dict(version.app.parameters)
        try:
            k_mm, j_mm, i_mm = (float(side) for side in cast("list[float]", table.pop("spacing_mm")))
            depth, height, width = (int(side) for side in cast("list[int]", table.pop("smallest_grid", [1, 1, 1])))
            parameters = cls(
                architecture=str(table.pop("architecture")),
                network=cast("Mapping[str, object]", table.pop("network")),
                spacing_mm=(k_mm, j_mm, i_mm),
                orientation=str(table.pop("orientation", "SPL")),
                smallest_grid=(depth, height, width),
                mirror_axes=tuple(int(axis) for axis in cast("list[int]", table.pop("mirror_axes", []))),
                reduced_precision=bool(table.pop("reduced_precision", False)),
                one_part=bool(table.pop("one_part", False)),
                most_voxels=int(cast("int", table.pop("most_voxels", 4_000_000))),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidApp(f"its parameters are not complete: {error}", source=version.model) from error
        if table:
            raise InvalidApp(f"its parameters {sorted(table)} are unknown to torch_module", source=version.model)
        return parameters


class TorchModuleBackend:
    """Loads networks of `torch_module.network` from safetensors."""

    name = "torch_module"

    def load(self, version: ModelVersion, device: str) -> "LoadedTorchModule":
        """Build the network that the app describes, and fill in its weights."""
        parameters = TorchModuleParameters.of(version)
        try:
            network = build(parameters.architecture, parameters.network)
        except (KeyError, TypeError) as error:
            raise InvalidApp(f"its network cannot be built: {error}", source=version.model) from error
        try:
            weights = load_file(version.files[WEIGHTS])
            network.load_state_dict({name: value.float() for name, value in weights.items()}, strict=True)
        except (SafetensorError, RuntimeError, KeyError) as error:
            raise WeightsInvalid(f"the weights do not fit the network: {error}", source=version.model) from error
        return LoadedTorchModule(version, parameters, network.to(device).eval())


@dataclass
class LoadedTorchModule:
    """A network in memory; to be used from one thread."""

    version: ModelVersion
    parameters: TorchModuleParameters
    network: nn.Module

    def predict(self, volumes: Mapping[str, Volume], situation: Situation, control: Control) -> Prediction:
        """Return a whole draft of the reference volume; prompts are not looked at."""
        volume = next(iter(volumes.values()))
        turn = reoriented(volume.geometry, self.parameters.orientation)
        grid = self._grid(turn.geometry)
        control.check()
        control.report(0.1, "resampling")
        canonical = _on_grid(turn.apply(volume.voxels), turn.geometry, grid)
        control.check()
        control.report(0.3, "predicting")
        probabilities = self._probabilities(canonical)
        control.check()
        control.report(0.9, "labelling")
        return self._prediction(np.stack([turn.undo(channel) for channel in _back(probabilities, grid, turn.geometry)]))

    def close(self) -> None:
        """Give the card's memory back."""
        self.network.to("cpu")

    def _grid(self, upright: Geometry) -> Geometry:
        """Return the network's grid over a volume in its order of axes: the volume's own where the spacing is right."""
        grid = upright.resized(self.parameters.spacing_mm)
        if math.prod(grid.shape) > self.parameters.most_voxels:
            raise NotMadeFor(f"{self.version.model} takes crops; at its spacing this volume has {grid.shape} voxels")
        return upright if np.allclose(upright.spacing_mm, grid.spacing_mm, rtol=0.01) else grid

    def _probabilities(self, canonical: FloatArray) -> FloatArray:
        try:
            return predict_probabilities(
                self.network,
                canonical,
                smallest_grid=self.parameters.smallest_grid,
                mirror_axes=self.parameters.mirror_axes,
                precision=self._precision(),
            )
        except torch.OutOfMemoryError as error:
            raise PredictionFailed(
                f"the card has too little memory for {canonical.shape} voxels", source=self.version.model
            ) from error

    def _precision(self) -> torch.dtype:
        """Return what the device computes fastest in without other labels."""
        if next(self.network.parameters()).device.type == "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
        has_bfloat16 = not {"avx512_bf16", "amx_bf16"}.isdisjoint(processor().features)
        return torch.bfloat16 if self.parameters.reduced_precision and has_bfloat16 else torch.float32

    def _prediction(self, probabilities: FloatArray) -> Prediction:
        """Return the likeliest segment of each voxel: channel n is the card's nth segment, channel 0 background."""
        segments: tuple[Segment, ...] = self.version.app.card.segments
        table = np.array([0, *(segment.index for segment in segments)], dtype=labelmap_dtype(segments))
        if len(table) != len(probabilities):
            raise InvalidApp(
                f"its network has {len(probabilities)} classes for {len(segments)} segments", source=self.version.model
            )
        labels = table[probabilities.argmax(axis=0)]
        if self.parameters.one_part:
            labels = np.where(largest_part(labels != 0), labels, 0)
        return Prediction(Box.whole(labels.shape), labels, segments, uncertainty=1.0 - probabilities.max(axis=0))


def _on_grid(voxels: NDArray[np.generic], source: Geometry, grid: Geometry) -> FloatArray:
    """Return voxels (k, j, i) on the network's grid, smoothed for its spacing where that is coarser."""
    if source is grid:
        return np.ascontiguousarray(voxels, dtype=np.float32)
    smooth = smoothed_for(voxels, source.spacing_mm, grid.spacing_mm)
    return resample(smooth, source, grid, Interpolation.LINEAR, outside=float(smooth.min())).astype(np.float32)


def _back(probabilities: FloatArray, grid: Geometry, target: Geometry) -> FloatArray:
    """Return probabilities (classes, k, j, i) of the network's grid on the voxels of `target`."""
    if target is grid:
        return probabilities
    background, *rest = probabilities
    channels = [resample(background, grid, target, Interpolation.LINEAR, outside=1.0)]
    channels += [resample(channel, grid, target, Interpolation.LINEAR) for channel in rest]
    return np.stack(channels).astype(np.float32, copy=False)
