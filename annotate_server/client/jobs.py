"""Jobs seen from outside: follow one until it has ended."""

import json
import time
from collections.abc import Callable, Iterator

from annotate_server.client.answers import RemoteJob
from annotate_server.client.connection import Connection
from annotate_server.domain.errors import Cancelled, TryLater, error_of

_PAUSE_S = 1.0


def ignore(fraction: float, message: str) -> None:
    """Take a report of progress that nobody asked for."""


def followed(connection: Connection, job_id: str) -> Iterator[RemoteJob]:
    """Yield a job's present state and every change, by server-sent events, until it has ended or the stream does."""
    with connection.streaming(f"/api/v1/jobs/{job_id}/events") as stream:
        kind = ""
        for line in stream.iter_lines():
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif line.startswith("data: ") and kind == "job":
                yield RemoteJob.of(json.loads(line.removeprefix("data: ")))


def waited(
    connection: Connection, job_id: str, timeout_s: float, report: Callable[[float, str], None] = ignore
) -> RemoteJob:
    """Return a job once it has succeeded; raises the error that it failed with, Cancelled, or TryLater in the end.

    A stream that breaks off is taken up again: the first event is the present state.
    """
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        try:
            ended = _ended(connection, job_id, until, report)
        except TryLater:
            if time.monotonic() + _PAUSE_S >= until:
                raise
        else:
            if ended is not None:
                return _succeeded(ended)  # not above: a job may have failed with TryLater, and for good
        time.sleep(_PAUSE_S)
    raise TryLater(f"job {job_id} has not ended after {timeout_s:g} s")


def _ended(connection: Connection, job_id: str, until: float, report: Callable[[float, str], None]) -> RemoteJob | None:
    """Return a job once it has ended; None where the stream breaks off before, or the time is up."""
    for job in followed(connection, job_id):
        report(job.progress, job.message)
        if job.has_ended:
            return job
        if time.monotonic() >= until:
            break
    return None


def _succeeded(job: RemoteJob) -> RemoteJob:
    if job.problem is not None:
        raise error_of(job.problem)
    if job.state == "cancelled":
        raise Cancelled(f"job {job.id} was cancelled")
    return job
