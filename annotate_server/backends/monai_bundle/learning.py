"""How a bundle's network goes on learning: with our loop, on what its own preprocessing makes of the volumes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from annotate_server.backends.label_votes import on_grid
from annotate_server.backends.monai_bundle.loaded import prepared
from annotate_server.backends.monai_bundle.network import BundleNetwork, with_steady_randomness
from annotate_server.backends.monai_bundle.outputs import aligned, begun, output_axes, places_of
from annotate_server.backends.monai_bundle.parameters import BundleParameters
from annotate_server.backends.monai_bundle.weights import WEIGHTS, fill, kept_state
from annotate_server.backends.training.augment import Augmentation
from annotate_server.backends.training.cases import GridCase, relabelled, shelved
from annotate_server.backends.training.lesson import Lesson, identity_of
from annotate_server.backends.training.several import learn_in_processes
from annotate_server.backends.training.weights import between, save
from annotate_server.domain.errors import InvalidRequest
from annotate_server.domain.geometry import Shape
from annotate_server.domain.labelmap import Segment
from annotate_server.domain.learning_ports import TrainingTask
from annotate_server.domain.model import ModelVersion
from annotate_server.domain.ports import Control
from annotate_server.domain.recipe import Recipe
from annotate_server.domain.training import IGNORED, Checkpoint, Example, TrainingPlace

_MOST_SEGMENTS = 254


@dataclass(frozen=True)
class BundlePreparation:
    """Brings examples to the network's grid by the steps of its own preprocessing."""

    parameters: BundleParameters

    def prepare(self, example: Example, classes: Mapping[int, int]) -> Sequence[GridCase]:
        """Return an example as the network sees it; what lies beyond the volume says nothing."""
        canvas = prepared(example.volume, self.parameters, Control())
        spoken = (relabelled(example.target, classes) - IGNORED).astype(np.uint8)
        found, box = on_grid(spoken, example.volume.geometry, canvas.geometry)
        target = np.full(canvas.shape, IGNORED, np.int16)
        target[box.slices] = found.astype(np.int16) + IGNORED
        known = frozenset(classes[index] for index in example.known)
        return (GridCase(canvas.values[None].numpy(), target, known),)


def train(
    start: ModelVersion, training: TrainingTask, recipe: Recipe, place: TrainingPlace, control: Control
) -> Checkpoint:
    """Train from a version's weights, or from nothing where it has none."""
    segments = training.training_set.segments
    parameters = with_outputs_for(BundleParameters.of(start.app), segments)
    network, fresh = _beginning(start, parameters, segments, recipe.seed)
    patch = _patch(network, parameters, recipe)
    shelf = shelved(BundlePreparation(parameters), training, place.folder / "cases", control)
    lesson = Lesson(
        network=network,
        cases=shelf.cases,
        classes=len(segments) + 1,
        patch=patch,
        recipe=recipe,
        identity=identity_of(start, training, recipe),
        augmentation=Augmentation(mirror_axes=recipe.mirror_axes),
        fresh=fresh,
    )
    learned = learn_in_processes(lesson, place, control)
    if not isinstance(learned.network, BundleNetwork):
        raise TypeError(f"the loop gave back a {type(learned.network).__name__}")
    path = save(learned.network.state(), place.folder / WEIGHTS)
    return Checkpoint(
        {WEIGHTS: path}, parameters.table(), segments, learned.steps, learned.voxels, learned.seconds, shelf.notes
    )


def interpolated(old: ModelVersion, new: Checkpoint, share: float, folder: Path) -> Checkpoint:
    """Return the network whose weights lie `share` of the way from old to new."""
    after = kept_state(new.files[WEIGHTS], old.model)
    before = kept_state(old.files[WEIGHTS], old.model) if WEIGHTS in old.files else {}
    places = places_of(old.app.card.segments, new.segments)
    if before and places != tuple(range(len(old.app.card.segments) + 1)):
        before = aligned(before, after, output_axes(BundleParameters.of(old.app).network), places)
    path = save(between(before, after, share), folder / WEIGHTS)
    return replace(new, files={WEIGHTS: path})


def with_outputs_for(parameters: BundleParameters, segments: Sequence[Segment]) -> BundleParameters:
    """Return the parameters of a network that answers these segments and background."""
    if parameters.answer.threshold is not None:
        raise InvalidRequest(
            "this network's classes overlap, and one that learns here tells them apart", remedy="Use torch_module."
        )
    if len(segments) > _MOST_SEGMENTS:
        raise InvalidRequest(f"{len(segments)} segments are more than such a network learns ({_MOST_SEGMENTS})")
    return replace(parameters, network=parameters.network.with_outputs(len(segments) + 1))


def _beginning(
    start: ModelVersion, parameters: BundleParameters, segments: Sequence[Segment], seed: int
) -> tuple[BundleNetwork, frozenset[str]]:
    """Return the network with the weights that it starts from, and the names of those that hold new outputs."""
    network = with_steady_randomness(parameters.network, seed)
    if WEIGHTS not in start.files:
        return network, frozenset()
    state = kept_state(start.files[WEIGHTS], start.model)
    places = places_of(start.app.card.segments, segments)
    if places == tuple(range(len(start.app.card.segments) + 1)):
        return fill(network, state, start.model), frozenset()
    axes = output_axes(BundleParameters.of(start.app).network)
    state = begun(state, network.state(), axes, places)
    return fill(network, state, start.model), frozenset(f"network.{name}" for name in axes)


def _patch(network: BundleNetwork, parameters: BundleParameters, recipe: Recipe) -> Shape:
    """Return the patch that is trained on; InvalidRequest where nobody says one, or the network does not take it."""
    window = parameters.window.size
    usual = window if window is not None and min(window) > 0 else None
    patch = recipe.patch or usual
    if patch is None:
        raise InvalidRequest("neither the recipe nor the bundle says how large a patch is", remedy="Set recipe.patch.")
    if patch != usual and not _takes(network, patch):
        raise InvalidRequest(f"the network does not take patches of {patch} voxels", remedy="Use another recipe.patch.")
    return patch


def _takes(network: BundleNetwork, patch: Shape) -> bool:
    try:
        with torch.inference_mode():
            return tuple(network.eval()(torch.zeros((1, 1, *patch))).shape[2:]) == patch
    except (RuntimeError, ValueError):
        return False
