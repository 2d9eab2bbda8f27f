"""A release of nnInteractive becomes an app: its layout, its licence, and a checkpoint in which nothing can run."""

import json
import pickle
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from annotate_server.backends.environments.guest import GuestAnswer
from annotate_server.backends.nninteractive import adoption
from annotate_server.backends.nninteractive.adapter import NnInteractiveBackend
from annotate_server.backends.nninteractive.parameters import read_parameters
from annotate_server.domain.adoption import AdoptedApp, AdoptionOrder
from annotate_server.domain.errors import BackendUnavailable, InvalidApp, WeightsInvalid
from annotate_server.domain.ports import Control
from annotate_server.domain.volume import Modality
from annotate_server.stores.adopted_apps import AdoptedApps

torch = pytest.importorskip("torch", reason="checkpoints are torch's")

UNET = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
PLANS = {
    "dataset_name": "Dataset001",
    "configurations": {
        "3d": {
            "architecture": {
                "network_class_name": UNET,
                "arch_kwargs": {"conv_op": "torch.nn.modules.conv.Conv3d", "dropout_op": None},
                "_kw_requires_import": ["conv_op", "dropout_op"],
            }
        }
    },
}
CHECKPOINT = {
    "network_weights": {"seg.weight": torch.arange(6.0).reshape(2, 3)},
    "init_args": {"configuration": "3d", "plans": PLANS},
    "trainer_name": "SomebodysTrainer",
    "_best_ema": np.float64(0.9),
    "logging": {"ema": [np.float32(0.5)]},
}


class Converting:
    """A guest in this process, in which torch is there too."""

    @classmethod
    def start(cls, environment: object, module: str, words: Mapping[str, object]) -> "Converting":
        assert module == "annotate_server.backends.nninteractive.converting"
        return cls()

    def call(self, verb: str, words: Mapping[str, object], arrays: Mapping[str, object], control: Control) -> object:
        from annotate_server.backends.nninteractive.converting import open as opened  # noqa: PLC0415  loads torch

        answer, _ = opened({}).answer(verb, words, {}, control.report)  # type: ignore[arg-type]
        return GuestAnswer(dict(answer), {})

    def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def without_an_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    class Named:
        @staticmethod
        def named(kind: str) -> str:
            return kind

    monkeypatch.setattr(adoption, "Guest", Converting)
    monkeypatch.setattr(adoption, "Environment", Named)


def release(folder: Path, plans: object = PLANS, checkpoint: object = CHECKPOINT, licence: str = "") -> Path:
    (folder / "fold_0").mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text("{}")
    (folder / "inference_info.json").write_text('{"supported_interactions": {"lasso": false}}')
    if licence:
        (folder / "LICENSE").write_text(licence)
    torch.save(checkpoint, folder / "fold_0" / "checkpoint_final.pth")
    return folder


def adopted(source: Path, scratch: Path, *modalities: Modality) -> AdoptedApp:
    scratch.mkdir(exist_ok=True)
    (app,) = NnInteractiveBackend().adopted(AdoptionOrder(source, None, modalities), scratch, Control())
    return app


def test_a_release_becomes_an_app_that_the_backend_reads(tmp_path: Path) -> None:
    source = release(tmp_path / "nnInteractive_v1.0", licence="\nCC BY-NC-SA 4.0\nhttps://…\n")
    assert NnInteractiveBackend().recognises(source)
    app = AdoptedApps(tmp_path / "apps", tmp_path / "part").keep(adopted(source, tmp_path / "scratch"))
    assert app.name == "nninteractive_v1_0"
    assert app.card.licence == "CC BY-NC-SA 4.0"
    assert "commercial use" in app.card.not_for
    assert not app.card.drafts
    assert {str(kind) for kind in app.card.prompts} == {"point", "box", "scribble"}
    assert app.card.segments == ()
    assert read_parameters(app.parameters, app.name).solid_boxes is False
    assert {weight.name for weight in app.weights} == {
        *("LICENSE", "checkpoint.pth", "dataset.json", "inference_info.json", "plans.json")
    }


