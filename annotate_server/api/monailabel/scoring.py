"""`/scoring`: how well drafts agreed with the labels that people made of them.

Approved labels are scored by themselves; what clients order fills gaps: labels that were approved long ago.
"""

from fastapi import HTTPException
from starlette.responses import JSONResponse, Response

from annotate_server.api.monailabel.desk import AtDesk, Desk, Every, both_ways, new_router
from annotate_server.api.monailabel.translate import SCORING, Json
from annotate_server.api.monailabel.words import one_order, task_words
from annotate_server.api.who import Anybody, Reviewer
from annotate_server.domain.errors import NotFound
from annotate_server.domain.job import JobKind, JobState

router = new_router()
_MOST_JOBS, _EVERY_JOB = 1000, 1 << 20


def state(desk: AtDesk, person: Anybody, every: Every = False, check_if_running: bool = False) -> Response:
    """Return the scores that were ordered last; 404 in the words that clients look for."""
    jobs = one_order(desk.services.jobs.all(limit=_MOST_JOBS, kind=JobKind.SCORE))
    if check_if_running and all(job.has_ended for job in jobs):
        raise HTTPException(404, "No Scoring Tasks are currently Running")
    if not jobs:
        raise HTTPException(404, "No Scoring Tasks Found")
    task = task_words(jobs)
    return JSONResponse([task] if every and not check_if_running else task)


@router.post("/scoring/{method}")
def score(method: str, desk: AtDesk, person: Reviewer) -> Response:
    """Order the scores of approved labels that have none."""
    if method not in SCORING:
        raise NotFound(f"labels are not scored by {method[:100]!r}", remedy=f"Known is {', '.join(SCORING)}.")
    return JSONResponse(_ordered(desk, method))


def score_all(desk: AtDesk, person: Reviewer) -> Response:
    """Order the scores of every method."""
    return JSONResponse({method: {"result": _ordered(desk, method), "detail": None} for method in SCORING})


def stop(desk: AtDesk, person: Reviewer) -> Response:
    """Cancel the scores that wait or run; `null` where there are none."""
    jobs = [
        job
        for state in (JobState.QUEUED, JobState.RUNNING)
        for job in desk.services.jobs.all(state, _EVERY_JOB, JobKind.SCORE)
    ]
    stopped = desk.cancelled(jobs)
    return JSONResponse({**task_words(stopped), "status": "STOPPED"} if stopped else None)


def _ordered(desk: Desk, method: str) -> Json:
    words = task_words(desk.services.learning.scoring.order_missing()[::-1])
    words["request"] = {"method": method}
    return words


for _path in both_ways("/scoring/"):
    router.get(_path)(state)
    router.post(_path)(score_all)
    router.delete(_path)(stop)
