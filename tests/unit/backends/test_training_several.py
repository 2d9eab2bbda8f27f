"""One training in two processes: the same as in one, over loopback only, and nothing is left of it."""

import multiprocessing
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file
from training_phantoms import PhantomTask, phantom_set, unet_app, version_of

from annotate_server.backends.torch_module.adapter import TorchModuleBackend
from annotate_server.domain.errors import Cancelled, InvalidRequest
from annotate_server.domain.ports import Control
from annotate_server.domain.recipe import Precision, Recipe
from annotate_server.domain.training import Checkpoint, TrainingPlace, TrainingPoint

pytestmark = pytest.mark.slow

RECIPE = Recipe(steps=10, learning_rate=5e-3, warmup_steps=2, precision=Precision.FP32, workers=2)


def train(folder: Path, recipe: Recipe, control: Control | None = None, **place: object) -> Checkpoint:
    return TorchModuleBackend().train(
        version_of(unet_app()),
        PhantomTask(phantom_set()),
        recipe,
        TrainingPlace(folder, **place),
        control or Control(),
    )


def test_two_processes_learn_what_one_learns_from_the_same_examples(tmp_path: Path) -> None:
    points: list[TrainingPoint] = []
    two = load_file(train(tmp_path / "two", RECIPE, on_point=points.append).files["weights.safetensors"])
    one = load_file(train(tmp_path / "one", replace(RECIPE, workers=1)).files["weights.safetensors"])
    assert {name: value.shape for name, value in two.items()} == {name: value.shape for name, value in one.items()}
    # The Dice of a batch is taken over each process's part of it: near, not equal.
    difference = max(float((two[name] - one[name]).abs().mean()) for name in one)
    assert 0 < difference < 0.02
    assert [point.step for point in points] == [10]
    again = load_file(train(tmp_path / "again", RECIPE).files["weights.safetensors"])
    assert all(torch.equal(two[name], again[name]) for name in two)


def test_it_listens_on_loopback_only_and_stops_when_asked(tmp_path: Path) -> None:
    heard: set[str] = set()
    asked_at = time.monotonic()

    def is_cancelled() -> bool:
        for child in multiprocessing.active_children():
            for connection in psutil.Process(child.pid).net_connections("inet"):
                heard.add(connection.laddr.ip)
        return bool(heard) or time.monotonic() - asked_at > 60

    with pytest.raises(Cancelled):
        train(tmp_path, replace(RECIPE, steps=100_000), Control(is_cancelled=is_cancelled))
    assert heard
    assert heard <= {"127.0.0.1", "::1"}
    assert not multiprocessing.active_children()


def test_more_processes_than_examples_in_a_batch_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="batch of 2"):
        train(tmp_path, replace(RECIPE, workers=3))
