"""The published networks on real heads: parity with plain PyTorch, anatomy, orientation."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from annotate_server.backends.meshnet.adapter import MeshNetBackend
from annotate_server.backends.meshnet.chain import Activation, Chain
from annotate_server.backends.meshnet.conform import conform
from annotate_server.backends.meshnet.engine import Engine
from annotate_server.backends.meshnet.parameters import read_parameters
from annotate_server.backends.meshnet.standardise import network_input
from annotate_server.backends.meshnet.tfjs import read_chain
from annotate_server.domain.case import Format, PatientKey, StoredVolume
from annotate_server.domain.errors import NotMadeFor
from annotate_server.domain.model import App, ModelVersion, Situation
from annotate_server.domain.ports import Control
from annotate_server.domain.volume import Modality, Volume
from annotate_server.imaging.reading import read_volume
from annotate_server.imaging.reorientation import reoriented
from annotate_server.stores.folder_apps import read_app

pytestmark = pytest.mark.real_data

NETWORKS = {
    "brain_t1": "model30chan18cls",
    "brain_t1_104": "model21_104class",
    "brain_tissue": "model11_gw_ae",
    "skull_strip": "mindgrab",
}
WEIGHTS = "17_models_meshnet_brainchop/models"
T1 = "15_brain_volumes/t1_crop_conformed256_LIA.nii.gz"


def version(test_data: Path, name: str) -> ModelVersion:
    app = read_app(Path(__file__).parents[2] / "apps" / name)
    folder = test_data / WEIGHTS / NETWORKS[name]
    return ModelVersion(app, {weight.name: folder / weight.name for weight in app.weights})


def nifti(path: Path) -> Volume:
    return read_volume(StoredVolume(path.name, Format.NIFTI, (path,), PatientKey("", path.name, known=False)))


def drafted(test_data: Path, name: str, volume: Volume) -> tuple[App, NDArray[np.uint8]]:
    """Return the app and its labels on the whole volume."""
    made = version(test_data, name)
    prediction = MeshNetBackend().load(made, "cpu").predict({"T1": volume}, Situation(), Control())
    labels = np.zeros(volume.geometry.shape, np.uint8)
    labels[prediction.box.slices] = prediction.labels
    return made.app, labels


def volumes_ml(app: App, labels: NDArray[np.uint8], volume: Volume) -> dict[str, float]:
    counts = np.bincount(labels.ravel(), minlength=len(app.card.segments) + 1)
    return {segment.name: float(counts[segment.index]) * volume.geometry.voxel_ml for segment in app.card.segments}


def plain_labels(chain: Chain, values: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the labels of the chain as plain convolutions on the whole crop."""
    features = torch.from_numpy(values)[None, None]
    for layer in (*chain.body, chain.head):
        kernel, bias = torch.from_numpy(layer.kernel), layer.bias
        padding = layer.dilation * (kernel.shape[2] // 2)
        added = None if bias is None else torch.from_numpy(bias.copy())
        features = functional.conv3d(features, kernel, added, padding=padding, dilation=layer.dilation)
        if layer.normalised:
            features = functional.instance_norm(features)
        if layer.activation is not Activation.LINEAR:
            features = getattr(functional, layer.activation.value)(features)
    return features.argmax(1)[0].numpy()


@pytest.mark.parametrize("name", NETWORKS)
def test_installed_weights_are_those_that_the_app_names(name: str, test_data: Path) -> None:
    made = version(test_data, name)
    for weight in made.app.weights:
        assert made.files[weight.name].stat().st_size == weight.size_bytes
    assert read_chain(made.files).classes == len(made.app.card.segments) + 1


@pytest.mark.parametrize("name", NETWORKS)
def test_published_network_gives_the_labels_of_plain_convolutions_on_a_crop(name: str, test_data: Path) -> None:
    made = version(test_data, name)
    conformed = conform(nifti(test_data / T1)).voxels[100:148, 90:145, 100:152]
    values = network_input(conformed, read_parameters(made.app.parameters, name)).values
    chain = read_chain(made.files)
    labels = Engine(chain, "cpu").labels(values, Control())
    with torch.inference_mode():
        expected = plain_labels(chain, values)
    assert len(np.unique(expected)) > 1
    assert (labels == expected).mean() >= 0.9999


def test_one_head_in_24_orientations_is_conformed_to_the_same_voxels(test_data: Path) -> None:
    paths = sorted((test_data / "16_nifti_48_orientations").glob("*.nii.gz"))
    assert len(paths) == 24
    first = conform(nifti(paths[0]))
    for path in paths[1:]:
        other = conform(nifti(path))
        assert np.array_equal(first.voxels, other.voxels), path.name
        assert first.geometry.matches(other.geometry), path.name


def test_ct_and_a_crop_are_refused(test_data: Path) -> None:
    model = MeshNetBackend().load(version(test_data, "brain_t1"), "cpu")
    phantom = nifti(test_data / "15_brain_volumes" / "CT_pitch.nii.gz")
    with pytest.raises(NotMadeFor, match="it is CT"):
        model.predict({"CT": Volume(phantom.voxels, phantom.geometry, Modality.CT)}, Situation(), Control())
    crop = sorted((test_data / "01_hippocampus_msd").rglob("hippocampus_*.nii.gz"))[0]
    with pytest.raises(NotMadeFor, match="whole heads"):
        model.predict({"T1": nifti(crop)}, Situation(), Control())


@pytest.mark.slow
def test_structures_of_a_whole_t1_have_plausible_volumes(test_data: Path) -> None:
    volume = nifti(test_data / T1)
    app, labels = drafted(test_data, "brain_t1", volume)
    ml = volumes_ml(app, labels, volume)
    plausible = {  # adult reference ranges of both sides together, generously
        "Cerebral white matter": (380, 620),
        "Cerebral cortex": (400, 700),
        "Lateral ventricle": (8, 60),
        "Cerebellar cortex": (80, 150),
        "Thalamus": (11, 22),
        "Caudate nucleus": (5, 11),
        "Putamen": (7, 15),
        "Globus pallidus": (2.5, 5),
        "Brain stem": (15, 32),
        "Hippocampus": (5, 10),
        "Amygdala": (2, 5),
    }
    for name, (low, high) in plausible.items():
        assert low <= ml[name] <= high, (name, ml[name])
    assert 1000 <= sum(ml.values()) <= 1600


@pytest.mark.slow
def test_left_is_left_in_the_parcellation(test_data: Path) -> None:
    volume = nifti(test_data / T1)
    app, labels = drafted(test_data, "brain_t1_104", volume)
    for structure in ("hippocampus", "precentral gyrus", "thalamus", "cerebellar cortex"):
        middles = {}
        for side in ("Left", "Right"):
            index = app.card.segment(f"{side} {structure}").index
            middles[side] = float(volume.geometry.world(np.argwhere(labels == index)).mean(axis=0)[0])
        assert middles["Left"] - middles["Right"] > 15, structure


@pytest.mark.slow
def test_tissue_lies_where_its_grey_level_says(test_data: Path) -> None:
    volume = nifti(test_data / T1)
    app, labels = drafted(test_data, "brain_tissue", volume)
    ml = volumes_ml(app, labels, volume)
    assert 0.5 < ml["White matter"] / ml["Grey matter"] < 1.0
    white, grey = (float(volume.voxels[labels == index].mean()) for index in (1, 2))
    assert white > grey * 1.15


@pytest.mark.slow
@pytest.mark.parametrize("code", ["PSL", "ARI"])
def test_another_orientation_gives_the_same_labels_in_space(code: str, test_data: Path) -> None:
    found = []
    for name in ("LIA", code):
        volume = nifti(test_data / "16_nifti_48_orientations" / f"{name}.nii.gz")
        _, labels = drafted(test_data, "brain_tissue", volume)
        found.append(reoriented(volume.geometry).apply(labels))
    assert found[0].any()
    assert np.array_equal(found[0], found[1])


@pytest.mark.slow
def test_brain_is_found_on_flair_with_thick_slices(test_data: Path) -> None:
    folder = test_data / "07_mr_brain_tumor_dicom" / "Study3_PGBM-003" / "36468-FLAIRreg-58706"
    files = tuple(sorted(folder.glob("*.dcm")))
    volume = read_volume(StoredVolume("flair", Format.DICOM, files, PatientKey("", "flair", known=False)))
    _, labels = drafted(test_data, "skull_strip", volume)
    assert 1300 < np.count_nonzero(labels) * volume.geometry.voxel_ml < 2000
