"""The backend `nnunet` against what nnU-Net itself computed: recorded by benchmarks/nnunet_parity.py."""

from pathlib import Path

import numpy as np
import pytest
from nnunet_files import CASES, phantom, thinned, write_results

from annotate_server.backends.nnunet.adapter import NnunetBackend
from annotate_server.backends.nnunet.loaded import LoadedNnunet
from annotate_server.backends.nnunet.preparing import network_input, placed
from annotate_server.domain.adoption import AdoptionOrder
from annotate_server.domain.model import ModelVersion, Situation
from annotate_server.domain.ports import Control
from annotate_server.stores.folder_apps import app_of

GOLDEN = Path(__file__).parent / "nnunet_golden"


@pytest.fixture(scope="module", params=sorted(CASES))
def adopted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, LoadedNnunet]:
    """Return a case's name, and its results folder as it is taken over and loaded."""
    folder = tmp_path_factory.mktemp("nnunet")
    source = write_results(folder, CASES[request.param])
    scratch = folder / "scratch"
    scratch.mkdir()
    (made,) = NnunetBackend().adopted(AdoptionOrder(source), scratch, Control())
    app = app_of(made.table, made.name, scratch, "0" * 64)
    return request.param, NnunetBackend().load(ModelVersion(app, made.files), "cpu")


def test_the_network_is_fed_what_nnunet_feeds_it(adopted: tuple[str, LoadedNnunet]) -> None:
    name, model = adopted
    volume, golden = phantom(CASES[name]), np.load(GOLDEN / f"{name}.npz")
    values = network_input(volume, model.plan, placed(volume, model.plan, model.parameters.orientation))
    assert values.shape == tuple(golden["shape"])
    assert thinned(values) == pytest.approx(golden["values"], rel=2e-6, abs=2e-5)


def test_the_labels_are_nnunets(adopted: tuple[str, LoadedNnunet]) -> None:
    name, model = adopted
    labels = model.predict({"volume": phantom(CASES[name])}, Situation(), Control()).labels
    golden = np.load(GOLDEN / f"{name}.npz")["labels"]
    assert labels.shape == golden.shape
    assert len(np.unique(golden)) >= 3
    # On another processor products are added up in another order: a voxel on the border of two labels may change.
    assert (labels == golden).mean() >= 0.9995
