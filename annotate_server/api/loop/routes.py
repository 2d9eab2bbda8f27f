"""Pages of the learning loop: models with their versions, trainings, evidence and curves, and the jobs."""

from collections.abc import Callable
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Form
from starlette.responses import RedirectResponse, Response

from annotate_server.api import problems
from annotate_server.api.loop.rendering import asset, shown
from annotate_server.api.loop.shown import SetCounts, gate_plot, learning_plot, set_counts, training_plot
from annotate_server.api.services import Services
from annotate_server.api.v1.documented import JobId, ModelName, VersionId
from annotate_server.api.v1.jobs import cancel_job
from annotate_server.api.v1.model_views import LearnedView
from annotate_server.api.v1.models import ModelView, list_models, model_view
from annotate_server.api.who import Anybody, Served
from annotate_server.domain.errors import AnnotateError, NotFound
from annotate_server.domain.job import Job, JobKind, JobState
from annotate_server.domain.person import Person, Role
from annotate_server.workflows.gate_evidence import GateEvidence, read_evidence
from annotate_server.workflows.learning_report import LearningReports
from annotate_server.workflows.training_set_json import read_training_set

router = APIRouter(prefix="/loop", include_in_schema=False)
_MOST_JOBS = 200
_DONE = {
    "begin": "The model is begun.",
    "train": "The training is ordered.",
    "promote": "The version serves from the next prediction on.",
    "rollback": "The former version serves from the next prediction on.",
    "schedule": "Kept.",
}
Word = Annotated[str, Form(max_length=100)]
Reason = Annotated[str, Form(max_length=2000)]


@router.get("")
def show_models(services: Served, person: Anybody) -> Response:
    """Show every model, those that learn first."""
    return _models_page(services, person)


@router.post("/models")
def begin(services: Served, person: Anybody, name: Word, project: Word) -> Response:
    """Begin a model from nothing."""
    try:
        model = services.learning.own.begin(name, project, person)
    except AnnotateError as error:
        return _models_page(services, person, str(error), problems.STATUS[type(error)])
    services.learning.orders.consider(model.project_id)
    return RedirectResponse(f"/loop/models/{quote(model.name)}?done=begin", 303)


@router.get("/files/{name}")
def get_file(name: str, person: Anybody) -> Response:
    """Return the style sheet or the script."""
    found = asset(name)
    if found is None:
        raise NotFound("there is no such file")
    return found


@router.get("/models/{name}")
def show_model(name: ModelName, services: Served, person: Anybody, done: str = "") -> Response:
    """Show a model: what serves, what trains, what it has learned."""
    return _model_page(services, name, person, told=_DONE.get(done, ""))


@router.get("/models/{name}/running")
def show_running(name: ModelName, services: Served, person: Anybody) -> Response:
    """Show the training of a model that waits or runs, alone: the page asks for it again and again."""
    return shown("running.html.jinja", person, {"name": name, **_running(services, name)})


@router.get("/models/{name}/versions/{version_id}")
def show_version(name: ModelName, version_id: VersionId, services: Served, person: Anybody) -> Response:
    """Show a version: what it learned from, what the gate found, and what was decided."""
    learning = services.learning
    record = next((v for v in learning.models.versions(learning.models.get(name).name) if v.id == version_id), None)
    if record is None:
        raise NotFound(f"{name} has no version {version_id}")
    learned = LearnedView.of(learning, name)
    evidence = _evidence(services, name, version_id)
    curve = learning.curve(record.job_id) if record.job_id else ()
    words = {
        "name": name,
        "learned": learned,
        "version": next(version for version in learned.versions if version.id == version_id),
        "decisions": [decision for decision in learned.decisions if decision.version == version_id],
        "evidence": evidence,
        "counts": _counts(services, record.training_set),
        "gate_svg": gate_plot(evidence) if evidence else None,
        "training_svg": training_plot(curve or (evidence.training.curve if evidence else ())),
    }
    return shown("version.html.jinja", person, words)


@router.post("/models/{name}/train")
def train(name: ModelName, services: Served, person: Anybody, project: Word = "", full: Word = "") -> Response:
    """Order a training."""

    def order() -> str:
        person.must_be(Role.REVIEWER)
        job = services.learning.orders.order(name, person, project or None, is_full=full == "yes")
        return job.order["model"]

    return _acted(services, name, person, "train", order)


@router.post("/models/{name}/promote")
def promote(name: ModelName, services: Served, person: Anybody, version: Word, reason: Reason = "") -> Response:
    """Let a version serve."""

    def move() -> str:
        return services.learning.promoting.promote(name, version, person, reason).model

    return _acted(services, name, person, "promote", move)


@router.post("/models/{name}/rollback")
def roll_back(name: ModelName, services: Served, person: Anybody, reason: Reason = "") -> Response:
    """Let the former version serve."""

    def move() -> str:
        return services.learning.promoting.roll_back(name, person, None, reason).model

    return _acted(services, name, person, "rollback", move)


