"""Trainings, as clients of MONAI Label order, follow and stop them: one at a time, as there."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Body, Depends, HTTPException
from starlette.responses import JSONResponse, Response

from annotate_server.api.monailabel.desk import AtDesk, Desk, Every, both_ways, named, new_router
from annotate_server.api.monailabel.translate import Json
from annotate_server.api.monailabel.words import task_words
from annotate_server.api.who import Anybody, Reviewer
from annotate_server.domain.annotation import LabelState
from annotate_server.domain.errors import AnnotateError, StateError
from annotate_server.domain.job import Job, JobKind
from annotate_server.domain.person import Person

router = new_router()
Sent = Annotated[dict[str, Any], Body(default_factory=dict)]
_MOST_JOBS = 200
_RUNNING = "++++++++++ Train Task is Already Running"
"""The words that clients look for."""


@dataclass(frozen=True)
class _How:
    """How a training is ordered. Who waits for its end gets an answer at once: it may take a night."""

    run_sync: bool = False
    enqueue: bool = False


def state(desk: AtDesk, person: Anybody, every: Every = False, check_if_running: bool = False) -> Response:
    """Return the newest training, or all of them; 404, in the words that clients look for, where there is none."""
    jobs = _trainings(desk)
    if check_if_running:
        jobs = [job for job in jobs if not job.has_ended]
        if not jobs:
            raise HTTPException(404, "No Train Tasks are currently Running")
    if not jobs:
        raise HTTPException(404, "No Train Tasks Found")
    tasks = [task_words((job,)) for job in jobs]
    return JSONResponse(tasks[::-1] if every and not check_if_running else tasks[0])


@router.post("/train/{model}")
def train(model: str, desk: AtDesk, person: Reviewer, sent: Sent, how: Annotated[_How, Depends()]) -> Response:
    """Train a model on the approved labels; 429 where a training runs already and this one shall not wait for it."""
    if not how.enqueue and any(not job.has_ended for job in _trainings(desk)):
        raise HTTPException(429, _RUNNING)
    return JSONResponse(_begun(desk, model, named(person, sent), sent))


def train_some(desk: AtDesk, person: Reviewer, sent: Sent) -> Response:
    """Train the models that are named, or all with approved labels; refused only where none of them can learn."""
    names = [name for name in sent if isinstance(sent[name], dict)] or _with_labels(desk)
    words: Json = {}
    refused = None
    for name in names:
        try:
            words[name] = {"result": _begun(desk, name, named(person, sent), sent.get(name)), "detail": None}
        except AnnotateError as error:
            refused = refused or error
            words[name] = {"result": None, "detail": str(error)}
    if all(each["result"] is None for each in words.values()):
        raise refused or StateError("no label is approved that a model could learn from")
    return JSONResponse(words)


def stop(desk: AtDesk, person: Reviewer) -> Response:
    """Cancel the trainings that wait or run; `null` where there are none."""
    jobs = desk.cancelled(job for job in _trainings(desk) if not job.has_ended)
    return JSONResponse({**task_words(jobs), "status": "STOPPED"} if jobs else None)


def _with_labels(desk: Desk) -> list[str]:
    """Return the models that can be trained and have something to learn: others would be forked for nothing."""
    labelled = {
        app
        for project in desk.services.projects.all()
        if desk.services.labels.of_state(project.id, LabelState.APPROVED)
        for app in project.apps
    }
    return [name for name, card in desk.models().items() if card.trainable and name in labelled]


def _begun(desk: Desk, model: str, person: Person, sent: object) -> Json:
    project = sent.get("project") if isinstance(sent, dict) else None
    orders = desk.services.learning.orders
    return task_words((orders.order(model, person, project if isinstance(project, str) else None),))


def _trainings(desk: Desk) -> list[Job]:
    """Return the trainings, newest first."""
    return list(desk.services.jobs.all(limit=_MOST_JOBS, kind=JobKind.TRAIN))


for _path in both_ways("/train/"):
    router.get(_path)(state)
    router.post(_path)(train_some)
    router.delete(_path)(stop)
