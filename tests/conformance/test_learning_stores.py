"""The stores of the learning loop keep what their ports promise, in memory as on the disk."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from annotate_server.domain.annotation import Label
from annotate_server.domain.case import Case, Format, PatientKey, StoredVolume
from annotate_server.domain.errors import NotFound, StateError, StorageFailed, UnknownModel
from annotate_server.domain.learning import (
    LabelWork,
    LearnedModel,
    PatientPart,
    Promotion,
    PromotionKind,
    SegmentWork,
    VersionRecord,
)
from annotate_server.domain.learning_ports import ModelStore, PartStore, WorkStore
from annotate_server.domain.model import WeightFile
from annotate_server.domain.person import Person, Role
from annotate_server.domain.project import Project
from annotate_server.domain.training import Part
from annotate_server.stores.database import Database, open_database
from annotate_server.stores.sqlite_audit import audit_faults
from annotate_server.stores.sqlite_cases import SqliteCases
from annotate_server.stores.sqlite_labels import SqliteLabels
from annotate_server.stores.sqlite_models import SqliteModels
from annotate_server.stores.sqlite_parts import SqliteParts
from annotate_server.stores.sqlite_projects import SqliteProjects
from annotate_server.stores.sqlite_works import SqliteWorks
from annotate_server.stores.workspace_check import named_blobs
from annotate_server.testing.memory_learning import InMemoryModels, InMemoryParts, InMemoryWorks

NOW = datetime(2026, 3, 4, 5, 6, 7, 891011, tzinfo=UTC)
ANNE = Person("Anne Ärztin", Role.REVIEWER)
LIVER = LearnedModel(
    "liver_own", "liver", origin="organs", every_labels=5, is_nightly=True, description="7" * 64, made_at=NOW
)
FIRST = VersionRecord("v1", "liver_own", "d" * 64, (WeightFile("w.bin", "a" * 64, 10),), made_at=NOW)
SECOND = VersionRecord(
    id="v2",
    model="liver_own",
    description="e" * 64,
    weights=(WeightFile("w.bin", "b" * 64, 11), WeightFile("x.bin", "c" * 64, 12)),
    parent="v1",
    training_set="f" * 64,
    recipe='{"steps":1}',
    job_id="j1",
    seconds=12.5,
    made_at=NOW + timedelta(seconds=1),
)
GATED = Promotion("liver_own", "v2", PromotionKind.GATE, "(server)", "better", "v1", "9" * 64, True, NOW)
WORK = LabelWork(
    label_id="l1",
    project_id="liver",
    model="liver_own",
    version="v1",
    is_champions=True,
    is_shown=False,
    active_s=12.25,
    prompts={"point": 2},
    edits=3,
    helpers={"smooth": 1},
    is_untouched=False,
    dice=0.9,
    relative_apl=0.125,
    apl_mm=44.5,
    segments={"Liver": SegmentWork(0.9, 0.95, 44.5, 0.125)},
    made_at=NOW,
)


def prepared(folder: Path) -> Database:
    database = open_database(folder / "annotate.sqlite")
    SqliteProjects(database).add(Project("liver", "Liver"), ANNE)
    patient = PatientKey("", "p")
    stored = StoredVolume("1.nii", Format.NIFTI, (Path("/1.nii"),), patient)
    SqliteCases(database).put([Case("case1", patient, {"reference": stored})])
    for name in ("l1", "l2"):
        SqliteLabels(database).accept(Label(name, "liver", "case1", "anne", ()), None, ANNE)
    return database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = prepared(tmp_path)
    yield opened
    with opened.reading() as connection:
        assert list(audit_faults(connection)) == []
    opened.close()


@pytest.fixture(params=["memory", "sqlite"])
def models(request: pytest.FixtureRequest, database: Database) -> ModelStore:
    return InMemoryModels() if request.param == "memory" else SqliteModels(database)


@pytest.fixture(params=["memory", "sqlite"])
def parts(request: pytest.FixtureRequest, database: Database) -> PartStore:
    return InMemoryParts() if request.param == "memory" else SqliteParts(database)


@pytest.fixture(params=["memory", "sqlite"])
def works(request: pytest.FixtureRequest, database: Database) -> WorkStore:
    return InMemoryWorks() if request.param == "memory" else SqliteWorks(database)


def test_a_model_comes_back_as_it_was_with_its_first_version_as_champion(models: ModelStore) -> None:
    models.add(LIVER, FIRST, ANNE)
    assert (models.get("liver_own"), models.all()) == (LIVER, (LIVER,))
    assert models.versions("liver_own") == (FIRST,)
    (first,) = models.promotions("liver_own")
    assert (first.version, first.kind, first.person) == ("v1", PromotionKind.FIRST, ANNE.name)
    assert models.champion("liver_own") == "v1"
    with pytest.raises(StateError, match="already"):
        models.add(LIVER, None, ANNE)
    for ask in (models.get, lambda name: models.change(LearnedModel(name, "liver"), ANNE)):
        with pytest.raises(UnknownModel):
            ask("other")


def test_a_model_from_nothing_has_no_champion_until_one_is_decided(models: ModelStore) -> None:
    models.add(replace(LIVER, origin=None), None, ANNE)
    assert (models.champion("liver_own"), models.versions("liver_own")) == (None, ())
    first = replace(GATED, previous=None, kind=PromotionKind.GATE)
    models.decide(SECOND, first, ANNE)
    assert models.champion("liver_own") == "v2"


def test_only_when_it_is_trained_by_itself_can_be_changed(models: ModelStore) -> None:
    models.add(LIVER, None, ANNE)
    models.change(replace(LIVER, every_labels=0, is_nightly=False, origin="else"), ANNE)
    assert models.get("liver_own") == replace(LIVER, every_labels=0, is_nightly=False)


def test_a_decision_and_its_version_are_kept_together(models: ModelStore) -> None:
    models.add(LIVER, FIRST, ANNE)
    models.decide(SECOND, GATED, ANNE)
    assert models.versions("liver_own") == (FIRST, SECOND)
    assert models.promotions("liver_own")[1] == GATED
    assert models.champion("liver_own") == "v2"
    back = Promotion("liver_own", "v1", PromotionKind.ROLLBACK, ANNE.name, "worse", "v2", at=NOW)
    models.decide(None, back, ANNE)
    assert models.champion("liver_own") == "v1"


def test_a_refused_version_is_kept_and_does_not_serve(models: ModelStore) -> None:
    models.add(LIVER, FIRST, ANNE)
    models.decide(SECOND, replace(GATED, kind=PromotionKind.REFUSED), ANNE)
    assert models.champion("liver_own") == "v1"
    assert models.versions("liver_own") == (FIRST, SECOND)


def test_a_decision_over_a_champion_that_is_none_any_more_leaves_nothing(models: ModelStore) -> None:
    models.add(LIVER, FIRST, ANNE)
    before = models.changes
    with pytest.raises(StateError):
        models.decide(SECOND, replace(GATED, previous="v0"), ANNE)
    with pytest.raises(NotFound):
        models.decide(None, GATED, ANNE)
    with pytest.raises(StateError):
        models.decide(FIRST, replace(GATED, version="v1"), ANNE)
    assert (models.versions("liver_own"), models.changes) == ((FIRST,), before)


def test_every_change_moves_the_number_of_changes(models: ModelStore) -> None:
    seen = [models.changes]
    models.add(LIVER, FIRST, ANNE)
    seen.append(models.changes)
    models.decide(SECOND, GATED, ANNE)
    seen.append(models.changes)
    models.decide(None, Promotion("liver_own", "v1", PromotionKind.ROLLBACK, "anne", "", "v2"), ANNE)
    seen.append(models.changes)
    assert seen == sorted(set(seen))


def test_a_part_once_drawn_stays(parts: PartStore) -> None:
    drawn = PatientPart("liver", "p1", Part.GATE, NOW)
    parts.draw([drawn, PatientPart("liver", "p2", Part.TRAIN, NOW)])
    parts.draw([replace(drawn, part=Part.TRAIN), PatientPart("liver", "p3", Part.TEST, NOW)])
    found = parts.parts("liver")
    assert found["p1"] == drawn
    assert [(name, each.part) for name, each in found.items()] == [("p1", "gate"), ("p2", "train"), ("p3", "test")]
    assert parts.parts("other") == {}


def test_a_key_is_made_once(parts: PartStore) -> None:
    assert parts.key("liver") == parts.key("liver")
    assert len(parts.key("liver")) >= 32


def test_what_a_label_took_is_kept_once_a_version(works: WorkStore) -> None:
    undrafted = LabelWork("l2", "liver", None, None, False, False, 3.0, made_at=NOW + timedelta(seconds=1))
    by_next = replace(WORK, version="v2", made_at=NOW + timedelta(seconds=2))
    for work in (WORK, undrafted, by_next, replace(WORK, dice=0.1), replace(undrafted, active_s=9.0)):
        works.add(work)
    assert works.of_project("liver") == (WORK, undrafted, by_next)
    assert works.of_project("liver", NOW + timedelta(seconds=1)) == (undrafted, by_next)
    assert works.of_project("other") == ()


def test_a_model_of_an_unknown_project_is_refused_by_the_database(database: Database) -> None:
    with pytest.raises(NotFound):
        SqliteModels(database).add(replace(LIVER, project_id="none"), FIRST, ANNE)
    assert SqliteModels(database).all() == ()


def test_another_process_sees_the_number_of_changes_grow(database: Database) -> None:
    other = open_database(database.path)
    before = SqliteModels(other).changes
    SqliteModels(database).add(LIVER, FIRST, ANNE)
    assert SqliteModels(other).changes > before
    other.close()


def test_every_blob_of_a_version_and_of_a_decision_is_named(database: Database) -> None:
    models = SqliteModels(database)
    models.add(LIVER, FIRST, ANNE)
    models.decide(SECOND, GATED, ANNE)
    with database.reading() as connection:
        assert set(named_blobs(connection)) == {each * 64 for each in "adebcf97"}


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE model_version SET description = 'x'",
        "DELETE FROM model_version",
        "UPDATE version_weight SET blob = 'x'",
        "DELETE FROM version_weight",
        "UPDATE promotion SET kind = 'gate'",
        "DELETE FROM promotion",
        "UPDATE patient_part SET part = 'train'",
        "DELETE FROM patient_part",
        "UPDATE part_key SET key = 'x'",
        "UPDATE label_work SET dice = 1",
        "DELETE FROM label_work",
        "DELETE FROM learned_model",
    ],
)
def test_what_is_written_once_cannot_be_changed(database: Database, statement: str) -> None:
    models, parts = SqliteModels(database), SqliteParts(database)
    models.add(LIVER, FIRST, ANNE)
    parts.draw([PatientPart("liver", "p1", Part.GATE, NOW)])
    parts.key("liver")
    SqliteWorks(database).add(WORK)
    with pytest.raises(StorageFailed), database.writing() as connection:
        connection.execute(text(statement))
    assert models.versions("liver_own") == (FIRST,)
