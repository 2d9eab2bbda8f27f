"""How an OBELISK network learns: abdomens on its grid of 144^3, found as they are for a prediction."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from annotate_server.backends.obelisk.network import SIDE, ObeliskNet, state_of
from annotate_server.backends.training.augment import Augmentation
from annotate_server.backends.training.cases import GridCase, relabelled, shelved
from annotate_server.backends.training.lesson import Lesson, identity_of
from annotate_server.backends.training.several import learn_in_processes
from annotate_server.backends.training.weights import Outputs, between, save
from annotate_server.domain.errors import InvalidRequest
from annotate_server.domain.geometry import Box
from annotate_server.domain.labelmap import Segment
from annotate_server.domain.learning_ports import TrainingTask
from annotate_server.domain.model import ModelVersion
from annotate_server.domain.ports import Control
from annotate_server.domain.recipe import Recipe
from annotate_server.domain.training import IGNORED, Checkpoint, Example, TrainingPlace
from annotate_server.domain.volume import Volume
from annotate_server.imaging.reorientation import Reorientation

WEIGHTS = "weights.safetensors"
PARAMETERS: Mapping[str, object] = {"weights": [WEIGHTS]}


@dataclass(frozen=True)
class Abdomen:
    """Where a volume shows the abdomen, and what the network reads there.

    `values` are (L, A, I), `window` is the box of the turned array that they were sampled from.
    """

    values: NDArray[np.float32]
    window: Box
    turn: Reorientation


@dataclass(frozen=True)
class AbdomenPreparation:
    """Brings examples to the network's grid; `find` looks for the abdomen."""

    find: Callable[[Volume], Abdomen]

    def prepare(self, example: Example, classes: Mapping[int, int]) -> Sequence[GridCase]:
        """Return an example as the network sees it; raises NotMadeFor for what shows no abdomen."""
        found = self.find(example.volume)
        target = sampled_target(found.turn.apply(relabelled(example.target, classes)), found.window)
        return (GridCase(found.values[None], target, frozenset(classes[index] for index in example.known)),)


def sampled_target(target: NDArray[np.int16], window: Box) -> NDArray[np.int16]:
    """Return labels (k, j, i) in a window on the network's grid, (L, A, I): of every point the nearest voxel.

    Slices beyond the volume, which the network sees as repetitions of the last one, hold `IGNORED`.
    """
    places = []
    for start, stop in zip(window.start, window.stop, strict=True):
        places.append(start + ((np.arange(SIDE) + 0.5) * (stop - start) / SIDE).astype(np.intp))
    inside = (places[0] >= 0) & (places[0] < len(target))
    slices = np.clip(places[0], 0, len(target) - 1)
    cube = target[np.ix_(slices, places[1], places[2])].copy()
    cube[~inside] = IGNORED
    return np.ascontiguousarray(cube.transpose(2, 1, 0))


def train(
    start: ModelVersion,
    training: TrainingTask,
    recipe: Recipe,
    place: TrainingPlace,
    preparation: AbdomenPreparation,
    control: Control,
) -> Checkpoint:
    """Train the first of a version's networks; the others are left out of what comes of it."""
    segments = training.training_set.segments
    check_published(start.app.card.segments, segments)
    outputs = Outputs.of(start.app.card.segments, segments)
    state = outputs.all_begun(
        state_of(start.files[first_weights(start)]), _is_head, torch.Generator().manual_seed(recipe.seed)
    )
    network = ObeliskNet(len(segments) + 1)
    network.load_state_dict(state)
    shelf = shelved(preparation, training, place.folder / "cases", control)
    lesson = Lesson(
        network=network,
        cases=shelf.cases,
        classes=len(segments) + 1,
        patch=(SIDE, SIDE, SIDE),
        recipe=replace(recipe, batch=1),
        identity=identity_of(start, training, recipe),
        augmentation=Augmentation(mirror_axes=recipe.mirror_axes),
        fresh=frozenset() if outputs.are_the_same else frozenset(filter(_is_head, state)),
    )
    learned = learn_in_processes(lesson, place, control)
    path = save(learned.network.state_dict(), place.folder / WEIGHTS)
    return Checkpoint(
        {WEIGHTS: path}, PARAMETERS, segments, learned.steps, learned.voxels, learned.seconds, shelf.notes
    )


def interpolated(old: ModelVersion, new: Checkpoint, share: float, folder: Path) -> Checkpoint:
    """Return the network whose weights lie `share` of the way from old to new."""
    outputs = Outputs.of(old.app.card.segments, new.segments)
    before, after = state_of(old.files[first_weights(old)]), state_of(new.files[WEIGHTS])
    path = save(between(outputs.all_aligned(before, after, _is_head), after, share), folder / WEIGHTS)
    return replace(new, files={WEIGHTS: path})


def first_weights(version: ModelVersion) -> str:
    """Return the name of the file of a version's first network; InvalidRequest where it has none."""
    names = [weight.name for weight in version.app.weights if weight.name in version.files]
    if not names:
        raise InvalidRequest(
            "an OBELISK network begins from published weights", remedy="Use torch_module for a new model."
        )
    return names[0]


def check_published(before: Sequence[Segment], after: Sequence[Segment]) -> None:
    """Refuse a set without the organs that the network finds the abdomen by, in their order."""
    names = [segment.name for segment in before]
    if [segment.name for segment in after[: len(names)]] != names:
        raise InvalidRequest(
            f"the segments must begin with {', '.join(names)}", remedy="Add new segments behind the model's own."
        )


def _is_head(name: str) -> bool:
    return name.startswith("head.")
