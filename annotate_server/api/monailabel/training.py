"""Trainings, as clients of MONAI Label order, follow and stop them: one at a time, as there."""

from typing import Annotated, Any

from fastapi import Body, HTTPException
from starlette.responses import JSONResponse, Response

from annotate_server.api.monailabel.desk import AtDesk, Desk, both_ways, named, new_router
from annotate_server.api.monailabel.translate import Json
from annotate_server.api.monailabel.words import task_words
from annotate_server.api.who import Anybody, Reviewer
from annotate_server.domain.job import Job, JobKind
from annotate_server.domain.person import Person

router = new_router()
Sent = Annotated[dict[str, Any], Body(default_factory=dict)]
_MOST_JOBS = 1000
_RUNNING = "++++++++++ Train Task is Already Running"
"""The words that clients look for."""


def state(desk: AtDesk, person: Anybody, check_if_running: bool = False) -> Response:
    """Return the newest training; 404, in the words that clients look for, where there is none."""
    jobs = _trainings(desk)
    if check_if_running and not any(not job.has_ended for job in jobs[:1]):
        raise HTTPException(404, "No Train Tasks are currently Running")
    if not jobs:
        raise HTTPException(404, "No Train Tasks Found")
    return JSONResponse(task_words(jobs[:1]))


@router.post("/train/{model}")
def train(model: str, desk: AtDesk, person: Reviewer, sent: Sent) -> Response:
    """Train a model on the approved labels; 429 where a training runs already."""
    return JSONResponse(_begun(desk, model, named(person, sent), sent))


def train_some(desk: AtDesk, person: Reviewer, sent: Sent) -> Response:
    """Train the models that are named."""
    words = {name: {"result": _begun(desk, name, person, sent.get(name)), "detail": None} for name in sent}
    return JSONResponse(words)


def stop(desk: AtDesk, person: Reviewer) -> Response:
    """Cancel the training that waits or runs; `null` where there is none."""
    jobs = [job for job in _trainings(desk) if not job.has_ended]
    for job in jobs:
        desk.services.watchers.tell(desk.services.jobs.cancel(job.id))
    return JSONResponse({**task_words(jobs), "status": "STOPPED"} if jobs else None)


def _begun(desk: Desk, model: str, person: Person, sent: object) -> Json:
    if any(not job.has_ended for job in _trainings(desk)):
        raise HTTPException(429, _RUNNING)
    project = sent.get("project") if isinstance(sent, dict) else None
    return task_words(
        [desk.services.learning.orders.order(model, person, project if isinstance(project, str) else None)]
    )


def _trainings(desk: Desk) -> list[Job]:
    """Return the trainings, newest first."""
    return [job for job in desk.services.jobs.all(limit=_MOST_JOBS) if job.kind == JobKind.TRAIN]


for _path in both_ways("/train/"):
    router.get(_path)(state)
    router.post(_path)(train_some)
    router.delete(_path)(stop)
