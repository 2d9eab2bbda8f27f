from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from threading import Thread

import pytest
from store_values import NOW

from annotate_server.domain.errors import NotFound, Problem, StateError
from annotate_server.domain.job import Job, JobKind, JobState, Priority
from annotate_server.jobs.sqlite_queue import SqliteQueue
from annotate_server.stores.database import Database, open_database

PROBLEM = Problem("worker-died", "It died", "The process that did the work died.")


class Ticking:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = open_database(tmp_path / "annotate.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def queue(database: Database) -> SqliteQueue:
    return SqliteQueue(database, Ticking())


def job(name: str, person: str = "anne", priority: Priority = Priority.PERSON) -> Job:
    return Job(name, JobKind.DRAFT, {"case": name, "model": "a"}, priority, person, made_at=NOW)


def test_a_job_comes_back_as_it_was(database: Database, queue: SqliteQueue) -> None:
    queue.add(job("1"))
    assert queue.get("1") == job("1")
    database.close()
    assert SqliteQueue(open_database(database.path)).get("1") == job("1")
    with pytest.raises(NotFound):
        queue.get("2")
    with pytest.raises(StateError):
        queue.add(job("1"))


def test_a_job_runs_to_its_end(queue: SqliteQueue) -> None:
    queue.add(job("1"))
    claimed = queue.claim()
    assert claimed is not None
    assert (claimed.state, claimed.attempts, claimed.begun_at) == (JobState.RUNNING, 1, NOW + timedelta(seconds=1))
    queue.advance("1", 0.5, "Half of it")
    queue.advance("1", 0.25, "")
    assert (queue.get("1").progress, queue.get("1").message) == (0.5, "Half of it")
    done = queue.finish("1", {"prediction": "p1"})
    assert (done.state, done.progress, done.result) == (JobState.SUCCEEDED, 1.0, {"prediction": "p1"})
    assert done.ended_at == NOW + timedelta(seconds=2)
    assert queue.get("1") == done
    with pytest.raises(StateError):
        queue.cancel("1")
    assert queue.claim() is None


def test_a_failed_job_keeps_its_problem(queue: SqliteQueue) -> None:
    queue.add(job("1"))
    queue.claim()
    assert queue.fail("1", PROBLEM) == queue.get("1")
    assert queue.get("1").problem == PROBLEM


def test_a_cancelled_job_neither_goes_on_nor_ends(queue: SqliteQueue) -> None:
    queue.add(job("1"))
    queue.claim()
    queue.cancel("1")
    for act in (
        lambda: queue.advance("1", 0.5, ""),
        lambda: queue.finish("1", {}),
        lambda: queue.fail("1", PROBLEM),
        lambda: queue.cancel("1"),
    ):
        with pytest.raises(StateError):
            act()
    assert queue.get("1").state is JobState.CANCELLED


def test_who_waits_goes_first_then_who_was_served_longest_ago(queue: SqliteQueue) -> None:
    queue.add(job("ahead", "anne", Priority.AHEAD))
    for number in range(3):
        queue.add(job(f"anne{number}", "anne"))
    queue.add(job("bela0", "bela"))
    queue.add(job("bela1", "bela"))
    queue.add(job("cora0", "cora"))
    order = [claimed.id for _ in range(7) if (claimed := queue.claim())]
    assert order == ["anne0", "bela0", "cora0", "anne1", "bela1", "anne2", "ahead"]


def test_the_same_order_is_found_while_it_has_not_ended(queue: SqliteQueue) -> None:
    queue.add(job("1"))
    again = replace(job("2"), order={"model": "a", "case": "1"})
    assert queue.same(again) == job("1")
    queue.claim()
    assert queue.same(again) == queue.get("1")
    assert queue.same(replace(again, order={"case": "1"})) is None
    queue.finish("1", {})
    assert queue.same(again) is None


def test_running_jobs_are_run_again_after_a_crash_but_not_for_ever(queue: SqliteQueue) -> None:
    queue.add(job("1"))
    queue.add(job("2"))
    for _ in range(2):
        queue.claim()
        queue.recover(PROBLEM)
        assert queue.get("2") == job("2")
    assert (queue.get("1").state, queue.get("1").problem) == (JobState.FAILED, PROBLEM)


def test_jobs_are_listed_newest_first(queue: SqliteQueue) -> None:
    for number in range(5):
        queue.add(job(str(number)))
    queue.claim()
    assert [each.id for each in queue.all(limit=3)] == ["4", "3", "2"]
    assert [each.id for each in queue.all(JobState.RUNNING)] == ["0"]


def test_a_job_is_claimed_once_however_many_ask(database: Database, queue: SqliteQueue) -> None:
    for number in range(20):
        queue.add(job(str(number)))
    claimed: list[str] = []

    def serve() -> None:
        mine = SqliteQueue(database)
        while found := mine.claim():
            claimed.append(found.id)

    threads = [Thread(target=serve) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed, key=int) == [str(number) for number in range(20)]


def test_a_job_that_was_put_back_waits_again_and_its_attempt_may_be_forgotten(queue: SqliteQueue) -> None:
    queue.add(job("1", priority=Priority.BATCH))
    assert queue.has_waiting(Priority.BATCH)
    assert not queue.has_waiting(Priority.PERSON)
    queue.claim()
    assert not queue.has_waiting(Priority.BATCH)
    assert queue.put_back("1", counts=False).attempts == 0
    queue.claim()
    assert (queue.put_back("1").attempts, queue.get("1").state) == (1, JobState.QUEUED)
    with pytest.raises(StateError):
        queue.put_back("1")
