"""A MONAI bundle that predicts by code of its own, in the layout of VISTA3D's: hosted once somebody has trusted it."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import oblique_geometry

from annotate_server.backends.monai_bundle.files import brings_code
from annotate_server.backends.monailabel_app.adapter import MonaiLabelAppBackend
from annotate_server.backends.monailabel_app.loaded import HostedTask
from annotate_server.domain.adoption import AdoptedApp, AdoptionOrder
from annotate_server.domain.errors import InvalidApp, PredictionFailed
from annotate_server.domain.model import ModelVersion, Situation
from annotate_server.domain.ports import Control
from annotate_server.domain.volume import Modality, Volume
from annotate_server.stores.folder_apps import app_of

pytestmark = pytest.mark.usefixtures("peer_environment")

GEOMETRY = oblique_geometry((9, 26, 17))
LIVER, SPLEEN = 1, 3
"""The numbers that the bundle gives them; 2 is nobody's, as in VISTA3D's list."""
EDGES = (50.0, 150.0)
"""Its weights: where one class ends and the next begins."""

NETWORK = """
import torch

class Steps(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.edges = torch.nn.Parameter(torch.zeros(2))

    def forward(self, x, class_vector):
        liver, spleen = self.edges
        every = {1: (x > liver) & (x <= spleen), 3: x > spleen}
        return torch.cat([torch.where(every[int(n)], 1.0, -1.0) for n in class_vector], dim=1)
"""
INFERER = """
from monai.inferers import Inferer

class ByClass(Inferer):
    def __call__(self, inputs, network, classes):
        return network(inputs, classes)
"""
EVALUATOR = """
from monai.engines import Evaluator
from monai.engines.utils import IterationEvents
import torch

class ClassEvaluator(Evaluator):
    def __init__(self, device, val_data_loader, network, inferer, postprocessing, everything_labels):
        super().__init__(device=device, val_data_loader=val_data_loader, postprocessing=postprocessing)
        self.network, self.inferer, self.classes = network.eval(), inferer, everything_labels

    def _iteration(self, engine, batch):
        image = batch["image"].to(self.state.device)
        with torch.inference_mode():
            told = self.inferer(image, self.network, self.classes)
        best, which = told.max(1, keepdim=True)
        numbers = torch.tensor(self.classes, device=which.device)[which]
        labels = torch.where(best > 0, numbers, 0).float()
        engine.state.output = {"image": image, "pred": image.clone().copy_(labels)}
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output
"""
INFERENCE = {
    "imports": ["$import glob", "$import scripts"],
    "bundle_root": "./",
    "image_key": "image",
    "output_dir": "$@bundle_root + '/eval'",
    "everything_labels": "$list({1, 2, 3} - {2})",
    "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
    "network_def": {"_target_": "scripts.network.Steps"},
    "network": "$@network_def.to(@device)",
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "LoadImaged", "keys": "@image_key"},
            {"_target_": "EnsureChannelFirstd", "keys": "@image_key"},
            {"_target_": "Orientationd", "keys": "@image_key", "axcodes": "RAS"},
            {"_target_": "EnsureTyped", "keys": "@image_key", "track_meta": True},
        ],
    },
    "dataset": {
        "_target_": "Dataset",
        "data": "$[{'image': i} for i in sorted(glob.glob('/data/*.nii.gz'))]",
        "transform": "@preprocessing",
    },
    "dataloader": {"_target_": "ThreadDataLoader", "dataset": "@dataset", "batch_size": 1, "num_workers": 0},
    "inferer": {"_target_": "scripts.inferer.ByClass"},
    "postprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "Invertd", "keys": "pred", "transform": "@preprocessing", "orig_keys": "@image_key"},
            {
                "_target_": "SaveImaged",
                "keys": "pred",
                "resample": False,
                "output_dir": "@output_dir",
                "output_ext": ".nii.gz",
                "output_dtype": "$np.float32",
                "separate_folder": True,
            },
        ],
    },
    "checkpointloader": {
        "_target_": "CheckpointLoader",
        "load_path": "$@bundle_root + '/models/model.pt'",
        "load_dict": {"model": "@network"},
        "map_location": "@device",
    },
    "evaluator": {
        "_target_": "scripts.evaluator.ClassEvaluator",
        "device": "@device",
        "val_data_loader": "@dataloader",
        "network": "@network",
        "inferer": "@inferer",
        "postprocessing": "@postprocessing",
        "everything_labels": "@everything_labels",
    },
    "initialize": ["$monai.utils.set_determinism(seed=123)", "$@checkpointloader(@evaluator)"],
    "run": ["$@evaluator.run()"],
}
METADATA = {
    "version": "0.5.9",
    "name": "Steps",
    "description": "Tells two organs apart by how bright they are",
    "network_data_format": {
        "inputs": {"image": {"modality": "CT", "num_channels": 1}},
        "outputs": {"pred": {"channel_def": {"0": "background", str(LIVER): "liver", str(SPLEEN): "spleen"}}},
    },
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "steps_ct"
    for part in ("configs", "models", "scripts"):
        (folder / part).mkdir(parents=True)
    (folder / "configs/inference.json").write_text(json.dumps(INFERENCE))
    (folder / "configs/metadata.json").write_text(json.dumps(METADATA))
    codes = {"__init__": "", "network": NETWORK, "inferer": INFERER, "evaluator": EVALUATOR}
    for name, code in codes.items():
        (folder / f"scripts/{name}.py").write_text(code)
    torch.save({"edges": torch.tensor(EDGES)}, folder / "models/model.pt")
    return folder


@pytest.fixture(scope="module")
def app(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> AdoptedApp:
    order = AdoptionOrder(bundle, modalities=(Modality.CT,), trusted=digest_of(bundle, tmp_path_factory.mktemp("s")))
    (made,) = MonaiLabelAppBackend().adopted(order, tmp_path_factory.mktemp("s"), Control())
    return made


@pytest.fixture(scope="module")
def model(app: AdoptedApp) -> Iterator[HostedTask]:
    loaded = MonaiLabelAppBackend().load(version_of(app), "cpu")
    yield loaded
    loaded.close()


def digest_of(bundle: Path, scratch: Path) -> str:
    """Return the digest that the refusal of a bundle that nobody trusts yet names."""
    with pytest.raises(InvalidApp, match="code that will run on this machine") as refused:
        MonaiLabelAppBackend().adopted(AdoptionOrder(bundle, modalities=(Modality.CT,)), scratch, Control())
    return str(refused.value.remedy).split("--trust ")[1]


def version_of(app: AdoptedApp) -> ModelVersion:
    return ModelVersion(app_of(app.table, app.name, Path(app.name), "0" * 64), app.files)


def a_volume(seed: int) -> Volume:
    voxels = np.random.default_rng(seed).integers(-1000, 300, GEOMETRY.shape).astype(np.int16)
    return Volume(voxels, GEOMETRY, Modality.CT, "HU")


def test_a_bundle_with_code_is_hosted_and_not_read(bundle: Path, tmp_path: Path) -> None:
    from annotate_server.backends.monai_bundle.adapter import MonaiBundleBackend  # noqa: PLC0415  it is an extra

    archive = tmp_path / "steps.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        for path in bundle.rglob("*"):
            opened.write(path, f"steps_ct/{path.relative_to(bundle)}")
    assert (brings_code(bundle), brings_code(archive)) == (True, True)
    assert not MonaiBundleBackend().recognises(bundle)
    assert not MonaiBundleBackend().recognises(archive), "it is unpacked, and the folder recognised"
    assert MonaiLabelAppBackend().recognises(bundle)


def test_another_bundle_than_the_trusted_one_is_refused(bundle: Path, tmp_path: Path) -> None:
    order = AdoptionOrder(bundle, modalities=(Modality.CT,), trusted="0" * 64)
    with pytest.raises(InvalidApp, match="not the app that you trusted"):
        MonaiLabelAppBackend().adopted(order, tmp_path, Control())


def test_its_card_says_what_the_bundle_says(app: AdoptedApp) -> None:
    card = version_of(app).app.card
    assert [segment.name for segment in card.segments] == ["Liver", "Spleen"]
    assert (card.title, card.purpose) == ("Steps ct (Steps)", METADATA["description"])
    assert set(app.files) == {"app.zip", "model.pt"}
    assert card.drafts
    assert not card.trainable


def test_its_labels_lie_where_its_code_put_them(model: HostedTask) -> None:
    for seed in (1, 2):
        volume = a_volume(seed)
        found = model.predict({"CT": volume}, Situation(), Control()).labels
        expected = np.select([volume.voxels > EDGES[1], volume.voxels > EDGES[0]], [2, 1], 0)
        np.testing.assert_array_equal(found, expected)
    assert model.app.guest.starts == 1
    assert {path.name for path in model.app.place.folder.iterdir()} == {"app", "studies", "lock"}


def test_what_its_code_raises_is_said(bundle: Path, app: AdoptedApp, tmp_path: Path) -> None:
    broken = tmp_path / "model.pt"
    torch.save({"edges": torch.zeros(7)}, broken)
    version = version_of(app)
    other = MonaiLabelAppBackend().load(ModelVersion(version.app, {**version.files, "model.pt": broken}), "cpu")
    try:
        with pytest.raises(PredictionFailed, match=r"the app's task 'steps_ct' failed: \w+"):
            other.predict({"CT": a_volume(1)}, Situation(), Control())
    finally:
        other.close()
