"""Results folders of nnU-Net v2 as it lays them out, with weights made up from their names: the same everywhere."""

import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray
from torch import Tensor

from annotate_server.backends.nnunet.facts import Fact
from annotate_server.backends.nnunet.network import build
from annotate_server.backends.nnunet.plans import plan_of
from annotate_server.domain.geometry import Geometry, Shape, Vector
from annotate_server.domain.volume import Modality, Volume
from annotate_server.imaging.resampling import as_sitk

Words = dict[str, object]


@dataclass(frozen=True)
class Case:
    """One trained configuration and a volume to run it on; spacings (k, j, i) in mm."""

    name: str
    network: Words
    patch: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    volume_mm: Vector
    volume_shape: Shape
    dataset: str = "Dataset900_Phantom"
    trainer: str = "nnUNetTrainer"
    configuration: str = "3d_fullres"
    channel: str = "CT"
    scheme: str = "CTNormalization"
    is_masked: bool = False
    reader: str = "SimpleITKIO"
    transpose: tuple[int, int, int] = (0, 1, 2)
    labels: Words = field(default_factory=lambda: numbered(4))
    regions_class_order: tuple[int, ...] = ()
    mirror_axes: tuple[int, ...] | None = (0, 1, 2)
    folds: int = 1
    resampling: str = "resample_data_or_seg_to_shape"
    is_turned_before: bool = False
    """What TotalSegmentator does: volumes are turned to RAS before nnU-Net sees them."""

    @property
    def modality(self) -> Modality:
        """Return that of the volume."""
        return Modality.CT if self.channel == "CT" else Modality.MR


def numbered(count: int) -> Words:
    """Return the labels of `count` structures and background."""
    return {"background": 0, **{f"structure_{n}": n for n in range(1, count + 1)}}


def architecture(kind: str, features: list[int], strides: list[list[int]], **changes: object) -> Words:
    """Return the network of plans since nnU-Net 2.4; `kind` is Plain or Residual."""
    sides = len(strides[0])
    stages = len(features)
    is_residual = kind == "Residual"
    name = "ResidualEncoderUNet" if is_residual else "PlainConvUNet"
    counts = {"n_blocks_per_stage": [1, 2, 2][:stages]} if is_residual else {"n_conv_per_stage": [2] * stages}
    kernels = [[1, 3, 3][-sides:], *[[3] * sides] * (stages - 1)]
    words: Words = {
        "n_stages": stages,
        "features_per_stage": features,
        "conv_op": f"torch.nn.modules.conv.Conv{sides}d",
        "kernel_sizes": kernels,
        "strides": strides,
        **counts,
        "n_conv_per_stage_decoder": [1 if is_residual else 2] * (stages - 1),
        "conv_bias": True,
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{sides}d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
        **changes,
    }
    return {
        "architecture": {
            "network_class_name": f"dynamic_network_architectures.architectures.unet.{name}",
            "arch_kwargs": words,
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        }
    }


def old_network(strides: list[list[int]]) -> Words:
    """Return the network of plans before nnU-Net 2.4."""
    stages = len(strides)
    return {
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 6,
        "unet_max_num_features": 10,
        "n_conv_per_stage_encoder": [2] * stages,
        "n_conv_per_stage_decoder": [2] * (stages - 1),
        "num_pool_per_axis": [stages - 1] * len(strides[0]),
        "pool_op_kernel_sizes": strides,
        "conv_kernel_sizes": [[3] * len(strides[0])] * stages,
    }


