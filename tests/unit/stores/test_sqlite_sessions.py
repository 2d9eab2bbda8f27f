from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from threading import Barrier, Thread

import pytest
from sqlalchemy import text
from store_values import ANNE, BELA, KIDNEY, NOW, SPLEEN, filled_database, interaction, session

from annotate_server.domain.annotation import Session, SessionState
from annotate_server.domain.errors import CaseTaken, NotFound, SessionExpired, StaleRevision, StateError, StorageFailed
from annotate_server.domain.project import CaseStatus
from annotate_server.stores.database import Database, open_database
from annotate_server.stores.sqlite_projects import SqliteProjects
from annotate_server.stores.sqlite_sessions import SqliteSessions


class Time:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with filled_database(tmp_path) as opened:
        yield opened


@pytest.fixture
def sessions(database: Database, time: Time) -> SqliteSessions:
    return SqliteSessions(database, time)


def worked_on(sessions: SqliteSessions, count: int) -> Session:
    current = session()
    sessions.open(current, ANNE)
    for _ in range(count):
        current = current.recorded(interaction(current.next_number))
        sessions.record(current, ANNE)
    return current


def test_a_session_comes_back_as_it_was(sessions: SqliteSessions) -> None:
    sessions.open(session(), ANNE)
    assert sessions.get("s1") == session()
    empty = replace(session("s2", "case2"), start=None, parent=None, model_version=None, locked=frozenset())
    sessions.open(empty, ANNE)
    assert sessions.get("s2") == empty


def test_interactions_come_back_as_they_were(sessions: SqliteSessions) -> None:
    current = worked_on(sessions, 3)
    assert sessions.get("s1") == current
    assert current.segments == (SPLEEN, KIDNEY)


def test_what_was_undone_can_be_redone_after_a_restart_until_something_new_is_done(
    database: Database, time: Time, sessions: SqliteSessions
) -> None:
    current = worked_on(sessions, 3).undone().undone()
    for step in (replace(current, applied=2, revision=4), current):
        sessions.move(step, ANNE)
    again = open_database(database.path)
    reopened = SqliteSessions(again, time)
    assert reopened.get("s1") == current
    assert reopened.get("s1").can_redo
    fresh = current.recorded(interaction(2, "e"))
    reopened.record(fresh, ANNE)
    assert reopened.get("s1") == fresh
    with again.reading() as connection:
        kept = connection.execute(text("SELECT event, given_up FROM event ORDER BY number")).all()
    assert kept == [(1, None), (2, 6), (3, 6), (2, None)]
    again.close()


def test_a_change_of_an_older_draft_is_refused_and_changes_nothing(sessions: SqliteSessions) -> None:
    current = worked_on(sessions, 2)
    stale = replace(current, applied=1, revision=1, interactions=current.interactions[:1])
    with pytest.raises(StaleRevision, match="revision 2"):
        sessions.record(stale.recorded(interaction(2)), BELA)
    sessions.move(current.undone(), ANNE)
    with pytest.raises(StaleRevision):
        sessions.move(replace(current, revision=3), ANNE)
    with pytest.raises(StaleRevision):
        sessions.move(replace(current, revision=5), ANNE)
    assert sessions.get("s1") == current.undone()


def test_locks_are_kept_without_a_new_revision(sessions: SqliteSessions) -> None:
    current = worked_on(sessions, 1)
    locked = current.with_locked(frozenset({1, 7}))
    sessions.move(locked, ANNE)
    assert sessions.get("s1") == locked


def test_a_live_session_keeps_others_off_and_names_its_person(sessions: SqliteSessions, time: Time) -> None:
    sessions.open(session(), ANNE)
    time.now = NOW + timedelta(seconds=119)
    with pytest.raises(CaseTaken, match=ANNE.name):
        sessions.open(session("s2", person=BELA.name), BELA)
    with pytest.raises(CaseTaken):
        sessions.open(session("s3"), ANNE)
    with pytest.raises(NotFound):
        sessions.get("s2")


def test_a_session_whose_lease_ran_out_is_expired_by_the_next(sessions: SqliteSessions, time: Time) -> None:
    current = worked_on(sessions, 2)
    time.now = NOW + timedelta(seconds=120)
    assert sessions.get("s1").state is SessionState.OPEN
    sessions.open(session("s2", person=BELA.name, lease_s=300), BELA)
    assert sessions.get("s1") == replace(current, state=SessionState.EXPIRED)
    with pytest.raises(SessionExpired):
        sessions.record(current.recorded(interaction(3)), ANNE)
    with pytest.raises(SessionExpired):
        sessions.renew("s1", NOW, 0)
    with pytest.raises(CaseTaken, match=BELA.name):
        sessions.resume(current.reopened(NOW + timedelta(seconds=400)), ANNE)
    sessions.end(session("s2").ended(SessionState.ABANDONED), BELA)
    resumed = current.reopened(NOW + timedelta(seconds=400))
    sessions.resume(resumed, ANNE)
    assert sessions.get("s1") == resumed


