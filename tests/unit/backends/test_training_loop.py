"""The training loop: it learns, it resumes to the same bits, it stops when asked, and its pieces do what they say."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from training_phantoms import BALL, BOX, SHELL, PhantomTask, dice, phantom, phantom_set, unet_app, version_of

from annotate_server.backends.torch_module.adapter import TorchModuleBackend
from annotate_server.backends.training.freezing import freeze
from annotate_server.backends.training.loop import learning_rate
from annotate_server.domain.errors import Cancelled, InvalidRequest, PredictionFailed
from annotate_server.domain.model import Locator, Situation
from annotate_server.domain.ports import Control
from annotate_server.domain.recipe import Freezing, Precision, Recipe
from annotate_server.domain.training import Checkpoint, TrainingPlace, TrainingPoint

WEIGHTS = "weights.safetensors"
QUICK = Recipe(steps=6, learning_rate=5e-3, warmup_steps=2, checkpoint_every=2, precision=Precision.FP32)


def train(folder: Path, recipe: Recipe = QUICK, control: Control | None = None, **place: object) -> Checkpoint:
    task = PhantomTask(phantom_set())
    return TorchModuleBackend().train(
        version_of(unet_app()), task, recipe, TrainingPlace(folder, **place), control or Control()
    )


def weights(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    return load_file(checkpoint.files[WEIGHTS])


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_it_learns_phantoms_that_it_has_not_seen(tmp_path: Path) -> None:
    points: list[TrainingPoint] = []
    recipe = replace(QUICK, steps=60, mirror_axes=(2,))
    checkpoint = train(tmp_path, recipe, on_point=points.append)
    model = TorchModuleBackend().load(version_of(unet_app(), checkpoint), "cpu")
    volume, truth = phantom(90)
    draft = model.predict({"volume": volume}, Situation(), Control())
    assert dice(draft.labels, truth) > 0.7
    assert points[-1].loss < 0.7 * points[0].loss
    assert [point.step for point in points] == [10, 20, 30, 40, 50, 60]
    assert checkpoint.steps == 60
    assert checkpoint.voxels == 60 * 2 * 16 * 20 * 24
    curve = [json.loads(line) for line in (tmp_path / "curve.jsonl").read_text().splitlines()]
    assert [row["step"] for row in curve] == [10, 20, 30, 40, 50, 60]


def test_the_same_seed_gives_the_same_bits_and_another_does_not(tmp_path: Path) -> None:
    first = weights(train(tmp_path / "a"))
    assert equal(first, weights(train(tmp_path / "b")))
    assert not equal(first, weights(train(tmp_path / "c", replace(QUICK, seed=1))))


def test_an_interrupted_training_ends_with_the_same_bits(tmp_path: Path) -> None:
    through = weights(train(tmp_path / "through"))
    asked = 0

    def is_cancelled() -> bool:
        nonlocal asked
        asked += 1
        return asked > 9  # four cases are prepared, then five steps are taken

    with pytest.raises(Cancelled):
        train(tmp_path / "twice", control=Control(is_cancelled=is_cancelled))
    assert equal(through, weights(train(tmp_path / "twice")))


def test_another_training_does_not_resume_a_checkpoint(tmp_path: Path) -> None:
    train(tmp_path)
    other = replace(QUICK, seed=1)
    assert equal(weights(train(tmp_path, other)), weights(train(tmp_path / "fresh", other)))


_CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, {folder!r})
from test_training_loop import QUICK, train
from dataclasses import replace
train(Path(sys.argv[1]), replace(QUICK, steps=40))
"""


@pytest.mark.slow
def test_a_training_that_is_killed_again_and_again_ends_with_the_same_bits(tmp_path: Path) -> None:
    through = weights(train(tmp_path / "through", replace(QUICK, steps=40)))
    code = _CHILD.format(folder=str(Path(__file__).parent))
    random = np.random.default_rng(0)
    kills = 0
    while kills < 4:
        child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "killed")])
        curve = tmp_path / "killed" / "curve.jsonl"
        while not curve.is_file() and child.poll() is None:
            time.sleep(0.01)
        time.sleep(float(random.uniform(0.0, 1.0)))
        child.send_signal(signal.SIGKILL)
        child.wait()
        kills += 1
    assert equal(through, weights(train(tmp_path / "killed", replace(QUICK, steps=40))))


