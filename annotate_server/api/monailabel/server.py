"""What the server can do, who signs in, which case is next; and sessions, which are cases."""

import secrets
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Body, Form, HTTPException, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, RedirectResponse, Response

from annotate_server import __version__
from annotate_server.api.monailabel.datastore import image_response, take_in
from annotate_server.api.monailabel.desk import AtDesk, Desk, both_ways, named, new_router
from annotate_server.api.monailabel.parts import received_form
from annotate_server.api.monailabel.translate import FIRST, LAST, RANDOM, Json, Offered, server_words
from annotate_server.api.monailabel.words import image_words, sample_words
from annotate_server.api.who import Anybody, Served, SignIns
from annotate_server.domain.errors import NotFound, NotSignedIn
from annotate_server.domain.person import Person
from annotate_server.domain.project import CaseStatus, Project, WorkItem
from annotate_server.domain.stored import KnownCase

open_router = new_router()
router = new_router()
_MOST_SLICES = 10_000
"""A session may be of a series that is sent in slice by slice."""
StudyUids = Annotated[str, Query(pattern=r"^[0-9.,]*$", max_length=2000)]
Sent = Annotated[dict[str, Any], Body(default_factory=dict)]


# Who


def auth_state(request: Request, services: Served) -> Response:
    """Say that people sign in, or answer 404 where nobody has to: clients read it so."""
    if request.app.state.options.alone and not services.users.all():
        raise HTTPException(404, "Nobody has to sign in here.")
    return JSONResponse({"enabled": True, "client_id": "annotate-server", "realm": "annotate-server"})


@open_router.post("/auth/token")
async def sign_in(
    request: Request,
    services: Served,
    username: Annotated[str, Form(max_length=200)],
    password: Annotated[str, Form(max_length=200)],
) -> Response:
    """Take a name and a token for its password, and return the token as clients send it."""
    sign_ins: SignIns = request.app.state.sign_ins
    address = request.client.host if request.client else ""
    sign_ins.check_failures(address)
    person = await run_in_threadpool(services.users.by_token, password.strip())
    if person is None or not secrets.compare_digest(person.name.encode(), username.strip().encode()):
        sign_ins.note_failure(address)
        raise NotSignedIn("name and token do not belong together", remedy="The password is the token.")
    return JSONResponse({"access_token": password.strip(), "token_type": "Bearer"})


@router.get("/auth/token/valid")
async def who(person: Anybody) -> Response:
    """Return who asks."""
    return JSONResponse({"username": person.name, "name": person.name, "email": "", "roles": [str(person.role)]})


# What


def info(request: Request, desk: AtDesk, person: Anybody) -> Response:
    """Return the models, the labels and how far the work is."""
    services, stats = desk.services, request.app.state.train_stats
    strategies = tuple(services.worklist.strategies)
    offered = Offered(desk.models(), services.projects.all(), strategies, stats.words())
    return JSONResponse(server_words(__version__, offered, desk.standing()))


@router.post("/activelearning/{strategy}")
def next_sample(strategy: str, desk: AtDesk, person: Anybody, sent: Sent) -> Response:
    """Return a case that has no label and that nobody works on; `{}` where there is none."""
    known_ones = (FIRST, RANDOM, LAST, *desk.services.worklist.strategies)
    if strategy not in known_ones:
        raise NotFound(f"there is no strategy {strategy[:100]!r}", remedy=f"Known are {', '.join(known_ones)}.")
    author = named(person, sent)
    for project in desk.projects(chosen=sent.get("project")):
        known = _free(desk, project, author, strategy)
        if known is not None:
            return JSONResponse(sample_words(known))
    return JSONResponse({})


def _free(desk: Desk, project: Project, person: Person, strategy: str) -> KnownCase | None:
    """Return a case of a project to work on: what came back to this person first, then what is open."""
    own = None if strategy in (FIRST, RANDOM, LAST) else strategy
    items = desk.services.worklist.items(project.id, own)
    back = [item for item in items if item.status is CaseStatus.RETURNED and _is_by(desk, item, person)]
    free = [item for item in items if item.status is CaseStatus.OPEN]
    if strategy == RANDOM:
        secrets.SystemRandom().shuffle(free)
    for is_back, item in (
        *((True, i) for i in back),
        *((False, i) for i in (free[::-1] if strategy == LAST else free)),
    ):
        known = desk.services.cases.get(item.case_id)
        if not known.is_missing and (is_back or not desk.services.labels.of_every_project(known.id)):
            return known
    return None


def _is_by(desk: Desk, item: WorkItem, person: Person) -> bool:
    return item.label_id is not None and desk.services.labels.get(item.label_id).author == person.name


# Sessions: a volume that is sent in is a case


async def open_session(request: Request, desk: AtDesk, person: Anybody) -> Response:
    """Take a volume in; the session is its case."""
    async with received_form(request, desk.services, _MOST_SLICES) as form:
        return JSONResponse(_session(await take_in(form, "files", request, desk)))


@router.get("/session/{session_id}")
def get_session(request: Request, session_id: str, desk: AtDesk, person: Anybody, image: bool = False) -> Response:
    """Return a session, or with `image` its volume."""
    known = desk.case(session_id, person)
    return image_response(desk, known, request) if image else JSONResponse(_session(known)["session_info"])


@router.delete("/session/{session_id}")
async def end_session(session_id: str, person: Anybody) -> Response:
    """Say that what was sent stays."""
    raise HTTPException(409, "What was sent in is a case here, and stays. Put it aside in the worklist instead.")


def _session(known: KnownCase) -> Json:
    words = image_words(known)
    info = {"name": known.id, "path": "", "image": words["name"], "meta": words}
    times = {"create_ts": words["ts"], "last_access_ts": words["ts"], "expiry": 0}
    return {"session_id": known.id, "session_info": {**info, **times}}


# The viewer, where others serve theirs


async def lead_to_viewer(person: Anybody, path: str = "", StudyInstanceUIDs: StudyUids = "") -> Response:
    """Lead to the viewer of this server: to the study of a link, else to the worklist."""
    if not StudyInstanceUIDs:
        return RedirectResponse("/viewer/worklist", 307)
    return RedirectResponse(f"/viewer/annotate?{urlencode({'StudyInstanceUIDs': StudyInstanceUIDs})}", 307)


for _path in ("/ohif", "/ohif/{path:path}"):
    router.get(_path)(lead_to_viewer)
for _path in both_ways("/auth/"):
    open_router.get(_path)(auth_state)
for _path in both_ways("/info/"):
    router.get(_path)(info)
for _path in both_ways("/session/"):
    router.put(_path)(open_session)
