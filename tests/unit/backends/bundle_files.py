"""MONAI bundles in the layout in which they are published, with small networks and weights of our own."""

import copy
import json
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from conftest import oblique_geometry
from scipy import ndimage

from annotate_server.backends.monai_bundle.adapter import MonaiBundleBackend
from annotate_server.backends.monai_bundle.config import Config
from annotate_server.backends.monai_bundle.network import plan_from
from annotate_server.domain.adoption import AdoptedApp, AdoptionOrder
from annotate_server.domain.model import ModelVersion
from annotate_server.domain.ports import Control
from annotate_server.domain.volume import Modality, Volume
from annotate_server.stores.folder_apps import app_of

_DEVICE = "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')"
_SAVED = {
    "_target_": "SaveImaged",
    "keys": "pred",
    "output_dir": "@output_dir",
    "output_ext": "@output_ext",
    "output_dtype": "@output_dtype",
}


def _inverted(*, nearest: bool) -> dict:
    return {
        "_target_": "Invertd",
        "keys": "pred",
        "transform": "@preprocessing",
        "orig_keys": "@image_key",
        "nearest_interp": nearest,
        "to_tensor": True,
    }


def _transform(name: str, **arguments: object) -> dict:
    return {"_target_": name, "keys": "@image_key", **arguments}


def inference(network: Mapping, preprocessing: list, inferer: Mapping, postprocessing: list) -> dict:
    """Return an inference.json with what the published ones have around these four."""
    return {
        "imports": ["$import glob", "$import numpy", "$import os"],
        "displayable_configs": {"highres": True, "sw_overlap": 0.25},
        "bundle_root": ".",
        "image_key": "image",
        "output_dir": "$@bundle_root + '/eval'",
        "output_ext": ".nii.gz",
        "output_dtype": "$numpy.float32",
        "load_pretrain": True,
        "dataset_dir": "/workspace/data",
        "datalist": "$list(sorted(glob.glob(@dataset_dir + '/imagesTs/*.nii.gz')))",
        "device": _DEVICE,
        "pixdim": "$[2.7, 2.3, 2.9] if @displayable_configs#highres else [6.0, 6.0, 6.0]",
        "network_def": dict(network),
        "network": "$@network_def.to(@device)",
        "preprocessing": {"_target_": "Compose", "transforms": preprocessing},
        "dataset": {"_target_": "Dataset", "data": "$[{'image': i} for i in @datalist]"},
        "inferer": dict(inferer),
        "postprocessing": {"_target_": "Compose", "transforms": [*postprocessing, _SAVED]},
        "evaluator": {"_target_": "SupervisedEvaluator", "network": "@network", "amp": True},
        "checkpointloader": {
            "_target_": "CheckpointLoader",
            "load_path": "$@bundle_root + '/models/model.pt'",
            "load_dict": {"model": "@network"},
        },
        "initialize": ["$setattr(torch.backends.cudnn, 'benchmark', True)"],
        "run": ["$@evaluator.run()"],
    }


SPLEEN = inference(
    {
        "_target_": "UNet",
        "spatial_dims": 3,
        "in_channels": 1,
        "out_channels": 2,
        "channels": [4, 8, 8],
        "strides": [2, 2],
        "num_res_units": 2,
        "norm": "batch",
    },
    [
        _transform("LoadImaged"),
        _transform("EnsureChannelFirstd"),
        _transform("Orientationd", axcodes="RAS"),
        _transform("Spacingd", pixdim=[2.5, 2.5, 3.0], mode="bilinear"),
        _transform("ScaleIntensityRanged", a_min=-57, a_max=164, b_min=0, b_max=1, clip=True),
        _transform("EnsureTyped"),
    ],
    {"_target_": "SlidingWindowInferer", "roi_size": [24, 24, 16], "sw_batch_size": 4, "overlap": 0.5},
    [
        {"_target_": "Activationsd", "keys": "pred", "softmax": True},
        _inverted(nearest=False),
        {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
    ],
)
"""As spleen_ct_segmentation: probabilities go back to the volume, windows count the same everywhere."""

WHOLE_BODY = inference(
    {
        "_target_": "SegResNet",
        "spatial_dims": 3,
        "in_channels": 1,
        "out_channels": 6,
        "init_filters": 8,
        "blocks_down": [1, 1],
        "blocks_up": [1],
        "dropout_prob": 0.2,
    },
    [
        _transform("LoadImaged"),
        _transform("EnsureTyped"),
        _transform("EnsureChannelFirstd"),
        _transform("Orientationd", axcodes="RAS"),
        _transform("Spacingd", pixdim="@pixdim", mode="bilinear"),
        _transform("NormalizeIntensityd", nonzero=True),
        _transform("ScaleIntensityd", minv=-1.0, maxv=1.0),
    ],
    {
        "_target_": "SlidingWindowInferer",
        "roi_size": [24, 24, 32],
        "sw_batch_size": 1,
        "overlap": "@displayable_configs#sw_overlap",
        "padding_mode": "replicate",
        "mode": "gaussian",
        "device": _DEVICE,
    },
    [
        {"_target_": "Activationsd", "keys": "pred", "softmax": True},
        {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
        _inverted(nearest=True),
    ],
)
"""As wholeBody_ct_segmentation: labels are made on the network's grid and taken from the nearest voxel."""

PEDIATRIC = copy.deepcopy(SPLEEN)
PEDIATRIC["network_def"] = {
    "_target_": "monai.networks.nets.DynUNet",
    "spatial_dims": "$len(@pixdim)",
    "in_channels": 1,
    "out_channels": 2,
    "kernel_size": [3, 3, 3],
    "strides": [1, 2, [2, 2, 1]],
    "upsample_kernel_size": [2, [2, 2, 1]],
    "filters": [4, 8, 8],
    "norm_name": "instance",
    "deep_supervision": False,
    "res_block": True,
}
PEDIATRIC["preprocessing"]["transforms"][5:] = [
    {**_transform("CropForegroundd", source_key="@image_key", mode=["minimum"]), "keys": ["@image_key"]},
    _transform("CastToTyped", dtype="$torch.float32"),
]
"""As pediatric_abdominal_ct_segmentation: a DynUNet that sees what lies around the body."""


def metadata(names: list[str], **changes: object) -> dict:
    """Return a metadata.json for these channels."""
    return {
        "version": "0.5.9",
        "name": "Spleen CT segmentation",
        "description": "A pre-trained model for volumetric (3D) segmentation",
        "authors": "MONAI team",
        "copyright": "Copyright (c) MONAI Consortium",
        "eval_metrics": {"mean_dice": 0.961},
        "intended_use": "This is an example, not to be used for diagnostic purposes",
        "network_data_format": {
            "inputs": {"image": {"modality": "CT", "num_channels": 1}},
            "outputs": {"pred": {"num_channels": len(names), "channel_def": {str(n): t for n, t in enumerate(names)}}},
        },
        **changes,
    }


def spread_state(config: Mapping, seed: int = 0) -> dict[str, torch.Tensor]:
    """Return random weights that make every class the likeliest somewhere, as training would."""
    plan = plan_from(Config(config, "bundle").get("network_def"), "network_def")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = plan.build().eval()
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm3d):
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.5, 1.5)
        with torch.no_grad():
            seen = network(torch.rand(1, 1, 32, 32, 32)).mean((0, 2, 3, 4))
    state = network.state()
    last = [key for key, value in state.items() if key.endswith("bias") and value.shape == seen.shape][-1]
    return {**state, last: state[last] - seen}