_ANISOTROPIC = [[1, 1, 1], [1, 2, 2], [2, 2, 2]]
_ISOTROPIC = [[1, 1, 1], [2, 2, 2], [2, 2, 2]]
CASES = {
    case.name: case
    for case in (
        Case(
            "plain_ct_thick_slices",
            architecture("Plain", [6, 8, 10], _ANISOTROPIC),
            patch=(8, 32, 24),
            spacing_mm=(4.0, 1.0, 1.0),
            volume_mm=(5.0, 0.8, 0.9),
            volume_shape=(13, 52, 41),
            folds=2,
        ),
        Case(
            "residual_mr_masked_transposed",
            architecture("Residual", [6, 8, 10], _ISOTROPIC),
            patch=(24, 16, 20),
            spacing_mm=(1.3, 1.2, 1.4),
            volume_mm=(1.5, 1.0, 1.7),
            volume_shape=(31, 38, 25),
            configuration="3d_lowres",
            channel="T1w",
            scheme="ZScoreNormalization",
            is_masked=True,
            transpose=(1, 2, 0),
            mirror_axes=(0, 2),
        ),
        Case(
            "regions_turned_to_ras",
            architecture("Residual", [6, 8, 10], _ISOTROPIC),
            patch=(16, 24, 20),
            spacing_mm=(1.6, 1.1, 1.2),
            volume_mm=(1.2, 1.4, 1.0),
            volume_shape=(29, 27, 33),
            channel="MR",
            scheme="RescaleTo01Normalization",
            reader="NibabelIOWithReorient",
            labels={"background": 0, "whole_tumour": [1, 2, 3], "core": [2, 3], "enhancing": [3]},
            regions_class_order=(1, 2, 3),
            mirror_axes=(2,),
        ),
        Case(
            "slices_old_plans",
            old_network([[1, 1], [2, 2], [2, 2]]),
            patch=(32, 24),
            spacing_mm=(1.1, 0.9),
            volume_mm=(4.2, 0.9, 1.2),
            volume_shape=(7, 45, 38),
            configuration="2d",
            scheme="NoNormalization",
            channel="MR",
            mirror_axes=(0, 1),
        ),
        Case(
            "batch_norm_linear_thick_columns",
            architecture(
                "Plain",
                [6, 8, 10],
                [[1, 1, 1], [2, 2, 1], [2, 2, 2]],
                norm_op="torch.nn.modules.batchnorm.BatchNorm3d",
                norm_op_kwargs={},
                nonlin="torch.nn.modules.activation.ELU",
                nonlin_kwargs={},
                nonlin_first=True,
                conv_bias=False,
            ),
            patch=(20, 24, 8),
            spacing_mm=(1.1, 1.0, 4.4),
            volume_mm=(0.9, 1.2, 3.6),
            volume_shape=(36, 31, 14),
            channel="MR",
            scheme="ZScoreNormalization",
            labels=numbered(2),
            mirror_axes=(0, 1),
            resampling="resample_torch_fornnunet",
        ),
        Case(
            "totalsegmentator",
            architecture("Plain", [6, 8, 10], _ISOTROPIC),
            patch=(16, 16, 24),
            spacing_mm=(1.5, 1.5, 1.5),
            volume_mm=(2.5, 0.9, 0.9),
            volume_shape=(17, 43, 51),
            dataset="Dataset291_TotalSegmentator_part1_organs_1559subj",
            trainer="nnUNetTrainerNoMirroring",
            labels=numbered(24),
            mirror_axes=None,
            is_turned_before=True,
        ),
    )
}  # fmt: skip


def dataset_words(case: Case) -> Words:
    """Return dataset.json."""
    order = {"regions_class_order": list(case.regions_class_order)} if case.regions_class_order else {}
    return {"channel_names": {"0": case.channel}, "labels": case.labels, "file_ending": ".nii.gz", **order}


def plans_words(case: Case) -> Words:
    """Return plans.json; half of the configuration is inherited, as nnU-Net's planners write it."""
    is_linear = case.resampling == "resample_torch_fornnunet"
    words = {
        kind: {"force_separate_z": None, "is_seg": kind == "seg"}
        | ({"memefficient_seg_resampling": False} if is_linear else {"order": order, "order_z": 0})
        for kind, order in (("data", 3), ("seg", 1), ("probabilities", 1))
    }
    resampled: Words = {f"resampling_fn_{kind}": case.resampling for kind in words}
    resampled |= {f"resampling_fn_{kind}_kwargs": each for kind, each in words.items()}
    own: Words = {
        "inherits_from": "common",
        "data_identifier": "nnUNetPlans_3d",
        "batch_size": 2,
        "patch_size": list(case.patch),
        "spacing": list(case.spacing_mm),
        "normalization_schemes": [case.scheme],
        "use_mask_for_norm": [case.is_masked],
        "batch_dice": False,
        **case.network,
    }
    return {
        "dataset_name": case.dataset,
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": list(case.volume_mm),
        "original_median_shape_after_transp": list(case.volume_shape),
        "image_reader_writer": case.reader,
        "transpose_forward": list(case.transpose),
        "transpose_backward": [int(axis) for axis in np.argsort(case.transpose)],
        "configurations": {
            "common": {"preprocessor_name": "DefaultPreprocessor", **resampled},
            case.configuration: own,
        },
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            "0": {
                **{"max": 1900.0, "mean": 71.5, "median": 70.0, "min": -900.0},
                **{"percentile_00_5": -310.0, "percentile_99_5": 420.0, "std": 121.0},
            }
        },
    }


