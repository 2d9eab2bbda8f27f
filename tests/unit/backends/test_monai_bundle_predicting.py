"""Drafts of bundles are those that MONAI itself makes of the same configuration and weights."""

import copy
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from bundle_files import (
    PEDIATRIC,
    SPLEEN,
    WHOLE_BODY,
    abdomen,
    adopted,
    reference_labels,
    version_of,
    write_bundle,
    write_nifti,
)

from annotate_server.backends.monai_bundle import running
from annotate_server.backends.monai_bundle.adapter import MonaiBundleBackend
from annotate_server.backends.monai_bundle.network import plan_from
from annotate_server.domain.errors import NotMadeFor
from annotate_server.domain.model import ModelVersion, Prediction, Situation
from annotate_server.domain.ports import Control, LoadedModel
from annotate_server.domain.volume import Volume
from annotate_server.imaging.reorientation import reoriented
from annotate_server.testing.backend_conformance import BackendConformance

BODY = ("background", "spleen", "kidney_right", "kidney_left", "liver", "aorta")
TWO = ("background", "spleen")


def loaded(bundle: Path, scratch: Path) -> LoadedModel:
    return MonaiBundleBackend().load(version_of(adopted(bundle, scratch)), "cpu")


def drafted(bundle: Path, volume: Volume, scratch: Path) -> Prediction:
    return loaded(bundle, scratch).predict({"CT": volume}, Situation(), Control())


def with_steps(*transforms: Mapping, behind: int = 5, config: Mapping = SPLEEN) -> dict:
    """Return a configuration with transforms instead of those behind the fifth."""
    changed = copy.deepcopy(dict(config))
    changed["preprocessing"]["transforms"][behind:] = [{"keys": "image", **each} for each in transforms]
    return changed


def with_post(*transforms: Mapping, config: Mapping = SPLEEN) -> dict:
    changed = copy.deepcopy(dict(config))
    changed["postprocessing"]["transforms"][:-1] = [{"keys": "pred", **each} for each in transforms]
    return changed


INVERTED = {"_target_": "Invertd", "transform": "@preprocessing", "orig_keys": "@image_key"}
SIGMOID = with_post(
    {"_target_": "Activationsd", "sigmoid": True},
    {**INVERTED, "nearest_interp": False},
    {"_target_": "AsDiscreted", "threshold": 0.5},
)
SIGMOID["network_def"]["out_channels"] = 1
LARGEST = with_post(
    {"_target_": "AsDiscreted", "argmax": True},
    {"_target_": "KeepLargestConnectedComponentd", "applied_labels": [1]},
    {**INVERTED, "nearest_interp": True},
)
PERCENTILES = with_steps(
    {"_target_": "ScaleIntensityRangePercentilesd", "lower": 1, "upper": 99, "b_min": 0, "b_max": 1, "clip": True},
    {"_target_": "ThresholdIntensityD", "threshold": 0.2, "above": True, "cval": 0.0},
    {"_target_": "NormalizeIntensityd", "nonzero": "True", "channel_wise": "True"},
    {"_target_": "DivisiblePadd", "k": 8},
    behind=4,
)
PADDED = with_steps({"_target_": "SpatialPadd", "spatial_size": [40, 28, -1]})
PADDED["inferer"] |= {"roi_size": [32, 0, 16], "overlap": [0.25, 0.25, 0.25], "padding_mode": "reflect"}
CROPPED = with_steps({"_target_": "CropForegroundd", "source_key": "image", "margin": 3, "k_divisible": 4})
WHOLE = with_steps({"_target_": "SpatialPadd", "spatial_size": 32})
WHOLE["inferer"] = {"_target_": "SimpleInferer"}


@pytest.mark.parametrize(
    ("config", "names"),
    [
        pytest.param(SPLEEN, TWO, id="spleen"),
        pytest.param(WHOLE_BODY, BODY, id="whole-body"),
        pytest.param(PEDIATRIC, TWO, id="pediatric"),
        pytest.param(SIGMOID, ("spleen",), id="one-class-by-threshold"),
        pytest.param(LARGEST, TWO, id="largest-part"),
        pytest.param(PERCENTILES, TWO, id="percentiles"),
        pytest.param(PADDED, TWO, id="padded"),
        pytest.param(CROPPED, TWO, id="cropped"),
        pytest.param(WHOLE, TWO, id="in-one-piece"),
    ],
)
def test_labels_are_those_that_monai_makes(config: Mapping, names: tuple[str, ...], tmp_path: Path) -> None:
    bundle, volume = write_bundle(tmp_path / "bundle", config, names), abdomen()
    expected = reference_labels(bundle, write_nifti(volume, tmp_path / "volume.nii.gz"))
    found = drafted(bundle, volume, tmp_path / "scratch")
    least = 0.1 / len(names)
    assert all(np.mean(expected == label) > least for label in range(len(found.segments) + 1))
    # What is left lies where the outline meets what was cut away, and where floating-point sums decide a tie.
    assert np.mean(found.labels == expected) >= 0.9995


def test_the_uncertainty_is_what_is_left_of_the_likeliest_class(tmp_path: Path) -> None:
    found = drafted(write_bundle(tmp_path / "b"), abdomen(), tmp_path / "s")
    assert found.uncertainty is not None
    assert found.uncertainty.shape == found.labels.shape
    assert 0 <= found.uncertainty.min() < 0.45 < found.uncertainty.max() <= 0.5 + 1e-6


