"""Queueing a job once: what waits or runs already is not ordered a second time."""

from collections.abc import Callable, Iterable

from annotate_server.domain.job import Job
from annotate_server.domain.store_ports import JobQueue


def queued_once(job: Job, queue: JobQueue, listeners: Iterable[Callable[[Job], None]]) -> Job:
    """Queue a job and tell the listeners; one of the same order that has not ended is returned in its place."""
    same = queue.same(job)
    if same is not None:
        return same
    queue.add(job)
    for listener in listeners:
        listener(job)
    return job
