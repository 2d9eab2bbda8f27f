from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from store_values import ANNE, BELA, NOW, case, clock, filled_database, interaction, label, prediction, session

from annotate_server.domain.annotation import LabelState, SessionState
from annotate_server.domain.errors import NotFound, SessionExpired, StaleRevision, StateError, StorageFailed
from annotate_server.domain.project import CaseStatus, WorkItem
from annotate_server.stores.database import Database
from annotate_server.stores.sqlite_audit import audit_faults
from annotate_server.stores.sqlite_cases import SqliteCases
from annotate_server.stores.sqlite_labels import SqliteLabels
from annotate_server.stores.sqlite_predictions import SqlitePredictions
from annotate_server.stores.sqlite_projects import SqliteProjects
from annotate_server.stores.sqlite_sessions import SqliteSessions


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with filled_database(tmp_path) as opened:
        yield opened


@pytest.fixture
def labels(database: Database) -> SqliteLabels:
    return SqliteLabels(database)


def status(database: Database, case_id: str = "case1") -> WorkItem:
    return SqliteProjects(database, clock).item("liver", case_id, NOW)


def test_a_label_comes_back_as_it_was(labels: SqliteLabels) -> None:
    approved = replace(label("l2"), state=LabelState.APPROVED, reviewed_at=NOW, layers=(), comment="at once")
    for each in (label(), approved):
        labels.accept(each, None, ANNE)
        assert labels.get(each.id) == each
    assert labels.of_case("liver", "case1") == (label(), approved)
    assert labels.of_case("liver", "case2") == ()
    with pytest.raises(NotFound):
        labels.get("no")
    with pytest.raises(NotFound):
        labels.accept(label("l3", case_id="no"), None, ANNE)
    with pytest.raises(StateError):
        labels.accept(label(), None, ANNE)


def test_labels_of_some_cases_come_in_the_order_of_writing_and_their_cases_have_changed(labels: SqliteLabels) -> None:
    for name, case_id in (("l1", "case1"), ("l2", "case2"), ("l3", "case1"), ("l4", "case3")):
        labels.accept(label(name, case_id), None, ANNE)
    assert [each.id for each in labels.of_cases(["case1", "case3", "no"])] == ["l1", "l3", "l4"]
    assert labels.of_cases([]) == ()
    assert labels.changed.since(0) == ("case2", "case1", "case3")
    seen = labels.changed.count
    labels.review(replace(label("l2", "case2"), state=LabelState.APPROVED, reviewer="Béla"), ANNE)
    assert labels.changed.since(seen) == ("case2",)


def test_accepting_ends_the_session(database: Database, labels: SqliteLabels) -> None:
    sessions = SqliteSessions(database, clock)
    sessions.open(session(), ANNE)
    labels.accept(label(), session(), ANNE)
    assert sessions.get("s1").state is SessionState.SUBMITTED
    assert sessions.of_person(ANNE.name) == ()
    with pytest.raises(StateError):
        labels.accept(label("l2"), session(), ANNE)
    with pytest.raises(StateError):
        sessions.resume(session(), ANNE)
    assert len(labels.of_case("liver", "case1")) == 1


def test_a_draft_that_changed_meanwhile_is_not_accepted(database: Database, labels: SqliteLabels) -> None:
    sessions = SqliteSessions(database, clock)
    sessions.open(session(), ANNE)
    sessions.record(session().recorded(interaction(1)), ANNE)
    with pytest.raises(StaleRevision):
        labels.accept(label(), session(), ANNE)
    sessions.end(session().ended(SessionState.EXPIRED), ANNE)
    with pytest.raises(SessionExpired):
        labels.accept(label(), session().recorded(interaction(1)), ANNE)
    assert labels.of_case("liver", "case1") == ()


def test_a_review_is_kept_beside_the_label_once(labels: SqliteLabels) -> None:
    labels.accept(label(), None, ANNE)
    verdict = replace(label().reviewed(BELA.name, LabelState.RETURNED, "too small"), reviewed_at=NOW)
    labels.review(verdict, BELA)
    assert labels.get("l1") == verdict
    with pytest.raises(StateError, match="already returned"):
        labels.review(label().reviewed("third", LabelState.APPROVED), BELA)
    assert labels.get("l1") == verdict