def write_bundle(
    folder: Path, config: Mapping = SPLEEN, names: tuple[str, ...] = ("background", "spleen"), **changes: object
) -> Path:
    """Write a bundle into a new folder; `changes` are to its metadata."""
    for part in ("configs", "docs", "models"):
        (folder / part).mkdir(parents=True)
    (folder / "configs/metadata.json").write_text(json.dumps(metadata(list(names), **changes)))
    (folder / "configs/inference.json").write_text(json.dumps(config))
    (folder / "docs/LICENSE").write_text("\n  Apache License\n  Version 2.0\n")
    torch.save(spread_state(config), folder / "models/model.pt")
    return folder


def zipped(folder: Path, archive: Path, *, below: str = "") -> Path:
    """Pack a bundle's folder, below a folder of its own where `below` names one."""
    with zipfile.ZipFile(archive, "w") as opened:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                opened.write(path, f"{below}{path.relative_to(folder).as_posix()}")
    return archive


def adopted(source: Path, scratch: Path, **changes: object) -> AdoptedApp:
    """Take a bundle over."""
    scratch.mkdir(exist_ok=True)
    (app,) = MonaiBundleBackend().adopted(AdoptionOrder(source, **changes), scratch, Control())
    return app


def version_of(app: AdoptedApp) -> ModelVersion:
    """Return the version that an adopted app becomes."""
    return ModelVersion(app_of(app.table, app.name, Path(), "0" * 64), app.files)


def abdomen(shape: tuple[int, int, int] = (30, 90, 52), seed: int = 3) -> Volume:
    """Return an oblique CT of 3.1 x 0.7 x 1.3 mm: soft structures of many intensities in air."""
    geometry = oblique_geometry(shape)
    random = np.random.default_rng(seed)
    coarse = ndimage.gaussian_filter(random.normal(0, 1, shape), (1.5, 5, 3))
    k, j, i = np.indices(shape)
    centre = [(side - 1) / 2 for side in shape]
    inside = sum(((n - c) / (0.46 * side)) ** 2 for n, c, side in zip((k, j, i), centre, shape, strict=True)) < 1
    voxels = np.where(inside, 50 + 400 * coarse, -1000)
    return Volume(voxels.round().astype(np.int16), geometry, Modality.CT, "HU")


def write_nifti(volume: Volume, path: Path) -> Path:
    """Write a volume as a scanner's converter does."""
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.geometry.affine[:, [2, 1, 0, 3]]
    nib.save(nib.Nifti1Image(np.asarray(volume.voxels).transpose(2, 1, 0), affine), path)
    return path


def reference_labels(bundle: Path, nifti: Path) -> np.ndarray:
    """Return the labels (k, j, i) that MONAI itself makes by a bundle's configuration."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from monai.bundle import ConfigParser  # noqa: PLC0415  its import warns

        config = json.loads((bundle / "configs/inference.json").read_text())
        config["bundle_root"] = str(bundle)
        config["postprocessing"]["transforms"].pop()
        parser = ConfigParser(config)
        network = parser.get_parsed_content("network").eval()
        network.load_state_dict(torch.load(bundle / "models/model.pt", weights_only=True))
        found = parser.get_parsed_content("preprocessing")({"image": str(nifti)})
        with torch.inference_mode():
            found["pred"] = parser.get_parsed_content("inferer")(found["image"][None], network)[0]
        labels = parser.get_parsed_content("postprocessing")(found)["pred"]
    return np.asarray(labels[0]).transpose(2, 1, 0)
