"""An app whose own TrainTask teaches it, hosted; it also has what MONAI Label 0.8.5 gets wrong (see its main.py)."""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import oblique_geometry
from numpy.typing import NDArray
from peer_fixtures import run_over_there

from annotate_server.backends.monailabel_app.adapter import MonaiLabelAppBackend
from annotate_server.backends.monailabel_app.app_folder import copied
from annotate_server.backends.monailabel_app.loaded import HostedTask
from annotate_server.domain.adoption import AdoptedApp, AdoptionOrder
from annotate_server.domain.labelmap import Segment
from annotate_server.domain.learning_ports import Trainable
from annotate_server.domain.model import ModelVersion, Situation
from annotate_server.domain.ports import Control
from annotate_server.domain.recipe import Recipe
from annotate_server.domain.training import (
    IGNORED,
    Checkpoint,
    Example,
    Part,
    TrainingEntry,
    TrainingPlace,
    TrainingPoint,
    TrainingSet,
)
from annotate_server.domain.volume import Modality, Volume
from annotate_server.stores.folder_apps import app_of
from annotate_server.testing.backend_conformance import BackendConformance

WEIGHTS = """
import sys, torch
sys.path.append(sys.argv[1])
from main import Network
torch.manual_seed(3)
torch.save(Network().state_dict(), sys.argv[1] + "/model/pretrained.pt")
"""
GEOMETRY = oblique_geometry((8, 24, 30))
"""On the app's grid it is longer than the window along the first axis alone, at which MONAI Label never looks."""
BRIGHT, DARK = Segment(1, "bright", (250, 250, 200)), Segment(2, "dark", (20, 20, 60))
"""In another order than the app's own: labels are matched by name."""


@dataclass(frozen=True)
class Cases:
    """Fulfils `learning_ports.TrainingTask` over three made volumes, the last of which says nothing of some voxels."""

    training_set: TrainingSet

    def open(self, entry: TrainingEntry) -> Example:
        number = int(entry.case_id)
        volume, target = made(number)
        if entry.is_partial:
            target[:2] = IGNORED
        return Example(entry, volume, target, frozenset({1, 2}))


def made(number: int) -> tuple[Volume, NDArray[np.int16]]:
    """Return a volume with a dark and a bright part, and what belongs to which."""
    target = np.zeros(GEOMETRY.shape, np.int16)
    target[:, 4:20, 2 + number : 10 + number] = DARK.index
    target[:, 4:20, 18 + number : 26 + number] = BRIGHT.index
    brightness = np.array([0, 80, -80], np.int16)[target]
    return Volume(brightness, GEOMETRY, Modality.CT, "HU"), target


def cases() -> Cases:
    entries = tuple(
        TrainingEntry(str(n), f"label-{n}", f"p{n}", Part.TRAIN, (BRIGHT, DARK), is_partial=n == 2) for n in range(3)
    )
    return Cases(TrainingSet("project", (BRIGHT, DARK), entries))


@pytest.fixture(scope="module")
def adopted(peer_python: Path, tmp_path_factory: pytest.TempPathFactory) -> AdoptedApp:
    source, scratch = tmp_path_factory.mktemp("apps") / "toy", tmp_path_factory.mktemp("scratch")
    shutil.copytree(Path(__file__).with_name("toy_app"), source, ignore=shutil.ignore_patterns("__pycache__"))
    (source / "model").mkdir()
    run_over_there(peer_python, WEIGHTS, str(source))
    trusted = copied(source, tmp_path_factory.mktemp("copy"), Control())
    (app,) = MonaiLabelAppBackend().adopted(AdoptionOrder(source, "toy", (Modality.CT,), trusted), scratch, Control())
    return app


@pytest.fixture(scope="module")
def first(adopted: AdoptedApp) -> ModelVersion:
    return ModelVersion(app_of(adopted.table, adopted.name, Path(adopted.name), "0" * 64), adopted.files)


