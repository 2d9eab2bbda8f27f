"""Jobs: whole drafts that take long, with their progress as server-sent events."""

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import WithJsonSchema
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from annotate_server.api.job_news import Newsroom
from annotate_server.api.v1.documented import JobId, may
from annotate_server.api.v1.forms import JobForm
from annotate_server.api.v1.model_views import PointView
from annotate_server.api.v1.views import JobView
from annotate_server.api.who import Anybody, Served
from annotate_server.domain.errors import NotAllowed
from annotate_server.domain.job import Job, JobKind, JobState
from annotate_server.domain.person import Role
from annotate_server.domain.training import TrainingPoint

router = APIRouter(tags=["jobs"])
Curve = Callable[[str], tuple[TrainingPoint, ...]]
_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {"description": "Server-sent events.", "content": {"text/event-stream": {"schema": {"type": "string"}}}}
}
_MOST_AT_ONCE = 200
_State = Literal["queued", "running", "succeeded", "failed", "cancelled"]
StateFilter = Annotated[
    _State | None,
    WithJsonSchema({"type": "string", "enum": [str(state) for state in JobState]}),
    Query(description="In this state only."),
]


@router.post("/jobs", status_code=202, responses=may(404, 409, 415, 507))
def add_job(form: JobForm, services: Served, person: Anybody, response: Response) -> JobView:
    """Let a model draft a case; the same draft that still waits is not ordered twice."""
    job = services.drafting.order(form.case, form.model, person, priority=form.rank)
    response.headers["Location"] = f"/api/v1/jobs/{job.id}"
    return JobView.of(job)


@router.get("/jobs")
def list_jobs(
    services: Served,
    person: Anybody,
    state: StateFilter = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> list[JobView]:
    """List jobs, newest first."""
    return [JobView.of(job) for job in services.jobs.all(None if state is None else JobState(state), limit)]


@router.get("/jobs/{job_id}", responses=may(404))
def get_job(job_id: JobId, services: Served, person: Anybody) -> JobView:
    """Return a job."""
    return JobView.of(services.jobs.get(job_id))


@router.get("/jobs/{job_id}/curve", responses=may(404))
def get_curve(job_id: JobId, services: Served, person: Anybody) -> list[PointView]:
    """Return the curve of a training so far; empty for a job of another kind."""
    services.jobs.get(job_id)
    return [PointView.of(point) for point in services.learning.curve(job_id)]


@router.post("/jobs/{job_id}/cancel", responses=may(404, 409, 507))
def cancel_job(job_id: JobId, services: Served, person: Anybody) -> JobView:
    """Cancel a job of mine; a reviewer cancels any training, an administrator any job."""
    job = services.jobs.get(job_id)
    may_cancel = Role.REVIEWER if job.kind == JobKind.TRAIN else Role.ADMIN
    if job.person != person.name and not person.role.includes(may_cancel):
        raise NotAllowed("the job is somebody else's", remedy="Ask an administrator.")
    job = services.jobs.cancel(job_id)
    services.watchers.tell(job)
    return JobView.of(job)


@router.get("/jobs/{job_id}/events", response_class=Response, responses={**_EVENTS, **may(404)})
async def watch_job(job_id: JobId, request: Request, services: Served, person: Anybody) -> Response:
    """Follow a job: its present state first, then every change until it has ended.

    Of a training, events of the kind `curve` bring the points of its curve as they come.
    """
    await run_in_threadpool(services.jobs.get, job_id)

    def present() -> tuple[Job, ...]:
        return (services.jobs.get(job_id),)

    return _stream(_events(request, job_id, present, services.learning.curve))


@router.get("/events", response_class=Response, responses=_EVENTS)
async def watch_jobs(request: Request, services: Served, person: Anybody) -> Response:
    """Follow every job: those that have not ended first, then every change."""

    def present() -> tuple[Job, ...]:
        queued = services.jobs.all(JobState.QUEUED, _MOST_AT_ONCE)
        return (*services.jobs.all(JobState.RUNNING, _MOST_AT_ONCE), *queued)

    return _stream(_events(request, None, present, services.learning.curve))


async def _events(
    request: Request, job_id: str | None, present: Callable[[], tuple[Job, ...]], curve: Curve
) -> AsyncIterator[bytes]:
    """Yield the events; listening begins before the present state is read, so that no change falls between."""
    newsroom: Newsroom = request.app.state.newsroom
    heartbeat_s: float = request.app.state.options.limits.heartbeat_s
    told = _Told(curve)
    with newsroom.listening(job_id) as listener:
        for job in await run_in_threadpool(present):
            yield await run_in_threadpool(told.events, job)
            if job_id is not None and job.has_ended:
                return
        async for job_or_none in listener.news(heartbeat_s):
            if newsroom.is_closed:
                return
            yield b": still here\n\n" if job_or_none is None else await run_in_threadpool(told.events, job_or_none)
            if job_id is not None and job_or_none is not None and job_or_none.has_ended:
                return


@dataclass
class _Told:
    """What one listener has been told of the curves of trainings: the last step of each."""

    curve: Curve
    steps: dict[str, int] = field(default_factory=dict)

    def events(self, job: Job) -> bytes:
        """Return a change of a job as events: the new points of its curve, and the job."""
        return self._points(job) + _event(job)

    def _points(self, job: Job) -> bytes:
        if job.kind != JobKind.TRAIN:
            return b""
        new = [point for point in self.curve(job.id) if point.step > self.steps.get(job.id, -1)]
        if not new:
            return b""
        self.steps[job.id] = new[-1].step
        told = {"job": job.id, "points": [PointView.of(point).model_dump(mode="json") for point in new]}
        return b"event: curve\ndata: " + json.dumps(told).encode() + b"\n\n"


def _event(job: Job) -> bytes:
    return b"event: job\ndata: " + json.dumps(JobView.of(job).model_dump(mode="json")).encode() + b"\n\n"


def _stream(events: AsyncIterator[bytes]) -> Response:
    headers = {"X-Accel-Buffering": "no", "Cache-Control": "no-store"}
    return StreamingResponse(events, media_type="text/event-stream", headers=headers)
