"""Every shipped backend against the suite that plug-in authors get."""

from pathlib import Path

import numpy as np
import pytest
from conftest import oblique_geometry
from scipy import ndimage

from annotate_server.backends.discovery import EntryPointBackends
from annotate_server.bootstrap import shipped_apps
from annotate_server.domain.case import Format, PatientKey, StoredVolume
from annotate_server.domain.geometry import Box, Geometry
from annotate_server.domain.labelmap import Segment
from annotate_server.domain.model import ModelVersion, Situation
from annotate_server.domain.ports import LoadedModel
from annotate_server.domain.prompt import Prompt, PromptKind
from annotate_server.domain.volume import Modality, Volume
from annotate_server.imaging.nifti import read_nifti
from annotate_server.stores.blobs import BlobFolder
from annotate_server.stores.folder_apps import FolderApps
from annotate_server.stores.model_registry import FolderModelRegistry
from annotate_server.testing.backend_conformance import BackendConformance
from annotate_server.testing.chest import chest_phantom


def registry(workspace: Path) -> FolderModelRegistry:
    return FolderModelRegistry(FolderApps([shipped_apps()]), BlobFolder(workspace / "blobs"), workspace / "partial")


def loaded(version: ModelVersion) -> LoadedModel:
    return EntryPointBackends().get(version.app.backend).load(version, "cpu")


class TestClassical(BackendConformance):
    @pytest.fixture
    def version(self, tmp_path: Path) -> ModelVersion:
        return registry(tmp_path).champion("lungs_ct")

    @pytest.fixture
    def model(self, version: ModelVersion) -> LoadedModel:
        return loaded(version)

    @pytest.fixture
    def volume(self) -> Volume:
        affine = np.eye(4)
        affine[:3, :3] = np.array([[0, 0, 5.0], [0, 5.0, 0], [6.0, 0, 0]])
        affine[:3, 3] = (-190.0, -150.0, -180.0)
        return chest_phantom(Geometry.from_affine(affine, (56, 60, 76))).volume


class TestTorchModule(BackendConformance):
    @pytest.fixture
    def version(self, tmp_path: Path) -> ModelVersion:
        return registry(tmp_path).champion("hippocampus_mr")

    @pytest.fixture
    def model(self, version: ModelVersion) -> LoadedModel:
        return loaded(version)

    @pytest.fixture
    def volume(self, test_data: Path) -> Volume:
        folder = test_data / "01_hippocampus_msd" / "dev_pool" / "images"
        return read_nifti(stored_nifti(sorted(folder.glob("*.nii.gz"))[0]))


class TestGrowCut(BackendConformance):
    least_agreement = 0.9  # its working grid begins at a corner of the volume: turned axes shift it by part of a voxel

    @staticmethod
    def situation(volume: Volume) -> Situation:  # type: ignore[override]
        centre = tuple(volume.geometry.world(np.argwhere(np.asarray(volume.voxels) == np.max(volume.voxels))[:1])[0])
        prompt = Prompt(PromptKind.POINT, (centre,))
        return Situation(active=Segment(1, "Ball", (200, 100, 0)), prompts=(prompt,))

    @pytest.fixture
    def version(self, tmp_path: Path) -> ModelVersion:
        return registry(tmp_path).champion("any_structure")

    @pytest.fixture
    def model(self, version: ModelVersion) -> LoadedModel:
        return loaded(version)

    @pytest.fixture
    def volume(self) -> Volume:
        geometry = oblique_geometry((20, 60, 44))
        points = geometry.world(np.argwhere(np.ones(geometry.shape, bool))).reshape(*geometry.shape, 3)
        distance = np.linalg.norm(points - geometry.world([[10, 30, 22]])[0], axis=-1)
        noise = np.random.default_rng(5).normal(0, 8, geometry.shape)
        voxels = np.where(distance < 12, 130, 40) + ndimage.gaussian_filter(noise, 1)
        voxels[10, 30, 22] = 300
        return Volume(voxels.astype(np.int16), geometry, Modality.CT, "HU")


@pytest.mark.real_data
@pytest.mark.slow
class TestMeshNet(BackendConformance):
    @pytest.fixture
    def version(self, test_data: Path, tmp_path: Path) -> ModelVersion:
        weights = test_data / "17_models_meshnet_brainchop"
        return registry(tmp_path).import_from("brain_tissue", weights)

    @pytest.fixture
    def model(self, version: ModelVersion) -> LoadedModel:
        return loaded(version)

    @pytest.fixture
    def volume(self, test_data: Path) -> Volume:
        head = read_nifti(stored_nifti(test_data / "16_nifti_48_orientations" / "RAI.nii.gz"))
        return Volume(head.voxels, head.geometry, Modality.MR)


@pytest.mark.real_data
@pytest.mark.slow
class TestObelisk(BackendConformance):
    @pytest.fixture
    def version(self, test_data: Path, tmp_path: Path) -> ModelVersion:
        return registry(tmp_path).import_from("abdomen_ct", test_data / "18_models_obelisk_ct")

    @pytest.fixture
    def model(self, version: ModelVersion) -> LoadedModel:
        return loaded(version)

    @pytest.fixture
    def volume(self, test_data: Path) -> Volume:
        found = read_nifti(stored_nifti(test_data / "03_totalseg_ct_mr" / "ct_sm" / "image.nii.gz"))
        return Volume(found.voxels, found.geometry, Modality.CT, "HU").cropped(Box.whole(found.geometry.shape))


def stored_nifti(path: Path) -> StoredVolume:
    return StoredVolume(path.name, Format.NIFTI, (path,), PatientKey("", path.name))
