"""A tiny model that learns, with labelled phantoms: what tests of training rounds work with."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from conftest import oblique_geometry

from annotate_server.domain.errors import NotFound, StateError
from annotate_server.domain.geometry import Box
from annotate_server.domain.labelmap import Segment
from annotate_server.domain.learning_ports import TrainingTask
from annotate_server.domain.model import App, ModelCard, ModelVersion, Prediction, Situation, WeightFile
from annotate_server.domain.ports import Control
from annotate_server.domain.recipe import Recipe
from annotate_server.domain.training import (
    Checkpoint,
    Example,
    Part,
    TrainingEntry,
    TrainingPlace,
    TrainingPoint,
    TrainingSet,
    TrainOrder,
)
from annotate_server.domain.volume import Modality, Volume
from annotate_server.testing.fakes import InMemoryBackends
from annotate_server.workflows.round_tools import RoundTools
from annotate_server.workflows.simulated_store import KeptFolder

LOW, HIGH = Segment(1, "Low", (200, 60, 60)), Segment(2, "High", (60, 60, 200))
WEIGHTS = "levels.json"
RIGHT = (50.0, 150.0)
SHAPE = (9, 14, 11)


def an_app(segments: tuple[Segment, ...] = (LOW, HIGH)) -> App:
    """Return an app of the backend `levels`."""
    card = ModelCard("Levels", "Tests.", "Patients.", (Modality.MR,), segments, "Apache-2.0", "None.", trainable=True)
    return App("levels", Path("levels"), "levels", card, (), {}, digest="levels-1", recipe=Recipe())


@dataclass
class LevelsModel:
    """Calls what lies between two levels the first segment, and what lies above both the second."""

    version: ModelVersion
    levels: tuple[float, float]

    def predict(self, volumes: Mapping[str, Volume], situation: Situation, control: Control) -> Prediction:
        """Answer with the whole grid."""
        voxels = next(iter(volumes.values())).voxels.astype(np.float64)
        labels = ((voxels > self.levels[0]).astype(np.uint8) + (voxels > self.levels[1])).astype(np.uint8)
        return Prediction(Box.whole(labels.shape), labels, self.version.app.card.segments)

    def close(self) -> None:
        """Keep nothing."""


@dataclass
class LevelsBackend:
    """Learns the levels from labels: `towards` is where a training goes from what its labels say.

    `trained` has the patients that each training opened, in order.
    """

    towards: tuple[float, float] = (0.0, 0.0)
    name: str = "levels"
    trained: list[set[str]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    forbidden: Sequence[TrainingEntry] = ()
    planned_for: int = 0
    plan: Recipe | None = None
    recipes: list[Recipe] = field(default_factory=list)

    def load(self, version: ModelVersion, device: str) -> LevelsModel:
        """Read the levels."""
        low, high = json.loads(version.files[WEIGHTS].read_text())
        return LevelsModel(version, (low, high))

    def train(
        self, start: ModelVersion, training: TrainingTask, recipe: Recipe, place: TrainingPlace, control: Control
    ) -> Checkpoint:
        """Take the middle between what lies inside and outside of the labels."""
        for entry in self.forbidden:
            try:
                training.open(entry)
            except StateError:
                self.refused.append(entry.label_id)
        examples = [training.open(entry) for entry in training.training_set.entries]
        self.trained.append({example.entry.patient for example in examples})
        control.check()
        self.recipes.append(recipe)
        place.on_point(TrainingPoint(recipe.steps, recipe.steps, 0.5, recipe.learning_rate, 1.0))
        levels = [level + shift for level, shift in zip(_learned(examples), self.towards, strict=True)]
        voxels = sum(example.volume.voxels.size for example in examples)
        return _written(levels, place.folder, start.app.card.segments, recipe.steps, voxels)

    def between(self, old: ModelVersion, new: Checkpoint, share: float, folder: Path) -> Checkpoint:
        """Mix the levels."""
        before, after = (json.loads(files[WEIGHTS].read_text()) for files in (old.files, new.files))
        levels = [a + share * (b - a) for a, b in zip(before, after, strict=True)]
        return _written(levels, folder, new.segments, new.steps, new.voxels)

    def planned(self, app: App, training: TrainingTask, control: Control) -> App:
        """Plan what was asked for, and count the labels."""
        self.planned_for = len(training.training_set.entries)
        return replace(app, recipe=self.plan or app.recipe)


def _learned(examples: Sequence[Example]) -> list[float]:
    means = [
        np.mean([np.mean(e.volume.voxels[e.target == index]) for e in examples if (e.target == index).any()])
        for index in (0, 1, 2)
    ]
    return [float(means[0] + means[1]) / 2, float(means[1] + means[2]) / 2]


def _written(
    levels: Sequence[float], folder: Path, segments: tuple[Segment, ...], steps: int, voxels: int
) -> Checkpoint:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / WEIGHTS
    path.write_text(json.dumps(list(levels)))
    return Checkpoint({WEIGHTS: path}, {}, segments, steps, voxels, 0.1)


def a_volume(number: int) -> tuple[Volume, np.ndarray]:
    """Return a noisy phantom of a patient with its truth (k, j, i)."""
    random = np.random.default_rng(number)
    target = np.zeros(SHAPE, np.int16)
    target[2:6, 3:10, 2:6], target[3:7, 4:9, 6:10] = 1, 2
    voxels = np.array([0.0, 100.0, 200.0])[target] + random.normal(0.0, 22.0, SHAPE)
    return Volume(voxels.astype(np.float32), oblique_geometry(SHAPE), Modality.MR), target


def an_entry(number: int, part: Part = Part.TRAIN, *, is_new: bool = True) -> TrainingEntry:
    """Return the label of a patient."""
    return TrainingEntry(f"case-{number}", f"{number:032x}", f"patient-{number}", part, (LOW, HIGH), is_new=is_new)


@dataclass
class Phantoms:
    """Opens labels; `wrong` have an empty label."""

    wrong: frozenset[int] = frozenset()
    opened: int = 0

    def open(self, entry: TrainingEntry, training_set: TrainingSet) -> Example:
        """Return the phantom of the entry's patient."""
        self.opened += 1
        number = int(entry.label_id, 16)
        volume, target = a_volume(number)
        return Example(entry, volume, np.zeros_like(target) if number in self.wrong else target, frozenset({1, 2}))


