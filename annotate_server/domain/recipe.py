"""How a network is trained: the `[recipe]` of an app."""

from dataclasses import dataclass
from enum import StrEnum

from annotate_server.domain.errors import InvalidRequest
from annotate_server.domain.geometry import Shape


class Freezing(StrEnum):
    """Which weights a training leaves as they are: with few cases fewer weights learn more."""

    NOTHING = "nothing"
    NORMS = "norms"
    ALL_BUT_NORMS = "all-but-norms"


class Precision(StrEnum):
    """What a training computes in; `AUTO` takes the fastest that the device has and that is safe there."""

    AUTO = "auto"
    BF16 = "bf16"
    FP16 = "fp16"
    FP32 = "fp32"


@dataclass(frozen=True)
class Recipe:
    """Typed training parameters, `[recipe]` of an app; lengths in voxels of the network's grid.

    `steps` are those of one incremental round, `full_steps` those of a training from nothing or from the original
    checkpoint, which happens every `full_every` rounds (0: never). `new_share` of every batch are new labels, the rest
    replay. `average_decay` is that of the exponential average of the weights, which is what is kept. `sweep` are the
    shares of the new weights in the candidates between old and new (1 is the new network itself). `seed` and `workers`
    (processes of distributed data parallel training) are part of what makes a run repeatable.
    """

    steps: int = 250
    full_steps: int = 2000
    full_every: int = 0
    batch: int = 2
    patch: Shape | None = None
    learning_rate: float = 3e-4
    full_learning_rate: float = 2e-3
    weight_decay: float = 3e-2
    warmup_steps: int = 25
    gradient_norm: float = 5.0
    average_decay: float = 0.998
    new_share: float = 0.5
    freezing: Freezing = Freezing.NOTHING
    precision: Precision = Precision.AUTO
    sweep: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    mirror_axes: tuple[int, ...] = ()
    checkpoint_every: int = 50
    seed: int = 0
    workers: int = 1

    def __post_init__(self) -> None:
        """Refuse what cannot be trained with."""
        positive = ("steps", "full_steps", "batch", "checkpoint_every", "workers", "learning_rate")
        for name in positive:
            if getattr(self, name) <= 0:
                raise InvalidRequest(f"the recipe's {name} must be more than 0")
        if min(self.warmup_steps, self.full_every, self.weight_decay, self.seed) < 0 or not 0 <= self.average_decay < 1:
            raise InvalidRequest("the recipe has a number below 0, or an average_decay that is not below 1")
        if self.gradient_norm <= 0 or self.full_learning_rate <= 0 or min(self.patch or (1,)) < 1:
            raise InvalidRequest("the recipe's gradient_norm, full_learning_rate and patch must be more than 0")
        if not 0 <= self.new_share <= 1 or any(not 0 < share <= 1 for share in self.sweep) or not self.sweep:
            raise InvalidRequest("the recipe's shares must lie between 0 and 1")
