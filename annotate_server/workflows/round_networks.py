"""The networks of one training round: each is trained and asked once, however often the round is resumed."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

from annotate_server.domain.errors import StateError
from annotate_server.domain.learning_ports import Trainable
from annotate_server.domain.model import App, ModelVersion
from annotate_server.domain.ports import Control
from annotate_server.domain.recipe import Recipe
from annotate_server.domain.training import (
    Checkpoint,
    Part,
    TrainingEntry,
    TrainingPlace,
    TrainingPoint,
    TrainingSet,
    TrainOrder,
)
from annotate_server.workflows.gate_evidence import TrainingFacts
from annotate_server.workflows.predict import Predictor
from annotate_server.workflows.round_folder import RoundFolder
from annotate_server.workflows.round_scoring import LabelScore, Scoring, ServingOnly, Voxels
from annotate_server.workflows.round_tools import LearnedFrom, RoundTools

CHAMPION = "champion"
MAIN = "training"
"""The training on all labels; those of the folds have names of their own."""


@dataclass
class RoundNetworks:
    """The champion, the trainings of a round and the candidates between them.

    `learned` are the labels that may be learned from; `start` is what the training begins with: the champion, for a
    full training the original, for a new model nothing.
    """

    order: TrainOrder
    training_set: TrainingSet
    tools: RoundTools
    folder: RoundFolder
    champion: ModelVersion | None
    start: ModelVersion
    recipe: Recipe
    learned: TrainingSet
    curve: list[TrainingPoint] = field(default_factory=list)
    _trained: dict[str, Checkpoint] = field(default_factory=dict)
    _mixed: dict[str, Checkpoint] = field(default_factory=dict)
    _scored: dict[str, Scoring] = field(default_factory=dict)

    @property
    def shares(self) -> tuple[float, ...]:
        """Return the shares of the new weights in the candidates: all new where there is no champion."""
        return (1.0,) if self.champion is None else tuple(sorted(set(self.recipe.sweep)))

    @property
    def backend(self) -> Trainable:
        """Return what trains; StateError where the model's kind cannot learn."""
        backend = self.tools.backends.get(self.start.app.backend)
        if not isinstance(backend, Trainable):
            raise StateError(f"models of the backend {self.start.app.backend!r} cannot be trained")
        return backend

    def train(self, name: str, training_set: TrainingSet, start: ModelVersion, control: Control) -> Checkpoint:
        """Train once from `start` on the labels of a set; MAIN tells its curve."""
        found = self._trained.get(name) or self.folder.finished(name)
        if found is None:
            place = TrainingPlace(self.folder.place(name), self._on_point if name == MAIN else _ignore)
            task = LearnedFrom(training_set, self.tools.examples)
            found = self.folder.finish(name, self.backend.train(start, task, self.recipe, place, control))
        self._trained[name] = found
        return found

    def candidate(self, name: str, old: ModelVersion, share: float) -> Checkpoint:
        """Return the network that lies `share` of the way from `old` to what was trained as `name`."""
        if share >= 1.0:
            return self._trained[name]
        key = f"{name}-{share:g}"
        found = self._mixed.get(key) or self.folder.finished(key)
        if found is None:
            mixed = self.backend.between(old, self._trained[name], share, self.folder.place(key))
            found = self.folder.finish(key, mixed)
        self._mixed[key] = found
        return found

    def version(self, checkpoint: Checkpoint) -> ModelVersion:
        """Return a checkpoint as a version that can be loaded; its identity comes when it is kept."""
        return ModelVersion(app_of(self.start.app, checkpoint, self.order.model), checkpoint.files)

    def scores(
        self, key: str, version: ModelVersion, entries: Sequence[TrainingEntry], control: Control
    ) -> Mapping[str, LabelScore]:
        """Return how a version answers labels of whatever part, by label; `key` names it in the folder."""
        predictor = Predictor(ServingOnly(version, self.tools.registry), self.tools.backends, self.tools.device)
        scoring = Scoring(
            version, self.training_set, self.tools.examples, predictor, self.folder.place(f"{key}-drafts")
        )
        try:
            found = scoring.scores(entries, control)
        finally:
            predictor.close()
        self._scored[key] = scoring
        return found

    def draft(self, key: str, entry: TrainingEntry) -> Voxels:
        """Return the draft of a label that was scored under `key`, in the training set's indices."""
        return self._scored[key].draft(entry)

    def facts(self, labels: int, seconds: float) -> TrainingFacts:
        """Return what all of the round took."""
        return TrainingFacts(
            labels=labels,
            steps=sum(checkpoint.steps for checkpoint in self._trained.values()),
            training_voxels=sum(checkpoint.voxels for checkpoint in self._trained.values()),
            drafted_voxels=sum(scoring.voxels for scoring in self._scored.values()),
            seconds=seconds,
            is_full=self.order.is_full,
            curve=tuple(self.curve),
            notes=tuple(note for checkpoint in self._trained.values() for note in checkpoint.notes),
        )

    def _on_point(self, point: TrainingPoint) -> None:
        self.curve[:] = [*(known for known in self.curve if known.step < point.step), point]
        self.folder.keep_curve(self.curve)
        self.tools.on_point(point)


def prepared(order: TrainOrder, training_set: TrainingSet, tools: RoundTools, control: Control) -> RoundNetworks:
    """Return the networks of a round, in whose folder nothing or the same round has begun."""
    folder = RoundFolder(order.folder)
    folder.begin(_key(order))
    champion = tools.registry.version(order.model, order.champion) if order.champion is not None else None
    is_full = order.is_full or champion is None
    start = champion if champion is not None and not order.is_full else tools.registry.original(order.model)
    recipe, learned = order.recipe, replace(training_set, entries=training_set.of(Part.TRAIN))
    if is_full:
        recipe = replace(recipe, steps=recipe.full_steps, learning_rate=recipe.full_learning_rate)
        learned = replace(learned, entries=tuple(replace(entry, is_new=False) for entry in learned.entries))
    networks = RoundNetworks(order, training_set, tools, folder, champion, start, recipe, learned)
    networks.curve[:] = folder.curve()
    if champion is None:
        task = LearnedFrom(learned, tools.examples)
        networks.start = replace(start, app=networks.backend.planned(start.app, task, control))
        networks.recipe = _as_planned(recipe, networks.start.app)
    return networks


def _as_planned(recipe: Recipe, app: App) -> Recipe:
    """Return a recipe with the patch and the mirroring that were planned, where it says nothing of its own."""
    plan = app.recipe or recipe
    return replace(recipe, patch=recipe.patch or plan.patch, mirror_axes=recipe.mirror_axes or plan.mirror_axes)


def app_of(app: App, checkpoint: Checkpoint, model: str) -> App:
    """Return the app of a network that was trained from another app's; without weights' digests and figures."""
    card = replace(app.card, segments=checkpoint.segments, figures=(), trainable=True)
    return replace(app, name=model, card=card, weights=(), parameters=checkpoint.parameters, digest="")


def _key(order: TrainOrder) -> str:
    """Return the digest of what a round is: the same one goes on where it was, another one is refused its folder."""
    facts = (order.model, order.champion, order.training_set, asdict(order.recipe), order.is_full)
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _ignore(point: TrainingPoint) -> None:
    """Take a point of a fold's curve."""
