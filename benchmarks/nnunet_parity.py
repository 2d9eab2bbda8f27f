"""Our `nnunet` backend against nnU-Net's own predictor: the same made-up weights, the same volumes, one run.

PEER/bin/python benchmarks/nnunet_parity.py [--golden tests/unit/backends/nnunet_golden] [--large]

PEER is an environment with `nnunetv2`, torch for the CPU and what annotate_server needs. Each case is a results folder
that nnU-Net's own network and `torch.save` make. nnU-Net adds class values up in half precision; `float32` is the same
predictor made to add them up in single precision, which shows what is rounding and what is not. `--golden` records what
the tests compare with where nnU-Net is not installed. `--large` drafts one larger CT with 24 structures by both, each
in a process of its own, and prints processor time and memory: a network of few features, so that the rest counts.
"""

import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/unit/backends")]
for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
    os.environ.setdefault(variable, tempfile.gettempdir())

import nnunet_files as files  # noqa: E402  found by the line above
import numpy as np  # noqa: E402
import torch  # noqa: E402
from nnunetv2.inference import predict_from_raw_data as reference  # noqa: E402
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer  # noqa: E402
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerNoMirroring import (  # noqa: E402
    nnUNetTrainerNoMirroring,
)
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans  # noqa: E402
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from torch import Tensor  # noqa: E402

from annotate_server.backends.devices import processor  # noqa: E402
from annotate_server.backends.nnunet.adapter import NnunetBackend  # noqa: E402
from annotate_server.backends.nnunet.loaded import LoadedNnunet  # noqa: E402
from annotate_server.backends.nnunet.preparing import network_input, placed  # noqa: E402
from annotate_server.domain.adoption import AdoptionOrder  # noqa: E402
from annotate_server.domain.model import ModelVersion, Situation  # noqa: E402
from annotate_server.domain.ports import Control  # noqa: E402
from annotate_server.domain.volume import Volume  # noqa: E402
from annotate_server.imaging.reorientation import reoriented  # noqa: E402
from annotate_server.stores.folder_apps import app_of  # noqa: E402

TRAINERS = {trainer.__name__: trainer for trainer in (nnUNetTrainer, nnUNetTrainerNoMirroring)}
reference.recursive_find_trainer_class_by_name = TRAINERS.__getitem__
"""nnU-Net would import every trainer that it has, and with them libraries for networks that are not compared here."""
Labels = NDArray[np.uint8] | NDArray[np.uint16]


def reference_weights(case: files.Case, fold: int) -> Mapping[str, Tensor]:
    """Return the state of nnU-Net's own network, filled with what the names make up."""
    plans = PlansManager(files.plans_words(case))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the old form of plans
        chosen = plans.get_configuration(case.configuration)
    network = get_network_from_plans(
        chosen.network_arch_class_name,
        chosen.network_arch_init_kwargs,
        chosen.network_arch_init_kwargs_req_import,
        1,
        plans.get_label_manager(files.dataset_words(case)).num_segmentation_heads,
        deep_supervision=False,
    )
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if not re.search(r"^decoder\.encoder\.|\.all_modules\.", name):
                value.copy_(files.made_up(name, tuple(value.shape), fold))
    return network.state_dict()


class _SinglePrecision:
    """torch, in which half precision is single precision."""

    half = torch.float32

    def __getattr__(self, name: str) -> object:
        return getattr(torch, name)


def reference_predictor(folder: Path, case: files.Case) -> reference.nnUNetPredictor:
    """Return nnU-Net's predictor on a results folder, on the CPU."""
    predictor = reference.nnUNetPredictor(
        device=torch.device("cpu"), perform_everything_on_device=False, allow_tqdm=False
    )
    predictor.initialize_from_trained_model_folder(str(folder), tuple(range(case.folds)))
    return predictor


def reference_labels(
    predictor: reference.nnUNetPredictor, nifti: Path, *, single: bool = False
) -> tuple[NDArray[np.float32], Labels]:
    """Return what nnU-Net feeds its network with (k, j, i), and its labels as it writes them, read as stored."""
    handler = predictor.plans_manager.image_reader_writer_class()
    voxels, properties = handler.read_images([str(nifti)])
    preprocessor = predictor.configuration_manager.preprocessor_class(verbose=False)
    values, _, _ = preprocessor.run_case_npy(
        voxels, None, dict(properties), predictor.plans_manager, predictor.configuration_manager, predictor.dataset_json
    )
    reference.torch = _SinglePrecision() if single else torch
    found = predictor.predict_single_npy_array(voxels, properties, None, None, False)
    reference.torch = torch
    written = nifti.with_name("labels.nii.gz")
    handler.write_seg(found, str(written), properties)
    return values[0], files.sitk.GetArrayFromImage(files.sitk.ReadImage(str(written)))


