import numpy as np
import pytest
from conftest import oblique_geometry

from annotate_server.domain.model import ModelVersion
from annotate_server.domain.ports import LoadedModel
from annotate_server.domain.volume import Modality, Volume
from annotate_server.testing.backend_conformance import BackendConformance
from annotate_server.testing.fakes import ThresholdBackend, threshold_app


class TestThresholdTwin(BackendConformance):
    """The in-memory twin passes the suite that the real backends must pass."""

    @pytest.fixture
    def version(self) -> ModelVersion:
        return ModelVersion(threshold_app())

    @pytest.fixture
    def model(self, version: ModelVersion) -> LoadedModel:
        return ThresholdBackend().load(version, "cpu")

    @pytest.fixture
    def volume(self) -> Volume:
        voxels = np.full((9, 14, 11), -50, np.int16)
        voxels[3:6, 4:9, 2:8] = 300
        return Volume(voxels, oblique_geometry(voxels.shape), Modality.CT, "HU")
