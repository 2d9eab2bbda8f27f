"""Every queue of jobs, the twin in memory too, against one suite."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from annotate_server.domain.errors import NotFound, Problem, StateError
from annotate_server.domain.job import Again, Job, JobKind, JobKinds, JobState, Priority
from annotate_server.domain.store_ports import JobQueue
from annotate_server.jobs.sqlite_queue import SqliteQueue
from annotate_server.stores.database import open_database
from annotate_server.testing.memory_queue import InMemoryJobQueue

PROBLEM = Problem("worker-died", "It died", "It died twice.")


@pytest.fixture(params=["sqlite", "memory"])
def queue(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[JobQueue]:
    if request.param == "memory":
        yield InMemoryJobQueue()
        return
    database = open_database(tmp_path / "annotate.sqlite")
    yield SqliteQueue(database)
    database.close()


def a_job(identity: str, person: str = "ann", priority: Priority = Priority.PERSON) -> Job:
    return Job(identity, JobKind.DRAFT, {"case": identity, "model": "m"}, priority, person)


def claimed(queue: JobQueue) -> list[str]:
    found = []
    while job := queue.claim():
        found.append(job.id)
    return found


def test_who_waits_comes_first_then_who_was_served_longest_ago_then_age(queue: JobQueue) -> None:
    for job in (a_job("batch", priority=Priority.BATCH), a_job("a1"), a_job("a2"), a_job("b1", "bob")):
        queue.add(job)
    assert claimed(queue) == ["a1", "b1", "a2", "batch"]


def test_a_job_that_waits_or_runs_is_known_as_the_same(queue: JobQueue) -> None:
    queue.add(a_job("1"))
    twin = Job("2", JobKind.DRAFT, {"model": "m", "case": "1"})
    assert (queue.same(twin) or twin).id == "1"
    queue.claim()
    assert (queue.same(twin) or twin).id == "1"
    queue.finish("1", {})
    assert queue.same(twin) is None


def test_progress_result_and_problem_are_kept(queue: JobQueue) -> None:
    queue.add(a_job("1"))
    queue.add(a_job("2"))
    queue.claim()
    queue.advance("1", 0.4, "Reading")
    assert (queue.get("1").progress, queue.get("1").message) == (0.4, "Reading")
    assert queue.finish("1", {"prediction": "p"}).result == {"prediction": "p"}
    queue.claim()
    assert queue.fail("2", PROBLEM).problem == PROBLEM
    assert [job.id for job in queue.all()] == ["2", "1"]
    assert [job.id for job in queue.all(JobState.FAILED)] == ["2"]
    queue.add(Job("3", JobKind.TRAIN))
    assert [job.id for job in queue.all(kind=JobKind.TRAIN)] == ["3"]
    assert [job.id for job in queue.all(kind=JobKind.DRAFT, limit=1)] == ["2"]
    for change in (lambda: queue.cancel("1"), lambda: queue.put_back("1"), lambda: queue.advance("1", 1, "")):
        with pytest.raises(StateError):
            change()
    with pytest.raises(NotFound):
        queue.get("4")


def test_a_cancelled_job_is_not_claimed_and_not_finished(queue: JobQueue) -> None:
    queue.add(a_job("1"))
    queue.add(a_job("2"))
    queue.cancel("1")
    running = queue.claim()
    assert running is not None
    assert running.id == "2"
    assert queue.cancel("2").state is JobState.CANCELLED
    with pytest.raises(StateError):
        queue.finish("2", {})


def test_what_ran_when_the_machine_died_runs_again_and_in_the_end_fails(queue: JobQueue) -> None:
    queue.add(a_job("1"))
    queue.claim()
    queue.recover(PROBLEM)
    assert (queue.get("1").state, queue.get("1").attempts) == (JobState.QUEUED, 1)
    queue.claim()
    assert queue.put_back("1", counts=False).attempts == 1
    assert queue.has_waiting(Priority.PERSON)
    queue.claim()
    queue.recover(PROBLEM)
    assert (queue.get("1").state, queue.get("1").problem) == (JobState.FAILED, PROBLEM)


def test_a_line_takes_its_own_kinds_only(queue: JobQueue) -> None:
    for identity, kind in (("d", JobKind.DRAFT), ("t", JobKind.TRAIN), ("n", "newer")):
        queue.add(Job(identity, kind, {"case": identity}))
    trainings, others = JobKinds.only(JobKind.TRAIN), JobKinds.all_but(JobKind.TRAIN)
    assert queue.has_waiting(Priority.PERSON, trainings)
    assert (queue.claim(trainings) or a_job("x")).id == "t"
    assert queue.claim(trainings) is None
    assert not queue.has_waiting(Priority.PERSON, trainings)
    assert [(queue.claim(others) or a_job("x")).id for _ in range(2)] == ["d", "n"]
    queue.recover(PROBLEM, kinds=others)
    assert [queue.get(each).state for each in "dtn"] == [JobState.QUEUED, JobState.RUNNING, JobState.QUEUED]


@pytest.mark.parametrize(
    ("again", "state", "attempts"),
    [(Again.NO, JobState.FAILED, 1), (Again.COUNTED, JobState.QUEUED, 1), (Again.UNCOUNTED, JobState.QUEUED, 0)],
)
def test_whether_a_job_is_begun_again_is_asked(queue: JobQueue, again: Again, state: JobState, attempts: int) -> None:
    queue.add(a_job("1"))
    queue.claim()
    queue.recover(PROBLEM, lambda job: again)
    assert (queue.get("1").state, queue.get("1").attempts) == (state, attempts)