@dataclass
class OneModel:
    """A registry of one model that learns; `first` is what it was forked from."""

    first: ModelVersion
    champion_version: ModelVersion
    changes: int = 0

    def names(self) -> tuple[str, ...]:
        """Return its name."""
        return (self.first.model,)

    def app(self, name: str) -> App:
        """Return its app."""
        return self.champion_version.app

    def missing(self, app: App) -> tuple[WeightFile, ...]:
        """Say that nothing is missing."""
        return ()

    def ready(self) -> tuple[App, ...]:
        """Return its app."""
        return (self.champion_version.app,)

    def champion(self, name: str) -> ModelVersion:
        """Return what serves."""
        return self.champion_version

    def is_learned(self, name: str) -> bool:
        """Say that it learns."""
        return True

    def version(self, name: str, version_id: str) -> ModelVersion:
        """Return the champion."""
        if version_id != self.champion_version.id:
            raise NotFound(f"there is no version {version_id}")
        return self.champion_version

    def original(self, name: str) -> ModelVersion:
        """Return what it was forked from."""
        return self.first


@dataclass
class Bench:
    """A model with levels, labelled phantoms, and everything that a round needs."""

    folder: Path
    levels: tuple[float, float] = (85.0, 150.0)
    backend: LevelsBackend = field(default_factory=LevelsBackend)
    examples: Phantoms = field(default_factory=Phantoms)

    def version(self) -> ModelVersion:
        """Return the champion."""
        path = self.folder / "champion" / WEIGHTS
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(list(self.levels)))
        return ModelVersion(an_app(), {WEIGHTS: path})

    def tools(self, **changes: object) -> RoundTools:
        """Return the tools of a round."""
        version = self.version()
        tools = RoundTools(
            registry=OneModel(version, version),
            backends=InMemoryBackends({"levels": self.backend}),
            examples=self.examples,
            keep=KeptFolder(self.folder / "kept"),
        )
        return replace(tools, **changes)

    def order(self, training_set: TrainingSet, **changes: object) -> TrainOrder:
        """Return the order of a round from the champion."""
        order = TrainOrder(
            "levels", self.version().id, training_set.digest, Recipe(sweep=(0.5, 1.0)), self.folder / "round"
        )
        return replace(order, **changes)


def a_set(new: int, old: int = 0, gate: int = 0) -> TrainingSet:
    """Return a set of new labels, of labels that the champion learned from, and of the gate's."""
    entries = [an_entry(number) for number in range(new)]
    entries += [an_entry(100 + number, is_new=False) for number in range(old)]
    entries += [an_entry(200 + number, Part.GATE) for number in range(gate)]
    return TrainingSet("project", (LOW, HIGH), tuple(entries))
