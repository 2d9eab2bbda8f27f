"""The backend `meshnet`: whole heads, conformed, parcelled in one pass, and put back on their own grid."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np

from annotate_server.backends.label_votes import on_grid
from annotate_server.backends.meshnet import learning
from annotate_server.backends.meshnet.chain import Chain
from annotate_server.backends.meshnet.conform import SIDE, Conformed, conform
from annotate_server.backends.meshnet.contrast import check_contrast
from annotate_server.backends.meshnet.engine import Engine
from annotate_server.backends.meshnet.labels import Labels, largest_part
from annotate_server.backends.meshnet.parameters import MeshNetParameters, Precision, read_parameters
from annotate_server.backends.meshnet.precision import chosen_dtype
from annotate_server.backends.meshnet.standardise import network_input
from annotate_server.backends.meshnet.tfjs import read_chain
from annotate_server.domain.errors import InvalidApp, InvalidRequest, NotMadeFor, PredictionFailed
from annotate_server.domain.geometry import Box
from annotate_server.domain.labelmap import LabelVoxels, Segment, labelmap_dtype
from annotate_server.domain.learning_ports import TrainingTask
from annotate_server.domain.model import App, ModelCard, ModelVersion, Prediction, Situation
from annotate_server.domain.ports import Control, LoadedModel
from annotate_server.domain.recipe import Recipe
from annotate_server.domain.training import Checkpoint, TrainingPlace
from annotate_server.domain.volume import Volume

_LEAST_EXTENT_MM = 100.0
"""Shorter than any whole head along any axis (an adult brain is about 170 x 140 x 110 mm)."""
_COARSE_MM = 3.5
"""From here on a slice is thicker than the smallest structures."""
_PREPARED, _COMPUTED = 0.05, 0.95
"""Shares of the time that are over when the network begins and ends."""


class MeshNetBackend:
    """Fulfils `ports.Backend` for networks in the format of brainchop."""

    name = "meshnet"

    def __init__(self, precision: Precision | None = None) -> None:
        """Run in the precision that the app asks for, or in `precision`."""
        self._precision = precision

    def load(self, version: ModelVersion, device: str) -> LoadedModel:
        """Make a version ready; raises InvalidApp, WeightsMissing or WeightsInvalid."""
        app = version.app
        parameters = read_parameters(app.parameters, app.name)
        if self._precision is not None:
            parameters = replace(parameters, precision=self._precision)
        chain = read_chain(version.files)
        _check_segments(app, chain)
        dtype = chosen_dtype(parameters.precision, chain.width, device)
        return LoadedMeshNet(app.card, parameters, Engine(chain, device, dtype))

    def train(
        self, start: ModelVersion, training: TrainingTask, recipe: Recipe, place: TrainingPlace, control: Control
    ) -> Checkpoint:
        """Train from a version's weights on patches of conformed heads; InvalidRequest where it has none."""
        return learning.train(start, training, recipe, place, control)

    def between(self, old: ModelVersion, new: Checkpoint, share: float, folder: Path) -> Checkpoint:
        """Return the network whose weights lie `share` of the way from old to new, written into `folder`."""
        return learning.interpolated(old, new, share, folder)

    def planned(self, app: App, training: TrainingTask, control: Control) -> App:
        """Raise InvalidRequest: a MeshNet begins from published weights."""
        raise InvalidRequest("a MeshNet begins from published weights", remedy="Use torch_module for a new model.")


