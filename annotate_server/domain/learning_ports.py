"""What the learning loop needs from outside, as protocols: who trains, and what is kept of models that learn.

As with the other stores, a change is on the disk when the call returns, in one transaction with its audit row.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Protocol, runtime_checkable

from annotate_server.domain.learning import LabelWork, LearnedModel, PatientPart, Promotion, VersionRecord
from annotate_server.domain.model import App, ModelVersion
from annotate_server.domain.person import Person
from annotate_server.domain.ports import Control
from annotate_server.domain.recipe import Recipe
from annotate_server.domain.training import Checkpoint, Example, TrainingEntry, TrainingPlace, TrainingSet


class TrainingTask(Protocol):
    """The labels that a network may learn from: only those of the part `TRAIN` can be opened through it."""

    @property
    def training_set(self) -> TrainingSet:
        """Return the frozen list."""
        ...

    def open(self, entry: TrainingEntry) -> Example:
        """Return an example; StateError for one of the gate or the test."""
        ...


@runtime_checkable
class Trainable(Protocol):
    """A backend whose networks can learn."""

    def train(
        self, start: ModelVersion, training: TrainingTask, recipe: Recipe, place: TrainingPlace, control: Control
    ) -> Checkpoint:
        """Train from a version's weights, or from nothing where it has none (`start.files` is empty).

        Deterministic for the same arguments on the same machine. Resumes from `place.folder` where the same training
        was interrupted there. Segments of the set that the version lacks get outputs of their own.
        """
        ...

    def between(self, old: ModelVersion, new: Checkpoint, share: float, folder: Path) -> Checkpoint:
        """Return the network whose weights lie `share` of the way from old to new, written into `folder`.

        What only the new one has is taken from it.
        """
        ...

    def planned(self, app: App, training: TrainingTask, control: Control) -> App:
        """Return the app with parameters planned from the labels: grid, patch and size of a new network."""
        ...


class ModelStore(Protocol):
    """Models that learn, their versions and promotions; versions and promotions are append-only."""

    @property
    def changes(self) -> int:
        """Return a number that grows with every model, version and promotion, of whatever process."""
        ...

    def add(self, model: LearnedModel, first: VersionRecord | None, person: Person) -> None:
        """Add a model, with the version that it is forked from as its champion; StateError where the name is taken."""
        ...

    def change(self, model: LearnedModel, person: Person) -> None:
        """Replace when a model is trained by itself; raises NotFound."""
        ...

    def all(self) -> tuple[LearnedModel, ...]:
        """Return every model, sorted by name."""
        ...

    def get(self, name: str) -> LearnedModel:
        """Return a model; raises UnknownModel."""
        ...

    def versions(self, name: str) -> tuple[VersionRecord, ...]:
        """Return the versions of a model, oldest first."""
        ...

    def decide(self, version: VersionRecord | None, promotion: Promotion, person: Person) -> None:
        """Keep a decision, and the version that it is about where that is new, in one transaction.

        StateError where `promotion.previous` is no longer the champion.
        """
        ...

    def promotions(self, name: str) -> tuple[Promotion, ...]:
        """Return every decision about a model, oldest first."""
        ...

    def champion(self, name: str) -> str | None:
        """Return the id of the version that serves; None where there is none yet."""
        ...


class PartStore(Protocol):
    """Which part each patient was drawn for."""

    def parts(self, project_id: str) -> Mapping[str, PatientPart]:
        """Return the parts of a project by pseudonym."""
        ...

    def draw(self, parts: Iterable[PatientPart]) -> None:
        """Keep parts; what is known already stays as it is."""
        ...

    def key(self, project_id: str) -> bytes:
        """Return the project's own secret that parts are drawn with, made at the first call."""
        ...


class WorkStore(Protocol):
    """What every label took."""

    def add(self, work: LabelWork) -> None:
        """Keep what a label took; what is known of the same label and version already stays as it is."""
        ...

    def of_project(self, project_id: str, since: datetime | None = None) -> tuple[LabelWork, ...]:
        """Return what is known of a project's labels, oldest first."""
        ...
