"""How a MeshNet learns: its chain as a network of PyTorch, heads in conformed space, patches of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from annotate_server.backends.label_votes import on_grid
from annotate_server.backends.meshnet.chain import Activation, Chain, Layer
from annotate_server.backends.meshnet.conform import Conformed, conform
from annotate_server.backends.meshnet.parameters import MeshNetParameters, read_parameters
from annotate_server.backends.meshnet.standardise import network_input
from annotate_server.backends.meshnet.tfjs import read_chain
from annotate_server.backends.meshnet.writing import write_chain
from annotate_server.backends.training.augment import Augmentation
from annotate_server.backends.training.cases import GridCase, relabelled, shelved
from annotate_server.backends.training.lesson import Lesson, identity_of
from annotate_server.backends.training.several import learn_in_processes
from annotate_server.backends.training.weights import Outputs, between
from annotate_server.domain.errors import InvalidRequest
from annotate_server.domain.learning_ports import TrainingTask
from annotate_server.domain.model import ModelVersion
from annotate_server.domain.ports import Control
from annotate_server.domain.recipe import Recipe
from annotate_server.domain.training import IGNORED, Checkpoint, Example, TrainingPlace

_PATCH = (80, 80, 80)
_BORDER = 12
"""Closer to the face of a patch than this, a network that looks 16 voxels and more around sees too little to learn."""
_NOTHING_SAID = 255
_ACTIVATIONS: Mapping[Activation, Callable[[Tensor], Tensor]] = {
    Activation.RELU: functional.relu,
    Activation.ELU: functional.elu,
    Activation.GELU: functional.gelu,
}


class MeshNet(nn.Module):
    """A chain as a network: convolutions in their order, `head` the last."""

    def __init__(self, chain: Chain) -> None:
        """Take the weights of a chain."""
        super().__init__()
        self.chain = chain
        self.body = nn.ModuleList(_convolution(layer) for layer in chain.body)
        self.head = _convolution(chain.head)

    def every_resolution(self, volume: Tensor) -> list[Tensor]:
        """Return logits (batch, classes, k, j, i)."""
        features = volume
        for layer, convolution in zip(self.chain.body, self.body, strict=True):
            features = convolution(features)
            if layer.activation is not Activation.LINEAR:
                features = _ACTIVATIONS[layer.activation](features)
        return [self.head(features)]

    def as_chain(self) -> Chain:
        """Return the weights as a chain."""
        body = zip(self.chain.body, self.body, strict=True)
        return Chain(tuple(_layer(layer, each) for layer, each in body), _layer(self.chain.head, self.head))


@dataclass(frozen=True)
class HeadPreparation:
    """Brings examples into conformed space and crops them, as they are for a prediction."""

    parameters: MeshNetParameters

    def prepare(self, example: Example, classes: Mapping[int, int]) -> Sequence[GridCase]:
        """Return an example as the network sees it; raises NotMadeFor for what shows no head."""
        conformed = conform(example.volume)
        taken = network_input(conformed.voxels, self.parameters)
        target = _conformed_target(relabelled(example.target, classes), conformed)[taken.box.slices]
        return (GridCase(taken.values[None], target, frozenset(classes[index] for index in example.known)),)


def train(
    start: ModelVersion, training: TrainingTask, recipe: Recipe, place: TrainingPlace, control: Control
) -> Checkpoint:
    """Train from a version's weights; InvalidRequest where it has none, or where it cannot learn from patches."""
    if not start.files:
        raise InvalidRequest("a MeshNet begins from published weights", remedy="Use torch_module for a new model.")
    chain = read_chain(start.files)
    if any(layer.normalised for layer in chain.body):
        # Patches have other moments than the whole head that it predicts.
        raise InvalidRequest("this MeshNet normalises over whole heads, and cannot learn from patches of them")
    segments = training.training_set.segments
    outputs = Outputs.of(start.app.card.segments, segments)
    network = MeshNet(_with_outputs(chain, outputs, recipe.seed))
    parameters = read_parameters(start.app.parameters, start.model)
    patch = recipe.patch or _PATCH
    shelf = shelved(HeadPreparation(parameters), training, place.folder / "cases", control)
    lesson = Lesson(
        network=network,
        cases=shelf.cases,
        classes=len(segments) + 1,
        patch=patch,
        recipe=recipe,
        identity=identity_of(start, training, recipe),
        augmentation=Augmentation(mirror_axes=recipe.mirror_axes),
        fresh=frozenset() if outputs.are_the_same else frozenset({"head.weight", "head.bias"}),
        border=min(_BORDER, (min(patch) - 1) // 4),
    )
    learned = learn_in_processes(lesson, place, control)
    files = write_chain(cast("MeshNet", learned.network).as_chain(), place.folder)
    return Checkpoint(
        files, start.app.parameters, segments, learned.steps, learned.voxels, learned.seconds, shelf.notes
    )


def interpolated(old: ModelVersion, new: Checkpoint, share: float, folder: Path) -> Checkpoint:
    """Return the network whose weights lie `share` of the way from old to new."""
    outputs = Outputs.of(old.app.card.segments, new.segments)
    network = MeshNet(read_chain(new.files))
    before, after = MeshNet(read_chain(old.files)).state_dict(), network.state_dict()
    network.load_state_dict(between(outputs.all_aligned(before, after, _is_head), after, share))
    return replace(new, files=write_chain(network.as_chain(), folder))


def _with_outputs(chain: Chain, outputs: Outputs, seed: int) -> Chain:
    """Return a chain whose head has these outputs."""
    if outputs.are_the_same:
        return chain
    random = torch.Generator().manual_seed(seed)
    kernel = outputs.begun(torch.from_numpy(chain.head.kernel), random).numpy()
    bias = torch.zeros(chain.classes) if chain.head.bias is None else torch.from_numpy(chain.head.bias)
    head = replace(chain.head, kernel=kernel, bias=outputs.begun(bias, random).numpy())
    return replace(chain, head=head)


def _is_head(name: str) -> bool:
    return name.startswith("head.")


def _conformed_target(target: NDArray[np.int16], conformed: Conformed) -> NDArray[np.int16]:
    """Return classes of the volume's own array on the conformed grid, (l, i, a); beyond the volume is background."""
    turned = conformed.turn.apply(target)
    coded = np.where(turned == IGNORED, _NOTHING_SAID, turned).astype(np.uint8)
    found, box = on_grid(coded, conformed.turn.geometry, conformed.geometry)
    result = np.zeros(conformed.geometry.shape, dtype=np.int16)
    result[box.slices] = found
    result[result == _NOTHING_SAID] = IGNORED
    return result


def _convolution(layer: Layer) -> nn.Conv3d:
    """Return a layer's convolution with its weights."""
    width_out, width_in, side = layer.kernel.shape[:3]
    padding = layer.dilation * (side // 2)
    convolution = nn.Conv3d(
        width_in, width_out, side, padding=padding, dilation=layer.dilation, bias=layer.bias is not None
    )
    with torch.no_grad():
        convolution.weight.copy_(torch.from_numpy(layer.kernel))
        if convolution.bias is not None and layer.bias is not None:
            convolution.bias.copy_(torch.from_numpy(layer.bias))
    return convolution


def _layer(before: Layer, module: nn.Module) -> Layer:
    """Return a layer with what its convolution has learned."""
    convolution = cast("nn.Conv3d", module)
    bias = None if convolution.bias is None else convolution.bias.detach().numpy().copy()
    return replace(before, kernel=convolution.weight.detach().numpy().copy(), bias=bias)