def made_up(name: str, shape: tuple[int, ...], fold: int) -> Tensor:
    """Return the weights of a name, so large that features neither die out nor explode."""
    rng = np.random.default_rng(zlib.crc32(f"{fold}:{name}".encode()))
    if name.endswith("num_batches_tracked"):
        return torch.tensor(1000)
    if name.endswith("running_var"):
        values = rng.uniform(0.5, 1.5, shape)
    elif len(shape) > 1:
        values = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
    else:
        values = rng.normal(1.0 if name.endswith("norm.weight") else 0.0, 0.2, shape)
    return torch.from_numpy(values.astype(np.float32))


def own_weights(case: Case, fold: int) -> Mapping[str, Tensor]:
    """Return the weights of a fold by the names of our network, and once more by others that nnU-Net writes too."""
    plan = plan_of(Fact(plans_words(case), "plans"), Fact(dataset_words(case), "dataset"), case.configuration)
    network = build(plan.network, 1, plan.outputs.count)
    weights = {name: made_up(name, tuple(value.shape), fold) for name, value in network.state_dict().items()}
    again = {f"decoder.{name}": value for name, value in weights.items() if name.startswith("encoder.")}
    return {**weights, **again}


def checkpoint(case: Case, weights: Mapping[str, Tensor], fold: int) -> Words:
    """Return what nnU-Net saves at the end of a training, logs with numpy's numbers included."""
    arguments = {"plans": plans_words(case), "configuration": case.configuration, "fold": fold}
    return {
        "network_weights": dict(weights),
        "optimizer_state": {"state": {}, "param_groups": [{"lr": 0.01, "params": [0, 1]}]},
        "grad_scaler_state": None,
        "logging": {"mean_fg_dice": [np.float64(0.5)], "train_losses": [np.float32(0.1)]},
        "_best_ema": np.float64(0.7),
        "current_epoch": 1000,
        "init_args": {**arguments, "dataset_json": dataset_words(case), "device": torch.device("cpu")},
        "trainer_name": case.trainer,
        "inference_allowed_mirroring_axes": case.mirror_axes,
    }


def write_results(
    parent: Path, case: Case, weights_of: Callable[[Case, int], Mapping[str, Tensor]] = own_weights
) -> Path:
    """Write `Dataset…/TRAINER__PLANS__CONFIGURATION` below a folder, and return it."""
    folder = parent / case.dataset / f"{case.trainer}__nnUNetPlans__{case.configuration}"
    folder.mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plans_words(case)))
    (folder / "dataset.json").write_text(json.dumps(dataset_words(case)))
    for fold in range(case.folds):
        (folder / f"fold_{fold}").mkdir()
        torch.save(checkpoint(case, weights_of(case, fold), fold), folder / f"fold_{fold}" / "checkpoint_final.pth")
    return folder


def phantom(case: Case) -> Volume:
    """Return a volume of the case: oblique, three different sides, blobs in noise, zero around an MR."""
    shape, rng = case.volume_shape, np.random.default_rng(11)
    a, b = np.deg2rad(14.0), np.deg2rad(-21.0)
    turn = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    turn = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]]) @ turn
    affine = np.eye(4)
    affine[:3, :3] = turn[:, ::-1] * np.array(case.volume_mm)
    affine[:3, 3] = (-30.5, 12.25, 90.0)
    places = np.indices(shape) / np.array(shape).reshape(3, 1, 1, 1)
    waves = sum(np.sin(3 * (n + 1) * places[n] * np.pi + n) for n in range(3))
    voxels = np.round(180 * waves + rng.normal(0, 25, shape))
    if case.channel != "CT":
        radius = np.sqrt(sum((places[n] - 0.5) ** 2 for n in range(3)))
        voxels = np.where(radius < 0.42, voxels + 700, 0)
        voxels[:, :, :3] = 0
    return Volume(voxels.astype(np.int16), Geometry.from_affine(affine, shape), case.modality)


def write_nifti(volume: Volume, path: Path) -> None:
    """Write a volume as nnU-Net is given it."""
    sitk.WriteImage(as_sitk(volume.voxels, volume.geometry), str(path))


def thinned(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return some of an array's values: enough to tell every axis and every border from another."""
    return values.ravel()[:: max(1, values.size // 400)].copy()