@dataclass(frozen=True)
class Taught:
    """What a training gave, and what it told on the way."""

    checkpoint: Checkpoint
    points: tuple[TrainingPoint, ...]


@pytest.fixture(scope="module")
def taught(first: ModelVersion, tmp_path_factory: pytest.TempPathFactory) -> Taught:
    folder, points = tmp_path_factory.mktemp("round"), list[TrainingPoint]()
    backend = MonaiLabelAppBackend()
    assert isinstance(backend, Trainable)
    place = TrainingPlace(folder, points.append)
    checkpoint = backend.train(first, cases(), Recipe(steps=60, seed=1), place, Control())
    assert [path.name for path in folder.iterdir()] == ["trained.pt"], "nothing of the cases is left"
    return Taught(checkpoint, tuple(points))


def version_after(first: ModelVersion, checkpoint: Checkpoint) -> ModelVersion:
    table: Mapping[str, object] = {
        **{"title": "Toy", "purpose": "p", "not_for": "n", "licence": "l", "attribution": "a"},
        **{"backend": "monailabel_app", "modalities": ["CT"], "parameters": checkpoint.parameters},
        "segments": [{"index": s.index, "name": s.name, "colour": list(s.colour)} for s in checkpoint.segments],
    }
    return ModelVersion(app_of(table, first.model, Path(first.model), "1" * 64), checkpoint.files)


@pytest.fixture(scope="module")
def learned(first: ModelVersion, taught: Taught) -> Iterator[HostedTask]:
    model = MonaiLabelAppBackend().load(version_after(first, taught.checkpoint), "cpu")
    yield model
    model.close()


class TestConformance(BackendConformance):
    """What every backend must pass, on what the app has learned."""

    @pytest.fixture
    def model(self, learned: HostedTask) -> HostedTask:
        return learned

    @pytest.fixture
    def version(self, learned: HostedTask) -> ModelVersion:
        return learned.version

    @pytest.fixture
    def volume(self) -> Volume:
        return made(1)[0]


def test_the_task_that_can_be_trained_says_so(first: ModelVersion) -> None:
    assert first.app.card.trainable
    assert [segment.name for segment in first.app.card.segments] == ["Dark", "Bright"]


def test_a_training_tells_each_step_and_what_it_left_out(taught: Taught) -> None:
    assert [point.step for point in taught.points] == list(range(1, 61))
    assert {point.steps for point in taught.points} == {60}
    assert taught.points[-1].loss < taught.points[0].loss
    assert taught.checkpoint.steps == 60
    assert len(taught.checkpoint.notes) == 1
    assert "label-2 is left out" in taught.checkpoint.notes[0]


def test_what_was_learned_finds_each_structure_under_its_own_name(first: ModelVersion, learned: HostedTask) -> None:
    """Window by window, turned back by the transforms that the app names, and with its numbers 4 and 7 as segments."""
    volume, target = made(1)
    prediction = learned.predict({"CT": volume}, Situation(), Control())
    dark, bright = (first.app.card.segment(name).index for name in ("Dark", "Bright"))
    wanted = np.array([0, bright, dark])[target]
    for index in (dark, bright):
        either = (prediction.labels == index) | (wanted == index)
        both = (prediction.labels == index) & (wanted == index)
        assert np.count_nonzero(both) / np.count_nonzero(either) > 0.7


def test_weights_between_two_versions_lie_between_them(first: ModelVersion, taught: Taught, tmp_path: Path) -> None:
    halfway = MonaiLabelAppBackend().between(first, taught.checkpoint, 0.5, tmp_path)
    before = torch.load(first.files["pretrained.pt"], weights_only=True)
    after = torch.load(taught.checkpoint.files["trained.pt"], weights_only=True)["model"]
    mixed = torch.load(halfway.files["trained.pt"], weights_only=True)["model"]
    assert all(torch.allclose(mixed[name], (before[name] + after[name]) / 2) for name in after)
    assert not torch.equal(before["layers.0.weight"], after["layers.0.weight"])
    assert halfway.files["app.zip"] == first.files["app.zip"]