def test_only_the_newest_label_of_a_case_is_in_a_state(labels: SqliteLabels) -> None:
    for each in (label("l1"), label("l2", "case2"), label("l3")):
        labels.accept(each, None, ANNE)
    assert [found.id for found in labels.of_state("liver", LabelState.SUBMITTED)] == ["l2", "l3"]
    labels.review(label("l2", "case2").reviewed(BELA.name, LabelState.APPROVED), BELA)
    assert [found.id for found in labels.of_state("liver", LabelState.SUBMITTED)] == ["l3"]
    (approved,) = labels.of_state("liver", LabelState.APPROVED)
    assert (approved.id, len(approved.layers)) == ("l2", 2)
    assert labels.of_state("other", LabelState.SUBMITTED) == ()


@pytest.mark.parametrize("table", ["label", "label_layer", "review", "audit"])
@pytest.mark.parametrize("verb", ["UPDATE {} SET rowid = 77", "DELETE FROM {}"])
def test_what_was_accepted_cannot_be_changed(database: Database, labels: SqliteLabels, table: str, verb: str) -> None:
    labels.accept(label(), None, ANNE)
    labels.review(label().reviewed(BELA.name, LabelState.APPROVED), BELA)
    with pytest.raises(StorageFailed, match="never changed"), database.writing() as connection:
        connection.execute(text(verb.format(table)))


def test_a_case_goes_from_open_to_approved(database: Database, labels: SqliteLabels) -> None:
    sessions, projects = SqliteSessions(database, clock), SqliteProjects(database, clock)
    seen = [status(database)]
    sessions.open(session(), ANNE)
    seen.append(status(database))
    labels.accept(label(), session(), ANNE)
    seen.append(status(database))
    labels.review(replace(label().reviewed(BELA.name, LabelState.RETURNED, "small"), reviewed_at=NOW), BELA)
    seen.append(status(database))
    labels.accept(replace(label("l2"), state=LabelState.APPROVED), None, ANNE)
    seen.append(status(database))
    projects.mark(seen[-1], CaseStatus.PUT_ASIDE, "moved", ANNE)
    seen.append(status(database))
    projects.mark(seen[-1], CaseStatus.OPEN, "", ANNE)
    seen.append(status(database))
    told = [(item.status.value, item.person, item.session_id, item.label_id, item.reason) for item in seen]
    assert told == [
        ("open", None, None, None, ""),
        ("in-work", ANNE.name, "s1", None, ""),
        ("submitted", None, None, "l1", ""),
        ("returned", None, None, "l1", "small"),
        ("approved", None, None, "l2", ""),
        ("put-aside", None, None, "l2", "moved"),
        ("approved", None, None, "l2", ""),
    ]
    assert [item.changed_at for item in seen] == [None, *[NOW] * 6]


def test_a_session_counts_until_the_end_of_its_lease(database: Database) -> None:
    SqliteSessions(database, clock).open(session(), ANNE)
    projects = SqliteProjects(database)
    lease_end = NOW + timedelta(seconds=120)
    assert projects.item("liver", "case1", lease_end - timedelta(microseconds=1)).status is CaseStatus.IN_WORK
    assert projects.item("liver", "case1", lease_end).status is CaseStatus.OPEN


def test_every_change_has_its_row_in_the_audit_trail_and_a_refused_one_has_none(
    database: Database, labels: SqliteLabels
) -> None:
    sessions = SqliteSessions(database, clock)
    sessions.open(session(), ANNE)
    sessions.record(session().recorded(interaction(1)), ANNE)
    with pytest.raises(StaleRevision):
        labels.accept(label(), session(), ANNE)
    SqlitePredictions(database).add(prediction())
    SqliteCases(database).put([case(9)])
    labels.accept(label(), None, BELA)
    with database.reading() as connection:
        rows = connection.execute(text("SELECT action, person, verified, subject FROM audit ORDER BY number")).all()
        assert list(audit_faults(connection)) == []
    assert rows[2:] == [
        ("session-opened", ANNE.name, 1, "s1"),
        ("draft-changed", ANNE.name, 1, "s1"),
        ("prediction-added", "(server)", 1, "p1"),
        ("cases-seen", "(server)", 1, "case9"),
        ("label-accepted", BELA.name, 0, "l1"),
    ]


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE audit SET person = 'nobody' WHERE number = 2",
        "UPDATE audit SET details = '{}' WHERE number = 2",
        "DELETE FROM audit WHERE number = 2",
        "DELETE FROM audit WHERE number = 1",
    ],
)
def test_a_row_of_the_audit_trail_that_was_changed_is_found(
    database: Database, labels: SqliteLabels, tampering: str
) -> None:
    labels.accept(label(), None, ANNE)
    with database.writing() as connection:
        for verb in ("update", "delete"):
            connection.execute(text(f"DROP TRIGGER audit_no_{verb}"))
        connection.execute(text(tampering))
        assert len(list(audit_faults(connection))) >= 1
