"""Jobs: whole drafts that take long, with their progress as server-sent events."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import WithJsonSchema
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from annotate_server.api.job_news import Newsroom
from annotate_server.api.v1.documented import JobId, may
from annotate_server.api.v1.forms import JobForm
from annotate_server.api.v1.views import JobView
from annotate_server.api.who import Anybody, Served
from annotate_server.domain.errors import NotAllowed
from annotate_server.domain.job import Job, JobState
from annotate_server.domain.person import Role

router = APIRouter(tags=["jobs"])
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


@router.post("/jobs/{job_id}/cancel", responses=may(404, 409, 507))
def cancel_job(job_id: JobId, services: Served, person: Anybody) -> JobView:
    """Cancel a job of mine; an administrator cancels any."""
    if services.jobs.get(job_id).person != person.name and person.role is not Role.ADMIN:
        raise NotAllowed("the job is somebody else's", remedy="Ask an administrator.")
    job = services.jobs.cancel(job_id)
    services.watchers.tell(job)
    return JobView.of(job)


@router.get("/jobs/{job_id}/events", response_class=Response, responses={**_EVENTS, **may(404)})
async def watch_job(job_id: JobId, request: Request, services: Served, person: Anybody) -> Response:
    """Follow a job: its present state first, then every change until it has ended."""
    await run_in_threadpool(services.jobs.get, job_id)

    def present() -> tuple[Job, ...]:
        return (services.jobs.get(job_id),)

    return _stream(_events(request, job_id, present))


@router.get("/events", response_class=Response, responses=_EVENTS)
async def watch_jobs(request: Request, services: Served, person: Anybody) -> Response:
    """Follow every job: those that have not ended first, then every change."""

    def present() -> tuple[Job, ...]:
        queued = services.jobs.all(JobState.QUEUED, _MOST_AT_ONCE)
        return (*services.jobs.all(JobState.RUNNING, _MOST_AT_ONCE), *queued)

    return _stream(_events(request, None, present))


async def _events(request: Request, job_id: str | None, present: Callable[[], tuple[Job, ...]]) -> AsyncIterator[bytes]:
    """Yield the events; listening begins before the present state is read, so that no change falls between."""
    newsroom: Newsroom = request.app.state.newsroom
    heartbeat_s: float = request.app.state.options.limits.heartbeat_s
    with newsroom.listening(job_id) as listener:
        for job in await run_in_threadpool(present):
            yield _event(job)
            if job_id is not None and job.has_ended:
                return
        async for job_or_none in listener.news(heartbeat_s):
            if newsroom.is_closed:
                return
            yield b": still here\n\n" if job_or_none is None else _event(job_or_none)
            if job_id is not None and job_or_none is not None and job_or_none.has_ended:
                return


def _event(job: Job) -> bytes:
    return b"event: job\ndata: " + json.dumps(JobView.of(job).model_dump(mode="json")).encode() + b"\n\n"


def _stream(events: AsyncIterator[bytes]) -> Response:
    headers = {"X-Accel-Buffering": "no", "Cache-Control": "no-store"}
    return StreamingResponse(events, media_type="text/event-stream", headers=headers)