@router.post("/models/{name}/schedule")
def schedule(
    name: ModelName,
    services: Served,
    person: Anybody,
    every_labels: Annotated[int, Form(ge=0, le=10_000)],
    nightly: Word = "",
) -> Response:
    """Say when a model is trained by itself."""

    def change() -> str:
        own = services.learning.own
        model = own.change(name, person, every_labels=every_labels, is_nightly=nightly == "yes")
        services.learning.orders.consider(model.project_id)
        return model.name

    return _acted(services, name, person, "schedule", change)


@router.get("/jobs")
def show_jobs(services: Served, person: Anybody) -> Response:
    """Show what runs, waits and failed."""
    return shown("jobs.html.jinja", person, _jobs(services))


@router.get("/jobs/table")
def show_jobs_table(services: Served, person: Anybody) -> Response:
    """Show the jobs alone: the page asks for them again and again."""
    return shown("jobs_table.html.jinja", person, _jobs(services))


@router.post("/jobs/{job_id}/cancel")
def cancel(job_id: JobId, services: Served, person: Anybody) -> Response:
    """Cancel a job and lead back to where it was shown."""
    job = services.jobs.get(job_id)
    back = f"/loop/models/{quote(job.order['model'])}" if job.kind == JobKind.TRAIN else "/loop/jobs"
    try:
        cancel_job(job_id, services, person)
    except AnnotateError as error:
        words = {**_jobs(services), "problem": str(error)}
        return shown("jobs.html.jinja", person, words, problems.STATUS[type(error)])
    return RedirectResponse(back, 303)


def _acted(services: Services, name: str, person: Person, done: str, act: Callable[[], str]) -> Response:
    """Do something and show the model that it was about; where it is refused, say why on the same page."""
    try:
        model = act()
    except AnnotateError as error:
        services.registry.app(name)
        return _model_page(services, name, person, problem=str(error), status=problems.STATUS[type(error)])
    return RedirectResponse(f"/loop/models/{quote(model)}?done={done}", 303)


def _models_page(services: Services, person: Person, problem: str = "", status: int = 200) -> Response:
    models = sorted(list_models(services, person), key=lambda model: (model.learned is None, model.name))
    words = {"models": models, "projects": services.projects.all(), "problem": problem}
    return shown("models.html.jinja", person, words, status)


def _model_page(
    services: Services, name: str, person: Person, *, told: str = "", problem: str = "", status: int = 200
) -> Response:
    view = model_view(services, name)
    report = LearningReports(services.annotator.records, services.learning.models, services.learning.works).report(name)
    projects = [project for project in services.projects.all() if name in project.apps]
    words = {
        "model": view,
        "name": name,
        "told": told,
        "problem": problem,
        "report": report,
        "learning_svg": learning_plot(report.curve),
        "projects": projects,
        "forks": _forks(services, view),
        **_running(services, name),
    }
    return shown("model.html.jinja", person, words, status)


def _forks(services: Services, view: ModelView) -> list[str]:
    """Return the models that learn and began as this one."""
    return [model.name for model in services.learning.models.all() if model.origin == view.name]


def _running(services: Services, name: str) -> dict[str, object]:
    """Return the training that waits or runs, and its curve; else the newest that failed since the last version."""
    job = services.learning.orders.unended(name)
    newest = next((each for each in _trainings(services, name) if each.has_ended), None)
    failed = newest if job is None and newest is not None and newest.state is JobState.FAILED else None
    points = services.learning.curve(job.id) if job is not None else ()
    return {"job": job, "failed": failed, "points": points, "curve_svg": training_plot(points)}


def _trainings(services: Services, name: str) -> list[Job]:
    jobs = services.jobs.all(limit=_MOST_JOBS)
    return [job for job in jobs if job.kind == JobKind.TRAIN and job.order.get("model") == name]


def _jobs(services: Services) -> dict[str, object]:
    jobs = services.jobs.all(limit=_MOST_JOBS)
    active = [job for job in jobs if not job.has_ended]
    active.sort(key=lambda job: (job.state is not JobState.RUNNING, -job.priority, job.made_at is None, job.made_at))
    failed = [job for job in jobs if job.state is JobState.FAILED]
    done = [job for job in jobs if job.has_ended and job.state is not JobState.FAILED]
    return {"active": active, "failed": failed[:30], "done": done[:30], "device": services.device, "problem": ""}


def _evidence(services: Services, name: str, version_id: str) -> GateEvidence | None:
    for promotion in services.learning.models.promotions(name):
        if promotion.version == version_id and promotion.evidence is not None:
            return read_evidence(services.learning.blobs.read(promotion.evidence))
    return None


def _counts(services: Services, training_set: str | None) -> SetCounts | None:
    if training_set is None:
        return None
    return set_counts(read_training_set(services.learning.blobs.read(training_set)))
