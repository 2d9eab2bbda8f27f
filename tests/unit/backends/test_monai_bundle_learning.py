"""Networks of bundles go on learning with our loop, on what their own preprocessing makes of volumes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from bundle_files import PEDIATRIC, SPLEEN, WHOLE_BODY, adopted, version_of, write_bundle
from safetensors.torch import load_file
from training_phantoms import BALL, BOX, SHELL, PhantomTask, phantom, phantom_set

from annotate_server.backends.monai_bundle.adapter import MonaiBundleBackend
from annotate_server.backends.monai_bundle.learning import BundlePreparation
from annotate_server.backends.monai_bundle.outputs import begun, output_axes, places_of
from annotate_server.backends.monai_bundle.parameters import BundleParameters
from annotate_server.domain.errors import InvalidRequest
from annotate_server.domain.learning_ports import Trainable
from annotate_server.domain.model import ModelVersion, Situation
from annotate_server.domain.ports import Control
from annotate_server.domain.recipe import Precision, Recipe
from annotate_server.domain.training import IGNORED, Example, TrainingPlace, TrainingPoint
from annotate_server.domain.volume import Modality

_TABLE = {
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "LoadImaged", "keys": "image"},
            {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
            {"_target_": "Spacingd", "keys": "image", "pixdim": 2.0},
            {"_target_": "NormalizeIntensityd", "keys": "image"},
        ],
    },
    "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [16, 16, 16], "overlap": 0.5},
}
BALLS = {**SPLEEN, **_TABLE}
QUICK = Recipe(steps=30, batch=2, learning_rate=4e-3, warmup_steps=5, average_decay=0.9, precision=Precision.FP32)


def version(tmp_path: Path, config: dict = BALLS) -> ModelVersion:
    names = ("background", "Ball")
    bundle = write_bundle(
        tmp_path / "bundle",
        config,
        names,
        network_data_format={"outputs": {"pred": {"channel_def": {str(n): name for n, name in enumerate(names)}}}},
    )
    return version_of(adopted(bundle, tmp_path / "scratch", modalities=(Modality.MR,)))


def test_a_few_steps_lower_the_loss_and_the_result_drafts(tmp_path: Path) -> None:
    backend, start, points = MonaiBundleBackend(), version(tmp_path), list[TrainingPoint]()
    assert isinstance(backend, Trainable)
    assert start.app.card.trainable
    task = PhantomTask(phantom_set(segments=(BALL,)), only_balls)
    place = TrainingPlace(tmp_path / "training", points.append)
    made = backend.train(start, task, QUICK, place, Control())
    assert points[-1].loss < 0.7 * points[0].loss
    learned = replace(start, app=replace(start.app, parameters=made.parameters), files=made.files)
    volume, labels = phantom(0)
    found = backend.load(learned, "cpu").predict({"MR": volume}, Situation(), Control()).labels
    overlap = 2 * np.sum((found == 1) & (labels == 1)) / (np.sum(found == 1) + np.sum(labels == 1))
    before = backend.load(start, "cpu").predict({"MR": volume}, Situation(), Control()).labels
    assert overlap > 0.6 > 2 * np.sum((before == 1) & (labels == 1)) / (np.sum(before == 1) + np.sum(labels == 1))


def only_balls(example: Example) -> Example:
    return replace(example, target=(example.target == 1).astype(np.int16))


def test_a_new_segment_gets_an_output_and_the_old_ones_keep_theirs(tmp_path: Path) -> None:
    backend, start = MonaiBundleBackend(), version(tmp_path)
    task = PhantomTask(phantom_set(segments=(BALL, BOX)))
    made = backend.train(start, task, replace(QUICK, steps=2), TrainingPlace(tmp_path / "t"), Control())
    network = BundleParameters.of(replace(start.app, parameters=made.parameters)).network
    assert network.outputs == 3
    halfway = backend.between(start, made, 0.5, tmp_path / "half")
    assert halfway.segments == (BALL, BOX)
    middle, after = load_file(halfway.files["weights.safetensors"]), load_file(made.files["weights.safetensors"])
    before = load_file(start.files["weights.safetensors"])
    first = next(name for name, value in after.items() if value.ndim == 5)
    assert torch.allclose(middle[first], (before[first] + after[first]) / 2, atol=1e-6)


@pytest.mark.parametrize("config", [SPLEEN, WHOLE_BODY, PEDIATRIC], ids=["unet", "segresnet", "dynunet"])
def test_answers_stay_until_a_new_output_has_learned(config: dict, tmp_path: Path) -> None:
    names = tuple(map(str, range(config["network_def"]["out_channels"])))
    start = version_of(adopted(write_bundle(tmp_path / "b", config, names), tmp_path / "s"))
    plan, state = BundleParameters.of(start.app).network, load_file(start.files["weights.safetensors"])
    segments = start.app.card.segments
    places = places_of(segments, (SHELL, *reversed(segments)))
    wider = plan.with_outputs(plan.outputs + 1).build()
    grown = begun(state, wider.state(), output_axes(plan), places)
    wider.network.load_state_dict(grown)
    narrow = plan.build()
    narrow.network.load_state_dict(state)
    seen = torch.randn(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        old, new = narrow.eval()(seen), wider.eval()(seen)
    kept = [n for n, place in enumerate(places) if place is not None]
    reordered = old[:, [place for place in places if place is not None]]
    assert (new.argmax(1) == 1).float().mean() < 0.01
    agree = new[:, kept].argmax(1) == reordered.argmax(1)
    assert agree.float().mean() > 0.97


def test_examples_lie_on_the_networks_grid_and_say_nothing_beyond_the_volume(tmp_path: Path) -> None:
    config = {
        **BALLS,
        "preprocessing": {
            **BALLS["preprocessing"],
            "transforms": [
                *BALLS["preprocessing"]["transforms"],
                {"_target_": "SpatialPadd", "keys": "image", "spatial_size": 24},
            ],
        },
    }
    start = version(tmp_path, config)
    task = PhantomTask(phantom_set(segments=(BALL,)), only_balls)
    example = task.open(task.training_set.entries[0])
    (case,) = BundlePreparation(BundleParameters.of(start.app)).prepare(example, {1: 1})
    assert case.values.shape == (1, 24, 24, 24)
    assert np.sum(case.target == 1) == np.sum(example.target == 1)
    assert np.sum(case.target != IGNORED) == example.target.size
    assert case.values[0][case.target == 1].mean() > 1


def test_what_cannot_be_learned_says_why(tmp_path: Path) -> None:
    backend, start = MonaiBundleBackend(), version(tmp_path)
    task = PhantomTask(phantom_set(segments=(BALL,)), only_balls)
    with pytest.raises(InvalidRequest, match="does not take patches of"):
        backend.train(start, task, replace(QUICK, patch=(15, 16, 16)), TrainingPlace(tmp_path / "t"), Control())
    with pytest.raises(InvalidRequest, match="brings its own network"):
        backend.planned(start.app, task, Control())
