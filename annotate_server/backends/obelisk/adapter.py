"""The backend `obelisk`: eight abdominal organs from a CT, by one network or the mean of several folds of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from annotate_server.backends.obelisk import learning, passes
from annotate_server.backends.obelisk.field import SHORTEST_MM, USUAL_MM, Trunk, find_trunk
from annotate_server.backends.obelisk.network import CLASSES, ObeliskNet, load_network
from annotate_server.domain.errors import InvalidApp, InvalidRequest, NotMadeFor, WeightsMissing
from annotate_server.domain.geometry import Box, Geometry, Shape
from annotate_server.domain.labelmap import LabelVoxels, Segment, labelmap_dtype
from annotate_server.domain.learning_ports import TrainingTask
from annotate_server.domain.model import App, ModelVersion, Prediction, Situation
from annotate_server.domain.ports import Control
from annotate_server.domain.recipe import Recipe
from annotate_server.domain.training import Checkpoint, TrainingPlace
from annotate_server.domain.volume import Modality, Volume
from annotate_server.imaging.reorientation import Reorientation, reoriented

_SMALLEST_LIVER_ML = 60.0
"""Livers hold 1000 to 2500 ml; what the network mistakes for one in a chest or a pelvis stays far below this."""

_DARKEST_OF_NO_CT_HU = -200.0
_LEAST_UPRIGHT = 0.94
"""Cosine of 20 degrees between an axis of the grid and that of the patient."""


@dataclass(frozen=True, slots=True)
class ObeliskParameters:
    """What an app may choose: `weights`, the files of the networks whose probabilities are averaged.

    The first of them also looks for the abdomen. An app names them, or the published `folds` (1 to 4).
    """

    weights: tuple[str, ...]

    @classmethod
    def parse(cls, app: App) -> "ObeliskParameters":
        """Return the parameters of an app; InvalidApp with what is wrong."""
        unknown = sorted(set(app.parameters) - {"folds", "weights"})
        if unknown:
            raise InvalidApp(f"the backend obelisk has no parameter {unknown[0]!r}", source=app.name)
        names = _trained(app) if "weights" in app.parameters else _published(app)
        absent = [name for name in names if name not in {file.name for file in app.weights}]
        if absent:
            raise InvalidApp(f"its parameters ask for {absent[0]}, which is none of the app's weights", source=app.name)
        if "folds" in app.parameters and {segment.index for segment in app.card.segments} != set(range(1, CLASSES)):
            raise InvalidApp(
                f"the app must have the segments 1 to {CLASSES - 1}, in the network's order", source=app.name
            )
        return cls(names)


class ObeliskBackend:
    """Loads apps whose weights are those of the hybrid OBELISK network for Pancreas-CT."""

    name = "obelisk"

    def load(self, version: ModelVersion, device: str) -> "ObeliskModel":
        """Make a version ready; raises InvalidApp, WeightsMissing or WeightsInvalid."""
        names = ObeliskParameters.parse(version.app).weights
        absent = [name for name in names if name not in version.files]
        if absent:
            remedy = f"Run `annotate models pull {version.model}`"
            raise WeightsMissing(f"{absent[0]} is not installed", source=version.model, remedy=remedy)
        networks = [load_network(version.files[name]).to(device) for name in names]
        segments = version.app.card.segments
        if any(network.head.out_channels != len(segments) + 1 for network in networks):
            raise InvalidApp(f"its network does not tell {len(segments)} segments apart", source=version.model)
        return ObeliskModel(networks, segments)

    def train(
        self, start: ModelVersion, training: TrainingTask, recipe: Recipe, place: TrainingPlace, control: Control
    ) -> Checkpoint:
        """Train the first of a version's networks on abdomens that it finds itself; one at a time.

        Raises InvalidRequest where there are no weights, or segments are left out.
        """
        learning.first_weights(start)
        preparation = learning.AbdomenPreparation(self.load(start, control.device).abdomen)
        return learning.train(start, training, recipe, place, preparation, control)

    def between(self, old: ModelVersion, new: Checkpoint, share: float, folder: Path) -> Checkpoint:
        """Return the network whose weights lie `share` of the way from old to new, written into `folder`."""
        return learning.interpolated(old, new, share, folder)

    def planned(self, app: App, training: TrainingTask, control: Control) -> App:
        """Raise InvalidRequest: an OBELISK network begins from published weights."""
        raise InvalidRequest(
            "an OBELISK network begins from published weights", remedy="Use torch_module for a new model."
        )


class ObeliskModel:
    """A loaded version; used from one thread."""

    def __init__(self, networks: Sequence[ObeliskNet], segments: tuple[Segment, ...]) -> None:
        """Hold the networks of the folds, on their device."""
        self._networks = tuple(networks)
        self._segments = segments

    def predict(self, volumes: Mapping[str, Volume], situation: Situation, control: Control) -> Prediction:
        """Return a whole draft of the first volume; the model takes no prompts, `situation` does not change it.

        Raises NotMadeFor for what is no CT of an upper abdomen.
        """
        volume = next(iter(volumes.values()))
        turn = reoriented(volume.geometry, "IAL")
        cube, window, findings = self._abdomen(volume, turn, control)
        chances = passes.without_fragments(passes.probabilities(self._networks, cube))
        control.check()
        control.report(0.9, "drawing the organs at full resolution")
        return self._prediction(chances, window, turn, _notes(turn.geometry, findings))

    def abdomen(self, volume: Volume) -> learning.Abdomen:
        """Return what the network reads of a volume; raises NotMadeFor for what is no CT of an upper abdomen."""
        turn = reoriented(volume.geometry, "IAL")
        cube, window, _ = self._abdomen(volume, turn, Control())
        return learning.Abdomen(passes.scaled(cube).numpy(), window, turn)

    def _abdomen(self, volume: Volume, turn: Reorientation, control: Control) -> tuple[Tensor, Box, passes.Findings]:
        """Return the HU of the abdomen on the network's grid, where it lies, and what was seen on the way."""
        voxels = turn.apply(volume.voxels)
        _check(volume, turn.geometry)
        trunk = find_trunk(voxels, turn.geometry.spacing_mm)
        window, findings = self._look_around(voxels, trunk, control)
        control.report(0.5, "segmenting the abdomen")
        return passes.enhanced(passes.sampled(voxels, window), findings.contrast_shift_hu), window, findings

    def close(self) -> None:
        """Give back the memory of the networks."""
        self._networks = ()

    def _look_around(self, voxels: NDArray[np.generic], trunk: Trunk, control: Control) -> tuple[Box, passes.Findings]:
        """Return the window of the abdomen, and what the first network saw where it saw most of a liver."""
        seen: list[tuple[Box, passes.Findings]] = []
        windows = trunk.sweep()
        for number, window in enumerate(windows):
            control.check()
            control.report(0.5 * number / len(windows), "looking for the abdomen")
            cube = passes.sampled(voxels, window)
            chances = passes.probabilities(self._networks[:1], cube)
            seen.append((window, passes.read_findings(chances, cube, window, trunk.spacing_mm)))
        window, findings = max(seen, key=lambda each: each[1].liver_ml)
        if findings.liver_ml < _SMALLEST_LIVER_ML:
            raise NotMadeFor("no liver was found in the volume", remedy="Choose a CT that shows the upper abdomen")
        return trunk.around(findings.top_mm, findings.bottom_mm, window), findings

    def _prediction(self, chances: Tensor, window: Box, turn: Reorientation, notes: tuple[str, ...]) -> Prediction:
        last = turn.geometry.shape[0]
        inside = Box((max(window.start[0], 0), *window.start[1:]), (min(window.stop[0], last), *window.stop[1:]))
        labels, uncertainty = passes.upsampled(chances, window, inside)
        return Prediction(
            box=_as_stored(inside, turn),
            labels=np.ascontiguousarray(turn.undo(_indexed(labels, self._segments))),
            segments=self._segments,
            uncertainty=np.ascontiguousarray(turn.undo(uncertainty)),
            notes=notes,
        )


