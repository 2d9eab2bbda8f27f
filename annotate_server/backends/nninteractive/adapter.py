"""The backend `nninteractive`: prompts about any structure, by nnInteractive's package and weights that users bring."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from annotate_server.backends.environments.guest import Environment, Guest, GuestAnswer, Patience
from annotate_server.backends.environments.messages import Json
from annotate_server.backends.nninteractive.adoption import adopted_apps, is_release
from annotate_server.backends.nninteractive.interactions import Interaction, interaction_of
from annotate_server.backends.nninteractive.parameters import NnInteractiveParameters, read_parameters
from annotate_server.domain.adoption import AdoptedApp, AdoptionOrder
from annotate_server.domain.errors import InvalidLabelmap, InvalidPrompt, NotMadeFor
from annotate_server.domain.geometry import NOWHERE, Box
from annotate_server.domain.labelmap import Segment, labelmap_dtype
from annotate_server.domain.model import ModelVersion, Prediction, Situation
from annotate_server.domain.ports import Control
from annotate_server.domain.prompt import Prompt, PromptKind
from annotate_server.domain.volume import Volume
from annotate_server.imaging.rasterise import box_of
from annotate_server.imaging.reorientation import Reorientation, reoriented

KIND = "nninteractive"
_HOSTING = "annotate_server.backends.nninteractive.hosting"
_PATIENCE = Patience(stop_s=30.0)
"""A prediction is not interrupted midway; loading the weights again would take longer than its end."""


class NnInteractiveBackend:
    """Fulfils `ports.Backend` and `adoption.Adopting`."""

    name = KIND
    environment = KIND

    def load(self, version: ModelVersion, device: str) -> "NnInteractiveModel":
        """Start a guest with the weights; raises InvalidApp, WeightsInvalid, BackendUnavailable."""
        parameters = read_parameters(version.app.parameters, version.app.name)
        files: dict[str, Json] = {name: str(path.resolve()) for name, path in version.files.items()}
        guest = Guest.start(Environment.named(KIND), _HOSTING, {"files": files, "device": device}, _PATIENCE)
        return NnInteractiveModel(guest, parameters, version.app.card.licence)

    def recognises(self, source: Path) -> bool:
        """Say whether this is the folder of a release of nnInteractive."""
        return is_release(source)

    def adopted(self, order: AdoptionOrder, scratch: Path, control: Control) -> tuple[AdoptedApp, ...]:
        """Return the app of a release, its weights written anew without anything that could run."""
        return adopted_apps(order, scratch, control)


class NnInteractiveModel:
    """Fulfils `ports.LoadedModel`; `growcut.adapter.GrowCutModel` says what an answer to a prompt means.

    The network sees the volume with its axes turned to superior, posterior and left, as nearly as flips allow, so that
    an answer does not depend on how the slices were stored.
    """

    def __init__(self, guest: Guest, parameters: NnInteractiveParameters, licence: str) -> None:
        """Ask `guest`, which runs `hosting`."""
        self._guest = guest
        self._parameters = parameters
        self._licence = licence
        self._seen = (0, "")

    def predict(self, volumes: Mapping[str, Volume], situation: Situation, control: Control) -> Prediction:
        """Answer the newest prompt about the active segment.

        Raises NotMadeFor where there is no prompt, InvalidPrompt for one that cannot be used, InvalidLabelmap for a
        draft on another grid, and what a guest raises.
        """
        volume = next(iter(volumes.values()))
        control.check()
        active, prompts = _question(volume, situation)
        turn = reoriented(volume.geometry)
        interactions = [self._interaction(prompt, turn) for prompt in prompts]
        present, others = _drawn(volume, situation, active)
        answer = self._asked(volume, turn, turn.apply(present), interactions, control)
        changed = _box(cast("list[list[int]]", answer.words["bounds"]))
        box = NOWHERE if changed.is_empty else _turned_back(changed, turn)
        labels = np.zeros(box.shape, labelmap_dtype((active,)))
        labels[turn.undo(answer.arrays["segment"]).astype(np.bool_)] = active.index
        labels[others[box.slices]] = 0
        control.report(1.0, "Done")
        return Prediction(box, labels, (active,), notes=self._notes(prompts[-1], interactions[-1], turn))

    def close(self) -> None:
        """End the guest."""
        self._guest.close()

    def _interaction(self, prompt: Prompt, turn: Reorientation) -> Interaction:
        thickness, solid = self._parameters.scribble_thickness, self._parameters.solid_boxes
        return interaction_of(prompt, turn.geometry, thickness, solid_boxes=solid)

    def _asked(
        self,
        volume: Volume,
        turn: Reorientation,
        present: NDArray[np.bool_],
        interactions: list[Interaction],
        control: Control,
    ) -> GuestAnswer:
        """Ask the guest; the volume comes along where it may not know it."""
        box = Box.around(present) or NOWHERE
        words: dict[str, Json] = {
            "digest": volume.digest,
            "interactions": [each.words for each in interactions],
            "bounds": [[a, b] for a, b in zip(box.start, box.stop, strict=True)],
        }
        pictures = [each.picture.ravel() for each in interactions if each.picture is not None]
        arrays: dict[str, NDArray[np.generic]] = {
            "segment": present[box.slices].astype(np.uint8),
            "pictures": np.concatenate([np.zeros(0, np.uint8), *pictures]),
        }
        if self._seen == (self._guest.starts, volume.digest):
            answer = self._guest.call("prompt", words, arrays, control)
            if "needs" not in answer.words:
                return answer
        answer = self._guest.call("prompt", words, {**arrays, "volume": turn.apply(volume.voxels)}, control)
        self._seen = (self._guest.starts, volume.digest)
        return answer

    def _notes(self, prompt: Prompt, newest: Interaction, turn: Reorientation) -> tuple[str, ...]:
        notes = [f"nnInteractive; licence of its weights: {self._licence}."]
        if prompt.kind is PromptKind.BOX and newest.box != box_of(prompt, turn.geometry):
            notes.append("It takes flat boxes: of yours it was shown the middle slice across the thinnest side.")
        return tuple(notes)


def _question(volume: Volume, situation: Situation) -> tuple[Segment, tuple[Prompt, ...]]:
    """Return the active segment and the prompts about it, oldest first."""
    if situation.asks_for_draft:
        raise NotMadeFor("it answers prompts and drafts nothing by itself", remedy="Give it a prompt.")
    active = situation.active
    if active is None:
        raise InvalidPrompt("no segment is active: the prompt is about nothing")
    prompts = tuple(prompt for prompt in situation.prompts if prompt.segment == active.index)
    if not prompts:
        raise InvalidPrompt(f"no prompt is about the active segment {active.name!r}")
    if situation.draft is not None and not situation.draft.geometry.matches(volume.geometry):
        raise InvalidLabelmap("the draft lies on another grid than its volume")
    return active, prompts


def _drawn(volume: Volume, situation: Situation, active: Segment) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return where the draft has the active segment, and where it has any other."""
    if situation.draft is None:
        nothing = np.zeros(volume.geometry.shape, np.bool_)
        return nothing, nothing
    voxels = situation.draft.voxels
    present = voxels == active.index
    return present, (voxels != 0) & ~present


def _turned_back(box: Box, turn: Reorientation) -> Box:
    """Return a box of the turned grid as a box of the grid that was turned."""
    start, stop = [0, 0, 0], [0, 0, 0]
    for axis, old in enumerate(turn.axes):
        side = turn.geometry.shape[axis]
        a, b = box.start[axis], box.stop[axis]
        start[old], stop[old] = (side - b, side - a) if turn.flipped[axis] else (a, b)
    return Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))


def _box(bounds: Sequence[Sequence[int]]) -> Box:
    (k, k_stop), (j, j_stop), (i, i_stop) = bounds
    return Box((k, j, i), (k_stop, j_stop, i_stop))
