"""Models that learned beside apps: which version serves, and what is said where it cannot."""

import hashlib
import json
from pathlib import Path

import pytest

from annotate_server.domain.app_table import app_table
from annotate_server.domain.errors import NotFound, StorageFailed, UnknownModel, WeightsMissing
from annotate_server.domain.learning import LearnedModel, Promotion, PromotionKind, VersionRecord
from annotate_server.domain.model import WeightFile
from annotate_server.domain.person import Person, Role
from annotate_server.stores.blobs import BlobFolder
from annotate_server.stores.folder_apps import FolderApps
from annotate_server.stores.model_registry import FolderModelRegistry
from annotate_server.stores.workspace_registry import WorkspaceRegistry
from annotate_server.testing.fakes import threshold_app
from annotate_server.testing.memory_learning import InMemoryModels

ANNE = Person("anne", Role.ADMIN)
APP = """
title = "App"
purpose = "Tests."
not_for = "Patients."
backend = "threshold"
modalities = ["CT"]
licence = "MIT"
attribution = "Nobody."
[[segments]]
index = 1
name = "Bright"
colour = [220, 60, 60]
"""


class Bench:
    def __init__(self, folder: Path) -> None:
        (folder / "apps" / "app").mkdir(parents=True)
        (folder / "apps" / "app" / "app.toml").write_text(APP)
        self.blobs, self.models = BlobFolder(folder / "blobs"), InMemoryModels()
        apps = FolderModelRegistry(FolderApps([folder / "apps"]), self.blobs, folder / "partial")
        self.registry = WorkspaceRegistry(apps, self.blobs, lambda: self.models)
        self.without = WorkspaceRegistry(apps, self.blobs, lambda: None)

    def description(self, title: str) -> str:
        table = {**app_table(threshold_app()), "title": title}
        return self.blobs.add_bytes(json.dumps(table).encode())

    def version(self, name: str, content: bytes) -> VersionRecord:
        weight = WeightFile("w.bin", self.blobs.add_bytes(content), len(content))
        description = {**app_table(threshold_app()), "title": name}
        description["weights"] = [{"name": "w.bin", "sha256": weight.sha256, "size_bytes": weight.size_bytes}]
        blob = self.blobs.add_bytes(json.dumps(description).encode())
        identity = hashlib.sha256(f"{blob}|{weight.sha256}".encode()).hexdigest()[:12]
        return VersionRecord(identity, "own", blob, (weight,))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_the_champion_is_the_version_that_was_decided_last(bench: Bench) -> None:
    first, second = bench.version("First", b"one"), bench.version("Second", b"two")
    bench.models.add(LearnedModel("own", "p", "app"), first, ANNE)
    before = bench.registry.changes
    assert bench.registry.champion("own").id == first.id
    assert bench.registry.champion("own").files["w.bin"].read_bytes() == b"one"
    bench.models.decide(second, Promotion("own", second.id, PromotionKind.GATE, "x", previous=first.id), ANNE)
    assert bench.registry.changes > before
    assert (bench.registry.champion("own").id, bench.registry.app("own").card.title) == (second.id, "Second")
    assert bench.registry.version("own", first.id).files["w.bin"].read_bytes() == b"one"
    assert bench.registry.original("own").id == first.id
    assert bench.registry.champion("own").model == "own"
    assert bench.registry.missing(bench.registry.app("own")) == ()


def test_what_is_ready_is_what_misses_no_weights(bench: Bench, tmp_path: Path) -> None:
    bench.models.add(LearnedModel("own", "p", "app"), bench.version("First", b"one"), ANNE)
    bench.models.add(LearnedModel("nothing_yet", "p", description=bench.description("Blank")), None, ANNE)
    weights = '[[weights]]\nname = "w.bin"\nsha256 = "' + "0" * 64 + '"\nsize_bytes = 3\n'
    for name, text in (("broken", "title ="), ("lacking", APP + weights)):
        (tmp_path / "apps" / name).mkdir()
        (tmp_path / "apps" / name / "app.toml").write_text(text)
    assert bench.registry.names() == ("app", "broken", "lacking", "nothing_yet", "own")
    assert [app.name for app in bench.registry.ready()] == ["app", "nothing_yet", "own"]
    assert bench.registry.ready()[2] == bench.registry.app("own")
    assert [app.name for app in bench.without.ready()] == ["app"]


def test_models_that_learned_stand_beside_apps(bench: Bench) -> None:
    bench.models.add(LearnedModel("own", "p", "app"), bench.version("First", b"one"), ANNE)
    assert bench.registry.names() == ("app", "own")
    assert (bench.registry.is_learned("own"), bench.registry.is_learned("app")) == (True, False)
    app = bench.registry.champion("app")
    assert bench.registry.version("app", app.id).id == bench.registry.original("app").id == app.id
    for name, version in (("own", "0" * 12), ("app", "0" * 12)):
        with pytest.raises(NotFound):
            bench.registry.version(name, version)
    with pytest.raises(UnknownModel, match="app, own"):
        bench.registry.app("nothing")
    with pytest.raises(UnknownModel, match="trained here"):
        bench.registry.import_from("own", Path("/"))


def test_without_a_database_there_are_apps_only(bench: Bench) -> None:
    assert bench.without.names() == ("app",)
    assert (bench.without.changes, bench.without.is_learned("own")) == (0, False)
    assert bench.without.champion("app").model == "app"


def test_a_model_that_has_no_version_yet_is_described_and_cannot_draft(bench: Bench) -> None:
    bench.models.add(LearnedModel("fresh", "p", description=bench.description("Fresh")), None, ANNE)
    assert bench.registry.app("fresh").card.title == "Fresh"
    assert bench.registry.original("fresh").files == {}
    with pytest.raises(WeightsMissing, match="annotate train fresh"):
        bench.registry.champion("fresh")


def test_weights_that_are_gone_are_said_to_be(bench: Bench) -> None:
    version = bench.version("First", b"one")
    bench.models.add(LearnedModel("own", "p", "app"), version, ANNE)
    bench.blobs.path(version.weights[0].sha256).unlink()
    with pytest.raises(StorageFailed, match=r"w\.bin are gone"):
        bench.registry.champion("own")
    assert bench.registry.missing(bench.registry.app("own")) == version.weights
