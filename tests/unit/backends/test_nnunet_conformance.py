"""The backend `nnunet` against the suite that every backend passes, in the layout of TotalSegmentator."""

from pathlib import Path

import pytest
from nnunet_files import CASES, phantom, write_results

from annotate_server.backends.discovery import EntryPointBackends
from annotate_server.domain.adoption import Adopting, AdoptionOrder
from annotate_server.domain.model import ModelVersion
from annotate_server.domain.ports import Control, LoadedModel
from annotate_server.domain.volume import Volume
from annotate_server.stores.folder_apps import app_of
from annotate_server.testing.backend_conformance import BackendConformance

CASE = CASES["totalsegmentator"]


class TestNnunet(BackendConformance):
    @pytest.fixture
    def version(self, tmp_path: Path) -> ModelVersion:
        backend = EntryPointBackends().get("nnunet")
        assert isinstance(backend, Adopting)
        (made,) = backend.adopted(AdoptionOrder(write_results(tmp_path, CASE)), tmp_path, Control())
        return ModelVersion(app_of(made.table, made.name, tmp_path, "0" * 64), made.files)

    @pytest.fixture
    def model(self, version: ModelVersion) -> LoadedModel:
        return EntryPointBackends().get("nnunet").load(version, "cpu")

    @pytest.fixture
    def volume(self) -> Volume:
        return phantom(CASE)
