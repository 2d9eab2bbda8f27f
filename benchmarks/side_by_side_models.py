"""The same networks with the same random weights, once as MONAI bundles for us and once as apps of MONAI Label.

`one_by_one` is a U-Net whose convolutions are all 1x1x1: hardly any arithmetic, so that what is measured is all the
rest. `segmentation_spleen` is the network of MONAI Label's sample app `radiology`, which the peer runs unchanged.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from monai.networks.nets import UNet

ONE, SPLEEN = "one_by_one", "segmentation_spleen"
_MIXED = (0.05, 0.95)
"""Share of the voxels of noise that the segment must have: weights that draw nothing, or all, are no test."""
_SEEDS = 500


@dataclass(frozen=True)
class SharedModel:
    """A network by its arguments, its weights, and how a bundle says what the peer's app does in code."""

    name: str
    network: Mapping[str, object]
    state: Mapping[str, torch.Tensor]
    steps: tuple[Mapping[str, object], ...]
    inferer: Mapping[str, object]
    decisions: tuple[Mapping[str, object], ...]


_LOADED = ({"_target_": "LoadImaged", "keys": "image"}, {"_target_": "EnsureChannelFirstd", "keys": "image"})
_RANGE = {"_target_": "ScaleIntensityRanged", "keys": "image", "b_min": 0.0, "b_max": 1.0, "clip": True}
_SOFTMAX = {"_target_": "Activationsd", "keys": "pred", "softmax": True}
_LARGEST_CLASS = {"_target_": "AsDiscreted", "keys": "pred", "argmax": True}
_BACK = {"_target_": "Invertd", "keys": "pred", "transform": "@preprocessing", "nearest_interp": False}
_COMMON = {"_target_": "UNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 2, "norm": "batch"}


def one_by_one() -> SharedModel:
    """Return the network without arithmetic worth the name, with weights that tell a body from air."""
    network = {
        **_COMMON,
        "channels": [2, 2],
        "strides": [1],
        "kernel_size": 1,
        "up_kernel_size": 1,
        "num_res_units": 0,
    }
    steps = (*_LOADED, {**_RANGE, "a_min": -200.0, "a_max": 300.0})
    air_and_body = torch.tensor([0.0] * 8 + [0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7]).reshape(1, 1, 16, 1, 1)
    body = (air_and_body > 0).long()[0]
    state = _state(network, air_and_body, lambda drawn: torch.equal(drawn, body))
    return SharedModel(ONE, network, state, steps, {"_target_": "SimpleInferer"}, (_SOFTMAX, _BACK, _LARGEST_CLASS))


def spleen() -> SharedModel:
    """Return the network of the sample app, with the app's pre- and post-processing."""
    network = {**_COMMON, "channels": [16, 32, 64, 128, 256], "strides": [2, 2, 2, 2], "num_res_units": 2}
    steps = (
        *_LOADED,
        {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
        {"_target_": "Spacingd", "keys": "image", "pixdim": [1.0, 1.0, 1.0], "mode": "bilinear"},
        {**_RANGE, "a_min": -57.0, "a_max": 164.0},
        {"_target_": "ScaleIntensityd", "keys": "image", "minv": -1.0, "maxv": 1.0},
    )
    inferer = {"_target_": "SlidingWindowInferer", "roi_size": [160, 160, 160], "sw_batch_size": 1, "overlap": 0.25}
    largest = {"_target_": "KeepLargestConnectedComponentd", "keys": "pred", "applied_labels": [1]}
    trial = torch.rand((1, 1, 32, 32, 32), generator=torch.Generator().manual_seed(0)) * 2 - 1
    state = _state(network, trial, lambda drawn: _MIXED[0] < float(drawn.float().mean()) < _MIXED[1])
    return SharedModel(SPLEEN, network, state, steps, inferer, (_SOFTMAX, _BACK, _LARGEST_CLASS, largest))


def _state(
    network: Mapping[str, object], trial: torch.Tensor, is_wanted: Callable[[torch.Tensor], bool]
) -> Mapping[str, torch.Tensor]:
    """Return the first random weights whose labels of a trial (1, a, b, c) are as wanted."""
    arguments = {name: value for name, value in network.items() if name != "_target_"}
    for seed in range(_SEEDS):
        torch.manual_seed(seed)
        made = UNet(**arguments).eval()
        with torch.inference_mode():
            drawn = made(trial).argmax(1)
        if is_wanted(drawn):
            return made.state_dict()
    raise AssertionError("no random weights draw what is wanted")


def write_bundle(model: SharedModel, folder: Path) -> Path:
    """Write a model in the published layout of a MONAI bundle."""
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    channels = {"0": "background", "1": "spleen"}
    formats = {"inputs": {"image": {"modality": "CT"}}, "outputs": {"pred": {"channel_def": channels}}}
    metadata = {"name": model.name, "version": "1", "description": "Random weights.", "network_data_format": formats}
    inference = {
        "network_def": model.network,
        "network": "$@network_def.to('cpu')",
        "preprocessing": {"_target_": "Compose", "transforms": list(model.steps)},
        "inferer": model.inferer,
        "postprocessing": {"_target_": "Compose", "transforms": list(model.decisions)},
    }
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata))
    (folder / "configs" / "inference.json").write_text(json.dumps(inference))
    torch.save(dict(model.state), folder / "models" / "model.pt")
    return folder


_APP = """
import os
from monai.inferers import SimpleInferer
from monai.networks.nets import UNet
from monai.transforms import Activationsd, AsDiscreted, EnsureChannelFirstd, LoadImaged, ScaleIntensityRanged
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.tasks.infer_v2 import InferType
from monailabel.tasks.infer.basic_infer import BasicInferTask
from monailabel.transform.post import Restored


class OneByOne(BasicInferTask):
    def pre_transforms(self, data=None):
        return [
            LoadImaged(keys="image"),
            EnsureChannelFirstd(keys="image"),
            ScaleIntensityRanged(keys="image", a_min=-200.0, a_max=300.0, b_min=0.0, b_max=1.0, clip=True),
        ]

    def inferer(self, data=None):
        return SimpleInferer()

    def post_transforms(self, data=None):
        return [
            Activationsd(keys="pred", softmax=True),
            AsDiscreted(keys="pred", argmax=True),
            Restored(keys="pred", ref_image="image"),
        ]


class OneByOneApp(MONAILabelApp):
    def __init__(self, app_dir, studies, conf):
        self.model_dir = os.path.join(app_dir, "model")
        super().__init__(app_dir, studies, conf, name="One by one", description="1x1x1 convolutions", version="1")

    def init_infers(self):
        network = UNet(
            spatial_dims=3, in_channels=1, out_channels=2, norm="batch", channels=[2, 2], strides=[1],
            kernel_size=1, up_kernel_size=1, num_res_units=0,
        )
        path = os.path.join(self.model_dir, "one_by_one.pt")
        return {"one_by_one": OneByOne([path], network, InferType.SEGMENTATION, {"spleen": 1}, 3, "1x1x1")}

    def init_trainers(self):
        return {}
"""


def write_peer_app(model: SharedModel, folder: Path, stock: Path) -> Path:
    """Write what the peer is started with: an app of its own for `one_by_one`, else a copy of its sample app."""
    if model.name == ONE:
        folder.mkdir(parents=True)
        (folder / "main.py").write_text(_APP)
    else:
        shutil.copytree(stock, folder, ignore=shutil.ignore_patterns("__pycache__", "logs", "*.pt"))
    (folder / "model").mkdir(exist_ok=True)
    torch.save(dict(model.state), folder / "model" / f"{model.name}.pt")
    return folder
