"""How networks of `torch_module` learn: what they start from, their cases, and what is kept of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from annotate_server.backends.torch_module.grid import CanonicalGrid, check_size
from annotate_server.backends.torch_module.network import build
from annotate_server.backends.torch_module.parameters import TorchModuleParameters
from annotate_server.backends.training.augment import Augmentation
from annotate_server.backends.training.cases import GridCase, relabelled, shelved
from annotate_server.backends.training.lesson import Lesson, identity_of
from annotate_server.backends.training.several import learn_in_processes
from annotate_server.backends.training.weights import Outputs, between, save
from annotate_server.domain.errors import InvalidApp, InvalidRequest, NotMadeFor, WeightsInvalid
from annotate_server.domain.geometry import Box, Shape
from annotate_server.domain.labelmap import Segment
from annotate_server.domain.learning_ports import TrainingTask
from annotate_server.domain.model import App, Locator, ModelVersion
from annotate_server.domain.ports import Control
from annotate_server.domain.recipe import Recipe
from annotate_server.domain.training import Checkpoint, Example, TrainingPlace
from annotate_server.imaging.components import parts_of

WEIGHTS = "weights.safetensors"


def network_of(app: App) -> nn.Module:
    """Return the network that an app describes with fresh weights; raises InvalidApp."""
    parameters = TorchModuleParameters.of(app)
    try:
        return build(parameters.architecture, parameters.network)
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidApp(f"its network cannot be built: {error}", source=app.name) from error


def weights_of(path: Path, model: str) -> dict[str, Tensor]:
    """Return the weights of a file in float32; raises WeightsInvalid."""
    try:
        return {name: value.float() for name, value in load_file(path).items()}
    except (SafetensorError, OSError) as error:
        raise WeightsInvalid(f"the weights cannot be read: {error}", source=model) from error


def filled(network: nn.Module, weights: Mapping[str, Tensor], model: str) -> nn.Module:
    """Return the network with weights; raises WeightsInvalid where they are another network's."""
    try:
        network.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise WeightsInvalid(f"the weights do not fit the network: {error}", source=model) from error
    return network


@dataclass(frozen=True)
class GridPreparation:
    """Brings examples to the grid of an app's network: whole volumes, or the places where a locator would look."""

    parameters: TorchModuleParameters
    locator: Locator | None = None

    def prepare(self, example: Example, classes: Mapping[int, int]) -> Sequence[GridCase]:
        """Return an example on the network's grid; raises NotMadeFor for one that it would not predict."""
        known = frozenset(classes[index] for index in example.known)
        cases = []
        for box in self._boxes(example):
            geometry = example.volume.geometry.cropped(box)
            grid = CanonicalGrid.over(geometry, self.parameters)
            check_size(grid.geometry.shape, self.parameters, "the model")
            values = grid.values(example.volume.voxels[box.slices], self.parameters)
            target = grid.labels(relabelled(example.target[box.slices], classes))
            cases.append(GridCase(values[None], target, known))
        return cases

    def _boxes(self, example: Example) -> Sequence[Box]:
        """Return what is looked at: around each labelled place in a volume that is too long for the network."""
        geometry, locator = example.volume.geometry, self.locator
        if locator is None or max(geometry.extent_mm) <= locator.max_extent_mm:
            return (Box.whole(geometry.shape),)
        k, j, i = (round(locator.margin_mm / side) for side in geometry.spacing_mm)
        least = max(1, round(locator.min_volume_ml / geometry.voxel_ml))
        boxes = parts_of(example.target > 0, least)
        if not boxes:
            raise NotMadeFor("it is a whole volume, and its label shows no place to look at")
        return [box.grown((k, j, i), geometry.shape) for box in boxes]


def train(
    start: ModelVersion, training: TrainingTask, recipe: Recipe, place: TrainingPlace, control: Control
) -> Checkpoint:
    """Train from a version's weights, or from nothing where it has none."""
    parameters = TorchModuleParameters.of(start.app)
    segments = training.training_set.segments
    app = with_outputs_for(start.app, segments)
    network, fresh = _beginning(start, app, recipe.seed)
    preparation = GridPreparation(parameters, start.app.card.locator)
    shelf = shelved(preparation, training, place.folder / "cases", control)
    lesson = Lesson(
        network=network,
        cases=shelf.cases,
        classes=len(segments) + 1,
        patch=_patch(network, parameters, recipe),
        recipe=recipe,
        identity=identity_of(start, training, recipe),
        augmentation=Augmentation(mirror_axes=recipe.mirror_axes),
        fresh=fresh,
    )
    learned = learn_in_processes(lesson, place, control)
    path = save(learned.network.state_dict(), place.folder / WEIGHTS)
    return Checkpoint(
        {WEIGHTS: path}, app.parameters, segments, learned.steps, learned.voxels, learned.seconds, shelf.notes
    )


def interpolated(old: ModelVersion, new: Checkpoint, share: float, folder: Path) -> Checkpoint:
    """Return the network whose weights lie `share` of the way from old to new."""
    outputs = Outputs.of(old.app.card.segments, new.segments)
    after = weights_of(new.files[WEIGHTS], old.model)
    before = weights_of(old.files[WEIGHTS], old.model) if WEIGHTS in old.files else {}
    path = save(between(outputs.all_aligned(before, after, _is_head), after, share), folder / WEIGHTS)
    return replace(new, files={WEIGHTS: path})


def with_outputs_for(app: App, segments: tuple[Segment, ...]) -> App:
    """Return an app whose network has an output for each of the segments."""
    network = {**TorchModuleParameters.of(app).network, "classes": len(segments) + 1}
    return replace(app, parameters={**app.parameters, "network": network}, card=replace(app.card, segments=segments))


def _beginning(start: ModelVersion, app: App, seed: int) -> tuple[nn.Module, frozenset[str]]:
    """Return the network with the weights that it starts from, and the names of those that hold new outputs."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = network_of(app)
    if WEIGHTS not in start.files:
        return network, frozenset()
    weights = weights_of(start.files[WEIGHTS], start.model)
    outputs = Outputs.of(start.app.card.segments, app.card.segments)
    if outputs.are_the_same:
        return filled(network, weights, start.model), frozenset()
    random = torch.Generator().manual_seed(seed)
    begun = outputs.all_begun(weights, _is_head, random)
    return filled(network, begun, start.model), frozenset(filter(_is_head, weights))


def _is_head(name: str) -> bool:
    return "heads" in name.split(".")


def _patch(network: nn.Module, parameters: TorchModuleParameters, recipe: Recipe) -> Shape:
    """Return the patch that is trained on: a multiple of the network's stride."""
    patch = recipe.patch or parameters.tile or parameters.smallest_grid
    if max(patch) == 1:
        raise InvalidRequest("neither the recipe nor the app says how large a patch is", remedy="Set recipe.patch.")
    stride: Shape = getattr(network, "stride", (1, 1, 1))
    k, j, i = (-(-side // step) * step for side, step in zip(patch, stride, strict=True))
    return k, j, i