def _published(app: App) -> tuple[str, ...]:
    folds = app.parameters.get("folds")
    if not isinstance(folds, Sequence) or not folds or not all(fold in (1, 2, 3, 4) for fold in folds):
        raise InvalidApp("`folds` must be a list of numbers from 1 to 4", source=app.name)
    return tuple(f"obeliskhybrid_tcia_fold{fold}.pth" for fold in folds)


def _trained(app: App) -> tuple[str, ...]:
    names = app.parameters["weights"]
    if not isinstance(names, Sequence) or not names or not all(isinstance(name, str) for name in names):
        raise InvalidApp("`weights` must be a list of file names", source=app.name)
    return tuple(names)


def _indexed(classes: NDArray[np.uint8], segments: tuple[Segment, ...]) -> LabelVoxels:
    """Return the index of the nth segment for class n."""
    table = np.array([0, *(segment.index for segment in segments)], dtype=labelmap_dtype(segments))
    return cast("LabelVoxels", table[classes])


def _check(volume: Volume, upright: Geometry) -> None:
    """Refuse what the network was not made for, as far as it can be told before looking for the body."""
    if volume.modality not in (None, Modality.CT):
        raise NotMadeFor(f"the model is made for CT, and this is {volume.modality}")
    if float(volume.voxels[::4, ::4, ::4].min()) > _DARKEST_OF_NO_CT_HU:
        raise NotMadeFor("the model is made for CT in Hounsfield units, and no voxel here is as dark as air or lung")
    length_mm = upright.extent_mm[0]
    if length_mm < SHORTEST_MM:
        raise NotMadeFor(
            f"the volume shows {length_mm:.0f} mm from head to foot",
            remedy=f"The model needs at least {SHORTEST_MM:.0f} mm of the upper abdomen, better {USUAL_MM:.0f} mm",
        )


def _notes(upright: Geometry, findings: passes.Findings) -> tuple[str, ...]:
    """Return what a person should know about how the draft was made."""
    notes = []
    if upright.extent_mm[0] < USUAL_MM:
        notes.append(f"The volume shows {upright.extent_mm[0]:.0f} mm from head to foot; organs cut off may be missed.")
    if findings.contrast_shift_hu:
        notes.append(
            f"Liver and spleen have {findings.parenchyma_hu:.0f} HU, which is less than in a portal-venous scan: "
            f"soft tissue was brightened by {findings.contrast_shift_hu:.0f} HU for the model."
        )
    if min(abs(upright.direction[axis][2 - axis]) for axis in range(3)) < _LEAST_UPRIGHT:
        notes.append("The volume lies oblique to the patient; the model knows upright ones only.")
    return tuple(notes)


def _as_stored(box: Box, turn: Reorientation) -> Box:
    """Return a box of the turned array as a box of the array before."""
    start, stop = [0, 0, 0], [0, 0, 0]
    for new, old in enumerate(turn.axes):
        low, high = box.start[new], box.stop[new]
        if turn.flipped[new]:
            low, high = turn.geometry.shape[new] - high, turn.geometry.shape[new] - low
        start[old], stop[old] = low, high
    return Box(_three(start), _three(stop))


def _three(values: Sequence[int]) -> Shape:
    k, j, i = values
    return k, j, i
