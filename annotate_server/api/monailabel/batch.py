"""`/batch/infer`: a model's drafts of many cases, as jobs of low priority."""

from typing import Annotated, Any, Literal

from fastapi import Body, HTTPException
from starlette.responses import JSONResponse, Response

from annotate_server.api.monailabel.desk import AtDesk, Desk, Every, both_ways, named, new_router
from annotate_server.api.monailabel.words import one_order, task_words
from annotate_server.api.who import Admin, Anybody
from annotate_server.domain.errors import AnnotateError
from annotate_server.domain.job import Job, JobKind, JobState, Priority

router = new_router()
Sent = Annotated[dict[str, Any], Body(default_factory=dict)]
_MOST_JOBS, _EVERY_JOB = 1000, 1 << 20


def state(desk: AtDesk, person: Anybody, every: Every = False, check_if_running: bool = False) -> Response:
    """Return how far the drafts are that were ordered last for many cases."""
    jobs = one_order(_drafts(desk))
    if not jobs:
        raise HTTPException(404, "No Batch Inference Tasks Found")
    if check_if_running and all(job.has_ended for job in jobs):
        raise HTTPException(404, "No Batch Inference Tasks are currently Running")
    task = task_words(jobs)
    return JSONResponse([task] if every and not check_if_running else task)


@router.post("/batch/infer/{model}")
def order(
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
    words = task_words(jobs[::-1])
    words["request"] = {"model": model, "images": images, "ordered": len(jobs), "refused": refused}
    return JSONResponse(words)


def cancel(desk: AtDesk, person: Admin) -> Response:
    """Cancel what was ordered for many cases and has not ended."""
    services = desk.services
    waiting = [
        job
        for state in (JobState.QUEUED, JobState.RUNNING)
        for job in services.jobs.all(state, _EVERY_JOB, JobKind.DRAFT)
        if job.priority is Priority.BATCH
    ]
    jobs = desk.cancelled(waiting)
    return JSONResponse({**task_words(jobs), "status": "STOPPED"} if jobs else None)


def _drafts(desk: Desk) -> list[Job]:
    """Return drafts that nobody waits for, newest first."""
    jobs = desk.services.jobs.all(limit=_MOST_JOBS, kind=JobKind.DRAFT)
    return [job for job in jobs if job.priority is Priority.BATCH]


for _path in both_ways("/batch/infer/"):
    router.get(_path)(state)
    router.delete(_path)(cancel)
