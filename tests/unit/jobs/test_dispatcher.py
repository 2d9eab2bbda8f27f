"""The dispatcher: what becomes of a job, whatever happens to it, its worker or the server."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from annotate_server.domain.compute import JobNews, JobWatchers
from annotate_server.domain.errors import NoSpace, Problem, StateError
from annotate_server.domain.job import Again, Job, JobKinds, JobState, Priority
from annotate_server.jobs.dispatcher import Dispatcher, JobWork
from annotate_server.jobs.lanes import Lane
from annotate_server.jobs.worker_process import WorkerOptions, WorkerProcess
from annotate_server.testing.memory_queue import InMemoryJobQueue

QUEUED, RUNNING, SUCCEEDED, FAILED, CANCELLED = JobState


def kept(job: Job, answer: object) -> Mapping[str, str]:
    return {"answer": str(answer)}


def work(function: str) -> JobWork:
    return JobWork(function, lambda job: job.order["argument"], kept)


WORKS = {name: work(name) for name in ("echo", "touch_and_sleep", "die", "die_once", "refuse", "count", "stubborn")}


class Bench:
    """A dispatcher at work, and what its watchers were told."""

    def __init__(self, works: Mapping[str, JobWork] = WORKS, options: WorkerOptions | None = None) -> None:
        self.queue = InMemoryJobQueue()
        self.told: list[Job] = []
        watchers = JobWatchers([self._tell])
        lane = Lane(WorkerProcess(options or WorkerOptions("planted_workers:functions")))
        self.dispatcher = Dispatcher(self.queue, lane, works, watchers)

    def _tell(self, news: JobNews) -> None:
        self.told.append(news.job)

    def add(self, name: str, kind: str, argument: object = "", priority: Priority = Priority.PERSON) -> None:
        self.queue.add(Job(name, kind, {"argument": str(argument)}, priority))
        self.dispatcher.wake()

    def ended(self, name: str) -> Job:
        until(lambda: self.queue.get(name).has_ended and any(j.id == name and j.has_ended for j in self.told))
        return self.queue.get(name)

    def states(self, name: str) -> list[JobState]:
        return [state for job, state in self.queue.seen if job == name]

    def close(self) -> None:
        self.dispatcher.drain(0.0)
        self.dispatcher.lane.close()


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    made = Bench()
    yield made
    made.close()


def until(is_so: Callable[[], bool]) -> None:
    while not is_so():
        time.sleep(0.01)


def test_a_job_succeeds_and_its_watchers_hear_of_every_step(bench: Bench) -> None:
    bench.dispatcher.start()
    bench.add("a", "count", 60)
    job = bench.ended("a")
    assert (job.state, job.result, job.progress) == (SUCCEEDED, {"answer": "60"}, 1.0)
    assert bench.states("a") == [QUEUED, RUNNING, SUCCEEDED]
    told = [(each.state, each.progress) for each in bench.told]
    assert told[0] == (RUNNING, 0.0)
    assert told[-1] == (SUCCEEDED, 1.0)
    assert any(0 < progress < 1 and each.message for each, (_, progress) in zip(bench.told, told, strict=True))
    assert len(told) < 30
    assert [progress for _, progress in told] == sorted(progress for _, progress in told)


def test_jobs_run_by_priority_and_then_by_age(bench: Bench) -> None:
    for name, priority in (("c", Priority.BATCH), ("b", Priority.AHEAD), ("a", Priority.PERSON), ("d", Priority.BATCH)):
        bench.add(name, "echo", name, priority)
    bench.dispatcher.start()
    bench.ended("d")
    assert [job.id for job in bench.told if job.state is SUCCEEDED] == ["a", "b", "c", "d"]


@pytest.mark.parametrize("priority", [Priority.BATCH, Priority.AHEAD])
def test_a_job_for_nobody_gives_way_to_a_person_and_runs_again(
    bench: Bench, tmp_path: Path, priority: Priority
) -> None:
    gate = tmp_path / "gate"
    bench.dispatcher.start()
    bench.add("batch", "touch_and_sleep", gate, priority)
    until(gate.exists)
    bench.add("person", "echo", 1)
    assert bench.ended("person").state is SUCCEEDED
    gate.write_text("go on")
    job = bench.ended("batch")
    assert (job.state, job.attempts) == (SUCCEEDED, 1)
    assert bench.states("batch") == [QUEUED, RUNNING, QUEUED, RUNNING, SUCCEEDED]


def test_a_persons_job_gives_way_to_nobody(bench: Bench, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    bench.dispatcher.start()
    bench.add("first", "touch_and_sleep", gate)
    until(gate.exists)
    bench.add("second", "echo", 1)
    until(lambda: any(job.progress > 0 for job in bench.told))
    time.sleep(0.5)
    assert bench.queue.get("first").state is RUNNING
    gate.write_text("go on")
    assert bench.ended("second").state is SUCCEEDED
    assert bench.states("first") == [QUEUED, RUNNING, SUCCEEDED]


def test_a_running_job_that_is_cancelled_stops_and_the_next_begins(bench: Bench, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    bench.dispatcher.start()
    bench.add("a", "touch_and_sleep", gate)
    until(gate.exists)
    bench.queue.cancel("a")
    bench.add("b", "echo", 1)
    assert bench.ended("b").state is SUCCEEDED
    assert bench.ended("a").state is CANCELLED
    assert bench.states("a") == [QUEUED, RUNNING, CANCELLED]


def test_a_cancelled_job_in_line_never_begins(bench: Bench) -> None:
    bench.add("a", "echo")
    bench.queue.cancel("a")
    bench.add("b", "echo")
    bench.dispatcher.start()
    bench.ended("b")
    assert bench.states("a") == [QUEUED, CANCELLED]


def test_a_job_over_which_the_worker_dies_is_begun_again(bench: Bench, tmp_path: Path) -> None:
    bench.dispatcher.start()
    bench.add("a", "die_once", tmp_path / "died")
    job = bench.ended("a")
    assert (job.state, job.attempts, job.result) == (SUCCEEDED, 2, {"answer": "alive"})


def test_a_job_that_kills_every_worker_fails_and_the_next_runs(bench: Bench) -> None:
    bench.dispatcher.start()
    bench.add("a", "die")
    bench.add("b", "echo", 1)
    job = bench.ended("a")
    assert (job.state, job.attempts) == (FAILED, 2)
    assert job.problem is not None
    assert job.problem.type == "worker-died"
    assert bench.ended("b").state is SUCCEEDED


def test_a_failed_job_says_why(bench: Bench) -> None:
    bench.dispatcher.start()
    bench.add("a", "refuse", "Spleen")
    bench.add("b", "unheard-of")
    problem = bench.ended("a").problem
    assert problem == Problem(
        "invalid-prompt",
        "The prompt is empty, not finite or outside the volume",
        "Spleen: it lies elsewhere. Draw it again.",
    )
    other = bench.ended("b").problem
    assert other is not None
    assert "cannot carry out a job of the kind 'unheard-of'" in other.detail


def test_what_cannot_be_prepared_or_kept_fails_its_job_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(job: Job, answer: object) -> Mapping[str, str]:
        raise NoSpace("the disk is full")

    def unforeseen(job: Job) -> object:
        raise ZeroDivisionError

    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    works = {**WORKS, "full": replace(work("echo"), kept=full), "odd": replace(work("echo"), prepared=unforeseen)}
    bench = Bench(works)
    bench.dispatcher.start()
    for name, kind in (("a", "full"), ("b", "odd"), ("c", "echo")):
        bench.add(name, kind)
    problems = [bench.ended(name).problem for name in "abc"]
    assert [problem.type if problem else None for problem in problems] == ["no-space", "prediction-failed", None]
    bench.close()


def test_what_follows_a_job_comes_before_its_watchers_hear_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    followed: list[tuple[JobState, Mapping[str, str], list[JobState]]] = []

    def finished(job: Job) -> None:
        followed.append((job.state, job.result, [each.state for each in bench.told]))
        raise StateError("the session has ended")

    bench = Bench({"echo": replace(work("echo"), finished=finished)})
    bench.dispatcher.start()
    bench.add("a", "echo", 5)
    assert bench.ended("a").state is SUCCEEDED
    assert followed == [(SUCCEEDED, {"answer": "5"}, [RUNNING])]
    bench.close()


def test_a_job_that_the_server_left_running_is_run_again_or_fails(bench: Bench) -> None:
    once, twice = (Job(name, "echo", {"argument": "1"}).moved_to(RUNNING) for name in ("once", "twice"))
    bench.queue.jobs |= {"once": once, "twice": twice.moved_to(QUEUED).moved_to(RUNNING)}
    bench.dispatcher.start()
    assert bench.ended("once").state is SUCCEEDED
    problem = bench.queue.get("twice").problem
    assert problem is not None
    assert problem.type == "worker-died"


def test_draining_lets_the_running_job_end_and_begins_no_other(bench: Bench) -> None:
    bench.dispatcher.start()
    bench.add("a", "count", 60)
    bench.add("b", "echo", 1)
    until(lambda: bench.queue.get("a").state is RUNNING)
    bench.dispatcher.drain(60.0)
    assert bench.queue.get("a").state is SUCCEEDED
    assert bench.queue.get("b").state is QUEUED


def test_draining_puts_a_job_that_takes_too_long_back(bench: Bench, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    bench.dispatcher.start()
    bench.add("a", "touch_and_sleep", gate)
    until(gate.exists)
    bench.dispatcher.drain(0.1)
    job = bench.queue.get("a")
    assert (job.state, job.attempts) == (QUEUED, 0)


def test_a_closed_lane_puts_the_job_back(bench: Bench, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    bench.dispatcher.start()
    bench.add("a", "touch_and_sleep", gate)
    until(gate.exists)
    bench.dispatcher.lane.close(0.0)
    until(lambda: bench.queue.get("a").state is QUEUED)
    assert bench.queue.get("a").attempts == 0


def test_a_queue_in_trouble_is_asked_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    claim, troubles = bench.queue.claim, iter([NoSpace("the disk is full"), RuntimeError("the database is locked")])

    def troubled(kinds: JobKinds) -> Job | None:
        trouble = next(troubles, None)
        if trouble is not None:
            raise trouble
        return claim(kinds)

    monkeypatch.setattr(bench.queue, "claim", troubled)
    monkeypatch.setattr("annotate_server.jobs.dispatcher.AFTER_TROUBLE_S", 0.01)
    bench.add("a", "echo")
    bench.dispatcher.start()
    assert bench.ended("a").state is SUCCEEDED


def test_a_watcher_that_fails_harms_no_job(bench: Bench) -> None:
    def broken(news: JobNews) -> None:
        raise RuntimeError("the event loop is closed")

    bench.dispatcher.watchers.watchers.append(broken)
    bench.dispatcher.start()
    bench.add("a", "count", 40)
    assert bench.ended("a").state is SUCCEEDED
    assert bench.states("a") == [QUEUED, RUNNING, SUCCEEDED]


def test_a_work_says_how_often_it_is_begun_again_and_hears_of_each_end(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[int] = []
    ended: list[JobState] = []
    works = {
        name: replace(
            work(name),
            begun=lambda job: begun.append(job.attempts),
            again=lambda job: Again.UNCOUNTED if len(begun) < 4 else Again.NO,
            ended=lambda job: ended.append(job.state),
        )
        for name in ("die", "echo")
    }
    monkeypatch.setattr(bench.dispatcher, "works", works)
    bench.dispatcher.start()
    bench.add("a", "die")
    assert bench.ended("a").state is FAILED
    bench.add("b", "echo")
    assert bench.ended("b").state is SUCCEEDED
    assert begun == [1, 1, 1, 1, 1]
    assert ended == [FAILED, SUCCEEDED]


def test_a_line_leaves_other_kinds_alone_and_gives_its_worker_back(bench: Bench) -> None:
    bench.dispatcher.kinds, bench.dispatcher.ends_worker = JobKinds.only("count"), True
    running = Job("other", "echo", {"argument": "1"}).moved_to(RUNNING)
    bench.queue.jobs["other"] = running
    bench.dispatcher.start()
    bench.add("waiting", "echo")
    bench.add("mine", "count", 3)
    assert bench.ended("mine").state is SUCCEEDED
    assert (bench.queue.get("other"), bench.queue.get("waiting").state) == (running, QUEUED)
    assert not bench.dispatcher.lane.worker.is_alive
