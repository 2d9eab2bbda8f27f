"""What the loop gets to work on, and what it gives back."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from annotate_server.backends.training.augment import Augmentation
from annotate_server.backends.training.cases import ShelvedCase
from annotate_server.domain.geometry import Shape
from annotate_server.domain.learning_ports import TrainingTask
from annotate_server.domain.model import ModelVersion
from annotate_server.domain.recipe import Recipe


@runtime_checkable
class Learner(Protocol):
    """A network whose answer can be compared with labels at several resolutions."""

    def every_resolution(self, volume: Tensor) -> list[Tensor]:
        """Return logits (batch, classes, k, j, i), finest first."""
        ...


@dataclass(frozen=True)
class Lesson:
    """One training: the network with the weights that it starts from, the cases, and how.

    `network` is a `Learner`, or has `members` that are: each of those learns by itself from the same batches. `classes`
    count background. `fresh` names the weights that hold outputs which the network did not have before. `recipe.steps`
    and `recipe.learning_rate` are those of this training. `identity` says which training it is: another one does not
    resume it. `border` voxels at the faces of a patch are not learned from: a network that looks far sees too little.
    """

    network: nn.Module
    cases: tuple[ShelvedCase, ...]
    classes: int
    patch: Shape
    recipe: Recipe
    identity: str
    augmentation: Augmentation = field(default_factory=Augmentation)
    fresh: frozenset[str] = frozenset()
    border: int = 0


@dataclass(frozen=True)
class Batch:
    """Examples on the device: values (batch, channels, k, j, i) and target (batch, k, j, i).

    `known` says on the processor which classes each knows, (batch, classes).
    """

    values: Tensor
    target: Tensor
    known: Tensor


@dataclass(frozen=True)
class Rank:
    """Which of several processes that learn together this one is; the first tells and writes."""

    number: int = 0
    of: int = 1

    @property
    def is_first(self) -> bool:
        """Say whether this process tells and writes."""
        return self.number == 0

    def shared(self, network: nn.Module, device: torch.device) -> nn.Module:
        """Return the network with gradients that are the mean over all processes."""
        if self.of == 1:
            return network
        return nn.parallel.DistributedDataParallel(network, device_ids=[device] if device.type == "cuda" else None)


@dataclass(frozen=True)
class Learned:
    """What came of it: a network with the average of the weights, and what it took."""

    network: nn.Module
    steps: int
    voxels: int
    seconds: float


def identity_of(start: ModelVersion, training: TrainingTask, recipe: Recipe) -> str:
    """Say which training it is: the same one resumes, another one begins anew."""
    parts = (start.id, training.training_set.digest, repr(recipe), torch.__version__)
    return hashlib.sha256("|".join(parts).encode()).hexdigest()


def voices(network: nn.Module) -> Sequence[nn.Module]:
    """Return the networks that learn by themselves: the members of an ensemble, else the network."""
    members = getattr(network, "members", None)
    return list(members) if isinstance(members, nn.ModuleList) else [network]