def test_labels_that_were_made_on_the_grid_can_be_voted_on(tmp_path: Path) -> None:
    """MONAI interpolates the numbers of such labels, which makes classes that are not there; here they are weighed."""
    config = with_post({"_target_": "AsDiscreted", "argmax": True}, {**INVERTED, "nearest_interp": False})
    config = {**config, "network_def": WHOLE_BODY["network_def"]}
    bundle, volume = write_bundle(tmp_path / "bundle", config, BODY), abdomen()
    found = drafted(bundle, volume, tmp_path / "s")
    expected = reference_labels(bundle, write_nifti(volume, tmp_path / "volume.nii.gz"))
    is_whole = expected == np.round(expected)
    assert not is_whole.all()
    surely = is_whole & ((expected == 0) | (expected == 5))
    assert np.mean(found.labels[surely] == expected[surely]) > 0.99


def test_a_bundle_without_an_orientation_sees_the_axes_as_they_are_stored_and_says_so(tmp_path: Path) -> None:
    config = copy.deepcopy(SPLEEN)
    del config["preprocessing"]["transforms"][2:4]
    bundle, volume = write_bundle(tmp_path / "bundle", config), abdomen()
    found = drafted(bundle, volume, tmp_path / "s")
    expected = reference_labels(bundle, write_nifti(volume, tmp_path / "volume.nii.gz"))
    assert np.mean(found.labels == expected) >= 0.9995
    assert "no orientation" in found.notes[0]


def test_independent_classes_take_the_likeliest_above_the_threshold(tmp_path: Path) -> None:
    config = {**SIGMOID, "network_def": WHOLE_BODY["network_def"]}
    app = adopted(write_bundle(tmp_path / "b", config, ("a", "b", "c", "d", "e", "f")), tmp_path / "s")
    version = version_of(app)
    found = MonaiBundleBackend().load(version, "cpu").predict({"CT": abdomen()}, Situation(), Control())
    assert [segment.name for segment in version.app.card.segments] == ["A", "B", "C", "D", "E", "F"]
    assert set(np.unique(found.labels)) == set(range(7))
    assert not version.app.card.trainable


def test_a_volume_that_is_too_large_for_one_piece_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = loaded(write_bundle(tmp_path / "b", WHOLE), tmp_path / "s")
    monkeypatch.setattr(running, "_MOST_VOXELS_AT_ONCE", 10_000)
    with pytest.raises(NotMadeFor, match="in one piece"):
        model.predict({"CT": abdomen()}, Situation(), Control())


class TestMonaiBundle(BackendConformance):
    @pytest.fixture
    def version(self, tmp_path: Path) -> ModelVersion:
        return version_of(adopted(write_bundle(tmp_path / "bundle", WHOLE_BODY, BODY), tmp_path / "scratch"))

    @pytest.fixture
    def model(self, version: ModelVersion) -> LoadedModel:
        return MonaiBundleBackend().load(version, "cpu")

    @pytest.fixture
    def volume(self) -> Volume:
        return abdomen((18, 60, 40))


def test_a_grid_that_no_machine_holds_is_refused(tmp_path: Path) -> None:
    config = copy.deepcopy(SPLEEN)
    config["preprocessing"]["transforms"][3]["pixdim"] = [0.01, 0.01, 0.01]
    model = loaded(write_bundle(tmp_path / "b", config), tmp_path / "s")
    with pytest.raises(NotMadeFor, match="grid over this volume would have"):
        model.predict({"CT": abdomen()}, Situation(), Control())


def test_probabilities_come_back_the_same_whichever_way_the_axes_run(tmp_path: Path) -> None:
    model, volume = loaded(write_bundle(tmp_path / "b", CROPPED), tmp_path / "s"), abdomen()
    turn = reoriented(volume.geometry, "ILA")
    turned = Volume(np.ascontiguousarray(turn.apply(volume.voxels)), turn.geometry, volume.modality, volume.unit)
    upright = model.predict({"CT": volume}, Situation(), Control()).labels
    back = turn.undo(model.predict({"CT": turned}, Situation(), Control()).labels)
    assert (upright == back).mean() > 0.9999


@pytest.mark.parametrize(
    ("side", "network"),
    [
        (32, {"_target_": "BasicUNet", "features": [4, 4, 8, 8, 8, 4]}),
        (32, {"_target_": "AttentionUnet", "channels": [4, 8], "strides": [2]}),
        (32, {"_target_": "SegResNetDS", "init_filters": 4, "blocks_down": [1, 1], "dsdepth": 2}),
        (32, {**PEDIATRIC["network_def"], "spatial_dims": 3, "deep_supervision": True, "deep_supr_num": 1}),
        (16, {"_target_": "VNet"}),
        (
            32,
            {
                "_target_": "UNETR",
                "img_size": [32] * 3,
                "feature_size": 4,
                "hidden_size": 24,
                "mlp_dim": 16,
                "num_heads": 2,
            },
        ),
        (64, {"_target_": "SwinUNETR", "img_size": 64, "feature_size": 12, "depths": [1, 1, 1, 1]}),
    ],
)
def test_every_network_that_is_allowed_answers_each_voxel_and_learns(side: int, network: Mapping) -> None:
    built = plan_from({"spatial_dims": 3, "in_channels": 1, "out_channels": 2, **network}, "network_def").build()
    seen = torch.zeros(2, 1, side, side, side)
    with torch.inference_mode():
        assert built.eval()(seen).shape == (2, 2, side, side, side)
        levels = built.train().every_resolution(seen)
    assert levels[0].shape == (2, 2, side, side, side)
    assert all(level.shape[:2] == (2, 2) for level in levels)
    assert all(side % own == 0 for level in levels for own in level.shape[2:])