def test_a_warm_start_begins_at_the_versions_weights(tmp_path: Path) -> None:
    first = train(tmp_path / "first")
    still = replace(QUICK, steps=1, learning_rate=1e-12, weight_decay=0.0)
    task = PhantomTask(phantom_set())
    second = TorchModuleBackend().train(
        version_of(unet_app(), first), task, still, TrainingPlace(tmp_path / "second"), Control()
    )
    before, after = weights(first), weights(second)
    assert max(float((before[name] - after[name]).abs().max()) for name in before) < 1e-9


def test_a_new_segment_gets_an_output_and_the_old_ones_stay_as_they_are(tmp_path: Path) -> None:
    first = train(tmp_path / "first")
    segments = (BALL, BOX, SHELL)
    task = PhantomTask(phantom_set(segments=segments))
    grown = TorchModuleBackend().train(
        version_of(unet_app(), first),
        task,
        replace(QUICK, steps=1, learning_rate=1e-30, weight_decay=0.0),
        TrainingPlace(tmp_path / "grown"),
        Control(),
    )
    assert grown.segments == segments
    old = TorchModuleBackend().load(version_of(unet_app(), first), "cpu")
    app = replace(unet_app(segments), parameters=grown.parameters)
    new = TorchModuleBackend().load(version_of(app, grown), "cpu")
    values = torch.randn(1, 1, 16, 20, 24, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before, after = old.network(values), new.network(values)
    assert after.shape[1] == 4
    # The weights are the same bits; the library adds them up in another order for another number of outputs.
    heads = [load_file(each.files[WEIGHTS])["heads.0.weight"] for each in (first, grown)]
    assert torch.equal(heads[0], heads[1][:3])
    assert torch.allclose(before, after[:, :3], atol=1e-5)
    volume, _ = phantom(7)
    drafts = [model.predict({"v": volume}, Situation(), Control()).labels for model in (old, new)]
    assert (drafts[0] == drafts[1]).mean() > 0.99


def test_between_lies_between_and_keeps_what_only_the_new_one_has(tmp_path: Path) -> None:
    backend = TorchModuleBackend()
    first = train(tmp_path / "first")
    task = PhantomTask(phantom_set(segments=(BALL, BOX, SHELL)))
    old = version_of(unet_app(), first)
    second = backend.train(old, task, QUICK, TrainingPlace(tmp_path / "second"), Control())
    half = weights(backend.between(old, second, 0.5, tmp_path / "half"))
    before, after = weights(first), weights(second)
    name = "encoder.0.first.weight"
    assert torch.allclose(half[name], (before[name] + after[name]) / 2, atol=1e-6)
    assert torch.equal(half["heads.0.weight"][3], after["heads.0.weight"][3])
    assert torch.allclose(half["heads.0.weight"][:3], (before["heads.0.weight"] + after["heads.0.weight"][:3]) / 2)
    whole = backend.between(old, second, 1.0, tmp_path / "whole")
    assert equal(weights(whole), after)


def test_a_loss_that_is_no_number_is_reported_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(PredictionFailed, match="diverged"):
        train(tmp_path, replace(QUICK, steps=30, learning_rate=1e18, gradient_norm=1e30, warmup_steps=0))


def test_the_rate_rises_and_falls() -> None:
    recipe = Recipe(steps=100, warmup_steps=10, learning_rate=1.0)
    rates = [learning_rate(recipe, step) for step in range(100)]
    assert rates[0] < rates[5] < rates[9]
    assert rates[9] > rates[50] > rates[99] > 0


@pytest.mark.parametrize("freezing", [Freezing.NORMS, Freezing.ALL_BUT_NORMS])
def test_what_is_frozen_stays(tmp_path: Path, freezing: Freezing) -> None:
    first = train(tmp_path / "first")
    task = PhantomTask(phantom_set())
    second = TorchModuleBackend().train(
        version_of(unet_app(), first), task, replace(QUICK, freezing=freezing), TrainingPlace(tmp_path / "s"), Control()
    )
    before, after = weights(first), weights(second)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert all(("norm" in name) == (freezing is Freezing.ALL_BUT_NORMS) for name in moved)


def test_a_network_without_anything_left_to_learn_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="nothing is left to learn"):
        freeze(torch.nn.Conv3d(1, 2, 1), Freezing.ALL_BUT_NORMS, frozenset())