def adopted(folder: Path, scratch: Path) -> LoadedNnunet:
    """Return the results folder as our backend takes it over and loads it."""
    scratch.mkdir()
    (made,) = NnunetBackend().adopted(AdoptionOrder(folder), scratch, Control())
    return NnunetBackend().load(ModelVersion(app_of(made.table, made.name, scratch, "0" * 64), made.files), "cpu")


@dataclass(frozen=True)
class Agreement:
    """What one case gave; shares of all voxels."""

    name: str
    voxels: int
    labels: int
    largest_input_difference: float
    equal: float
    equal_single: float
    half_against_single: float


def compared(case: files.Case, folder: Path, golden: Path | None) -> Agreement:
    """Return how far both agree on a case, and record the reference where asked to."""
    results = files.write_results(folder, case, reference_weights)
    volume, nifti = files.phantom(case), folder / "volume.nii.gz"
    turn = reoriented(volume.geometry, "SAR") if case.is_turned_before else None
    given = volume if turn is None else Volume(turn.apply(volume.voxels), turn.geometry)
    files.write_nifti(given, nifti)
    predictor = reference_predictor(results, case)
    values, labels = reference_labels(predictor, nifti)
    _, single = reference_labels(predictor, nifti, single=True)
    labels, single = (each if turn is None else turn.undo(each) for each in (labels, single))
    model = adopted(results, folder / "adopted")
    placing = placed(volume, model.plan, model.parameters.orientation)
    own_values = network_input(volume, model.plan, placing)
    own = model.predict({"volume": volume}, Situation(), Control()).labels
    if golden is not None:
        golden.mkdir(exist_ok=True)
        np.savez_compressed(
            golden / f"{case.name}.npz",
            shape=values.shape,
            values=files.thinned(values),
            labels=single.astype(np.uint8),
        )
    return Agreement(
        name=case.name,
        voxels=own.size,
        labels=len(np.unique(own)),
        largest_input_difference=float(np.abs(values - own_values).max()),
        equal=float((own == labels).mean()),
        equal_single=float((own == single).mean()),
        half_against_single=float((labels == single).mean()),
    )


LARGE = replace(
    files.CASES["totalsegmentator"],
    network=files.architecture("Plain", [4, 8], [[1, 1, 1], [2, 2, 2]]),
    patch=(96, 96, 96),
    volume_mm=(3.0, 0.8, 0.8),
    volume_shape=(120, 384, 384),
)


def drafted(who: str, folder: Path) -> str:
    """Draft the large CT by one of both, in this process; return its processor time and memory."""
    results, nifti = folder / LARGE.dataset, folder / "volume.nii.gz"
    trained = next(results.iterdir())
    if who == "ours":
        volume, model = files.phantom(LARGE), adopted(trained, folder / "adopted")
    else:
        predictor = reference_predictor(trained, LARGE)
        voxels, properties = predictor.plans_manager.image_reader_writer_class().read_images([str(nifti)])
    before_kb, begun, wall = (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        time.process_time(),
        time.perf_counter(),
    )
    if who == "ours":
        model.predict({"volume": volume}, Situation(), Control())
    else:
        predictor.predict_single_npy_array(voxels, properties, None, None, False)
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    spent, waited = time.process_time() - begun, time.perf_counter() - wall
    return (
        f"{who}: {spent:.0f} s of processor, {waited:.0f} s, {before_kb >> 10} MB before and {peak_kb >> 10} MB at most"
    )


def large() -> None:
    """Draft one larger CT by both and print what it took."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        files.write_results(folder, LARGE, reference_weights)
        files.write_nifti(files.phantom(LARGE), folder / "volume.nii.gz")
        for who in ("nnU-Net", "ours"):
            subprocess.run([sys.executable, "-W", "ignore", __file__, "--drafted", who, text], check=True)  # noqa: S603


def main() -> None:
    """Print the table."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--golden", type=Path)
    options.add_argument("--cases", nargs="*", default=list(files.CASES))
    options.add_argument("--large", action="store_true")
    options.add_argument("--drafted", nargs=2, help=argparse.SUPPRESS)
    asked = options.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    if asked.drafted:
        tell(drafted(asked.drafted[0], Path(asked.drafted[1])))
        return
    tell(f"{processor().name}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    if asked.large:
        large()
        return
    for name in asked.cases:
        with tempfile.TemporaryDirectory() as folder:
            tell(str(compared(files.CASES[name], Path(folder), asked.golden)))


def tell(line: str) -> None:
    """Print a line at once: other processes print between them."""
    print(line, flush=True)  # noqa: T201  a script for people


if __name__ == "__main__":
    main()
