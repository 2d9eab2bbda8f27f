"""The application: routes, doorkeeper and problems over the services that it is given."""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.openapi.utils import get_openapi
from starlette.responses import JSONResponse, Response

from annotate_server import __version__
from annotate_server.api import health, problems, sign_in, uploads, viewer
from annotate_server.api.dicomweb import retrieving, searching, storing
from annotate_server.api.dicomweb.archive_door import ArchiveDoor
from annotate_server.api.doorkeeper import Doorkeeper
from annotate_server.api.flow import Flow
from annotate_server.api.job_news import Newsroom
from annotate_server.api.loop import routes as loop
from annotate_server.api.metrics import Metrics
from annotate_server.api.monailabel import doors
from annotate_server.api.monailabel.listing import Listing
from annotate_server.api.monailabel.paths import StockPaths
from annotate_server.api.monailabel.progress import TrainStats
from annotate_server.api.monailabel.wished import WishedNames
from annotate_server.api.origins import OtherOrigins
from annotate_server.api.rendered_cases import RenderedCases
from annotate_server.api.services import ApiOptions, Services
from annotate_server.api.v1 import (
    cases,
    drafts,
    jobs,
    labels,
    learning,
    models,
    predictions,
    projects,
    segments,
    server,
    sessions,
    users,
    versions,
    worklist,
)
from annotate_server.api.v1.documented import EVERYWHERE, may
from annotate_server.api.who import Anybody, Identification, SignIns, signed_in

_NOUNS = (
    projects,
    cases,
    worklist,
    sessions,
    drafts,
    segments,
    labels,
    predictions,
    models,
    versions,
    learning,
    jobs,
    users,
    server,
)


def create_app(services: Services, options: ApiOptions | None = None) -> FastAPI:
    """Return the application; its lifespan makes the folder for uploads and ends event streams."""
    options = options or ApiOptions()
    app = routed()
    state = app.state
    state.services, state.options = services, options
    state.flow, state.metrics = Flow(options.limits), Metrics()
    state.newsroom, state.sign_ins = Newsroom(services.watchers), SignIns(options.limits.cookie_s)
    state.rendered = RenderedCases(services.cases, cases.rendered_case)
    state.listing, state.train_stats, state.wished = Listing(services), TrainStats(services), WishedNames()
    state.methods = methods_by_path(app.routes)
    state.metrics.watch(services)
    problems.install(app)
    if services.archive is not None:
        shelf = services.dicom.shelf
        app.add_middleware(ArchiveDoor, archive=services.archive, shelf=shelf, limits=options.limits)
    app.add_middleware(
        Doorkeeper,
        options=options,
        identification=Identification(services.users, state.sign_ins, options.alone, options.origins),
        flow=state.flow,
        metrics=state.metrics,
    )
    app.add_middleware(StockPaths)
    if options.origins:
        app.add_middleware(OtherOrigins, origins=options.origins)
    app.openapi = lambda: description(app)  # type: ignore[method-assign]  # FastAPI's documented way
    return app


def routed() -> FastAPI:
    """Return the routes alone: enough to describe them."""
    app = FastAPI(
        title="annotate-server",
        version=__version__,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    app.include_router(_version_1())
    app.include_router(health.router)
    app.include_router(sign_in.router)
    app.include_router(viewer.router)
    app.include_router(_loop())
    app.include_router(_dicomweb())
    app.include_router(doors.OPEN)
    app.include_router(_monailabel())
    return app


def methods_by_path(routes: Iterable[object]) -> Mapping[str, frozenset[str]]:
    """Return every route's path, without the prefix that its router was given, with all methods that it has."""
    found: dict[str, frozenset[str]] = {}
    for route in routes:
        included = getattr(route, "original_router", None)
        if included is not None:
            inner = methods_by_path(included.routes)
        else:
            inner = {str(getattr(route, "path", "")): frozenset(getattr(route, "methods", None) or ())}
        for path, methods in inner.items():
            found[path] = found.get(path, frozenset()) | methods
    return found


def begin_drain(app: FastAPI) -> None:
    """Take no more requests and end event streams; called in the event loop when the server shall stop."""
    app.state.flow.is_draining = True
    app.state.newsroom.close()


def description(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI description, the same for the same code."""
    if app.openapi_schema is None:
        found = get_openapi(title=app.title, version=app.version, routes=app.routes)
        found["components"]["schemas"]["Problem"] = problems.SCHEMA
        app.openapi_schema = found
    return app.openapi_schema


def _version_1() -> APIRouter:
    """Return `/api/v1`: whoever is not signed in gets no further than the router."""
    router = APIRouter(prefix="/api/v1", dependencies=[Depends(signed_in)], responses=may(*EVERYWHERE))
    for noun in _NOUNS:
        router.include_router(noun.router)

    @router.get("/openapi.json", include_in_schema=False)
    async def openapi(request: Request, person: Anybody) -> Response:
        return JSONResponse(description(request.app))

    return router


def _loop() -> APIRouter:
    """Return the pages of the learning loop: for whoever is signed in."""
    router = APIRouter(dependencies=[Depends(signed_in)], include_in_schema=False)
    router.include_router(loop.router)
    return router


def _dicomweb() -> APIRouter:
    """Return `/dicomweb`, which the standard describes: for whoever is signed in."""
    router = APIRouter(dependencies=[Depends(signed_in)], include_in_schema=False)
    for door in (searching, retrieving, storing):
        router.include_router(door.router)
    return router


def _monailabel() -> APIRouter:
    """Return the dialect of MONAI Label's clients, at the root as they have it: for whoever is signed in."""
    router = APIRouter(dependencies=[Depends(signed_in)], include_in_schema=False)
    for door in doors.DOORS:
        router.include_router(door)
    return router


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    to_thread.current_default_thread_limiter().total_tokens = app.state.options.limits.threads
    uploads.sweep(app.state.services.uploads)
    with app.state.newsroom.opened():
        yield
    begin_drain(app)
    if app.state.services.archive is not None:
        await app.state.services.archive.close()