@dataclass
class LoadedMeshNet:
    """A network that is ready to answer; fulfils `ports.LoadedModel`."""

    card: ModelCard
    parameters: MeshNetParameters
    engine: Engine | None

    def predict(self, volumes: Mapping[str, Volume], situation: Situation, control: Control) -> Prediction:
        """Return the parcellation of the first volume on its own grid; a situation makes no difference.

        Raises NotMadeFor for what shows no whole head of the card's modalities.
        """
        if self.engine is None:
            raise ValueError("the model was closed")
        volume = next(iter(volumes.values()))
        _check_is_head(volume, self.card)
        remarks = check_contrast(volume.acquisition.description, self.parameters.contrast, self.card.title)
        control.check()
        control.report(0.0, "bringing the head to 1 mm")
        conformed = conform(volume)
        labels = self._labels(conformed, self.engine, control)
        control.report(_COMPUTED, "putting the labels on the volume's grid")
        turned, box = on_grid(labels, conformed.geometry, conformed.turn.geometry)
        _check_is_brain(turned, conformed, self.parameters.least_ml)
        found, own = _unturned(turned, box, conformed)
        control.report(1.0, "done")
        notes = (*remarks, *_notes(volume, conformed, box))
        indices = [0, *(segment.index for segment in self.card.segments)]
        answer: LabelVoxels = own if indices == list(range(len(indices))) else _indexed(own, self.card.segments)
        return Prediction(found, answer, self.card.segments, notes=notes)

    def close(self) -> None:
        """Give back the weights."""
        self.engine = None

    def _labels(self, conformed: Conformed, engine: Engine, control: Control) -> Labels:
        """Return the labels of the whole conformed volume, one connected part."""
        taken = network_input(conformed.voxels, self.parameters)

        def report(fraction: float, message: str) -> None:
            control.report(_PREPARED + (_COMPUTED - _PREPARED) * fraction, message)

        labels = np.zeros(conformed.voxels.shape, np.uint8)
        try:
            labels[taken.box.slices] = largest_part(engine.labels(taken.values, replace(control, report=report)))
        except (MemoryError, RuntimeError) as error:  # torch reports a lack of memory as the latter
            raise PredictionFailed(f"{self.card.title} stopped on {taken.box.shape} voxels: {error}") from error
        return labels


def _indexed(classes: Labels, segments: tuple[Segment, ...]) -> LabelVoxels:
    """Return the index of the nth segment for class n."""
    table = np.array([0, *(segment.index for segment in segments)], dtype=labelmap_dtype(segments))
    return cast("LabelVoxels", table[classes])


def _unturned(turned: Labels, box: Box, conformed: Conformed) -> tuple[Box, Labels]:
    """Return the box and the labels in it in the order of the volume's own axes."""
    whole = np.zeros(conformed.turn.geometry.shape, np.uint8)
    whole[box.slices] = turned
    own = conformed.turn.undo(whole)
    found = Box.around(own) or Box((0, 0, 0), (0, 0, 0))
    return found, np.ascontiguousarray(own[found.slices])


def _check_segments(app: App, chain: Chain) -> None:
    """Refuse an app whose segments are not the network's classes: the nth is class n."""
    named = len(app.card.segments)
    if named != chain.classes - 1 or chain.classes > np.iinfo(np.uint8).max + 1:
        raise InvalidApp(f"its network tells {chain.classes - 1} segments apart, not {named}", source=app.name)


def _check_is_head(volume: Volume, card: ModelCard) -> None:
    """Refuse another modality, and what is too short to show a whole head."""
    if volume.modality is not None and volume.modality not in card.modalities:
        wanted = " or ".join(card.modalities)
        raise NotMadeFor(f"it is {volume.modality} and {card.title} takes {wanted}")
    shortest = min(volume.geometry.extent_mm)
    if shortest < _LEAST_EXTENT_MM:
        raise NotMadeFor(
            f"it is {shortest:.0f} mm thin along one axis and {card.title} takes whole heads"
            f" (at least {_LEAST_EXTENT_MM:.0f} mm)"
        )


def _check_is_brain(labels: Labels, conformed: Conformed, least_ml: float) -> None:
    """Refuse an answer that is too small for a brain."""
    volume_ml = np.count_nonzero(labels) * conformed.turn.geometry.voxel_ml
    if volume_ml < least_ml:
        raise NotMadeFor(f"no whole brain was found in it ({volume_ml:.0f} ml; at least {least_ml:.0f} are expected)")


def _notes(volume: Volume, conformed: Conformed, box: Box) -> tuple[str, ...]:
    """Return what a person should know about the answer."""
    notes = []
    coarsest = max(volume.geometry.spacing_mm)
    if coarsest > _COARSE_MM:
        notes.append(
            f"The voxels are {coarsest:.1f} mm long; the network was trained on 1 mm, so small parts are rough."
        )
    if conformed.is_cut:
        notes.append(
            f"The volume is longer than {SIDE} mm; {SIDE} mm of it were looked at, from the top of the head on."
        )
    shape = conformed.turn.geometry.shape
    if any(start == 0 or stop == side for start, stop, side in zip(box.start, box.stop, shape, strict=True)):
        notes.append("The brain reaches the border of the volume and may be cut off there.")
    return tuple(notes)
