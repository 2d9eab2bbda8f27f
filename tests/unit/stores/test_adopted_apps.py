"""Apps made of what other software wrote: whole or not at all, and as they are read back."""

import hashlib
from pathlib import Path

import pytest

from annotate_server.domain.adoption import AdoptedApp
from annotate_server.domain.errors import InvalidApp, StateError, UnknownModel
from annotate_server.stores.adopted_apps import AdoptedApps
from annotate_server.stores.blobs import BlobFolder
from annotate_server.stores.folder_apps import FolderApps
from annotate_server.stores.model_registry import FolderModelRegistry

TABLE = {
    "title": "Spleen",
    "purpose": "Drafts the spleen.",
    "not_for": "Anything else.",
    "backend": "toy",
    "modalities": ["CT"],
    "licence": "MIT",
    "attribution": "Somebody",
    "segments": [{"index": 1, "name": "Spleen", "colour": [157, 108, 162], "kind": ["78961009", "SCT", "Spleen"]}],
    "parameters": {"patch": [96, 96, 96], "overlap": 0.5, "text": 'with "quotes" and a\nline'},
}


@pytest.fixture
def shelf(tmp_path: Path) -> AdoptedApps:
    return AdoptedApps(tmp_path / "apps", tmp_path / "partial")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "elsewhere.pt"
    path.write_bytes(b"weights" * 1000)
    return path


def test_an_adopted_app_is_found_with_its_weights(shelf: AdoptedApps, weights: Path, tmp_path: Path) -> None:
    apps = FolderApps([shelf.folder])
    registry = FolderModelRegistry(apps, BlobFolder(tmp_path / "blobs"), shelf.partial)
    assert registry.names() == ()
    kept = shelf.keep(AdoptedApp("spleen", TABLE, {"model.pt": weights, "plans.json": weights}))
    assert registry.names() == ("spleen",), "a registry that was there before sees it"
    assert apps.get("spleen") == kept
    assert kept.parameters == TABLE["parameters"]
    version = registry.champion("spleen")
    assert version.files["model.pt"].read_bytes() == weights.read_bytes()
    assert {w.name: (w.sha256, w.size_bytes, w.bundled) for w in kept.weights} == {
        name: (hashlib.sha256(weights.read_bytes()).hexdigest(), 7000, True) for name in ("model.pt", "plans.json")
    }
    assert list(shelf.partial.iterdir()) == []


@pytest.mark.parametrize(
    ("table", "files"),
    [
        ({**TABLE, "modalities": ["XX"]}, {}),
        ({**TABLE, "weights": []}, {}),
        ({**TABLE, "parameters": {"nothing": None}}, {}),
        ({key: value for key, value in TABLE.items() if key != "licence"}, {}),
        (TABLE, {"../model.pt": "weights"}),
        (TABLE, {"app.toml": "weights"}),
        (TABLE, {"folder/model.pt": "weights"}),
    ],
)
def test_what_is_not_valid_leaves_nothing(
    shelf: AdoptedApps, weights: Path, table: dict[str, object], files: dict[str, str]
) -> None:
    with pytest.raises(InvalidApp):
        shelf.keep(AdoptedApp("spleen", table, dict.fromkeys(files, weights)))
    assert list(shelf.folder.iterdir()) == []
    assert list(shelf.partial.iterdir()) == []


def test_a_name_that_is_taken_keeps_what_it_has(shelf: AdoptedApps, weights: Path) -> None:
    first = shelf.keep(AdoptedApp("spleen", TABLE, {"model.pt": weights}))
    with pytest.raises(StateError, match="--name"):
        shelf.keep(AdoptedApp("spleen", {**TABLE, "title": "Another"}, {}))
    assert FolderApps([shelf.folder]).get("spleen") == first


def test_an_app_in_the_making_is_listed_by_nobody(shelf: AdoptedApps) -> None:
    part = shelf.partial / ".part-x" / "spleen"
    part.mkdir(parents=True)
    (part / "app.toml").write_text("title = 'half'")
    with pytest.raises(UnknownModel):
        FolderApps([shelf.folder]).get("spleen")
