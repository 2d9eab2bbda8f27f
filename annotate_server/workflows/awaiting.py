"""Await: a job, for a client that knows no jobs and waits for the answer."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from annotate_server.domain.compute import JobNews, JobWatchers
from annotate_server.domain.errors import Cancelled, TryLater, error_of
from annotate_server.domain.job import Job, JobState
from annotate_server.domain.store_ports import JobQueue

LONGEST_S = 3600.0
_LOOK_EVERY_S = 1.0


@dataclass(frozen=True)
class Awaiting:
    """Waits for jobs; several threads may."""

    queue: JobQueue
    watchers: JobWatchers
    longest_s: float = LONGEST_S

    def ended(self, job_id: str) -> Job:
        """Return a job that has succeeded, once it has.

        Raises the job's own problem, Cancelled, and TryLater after
        `longest_s`: it goes on all the same.
        """
        deadline = time.monotonic() + self.longest_s
        with self._told(job_id) as news:
            while not (job := self.queue.get(job_id)).has_ended:
                if time.monotonic() > deadline:
                    raise TryLater("the draft is not ready yet", remedy="It goes on: ask again later.")
                news.wait(_LOOK_EVERY_S)
                news.clear()
        if job.state is JobState.CANCELLED:
            raise Cancelled("the draft was cancelled")
        if job.problem is not None:
            raise error_of(job.problem)
        return job

    @contextmanager
    def _told(self, job_id: str) -> Iterator[threading.Event]:
        news = threading.Event()

        def tell(heard: JobNews) -> None:
            if heard.job.id == job_id:
                news.set()

        self.watchers.watchers.append(tell)
        try:
            yield news
        finally:
            self.watchers.watchers.remove(tell)
