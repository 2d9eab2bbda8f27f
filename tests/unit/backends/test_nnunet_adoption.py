"""Results folders become apps; what is damaged, hostile or ambiguous is refused with a sentence."""

import json
import os
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from nnunet_files import CASES, Case, checkpoint, own_weights, phantom, write_results
from safetensors.torch import load_file

from annotate_server.backends.nnunet.adapter import NnunetBackend
from annotate_server.domain.adoption import AdoptedApp, AdoptionOrder
from annotate_server.domain.errors import AnnotateError, InvalidApp, NotMadeFor, WeightsInvalid, WeightsMissing
from annotate_server.domain.model import ModelVersion, Situation
from annotate_server.domain.ports import Control
from annotate_server.domain.volume import Modality, Volume
from annotate_server.stores.folder_apps import app_of

PLAIN, TOTAL, REGIONS = (CASES[name] for name in ("plain_ct_thick_slices", "totalsegmentator", "regions_turned_to_ras"))
ONE_FOLD = replace(PLAIN, folds=1)


def adopt(source: Path, scratch: Path, **order: Any) -> AdoptedApp:
    scratch.mkdir(exist_ok=True)
    (made,) = NnunetBackend().adopted(AdoptionOrder(source, **order), scratch, Control())
    return made


def version_of(made: AdoptedApp, folder: Path, **changes: object) -> ModelVersion:
    parameters = {**made.table["parameters"], **changes}  # type: ignore[dict-item]
    return ModelVersion(app_of({**made.table, "parameters": parameters}, made.name, folder, "0" * 64), made.files)


def file_of(folder: Path, fold: int = 0) -> Path:
    return folder / f"fold_{fold}" / "checkpoint_final.pth"


def test_an_app_says_what_the_folder_says(tmp_path: Path) -> None:
    made = adopt(write_results(tmp_path, TOTAL), tmp_path / "scratch")
    card = app_of(made.table, made.name, tmp_path, "0" * 64).card
    assert made.name == "totalsegmentator_part1_organs_1559subj_3d_fullres"
    assert card.modalities == (Modality.CT,)
    assert [segment.index for segment in card.segments] == list(range(1, 25))
    assert card.segments[0].name == "Structure 1"
    assert "nnUNetTrainerNoMirroring" in card.attribution
    assert not card.trainable
    assert made.table["parameters"] == {
        "configuration": "3d_fullres",
        "trainer": "nnUNetTrainerNoMirroring",
        "folds": ["fold_0.safetensors"],
        "orientation": "SAR",
        "mirror_axes": [],
        "overlap": 0.5,
    }


def test_volumes_are_taken_as_stored_unless_the_training_turned_them(tmp_path: Path) -> None:
    stored = adopt(write_results(tmp_path / "a", ONE_FOLD), tmp_path / "one")
    turned = adopt(write_results(tmp_path / "b", REGIONS), tmp_path / "two")
    assert stored.table["parameters"]["orientation"] == ""  # type: ignore[index]
    assert turned.table["parameters"]["orientation"] == "SAR"  # type: ignore[index]


def test_axes_of_a_network_of_slices_are_those_of_the_volume(tmp_path: Path) -> None:
    made = adopt(write_results(tmp_path, CASES["slices_old_plans"]), tmp_path / "scratch")
    assert made.table["parameters"]["mirror_axes"] == [1, 2]  # type: ignore[index]


def test_every_numbered_fold_is_kept_once_as_safetensors(tmp_path: Path) -> None:
    folder = write_results(tmp_path, PLAIN)
    (folder / "fold_all").mkdir()
    (folder / "fold_3").mkdir()
    made = adopt(folder, tmp_path / "scratch")
    assert sorted(made.files) == ["fold_0.safetensors", "fold_1.safetensors", "plan.json"]
    weights = load_file(made.files["fold_1.safetensors"])
    assert torch.equal(
        weights["encoder.stages.0.0.convs.0.conv.weight"],
        own_weights(PLAIN, 1)["encoder.stages.0.0.convs.0.conv.weight"],
    )
    assert not [name for name in weights if name.startswith("decoder.encoder.")]


def test_a_folder_one_level_up_is_recognised_and_several_are_listed(tmp_path: Path) -> None:
    backend = NnunetBackend()
    one = write_results(tmp_path, ONE_FOLD)
    assert backend.recognises(one)
    assert backend.recognises(one.parent)
    assert not backend.recognises(tmp_path)
    assert not backend.recognises(one / "plans.json")
    assert adopt(one.parent, tmp_path / "scratch").name == "phantom_3d_fullres"
    write_results(tmp_path, replace(CASES["slices_old_plans"], dataset=PLAIN.dataset))
    with pytest.raises(InvalidApp) as refused:
        adopt(one.parent, tmp_path / "scratch")
    assert "2 trained configurations" in str(refused.value)
    assert "nnUNetTrainer__nnUNetPlans__2d" in str(refused.value)


def test_a_channel_that_names_no_modality_is_asked_for(tmp_path: Path) -> None:
    folder = write_results(tmp_path, replace(REGIONS, channel="noNorm"))
    with pytest.raises(InvalidApp) as refused:
        adopt(folder, tmp_path / "scratch")
    assert "--modality" in str(refused.value)
    made = adopt(folder, tmp_path / "scratch", modalities=(Modality.MR,), name="mine")
    assert (made.name, made.table["modalities"]) == ("mine", ["MR"])


