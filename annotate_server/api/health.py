"""For whoever watches the server: alive, ready, counted."""

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from annotate_server.api.flow import Flow
from annotate_server.api.metrics import Metrics
from annotate_server.api.v1.documented import EVERYWHERE, may
from annotate_server.api.v1.views import View
from annotate_server.api.who import Anybody, Served

router = APIRouter(tags=["health"])


class LiveView(View):
    """The process answers."""

    status: str = "live"


class ReadyView(View):
    """Whether work can be taken, and what is missing and why where it cannot."""

    status: str
    missing: dict[str, str]


@router.get("/health/live")
async def live() -> LiveView:
    """Say that the process answers; asks nothing else."""
    return LiveView()


@router.get("/health/ready", responses={503: {"model": ReadyView, "description": "Not ready yet, or no more."}})
async def ready(request: Request, response: Response) -> ReadyView:
    """Say whether work can be taken."""
    flow: Flow = request.app.state.flow
    missing = dict(request.app.state.services.readiness())
    if flow.is_draining:
        missing["server"] = "it is shutting down"
    response.status_code = 503 if missing else 200
    return ReadyView(status="not-ready" if missing else "ready", missing=missing)


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus."},
        **may(*EVERYWHERE),
    },
)
async def metrics(request: Request, services: Served, person: Anybody) -> Response:
    """Return everything that is counted."""
    counted: Metrics = request.app.state.metrics
    content = await run_in_threadpool(counted.text)
    return Response(content, media_type="text/plain; version=0.0.4; charset=utf-8")