def test_a_set_without_approved_labels_is_refused(tmp_path: Path) -> None:
    empty = replace(phantom_set(), entries=())
    with pytest.raises(InvalidRequest, match="no approved label"):
        TorchModuleBackend().train(
            version_of(unet_app()), PhantomTask(empty), QUICK, TrainingPlace(tmp_path), Control()
        )


def test_bfloat16_learns_too(tmp_path: Path) -> None:
    points: list[TrainingPoint] = []
    train(tmp_path, replace(QUICK, steps=30, precision=Precision.BF16), on_point=points.append)
    assert points[-1].loss < points[0].loss


def test_float16_scales_its_losses_and_moves_the_weights(tmp_path: Path) -> None:
    # A processor emulates it: one step is enough to see.
    moved = weights(train(tmp_path, replace(QUICK, steps=1, precision=Precision.FP16)))
    exact = weights(train(tmp_path / "exact", replace(QUICK, steps=1)))
    name = "encoder.0.second.weight"
    assert not torch.equal(moved[name], exact[name])
    assert torch.allclose(moved[name], exact[name], atol=0.02)


def test_members_of_an_ensemble_learn_by_themselves(tmp_path: Path) -> None:
    network = {"widths": [4, 8], "classes": 3, "members": 2}
    app = unet_app(architecture="unet_ensemble", network=network)
    checkpoint = TorchModuleBackend().train(
        version_of(app), PhantomTask(phantom_set()), QUICK, TrainingPlace(tmp_path), Control()
    )
    found = weights(checkpoint)
    assert not torch.equal(found["members.0.heads.0.weight"], found["members.1.heads.0.weight"])
    assert checkpoint.voxels == 2 * QUICK.steps * 2 * 16 * 20 * 24


def test_a_volume_that_the_network_would_not_predict_is_left_out_and_named(tmp_path: Path) -> None:
    app = unet_app(most_voxels=15 * 18 * 22)

    def grown(example):  # type: ignore[no-untyped-def]  # an Example
        if example.entry.case_id != "1":
            return example
        volume, target = phantom(1, (20, 20, 24))
        return replace(example, volume=volume, target=target)

    checkpoint = TorchModuleBackend().train(
        version_of(app), PhantomTask(phantom_set(), grown), QUICK, TrainingPlace(tmp_path), Control()
    )
    assert len(checkpoint.notes) == 1
    assert "takes crops" in checkpoint.notes[0]


def test_a_network_with_a_locator_learns_the_places_where_it_would_look(tmp_path: Path) -> None:
    app = unet_app()
    app = replace(app, card=replace(app.card, locator=Locator("finder", "Ball", 40.0, 4.0, 0.2)))
    place = TrainingPlace(tmp_path)
    TorchModuleBackend().train(version_of(app), PhantomTask(phantom_set()), QUICK, place, Control())
    shapes = [np.load(path).shape for path in tmp_path.glob("cases/*/*.target.npy")]
    # Each of the four phantoms has a ball of 7 voxels and a box of 4 x 5 x 6, and 2 voxels of margin around each.
    assert len(shapes) == 8
    assert max(max(shape) for shape in shapes) <= 12


def test_another_set_in_the_same_folder_has_cases_of_its_own(tmp_path: Path) -> None:
    train(tmp_path)
    swapped = phantom_set(segments=(BOX, BALL))
    backend, place = TorchModuleBackend(), TrainingPlace(tmp_path)
    reused = backend.train(version_of(unet_app((BOX, BALL))), PhantomTask(swapped), QUICK, place, Control())
    fresh = backend.train(
        version_of(unet_app((BOX, BALL))), PhantomTask(swapped), QUICK, TrainingPlace(tmp_path / "f"), Control()
    )
    assert equal(weights(reused), weights(fresh))