def test_logs_written_with_old_numpy_are_read(tmp_path: Path) -> None:
    folder = write_results(tmp_path, ONE_FOLD)
    renamed = tmp_path / "old.pth"
    with zipfile.ZipFile(file_of(folder)) as new, zipfile.ZipFile(renamed, "w") as old:
        for member in new.infolist():
            old.writestr(member, new.read(member).replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    renamed.replace(file_of(folder))
    assert adopt(folder, tmp_path / "scratch").files


class _Hostile:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch was_run",)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda words: words.update(logging=_Hostile()), "more than numbers (posix.system)"),
        (lambda words: words.pop("network_weights"), "no checkpoint of nnU-Net v2"),
        (lambda words: words["network_weights"].popitem(), None),
        (lambda words: words["network_weights"].update(extra=torch.zeros(3)), "not those of the network in plans.json"),
        (lambda words: words["network_weights"].pop("decoder.seg_layers.0.bias"), "decoder.seg_layers.0.bias"),
        (lambda words: words.update(network_weights={"a": 1}), "no tensors"),
        (lambda words: words.update(inference_allowed_mirroring_axes=(3,)), "mirrored along"),
        (lambda words: words.update(init_args={"configuration": "2d"}), "'2d'"),
    ],
)
def test_a_checkpoint_that_is_not_what_it_should_be(
    damage: Any, sentence: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = write_results(tmp_path, ONE_FOLD)
    words = checkpoint(ONE_FOLD, own_weights(ONE_FOLD, 0), 0)
    damage(words)
    torch.save(words, file_of(folder))
    if sentence is None:  # a name that nnU-Net writes twice is not missed
        assert adopt(folder, tmp_path / "scratch").files
        return
    with pytest.raises(AnnotateError) as refused:
        adopt(folder, tmp_path / "scratch")
    assert isinstance(refused.value, InvalidApp | WeightsInvalid)
    assert sentence in str(refused.value)
    assert not (tmp_path / "was_run").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and then nothing", b"\x80\x02}q\x00."])
def test_a_damaged_checkpoint_is_named(content: bytes, tmp_path: Path) -> None:
    folder = write_results(tmp_path, ONE_FOLD)
    file_of(folder).write_bytes(content)
    with pytest.raises(WeightsInvalid) as refused:
        adopt(folder, tmp_path / "scratch")
    assert "fold_0" in str(refused.value)


def test_a_training_that_did_not_end_is_named(tmp_path: Path) -> None:
    folder = write_results(tmp_path, ONE_FOLD)
    file_of(folder).rename(folder / "fold_0" / "checkpoint_best.pth")
    with pytest.raises(InvalidApp) as refused:
        adopt(folder, tmp_path / "scratch")
    assert "none of its folds has a checkpoint_final.pth" in str(refused.value)


@pytest.mark.parametrize("content", ["{", "[" * 100_000, '{"labels": 1}'])
def test_a_description_that_is_none_is_named(content: str, tmp_path: Path) -> None:
    folder = write_results(tmp_path, ONE_FOLD)
    (folder / "dataset.json").write_text(content)
    with pytest.raises(InvalidApp) as refused:
        adopt(folder, tmp_path / "scratch")
    assert "dataset.json" in str(refused.value)


def test_an_app_that_was_changed_by_hand_is_checked(tmp_path: Path) -> None:
    made = adopt(write_results(tmp_path, ONE_FOLD), tmp_path / "scratch")
    for changes in ({"orientation": "XYZ"}, {"folds": []}, {"mirror_axes": [3]}, {"unknown": 1}, {"overlap": "half"}):
        with pytest.raises(InvalidApp):
            NnunetBackend().load(version_of(made, tmp_path, **changes), "cpu")
    with pytest.raises(WeightsMissing):
        NnunetBackend().load(version_of(made, tmp_path, folds=["fold_9.safetensors"]), "cpu")
    fewer = {**made.table, "segments": made.table["segments"][:2]}  # type: ignore[index]
    with pytest.raises(InvalidApp) as refused:
        NnunetBackend().load(version_of(replace(made, table=fewer), tmp_path), "cpu")
    assert "its segments are [1, 2]" in str(refused.value)


def test_another_modality_is_refused_and_nothing_but_zeros_is_not(tmp_path: Path) -> None:
    case: Case = CASES["residual_mr_masked_transposed"]
    made = adopt(write_results(tmp_path, case), tmp_path / "scratch")
    model = NnunetBackend().load(version_of(made, tmp_path), "cpu")
    volume = phantom(case)
    with pytest.raises(NotMadeFor) as refused:
        model.predict({"v": Volume(volume.voxels, volume.geometry, Modality.CT)}, Situation(), Control())
    assert "takes MR" in str(refused.value)
    empty = Volume(volume.voxels * 0, volume.geometry, Modality.MR)
    assert model.predict({"v": empty}, Situation(), Control()).labels.shape == volume.geometry.shape
    model.close()


def test_the_plan_that_is_kept_is_nnunets_own_words(tmp_path: Path) -> None:
    made = adopt(write_results(tmp_path, ONE_FOLD), tmp_path / "scratch")
    kept = json.loads(made.files["plan.json"].read_text())
    assert kept["plans"]["configurations"]["3d_fullres"]["patch_size"] == list(ONE_FOLD.patch)
    assert set(kept["dataset"]) == {"channel_names", "labels"}
