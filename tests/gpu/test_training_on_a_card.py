"""What only a card can show: training there in every precision, resumed, on two cards; drafts as on a processor.

Run by `make test-gpu`; `make test` leaves them out, and without a card each is skipped with the reason.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from annotate_server.backends.torch_module.adapter import TorchModuleBackend
from annotate_server.backends.training.precision import chosen_dtype
from annotate_server.domain.errors import Cancelled, PredictionFailed
from annotate_server.domain.model import Situation
from annotate_server.domain.ports import Control
from annotate_server.domain.recipe import Precision, Recipe
from annotate_server.domain.training import Checkpoint, TrainingPlace, TrainingPoint

sys.path.append(str(Path(__file__).parents[1] / "unit" / "backends"))

from training_phantoms import PhantomTask, dice, phantom, phantom_set, unet_app, version_of

pytestmark = pytest.mark.gpu

CARD = "cuda:0"
RECIPE = Recipe(steps=60, learning_rate=5e-3, warmup_steps=5, checkpoint_every=10)


@pytest.fixture(autouse=True)
def _card() -> None:
    if not torch.cuda.is_available():
        pytest.skip("torch finds no CUDA card here")


def train(folder: Path, recipe: Recipe = RECIPE, control: Control | None = None, **place: object) -> Checkpoint:
    return TorchModuleBackend().train(
        version_of(unet_app()),
        PhantomTask(phantom_set()),
        recipe,
        TrainingPlace(folder, **place),
        control or Control(CARD),
    )


@pytest.mark.parametrize("precision", list(Precision))
def test_a_network_learns_in_every_precision(tmp_path: Path, precision: Precision) -> None:
    points: list[TrainingPoint] = []
    checkpoint = train(tmp_path, replace(RECIPE, precision=precision), on_point=points.append)
    assert points[-1].loss < 0.7 * points[0].loss
    volume, truth = phantom(90)
    model = TorchModuleBackend().load(version_of(unet_app(), checkpoint), CARD)
    assert dice(model.predict({"v": volume}, Situation(), Control(CARD)).labels, truth) > 0.6


def test_auto_takes_what_the_card_computes_with() -> None:
    expected = torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    assert chosen_dtype(Precision.AUTO, torch.device(CARD)) is expected


def test_an_interrupted_training_goes_on_where_it_was(tmp_path: Path) -> None:
    through = load_file(train(tmp_path / "through").files["weights.safetensors"])
    asked = 0

    def is_cancelled() -> bool:
        nonlocal asked
        asked += 1
        return asked > 39

    with pytest.raises(Cancelled):
        train(tmp_path / "twice", control=Control(CARD, is_cancelled=is_cancelled))
    again = load_file(train(tmp_path / "twice").files["weights.safetensors"])
    # Sums over blocks of a card may come in another order; far closer than two seeds would be.
    assert max(float((through[name] - again[name]).abs().max()) for name in through) < 0.05


def test_a_draft_on_the_card_is_that_of_the_processor(tmp_path: Path) -> None:
    app = unet_app(tile=[16, 20, 24])
    checkpoint = train(tmp_path)
    volume, _ = phantom(91, (40, 44, 48))
    drafts = [
        TorchModuleBackend()
        .load(version_of(app, checkpoint), device)
        .predict({"v": volume}, Situation(), Control(device))
        .labels
        for device in ("cpu", CARD)
    ]
    assert float(np.mean(drafts[0] == drafts[1])) > 0.995


def test_too_large_a_patch_is_reported_in_a_sentence(tmp_path: Path) -> None:
    app = unet_app(network={"widths": [256, 256], "classes": 3}, smallest_grid=[1024, 1024, 1024])
    with pytest.raises(PredictionFailed, match="too little memory"):
        TorchModuleBackend().train(
            version_of(app), PhantomTask(phantom_set()), RECIPE, TrainingPlace(tmp_path), Control(CARD)
        )


def test_two_cards_learn_together(tmp_path: Path) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("torch finds one CUDA card here, and this needs two")
    checkpoint = train(tmp_path, replace(RECIPE, workers=2))
    assert checkpoint.steps == RECIPE.steps
