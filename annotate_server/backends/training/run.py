"""Everything that changes from step to step, and the file that it is resumed from."""

import json
import logging
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from annotate_server.backends.training.lesson import Lesson
from annotate_server.domain.training import TrainingPoint
from annotate_server.imaging.whole_file import whole_file

CHECKPOINT = "training.pt"
CURVE = "curve.jsonl"
_log = logging.getLogger(__name__)


@dataclass
class Run:
    """A training under way: `average` is the exponential average of the weights, `losses` those since the last point.

    `voxels` are those of the volumes that went forward and back.
    """

    lesson: Lesson
    network: nn.Module
    average: nn.Module
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    step: int = 0
    voxels: int = 0
    seconds: float = 0.0
    losses: list[Tensor] = field(default_factory=list)

    @classmethod
    def begin(cls, lesson: Lesson, network: nn.Module, *, scaled: bool, device: torch.device) -> "Run":
        """Return a run before its first step; the network's frozen weights are not touched."""
        recipe = lesson.recipe
        learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
        optimiser = torch.optim.AdamW(
            learning, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, eps=1e-6, foreach=True
        )
        average = deepcopy(network).requires_grad_(requires_grad=False)
        return cls(lesson, network, average, optimiser, torch.amp.GradScaler(device.type, enabled=scaled))

    def save(self, folder: Path) -> None:
        """Write the checkpoint: a kill or a power cut leaves the old one or the new one."""
        state = {
            "identity": self.lesson.identity,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "step": self.step,
            "voxels": self.voxels,
            "seconds": self.seconds,
            "losses": [float(loss) for loss in self.losses],
        }
        with whole_file(folder / CHECKPOINT) as temporary:
            torch.save(state, temporary)

    def resume(self, folder: Path) -> bool:
        """Go on from a checkpoint of the same training, where there is one; another training's is left alone."""
        path = folder / CHECKPOINT
        if not path.is_file():
            return False
        state = torch.load(path, weights_only=True, map_location=next(self.network.parameters()).device)
        if state["identity"] != self.lesson.identity:
            return False
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])
        self.step, self.voxels, self.seconds = int(state["step"]), int(state["voxels"]), float(state["seconds"])
        self.losses = [torch.tensor(loss) for loss in state["losses"]]
        _log.info("resumed after step %d", self.step, extra={"action": "resume_training"})
        return True


def curve_of(folder: Path) -> list[TrainingPoint]:
    """Return the points of the curve so far."""
    path = folder / CURVE
    lines = path.read_text().splitlines() if path.is_file() else []
    return [point for line in lines if (point := _point(line)) is not None]


def curve_until(folder: Path, step: int) -> None:
    """Forget the points of the curve after a step: they come again."""
    kept = [point for point in curve_of(folder) if point.step <= step]
    with whole_file(folder / CURVE) as temporary:
        temporary.write_text("".join(f"{_line(point)}\n" for point in kept))


def add_point(folder: Path, point: TrainingPoint) -> None:
    """Append a point to the curve."""
    with (folder / CURVE).open("a") as stream:
        stream.write(_line(point) + "\n")


def _line(point: TrainingPoint) -> str:
    return json.dumps(asdict(point))


def _point(line: str) -> TrainingPoint | None:
    """Return the point of a line; None for one that a kill left half-written."""
    try:
        return TrainingPoint(**json.loads(line))
    except (ValueError, TypeError):
        return None
