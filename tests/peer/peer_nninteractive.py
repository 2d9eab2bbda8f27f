"""nnInteractive's own package answers prompts: run where its environment has been made, which takes 1.9 GB.

`annotate models env nninteractive` in the folder of `PEER_ENVIRONMENTS` makes it. The published weights are not needed:
the network of the release that is adopted here is made by hand and marks what the prompts cover.
"""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import oblique_geometry

from annotate_server.backends.environments.environment import READY_MARK, environments_folder, use_folder
from annotate_server.backends.nninteractive.adapter import NnInteractiveBackend, NnInteractiveModel
from annotate_server.domain.adoption import AdoptionOrder
from annotate_server.domain.labelmap import Labelmap, Segment
from annotate_server.domain.model import ModelVersion, Situation
from annotate_server.domain.ports import Control
from annotate_server.domain.prompt import Prompt, PromptKind
from annotate_server.domain.volume import Modality, Volume
from annotate_server.stores.adopted_apps import AdoptedApps
from annotate_server.testing.backend_conformance import BackendConformance, Labels, painted

_ROOT = Path(__file__).parents[2]
_KIND = "nninteractive"
SEGMENT = Segment(3, "Lesion", (200, 100, 50))
SHAPE = (30, 44, 37)

RELEASE = """
import json, sys
from pathlib import Path
import numpy as np
import torch
from nnInteractive.trainer.nnInteractiveTrainer import nnInteractiveTrainer_stub
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

folder = Path(sys.argv[1])
(folder / "fold_0").mkdir(parents=True)
resampling = {
    f"resampling_fn_{what}": "resample_data_or_seg_to_shape" for what in ("data", "seg", "probabilities")
} | {f"resampling_fn_{what}_kwargs": {} for what in ("data", "seg", "probabilities")}
architecture = {
    "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
    "arch_kwargs": {
        "n_stages": 2, "features_per_stage": [4, 4], "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3]] * 2, "strides": [[1, 1, 1], [2, 2, 2]], "n_conv_per_stage": [1, 1],
        "n_conv_per_stage_decoder": [1], "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d", "norm_op_kwargs": {"affine": True},
        "dropout_op": None, "dropout_op_kwargs": None, "nonlin": "torch.nn.LeakyReLU", "nonlin_kwargs": {},
    },
    "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
}
plans = {
    "dataset_name": "Dataset001", "plans_name": "plans", "label_manager": "LabelManager",
    "image_reader_writer": "SimpleITKIO", "transpose_forward": [0, 1, 2], "transpose_backward": [0, 1, 2],
    "configurations": {"small": {
        "data_identifier": "x", "preprocessor_name": "DefaultPreprocessor", "batch_size": 2, "spacing": [1, 1, 1],
        "patch_size": [32, 32, 32], "normalization_schemes": ["ZScoreNormalization"], "use_mask_for_norm": [False],
        "batch_dice": False, "architecture": architecture, **resampling,
    }},
}
(folder / "plans.json").write_text(json.dumps(plans))
dataset = {"channel_names": {"0": "image"}, "labels": {"background": 0, "object": 1}, "file_ending": ".nii.gz"}
(folder / "dataset.json").write_text(json.dumps(dataset))
(folder / "inference_session_class.json").write_text(json.dumps({"point_radius": 4, "interaction_decay": 0.9}))
(folder / "LICENSE").write_text("CC0 1.0\\n")
manager = PlansManager(plans)
make = nnInteractiveTrainer_stub.build_network_architecture
network = make(manager, manager.get_configuration("small"), 8, 2, enable_deep_supervision=False)
with torch.no_grad():
    for name, parameter in network.named_parameters():
        parameter.zero_()
        if name.endswith("norm.weight"):
            parameter.fill_(1.0)
    # What was segmented counts, and so does what positive prompts cover; what negative ones cover counts against it.
    signs = (0.0, 1.0, 1.0, -4.0, 1.0, -4.0, 1.0, -4.0)
    network.encoder.stages[0][0].convs[0].conv.weight[0, :, 1, 1, 1] = torch.tensor(signs)
    network.decoder.stages[0].convs[0].conv.weight[0, 4, 1, 1, 1] = 1.0  # the first feature beside the upsampled ones
    network.decoder.seg_layers[-1].weight[1, 0] = 1.0
    network.decoder.seg_layers[-1].bias[1] = -0.3
torch.save({
    "network_weights": network.state_dict(), "init_args": {"configuration": "small", "plans": plans},
    "trainer_name": "nnInteractiveTrainer_stub", "_best_ema": np.float64(0.5), "logging": {"lr": [np.float32(0.1)]},
}, folder / "fold_0" / "checkpoint_final.pth")
"""


