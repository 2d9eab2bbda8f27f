"""Waiting for a job on behalf of a client that knows no jobs."""

import threading
from dataclasses import dataclass, field

import pytest

from annotate_server.domain.compute import JobWatchers
from annotate_server.domain.errors import Cancelled, TryLater, WorkerDied
from annotate_server.domain.job import Job, JobState
from annotate_server.workflows.awaiting import Awaiting


@dataclass
class OneJob:
    """As much of a queue as is asked for."""

    job: Job = field(default_factory=lambda: Job("j", "draft"))

    def get(self, job_id: str) -> Job:
        return self.job


def awaiting(queue: OneJob, watchers: JobWatchers, longest_s: float = 20.0) -> Awaiting:
    return Awaiting(queue, watchers, longest_s)  # type: ignore[arg-type]  # a part of a queue


def test_who_waits_gets_the_job_as_soon_as_it_has_ended() -> None:
    queue, watchers = OneJob(), JobWatchers()
    running = queue.job.moved_to(JobState.RUNNING)

    def end() -> None:
        while not watchers.watchers:
            threading.Event().wait(0.001)
        queue.job = running.moved_to(JobState.SUCCEEDED)
        watchers.tell(queue.job)

    thread = threading.Thread(target=end)
    thread.start()
    assert awaiting(queue, watchers).ended("j").state is JobState.SUCCEEDED
    thread.join()
    assert watchers.watchers == []


def test_what_failed_fails_in_its_own_words() -> None:
    problem = WorkerDied("the worker died over it").problem()
    failed = OneJob(Job("j", "draft").moved_to(JobState.RUNNING).moved_to(JobState.FAILED, problem))
    with pytest.raises(WorkerDied, match="died over it"):
        awaiting(failed, JobWatchers()).ended("j")
    cancelled = OneJob(Job("j", "draft").moved_to(JobState.CANCELLED))
    with pytest.raises(Cancelled):
        awaiting(cancelled, JobWatchers()).ended("j")


def test_nobody_waits_for_ever() -> None:
    watchers = JobWatchers()
    with pytest.raises(TryLater):
        awaiting(OneJob(), watchers, longest_s=-1.0).ended("j")
    assert watchers.watchers == []