def test_the_checkpoint_is_written_anew_with_its_weights_only(tmp_path: Path) -> None:
    app = adopted(release(tmp_path / "r"), tmp_path / "scratch")
    read = torch.load(app.files["checkpoint.pth"], weights_only=True)
    assert set(read) == {"network_weights", "init_args", "trainer_name"}
    assert read["init_args"] == {"configuration": "3d"}
    assert read["trainer_name"] == "nnInteractiveTrainer_stub"
    assert torch.equal(read["network_weights"]["seg.weight"], CHECKPOINT["network_weights"]["seg.weight"])


class Hostile:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


def test_a_checkpoint_that_would_run_something_is_refused_and_does_not(tmp_path: Path) -> None:
    left = tmp_path / "left"
    source = release(tmp_path / "r", checkpoint={**CHECKPOINT, "logging": Hostile(left)})
    assert pickle.dumps(Hostile(left))
    with pytest.raises(WeightsInvalid, match="could run"):
        adopted(source, tmp_path / "scratch")
    assert not left.exists()


@pytest.mark.parametrize("checkpoint", [{}, {"network_weights": {"a": 1}, "init_args": {"configuration": "3d"}}, [1]])
def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path, checkpoint: object) -> None:
    with pytest.raises(WeightsInvalid):
        adopted(release(tmp_path / "r", checkpoint=checkpoint), tmp_path / "scratch")


@pytest.mark.parametrize(
    "architecture",
    [
        {"network_class_name": "os.system"},
        {
            "network_class_name": UNET,
            "arch_kwargs": {"conv_op": "subprocess.Popen"},
            "_kw_requires_import": ["conv_op"],
        },
    ],
)
def test_plans_that_name_a_class_from_elsewhere_are_refused(tmp_path: Path, architecture: object) -> None:
    plans = {"configurations": {"3d": {"architecture": architecture}}}
    with pytest.raises(InvalidApp, match="not run here"):
        adopted(release(tmp_path / "r", plans=plans), tmp_path / "scratch")


def test_a_release_without_a_licence_says_so_unless_it_is_the_first_one(tmp_path: Path) -> None:
    table = adopted(release(tmp_path / "r"), tmp_path / "scratch").table
    assert table["licence"] == "unknown: ask whoever made the weights"
    assert "commercial" not in str(table["not_for"])
    first = {"dataset_name": "Dataset225_nnInteractiveV2"}
    checkpoint = {**CHECKPOINT, "init_args": {"configuration": "3d_fullres_ps192_bs24"}}
    source = release(tmp_path / "first", plans=first, checkpoint=checkpoint)
    assert adopted(source, tmp_path / "scratch").table["licence"] == "CC BY-NC-SA 4.0"


def test_the_backend_of_plain_nnunet_leaves_a_release_alone(tmp_path: Path) -> None:
    from annotate_server.backends.nnunet.results import folders_in  # noqa: PLC0415  of another backend

    source = release(tmp_path / "r")
    assert folders_in(source) == ()
    (source / "inference_info.json").unlink()
    assert folders_in(source) == (source,)


def test_modalities_are_those_that_were_declared_or_all(tmp_path: Path) -> None:
    source = release(tmp_path / "r")
    assert adopted(source, tmp_path / "scratch", Modality.MR).table["modalities"] == ["MR"]
    assert len(adopted(source, tmp_path / "scratch").table["modalities"]) == 4  # type: ignore[arg-type]


def test_another_folder_is_no_release(tmp_path: Path) -> None:
    source = release(tmp_path / "r")
    backend = NnInteractiveBackend()
    assert not backend.recognises(source / "fold_0")
    assert not backend.recognises(source / "plans.json")
    (source / "inference_info.json").unlink()
    assert not backend.recognises(source)


def test_without_the_environment_the_command_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    from annotate_server.backends.environments.environment import (  # noqa: PLC0415  after the undoing
        environments_folder,
        use_folder,
    )

    before = environments_folder()
    use_folder(tmp_path / "none")
    try:
        with pytest.raises(BackendUnavailable, match="Run: annotate models env nninteractive"):
            adopted(release(tmp_path / "r"), tmp_path / "scratch")
    finally:
        use_folder(before)