@pytest.fixture(scope="session")
def environment() -> Iterator[Path]:
    folder = Path(os.environ.get("PEER_ENVIRONMENTS", _ROOT / ".venv-monailabel")).resolve()
    if not (folder / _KIND / READY_MARK).is_file():
        pytest.skip("the environment of nnInteractive takes 1.9 GB and is made by who wants it: see this module")
    before = environments_folder()
    use_folder(folder)
    yield folder / _KIND
    use_folder(before)


@pytest.fixture(scope="session")
def version(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelVersion:
    folder = tmp_path_factory.mktemp("release")
    done = subprocess.run(
        [str(environment / "bin" / "python"), "-I", "-c", RELEASE, str(folder / "release")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    backend = NnInteractiveBackend()
    assert backend.recognises(folder / "release")
    (folder / "scratch").mkdir()
    (app,) = backend.adopted(AdoptionOrder(folder / "release", "marks"), folder / "scratch", Control())
    kept = AdoptedApps(folder / "apps", folder / "partial").keep(app)
    assert kept.card.licence == "CC0 1.0"
    return ModelVersion(kept, {weight.name: kept.folder / weight.name for weight in kept.weights})


@pytest.fixture(scope="session")
def loaded(version: ModelVersion) -> Iterator[NnInteractiveModel]:
    model = NnInteractiveBackend().load(version, "cpu")
    yield model
    model.close()


@pytest.fixture
def model(loaded: NnInteractiveModel) -> NnInteractiveModel:
    return NnInteractiveModel(loaded._guest, loaded._parameters, loaded._licence)


@pytest.fixture
def volume() -> Volume:
    voxels = np.random.default_rng(0).normal(0, 20, SHAPE).astype(np.int16)
    return Volume(voxels, oblique_geometry(SHAPE), Modality.CT, "HU")


def prompt(volume: Volume, kind: PromptKind, *places: tuple[float, float, float], positive: bool = True) -> Prompt:
    points = tuple((float(x), float(y), float(z)) for x, y, z in volume.geometry.world(np.array(places, float)))
    return Prompt(kind, points, SEGMENT.index, positive)


def prompts_of(volume: Volume) -> tuple[Prompt, ...]:
    return (
        prompt(volume, PromptKind.POINT, (15, 20, 18)),
        prompt(volume, PromptKind.POINT, (15, 22, 18), positive=False),
        prompt(volume, PromptKind.BOX, (10, 12, 11), (14, 24, 20)),
        prompt(volume, PromptKind.SCRIBBLE, (12, 14, 12), (12, 20, 12), positive=False),
        prompt(volume, PromptKind.LASSO, (18, 10.3, 10.3), (18, 24.3, 10.3), (18, 24.3, 22.3), (18, 10.3, 22.3)),
    )


class TestNnInteractiveItself(BackendConformance):
    """The suite of every backend."""

    def situation(self, volume: Volume) -> Situation:
        upright = Volume(np.zeros(SHAPE, np.int16), oblique_geometry(SHAPE))
        return Situation(None, SEGMENT, frozenset(), prompts_of(upright)[:1])


def test_each_prompt_does_what_it_says_and_going_on_equals_beginning_anew(
    model: NnInteractiveModel, volume: Volume
) -> None:
    prompts = prompts_of(volume)
    labels: Labels = np.zeros(SHAPE, np.uint8)
    steps = []
    for count in range(1, len(prompts) + 1):
        before = Labelmap(labels.copy(), volume.geometry, (SEGMENT,))
        answer = model.predict({"CT": volume}, Situation(before, SEGMENT, frozenset(), prompts[:count]), Control())
        steps.append((before, answer))
        labels[answer.box.slices] = answer.labels
        if count == 1:
            assert labels[15, 20, 18]
            assert 20 < np.count_nonzero(labels) < 1000
        if count == 2:
            assert not labels[15, 22, 18]
        if count == 3:
            assert labels[12, 13, 12]
            assert not labels[10, 13, 12], "the box became its middle slice"
        if count == 4:
            assert not labels[12, 16, 12]
    assert labels[18, 11:24, 11:22].all()
    for count, (before, answer) in reversed(list(enumerate(steps, 1))):
        again = model.predict({"CT": volume}, Situation(before, SEGMENT, frozenset(), prompts[:count]), Control())
        np.testing.assert_array_equal(painted(again, volume), painted(answer, volume))
        assert again.box == answer.box
