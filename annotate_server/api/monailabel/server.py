"""What the server can do, who signs in, which case is next; scoring, which is not there; sessions and logs."""

import secrets
from typing import Annotated, Any, Literal

from fastapi import Body, Form, HTTPException, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from annotate_server import __version__
from annotate_server.api.monailabel.datastore import take_in
from annotate_server.api.monailabel.desk import AtDesk, Desk, both_ways, named, new_router
from annotate_server.api.monailabel.parts import received_form
from annotate_server.api.monailabel.translate import Json, server_words
from annotate_server.api.monailabel.words import image_words, sample_words, task_words
from annotate_server.api.who import Admin, Anybody, Served, SignIns
from annotate_server.domain.errors import AnnotateError, NotSignedIn
from annotate_server.domain.job import Job, Priority
from annotate_server.domain.person import Person
from annotate_server.domain.project import CaseStatus, Project, WorkItem
from annotate_server.domain.stored import KnownCase

open_router = new_router()
router = new_router()
Sent = Annotated[dict[str, Any], Body(default_factory=dict)]
_MOST_JOBS = 1000


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


def info(desk: AtDesk, person: Anybody) -> Response:
    """Return the models, the labels and how far the work is."""
    projects = desk.services.projects.all()
    return JSONResponse(server_words(__version__, desk.models(), projects, desk.standing()))


@router.post("/activelearning/{strategy}")
def next_sample(strategy: Literal["first", "random", "last"], desk: AtDesk, person: Anybody, sent: Sent) -> Response:
    """Return a case that has no label and that nobody works on; `{}` where there is none."""
    author = named(person, sent)
    for project in desk.projects(chosen=sent.get("project")):
        known = _free(desk, project, author, strategy)
        if known is not None:
            return JSONResponse(sample_words(known))
    return JSONResponse({})


def _free(desk: Desk, project: Project, person: Person, strategy: str) -> KnownCase | None:
    """Return a case of a project to work on: what came back to this person first, then what is open."""
    items = desk.services.worklist.items(project.id)
    back = [item for item in items if item.status is CaseStatus.RETURNED and _is_by(desk, item, person)]
    free = [item for item in items if item.status is CaseStatus.OPEN]
    if strategy == "random":
        secrets.SystemRandom().shuffle(free)
    for item in (*back, *(reversed(free) if strategy == "last" else free)):
        known = desk.services.cases.get(item.case_id)
        if not known.is_missing and (item in back or not desk.services.labels.of_every_project(known.id)):
            return known
    return None


def _is_by(desk: Desk, item: WorkItem, person: Person) -> bool:
    return item.label_id is not None and desk.services.labels.get(item.label_id).author == person.name


# Many at once


def batch_state(desk: AtDesk, person: Anybody, check_if_running: bool = False) -> Response:
    """Return how far the drafts are that were ordered for many cases."""
    jobs = _of_batch(desk)
    if not jobs or (check_if_running and all(job.has_ended for job in jobs)):
        raise HTTPException(404, "No Batch Inference Tasks are currently Running")
    return JSONResponse(task_words(jobs))


@router.post("/batch/infer/{model}")
def order_batch(
    model: str,
    desk: AtDesk,
    person: Admin,
    sent: Sent,
    images: Literal["all", "labeled", "unlabeled"] = "all",
) -> Response:
    """Order a model's draft of every case that it is made for."""
    desk.services.registry.champion(model)
    labelled = {label.case_id for label in desk.services.labels.of_every_project()}
    jobs, refused = [], 0
    for known in desk.services.cases.all():
        if known.is_missing or (images != "all" and (known.id in labelled) != (images == "labeled")):
            continue
        try:
            jobs.append(desk.services.drafting.order(known.id, model, named(person, sent), priority=Priority.BATCH))
        except AnnotateError:
            refused += 1
    words = task_words(jobs)
    words["request"] = {"model": model, "images": images, "ordered": len(jobs), "refused": refused}
    return JSONResponse(words)


def cancel_batch(desk: AtDesk, person: Admin) -> Response:
    """Cancel what was ordered for many cases and has not ended."""
    jobs = [job for job in _of_batch(desk) if not job.has_ended]
    for job in jobs:
        desk.services.watchers.tell(desk.services.jobs.cancel(job.id))
    return JSONResponse({**task_words(jobs), "status": "STOPPED"} if jobs else None)


def _of_batch(desk: Desk) -> list[Job]:
    return [job for job in desk.services.jobs.all(limit=_MOST_JOBS) if job.priority is Priority.BATCH]


# What is not there yet


async def no_task(person: Anybody, check_if_running: bool = False) -> Response:
    """Say that nothing is being scored, in the words that clients look for."""
    raise HTTPException(404, "No Scoring Tasks are currently Running" if check_if_running else "No Scoring Tasks Found")


async def stop_nothing(person: Admin) -> Response:
    """Stop what does not run."""
    return JSONResponse(None)


async def no_scoring(person: Anybody) -> Response:
    """Say that there is no scoring."""
    raise HTTPException(501, "Images are not scored here: the worklist says what is next.")


# Sessions: a volume that is sent in is a case


async def open_session(request: Request, desk: AtDesk, person: Anybody) -> Response:
    """Take a volume in; the session is its case."""
    async with received_form(request, desk.services) as form:
        return JSONResponse(_session(await take_in(form, "files", request, desk)))


@router.get("/session/{session_id}")
def get_session(session_id: str, desk: AtDesk, person: Anybody) -> Response:
    """Return a session."""
    return JSONResponse(_session(desk.case(session_id))["session_info"])


@router.delete("/session/{session_id}")
async def end_session(session_id: str, person: Anybody) -> Response:
    """Say that what was sent stays."""
    raise HTTPException(409, "What was sent in is a case here, and stays. Put it aside in the worklist instead.")


def _session(known: KnownCase) -> Json:
    words = image_words(known)
    info = {"name": known.id, "path": "", "image": words["name"], "meta": words}
    times = {"create_ts": words["ts"], "last_access_ts": words["ts"], "expiry": 0}
    return {"session_id": known.id, "session_info": {**info, **times}}


# Models and logs


@router.get("/model/info/{model}")
def model_info(model: str, desk: AtDesk, person: Anybody) -> Response:
    """Return the version of a model that answers."""
    version = desk.services.registry.champion(model)
    return JSONResponse({"checksum": f"VERSION:{version.id}", "modified_time": 0, "train_stats": {}})


@router.api_route("/model/{model}", methods=["GET", "PUT", "DELETE"])
async def model_file(model: str, person: Admin) -> Response:
    """Say how models come and go."""
    raise HTTPException(501, "Models are installed by `annotate models pull`, never by a client.")


async def logs(person: Admin) -> Response:
    """Say where the log is."""
    raise HTTPException(501, "The log is where the server was started, and is not shown to clients.")


for _path in both_ways("/auth/"):
    open_router.get(_path)(auth_state)
for _path in both_ways("/info/"):
    router.get(_path)(info)
for _path in both_ways("/batch/infer/"):
    router.get(_path)(batch_state)
    router.delete(_path)(cancel_batch)
for _path in both_ways("/session/"):
    router.put(_path)(open_session)
for _path in (*both_ways("/logs/"), "/logs/gpu"):
    router.get(_path)(logs)
for _path in both_ways("/scoring/"):
    router.get(_path)(no_task)
    router.post(_path)(no_scoring)
    router.delete(_path)(stop_nothing)
router.post("/scoring/{method}")(no_scoring)