def test_a_session_in_two_windows_is_resumed_though_it_is_live(sessions: SqliteSessions) -> None:
    current = worked_on(sessions, 1)
    sessions.resume(current.reopened(NOW + timedelta(seconds=500)), ANNE)
    assert sessions.get("s1").lease_until == NOW + timedelta(seconds=500)


def test_a_lease_is_renewed(sessions: SqliteSessions) -> None:
    sessions.open(session(), ANNE)
    sessions.renew("s1", NOW + timedelta(seconds=240), 61.5)
    later = sessions.get("s1")
    assert (later.lease_until, later.active_s) == (NOW + timedelta(seconds=240), 61.5)


def test_a_session_that_was_left_can_be_gone_on_with(sessions: SqliteSessions) -> None:
    left = worked_on(sessions, 1).ended(SessionState.ABANDONED)
    sessions.end(left, ANNE)
    sessions.end(left, ANNE)
    assert sessions.get("s1") == left
    assert sessions.of_person(ANNE.name) == (replace(left, interactions=()),)
    with pytest.raises(StateError):
        sessions.end(replace(left, state=SessionState.EXPIRED), ANNE)
    sessions.resume(left.reopened(NOW + timedelta(seconds=500)), ANNE)
    assert sessions.get("s1").state is SessionState.OPEN


def test_sessions_of_a_person_are_newest_first(sessions: SqliteSessions) -> None:
    sessions.open(session("s1"), ANNE)
    sessions.open(session("s2", "case2"), ANNE)
    sessions.open(session("s3", "case3", person=BELA.name), BELA)
    assert [each.id for each in sessions.of_person(ANNE.name)] == ["s2", "s1"]


def test_the_newest_snapshot_that_still_holds_is_found(sessions: SqliteSessions) -> None:
    current = worked_on(sessions, 4)
    assert sessions.snapshot("s1", 4) is None
    for number in (2, 4):
        sessions.keep_snapshot("s1", number, str(number) * 64)
    assert sessions.snapshot("s1", 4) == (4, "4" * 64)
    assert sessions.snapshot("s1", 3) == (2, "2" * 64)
    back = replace(current, applied=3, revision=5)
    sessions.move(back, ANNE)
    sessions.record(back.recorded(interaction(4, "e")), ANNE)
    assert sessions.snapshot("s1", 4) == (2, "2" * 64)


def test_an_event_cannot_be_changed_or_deleted(database: Database, sessions: SqliteSessions) -> None:
    worked_on(sessions, 1)
    for statement in ("UPDATE event SET change = NULL", "DELETE FROM event"):
        with pytest.raises(StorageFailed, match="never changed"), database.writing() as connection:
            connection.execute(text(statement))


def test_what_is_not_there_is_not_found(sessions: SqliteSessions) -> None:
    with pytest.raises(NotFound):
        sessions.get("no")
    with pytest.raises(NotFound):
        sessions.renew("no", NOW, 0)
    with pytest.raises(NotFound):
        sessions.open(session(case_id="no"), ANNE)


def raced(*acts: Callable[[], None]) -> list[str]:
    """Do all at once; return the classes of what they raised, `won` for those that raised nothing."""
    barrier, outcomes = Barrier(len(acts)), []

    def one(act: Callable[[], None]) -> None:
        barrier.wait()
        try:
            act()
            outcomes.append("won")
        except StateError as error:
            outcomes.append(type(error).__name__)

    threads = [Thread(target=one, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(outcomes)


def test_of_two_who_open_a_case_at_once_exactly_one_gets_it(database: Database, time: Time) -> None:
    other = open_database(database.path)
    first, second = SqliteSessions(database, time), SqliteSessions(other, time)
    for turn in range(10):
        mine, yours = session(f"a{turn}"), session(f"b{turn}", person=BELA.name)
        outcomes = raced(lambda s=mine: first.open(s, ANNE), lambda s=yours: second.open(s, BELA))
        assert outcomes == ["CaseTaken", "won"]
        item = SqliteProjects(database).item("liver", "case1", NOW)
        assert item.status is CaseStatus.IN_WORK
        winner = first.get(item.session_id or "")
        first.end(winner.ended(SessionState.ABANDONED), ANNE)
    other.close()


def test_of_two_changes_of_one_draft_exactly_one_is_kept(sessions: SqliteSessions) -> None:
    current = worked_on(sessions, 1)
    for _ in range(10):
        left, right = (current.recorded(interaction(current.next_number, mark)) for mark in "ef")
        outcomes = raced(lambda s=left: sessions.record(s, ANNE), lambda s=right: sessions.record(s, ANNE))
        assert outcomes == ["StaleRevision", "won"]
        current = sessions.get("s1")
        assert current in (left, right)
