"""What a simulation trains and asks outside of rounds: the first champion, baselines, figures of versions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from annotate_server.domain.errors import StateError
from annotate_server.domain.labelmap import Labelmap
from annotate_server.domain.learning import SegmentWork
from annotate_server.domain.learning_ports import Trainable
from annotate_server.domain.model import App, ModelVersion
from annotate_server.domain.ports import BackendCatalogue, Control, ModelRegistry
from annotate_server.domain.recipe import Recipe
from annotate_server.domain.training import Checkpoint, Example, TrainingEntry, TrainingPlace, TrainingSet
from annotate_server.imaging.overlap import structure_pairs
from annotate_server.workflows.effort import Effort, EffortConstants, effort_against_scratch
from annotate_server.workflows.predict import Predictor
from annotate_server.workflows.round_networks import app_of
from annotate_server.workflows.round_scoring import Scoring, ServingOnly, Voxels, labelmap_of
from annotate_server.workflows.round_tools import LearnedFrom
from annotate_server.workflows.simulated_cases import SimulatedCases


@dataclass(frozen=True)
class Truth:
    """Opens cases with what is really there; fulfils `round_tools.Examples`."""

    cases: SimulatedCases

    def open(self, entry: TrainingEntry, training_set: TrainingSet) -> Example:
        """Return an example without any mistake."""
        return replace(self.cases.truth(entry.case_id, entry.site), entry=entry)


@dataclass(frozen=True)
class Answers:
    """What a version answers on cases, by label: figures against the truth, and what is left to do."""

    works: Mapping[str, Mapping[str, SegmentWork]]
    effort: Mapping[str, Effort] = field(default_factory=dict)


@dataclass(frozen=True)
class Trainings:
    """Trains and asks versions of one app; every training and every asking has a folder of its own."""

    app: App
    recipe: Recipe
    registry: ModelRegistry
    backends: BackendCatalogue
    cases: SimulatedCases
    folder: Path
    device: str = "cpu"

    def from_nothing(self, name: str, entries: Sequence[TrainingEntry], control: Control) -> Checkpoint:
        """Train the app's network from nothing on labels, all of them alike."""
        recipe = replace(self.recipe, steps=self.recipe.full_steps, learning_rate=self.recipe.full_learning_rate)
        start = ModelVersion(replace(self.app, weights=(), digest=""), {})
        return self._train(name, start, [replace(entry, is_new=False) for entry in entries], recipe, control)

    def onward(self, name: str, start: ModelVersion, entries: Sequence[TrainingEntry], control: Control) -> Checkpoint:
        """Train a version on labels alone, without replay, as the recipe has it for a round."""
        return self._train(name, start, [replace(entry, is_new=True) for entry in entries], self.recipe, control)

    def version(self, checkpoint: Checkpoint) -> ModelVersion:
        """Return a checkpoint as a version that can be loaded."""
        return ModelVersion(app_of(self.app, checkpoint, self.app.name), checkpoint.files)

    def asked(
        self,
        name: str,
        version: ModelVersion,
        entries: Sequence[TrainingEntry],
        control: Control,
        constants: EffortConstants | None = None,
    ) -> Answers:
        """Return what a version answers on cases, against the truth; with `constants` also what is left to do."""
        predictor = Predictor(ServingOnly(version, self.registry), self.backends, self.device)
        scoring = Scoring(version, self._set(entries), Truth(self.cases), predictor, self.folder / f"{name}-answers")
        try:
            scores = scoring.scores(entries, control)
        finally:
            predictor.close()
        works = {label: score.works for label, score in scores.items()}
        if constants is None:
            return Answers(works)
        return Answers(works, {e.label_id: self._effort(e, scoring.draft(e), constants) for e in entries})

    def _effort(self, entry: TrainingEntry, drafted: Voxels, constants: EffortConstants) -> Effort:
        truth = self.cases.truth(entry.case_id, entry.site)
        geometry, segments = truth.volume.geometry, self.app.card.segments
        labels: list[Labelmap] = [labelmap_of(each, geometry, segments) for each in (truth.target, drafted)]
        pairs = structure_pairs(labels[0], labels[1], [(index, index) for index in sorted(truth.known)])
        return sum((effort_against_scratch(pair, constants) for pair in pairs), Effort())

    def _train(
        self, name: str, start: ModelVersion, entries: Sequence[TrainingEntry], recipe: Recipe, control: Control
    ) -> Checkpoint:
        backend = self.backends.get(self.app.backend)
        if not isinstance(backend, Trainable):
            raise StateError(f"models of the backend {self.app.backend!r} cannot be trained", source=self.app.name)
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        task = LearnedFrom(self._set(entries), self.cases)
        return backend.train(start, task, recipe, TrainingPlace(folder), control)

    def _set(self, entries: Sequence[TrainingEntry]) -> TrainingSet:
        return TrainingSet("simulation", self.app.card.segments, tuple(entries))
