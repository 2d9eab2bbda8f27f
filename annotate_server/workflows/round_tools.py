"""What a training round works with, and what of the labels a backend may see."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from annotate_server.domain.errors import StateError
from annotate_server.domain.ports import BackendCatalogue, Control, ModelRegistry
from annotate_server.domain.training import Example, Part, TrainingEntry, TrainingPoint, TrainingSet
from annotate_server.workflows.gate import GateRule
from annotate_server.workflows.gate_evidence import GateEvidence


class Examples(Protocol):
    """Opens labels of every part."""

    def open(self, entry: TrainingEntry, training_set: TrainingSet) -> Example:
        """Return an example."""
        ...


class Keeper(Protocol):
    """Keeps what a round gives, by digest; it is on the disk when the call returns."""

    def keep_bytes(self, content: bytes) -> str:
        """Keep bytes and return their SHA-256 (hex)."""
        ...

    def keep_file(self, path: Path) -> str:
        """Keep a copy of a file and return its SHA-256 (hex)."""
        ...

    def path(self, sha256: str) -> Path:
        """Return where something lies that was kept."""
        ...


def _ignore(point: TrainingPoint) -> None:
    """Take a point that nobody asked for."""


@dataclass(frozen=True)
class RoundTools:
    """What a round works with.

    `evaluations` says how often the gate's patients have decided before. `champion_evidence` is that of the round that
    the champion came from, None for an app's own. `on_point` is told every point of the training's curve.
    """

    registry: ModelRegistry
    backends: BackendCatalogue
    examples: Examples
    keep: Keeper
    device: str = "cpu"
    rule: GateRule = field(default_factory=GateRule)
    evaluations: int = 0
    champion_evidence: GateEvidence | None = None
    on_point: Callable[[TrainingPoint], None] = _ignore


class LearnedFrom:
    """The labels that one training may learn from; fulfils `learning_ports.TrainingTask`.

    This is the one place that keeps gate and test patients, and the patients of a fold, away from a network: whatever
    the list that it is given holds of other parts is neither shown nor opened.
    """

    def __init__(self, training_set: TrainingSet, examples: Examples) -> None:
        """Show the part `TRAIN` of a set."""
        self._set = replace(training_set, entries=training_set.of(Part.TRAIN))
        self._allowed = frozenset(self._set.entries)
        self._examples = examples

    @property
    def training_set(self) -> TrainingSet:
        """Return the list, of the part `TRAIN` only."""
        return self._set

    def open(self, entry: TrainingEntry) -> Example:
        """Return an example; StateError for a label that is not to be learned from."""
        if entry not in self._allowed:
            raise StateError(f"label {entry.label_id} is not one that this training may learn from")
        return self._examples.open(entry, self._set)


def part_of(control: Control, start: float, share: float) -> Control:
    """Return a control whose progress 0 to 1 fills `share` of the caller's, from `start` on."""
    return replace(control, report=lambda fraction, message: control.report(start + share * fraction, message))
