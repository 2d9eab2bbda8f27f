"""Planning a network from labels, and drafting volumes larger than its patch."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from training_phantoms import BALL, BOX, PhantomTask, dice, phantom, phantom_set, unet_app, version_of

from annotate_server.backends.torch_module.adapter import TorchModuleBackend
from annotate_server.backends.torch_module.fingerprint import Fingerprint
from annotate_server.backends.torch_module.grid import CanonicalGrid
from annotate_server.backends.torch_module.learning import network_of
from annotate_server.backends.torch_module.parameters import TorchModuleParameters
from annotate_server.backends.torch_module.planning import Budget, plan
from annotate_server.domain.errors import InvalidApp, InvalidRequest
from annotate_server.domain.geometry import Vector
from annotate_server.domain.labelmap import Segment
from annotate_server.domain.model import App, ModelVersion, Situation
from annotate_server.domain.ports import Control
from annotate_server.domain.recipe import Precision, Recipe
from annotate_server.domain.training import IGNORED, TrainingPlace
from annotate_server.domain.volume import Modality

CPU = Budget.of("cpu")


def fingerprint(spacing: Vector, extent: Vector, box: Vector, finest: Vector | None = None) -> Fingerprint:
    return Fingerprint(spacing, finest or spacing, extent, box, None)


def test_a_small_volume_is_taken_whole_at_its_own_spacing() -> None:
    found = plan(fingerprint((1, 1, 1), (36, 50, 35), (24, 40, 22)), CPU)
    assert found.spacing_mm == (1, 1, 1)
    assert found.patch == (40, 56, 40)
    assert [level.width for level in found.levels] == [16, 32, 64, 96]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize(
    ("spacing", "extent", "box"),
    [
        ((5.0, 0.8, 0.8), (255.0, 410.0, 410.0), (180.0, 200.0, 220.0)),
        ((1.0, 1.0, 1.0), (256.0, 256.0, 256.0), (40.0, 60.0, 90.0)),
        ((6.0, 0.9, 0.9), (150.0, 230.0, 230.0), (40.0, 50.0, 50.0)),
        ((5.0, 1.0, 1.0), (5.0, 200.0, 200.0), (5.0, 50.0, 60.0)),
        ((1.0, 1.0, 1.0), (9.0, 12.0, 14.0), (3.0, 3.0, 3.0)),
    ],
)
def test_every_plan_keeps_to_the_budget_and_fits_its_network(
    spacing: Vector, extent: Vector, box: Vector, device: str
) -> None:
    budget = Budget.of(device)
    found = plan(fingerprint(spacing, extent, box), budget)
    assert found.operations <= budget.operations
    for axis in range(3):
        step = math.prod(level.stride[axis] for level in found.levels)
        assert found.patch[axis] % step == 0
        assert found.patch[axis] // step >= min(4, found.patch[axis])
    seen = [side * step for side, step in zip(found.patch, found.spacing_mm, strict=True)]
    wanted = [min(1.25 * own, whole) for own, whole in zip(box, extent, strict=True)]
    assert math.prod(seen) >= 0.2 * math.prod(wanted)


def test_thick_slices_get_flat_kernels_and_are_not_halved_at_first() -> None:
    found = plan(fingerprint((6.0, 0.9, 0.9), (150.0, 230.0, 230.0), (40.0, 50.0, 50.0)), CPU)
    assert found.levels[0].kernel == (1, 3, 3)
    assert found.levels[1].stride == (1, 2, 2)
    assert found.levels[-1].kernel == (3, 3, 3)


def test_much_coarser_slices_take_the_finest_spacing_that_some_cases_have() -> None:
    found = plan(fingerprint((6.0, 0.9, 0.9), (150.0, 230.0, 230.0), (40.0, 50.0, 50.0), (3.0, 0.9, 0.9)), CPU)
    assert found.spacing_mm[0] == 3.0


def test_a_large_organ_is_looked_at_more_coarsely_on_a_processor_than_on_a_card() -> None:
    traits = fingerprint((1.0, 1.0, 1.0), (256.0, 256.0, 256.0), (140.0, 170.0, 140.0))
    on_processor, on_card = plan(traits, CPU), plan(traits, Budget.of("cuda"))
    assert on_processor.spacing_mm[0] > on_card.spacing_mm[0] > 1.0


def test_the_counted_operations_are_those_of_the_network() -> None:
    found = plan(fingerprint((1, 1, 1), (36, 50, 35), (24, 40, 22)), CPU)
    voxels = math.prod(found.patch)
    by_hand, width_in = 0.0, 1
    for depth, level in enumerate(found.levels):
        here = voxels / 8**depth
        by_hand += 2 * 27 * here * (width_in + level.width) * level.width
        if depth < len(found.levels) - 1:
            by_hand += 2 * 27 * here * 3 * level.width**2 + 2 * here * level.width * found.levels[depth + 1].width
        width_in = level.width
    assert found.operations == pytest.approx(by_hand)


def test_an_app_is_planned_trained_and_drafts(tmp_path: Path) -> None:
    bare = replace(unet_app(), parameters={})
    app = TorchModuleBackend().planned(bare, PhantomTask(phantom_set()), Control())
    assert app.card.segments == (BALL, BOX)
    assert app.recipe is not None
    assert app.recipe.mirror_axes == (2,)
    recipe = replace(app.recipe, steps=20, learning_rate=5e-3, precision=Precision.FP32)
    task = PhantomTask(phantom_set())
    checkpoint = TorchModuleBackend().train(version_of(app), task, recipe, TrainingPlace(tmp_path), Control())
    version = version_of(replace(app, parameters=checkpoint.parameters), checkpoint)
    volume, truth = phantom(50)
    draft = TorchModuleBackend().load(version, "cpu").predict({"v": volume}, Situation(), Control())
    assert draft.labels.shape == truth.shape


def test_a_segment_that_has_a_side_is_not_mirrored() -> None:
    left = Segment(1, "Left kidney", (1, 2, 3))
    app = TorchModuleBackend().planned(
        replace(unet_app(), parameters={}), PhantomTask(phantom_set(segments=(left, BOX))), Control()
    )
    assert app.recipe is not None
    assert app.recipe.mirror_axes == ()


def test_ct_is_normalised_by_what_is_labelled() -> None:
    def as_ct(example):  # type: ignore[no-untyped-def]  # an Example
        return replace(example, volume=replace(example.volume, modality=Modality.CT))

    app = TorchModuleBackend().planned(replace(unet_app(), parameters={}), PhantomTask(phantom_set(), as_ct), Control())
    found = TorchModuleParameters.of(app).intensities
    assert found is not None
    assert 0 < found.low < 60
    assert 140 < found.high < 210


def test_labels_without_any_segment_cannot_be_planned_from() -> None:
    def emptied(example):  # type: ignore[no-untyped-def]  # an Example
        return replace(example, target=np.zeros_like(example.target))

    with pytest.raises(InvalidRequest, match="no label shows any segment"):
        TorchModuleBackend().planned(unet_app(), PhantomTask(phantom_set(), emptied), Control())


def weighted(app: App, folder: Path) -> ModelVersion:
    """Return a version with weights that were drawn."""
    torch.manual_seed(3)
    path = folder / "weights.safetensors"
    save_file(network_of(app).state_dict(), path)
    return ModelVersion(app, {"weights.safetensors": path})


@pytest.mark.parametrize("spacing", [[2.0, 2.0, 2.0], [2.5, 3.0, 1.7]])
def test_a_volume_larger_than_the_tile_is_drafted_piece_by_piece(tmp_path: Path, spacing: list[float]) -> None:
    volume, truth = phantom(3, (34, 40, 44))
    tiled = unet_app(tile=[16, 20, 24], mirror_axes=[2], spacing_mm=spacing)
    recipe = Recipe(steps=40, learning_rate=5e-3, warmup_steps=2, precision=Precision.FP32, mirror_axes=(2,))
    checkpoint = TorchModuleBackend().train(
        version_of(tiled), PhantomTask(phantom_set()), recipe, TrainingPlace(tmp_path), Control()
    )
    found = (
        TorchModuleBackend().load(version_of(tiled, checkpoint), "cpu").predict({"v": volume}, Situation(), Control())
    )
    assert found.labels.shape == volume.geometry.shape
    assert found.labels.dtype == np.uint8
    assert dice(found.labels, truth) > 0.4
    assert found.uncertainty is not None
    assert found.uncertainty.shape == volume.geometry.shape
    assert 0 <= float(found.uncertainty.min()) <= float(found.uncertainty.max()) <= 1


def test_a_volume_that_fits_the_tile_is_drafted_as_without_one(tmp_path: Path) -> None:
    volume, _ = phantom(3)
    whole = weighted(unet_app(), tmp_path)
    tiled = replace(whole, app=unet_app(tile=[16, 20, 24]))
    drafts = [
        TorchModuleBackend().load(version, "cpu").predict({"v": volume}, Situation(), Control()).labels
        for version in (whole, tiled)
    ]
    assert np.array_equal(*drafts)


def test_labels_on_a_coarser_grid_stay_where_they_are_and_ignored_voxels_stay_ignored() -> None:
    volume, _ = phantom(3, (20, 24, 28))
    k, j, i = np.indices(volume.geometry.shape)
    labels = np.where((k - 9) ** 2 + (j - 11) ** 2 + (i - 9) ** 2 < 64, 1, 0).astype(np.int16)
    labels[:, :, 20:] = IGNORED
    grid = CanonicalGrid.over(volume.geometry, TorchModuleParameters.of(unet_app(spacing_mm=[4.0, 4.0, 4.0])))
    coarse = grid.labels(labels)
    assert coarse.shape == (10, 12, 14)
    for label in (1, IGNORED):
        share = 8 * np.count_nonzero(coarse == label) / np.count_nonzero(labels == label)
        assert 0.9 < share < 1.1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"tile": [0, 1, 1]}, "is no size"),
        ({"intensities": {"low": 0, "high": 1, "mean": 0}}, "not complete"),
        ({"unknown": 1}, "unknown to torch_module"),
        ({"network": {"widths": [8]}}, "cannot be built"),
        ({"network": {"widths": [8, 8], "classes": 3, "strides": [[2, 2]]}}, "cannot be built"),
        ({"network": {"widths": [8, 8], "classes": 7}}, "7 classes for 2 segments"),
    ],
)
def test_what_is_wrong_in_the_parameters_is_named(tmp_path: Path, change: dict[str, object], sentence: str) -> None:
    with pytest.raises(InvalidApp, match=sentence):
        TorchModuleBackend().load(
            ModelVersion(unet_app(**change), {"weights.safetensors": tmp_path / "weights"}), "cpu"
        )
