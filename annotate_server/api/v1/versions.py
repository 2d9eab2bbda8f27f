"""Versions of models that learn: trained, promoted, rolled back, and what the gate found."""

from typing import Any

from fastapi import APIRouter, Response

from annotate_server.api.services import Services
from annotate_server.api.v1.documented import ModelName, VersionId, may
from annotate_server.api.v1.forms import PromoteForm, RollBackForm, TrainForm
from annotate_server.api.v1.model_views import DecisionView, VersionView
from annotate_server.api.v1.models import CardView
from annotate_server.api.v1.views import JobView, View
from annotate_server.api.who import Anybody, Reviewer, Served
from annotate_server.domain.errors import NotFound
from annotate_server.domain.learning import VersionRecord

router = APIRouter(tags=["models"])
_EVIDENCE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The gate's figures, as they were stored with the decision.",
        "content": {"application/json": {"schema": {"type": "object"}}},
    }
}


class VersionCardView(View):
    """A version with its card and its recipe (JSON)."""

    version: VersionView
    recipe: str | None
    card: CardView
    decisions: list[DecisionView]


@router.post("/models/{name}/train", status_code=202, responses=may(404, 409, 507))
def train_model(name: ModelName, form: TrainForm, services: Served, person: Reviewer, response: Response) -> JobView:
    """Train a model on the approved labels; one that trains already is not ordered twice.

    An app that is trained for a project becomes a model of the project's own, in the app's place.
    """
    job = services.learning.orders.order(name, person, form.project, is_full=form.full)
    response.headers["Location"] = f"/api/v1/jobs/{job.id}"
    return JobView.of(job)


@router.post("/models/{name}/promote", responses=may(404, 409, 507))
def promote_version(name: ModelName, form: PromoteForm, services: Served, person: Reviewer) -> DecisionView:
    """Let a version serve, from the next prediction on."""
    return DecisionView.of(services.learning.promoting.promote(name, form.version, person, form.reason))


@router.post("/models/{name}/rollback", responses=may(404, 409, 507))
def roll_back(name: ModelName, form: RollBackForm, services: Served, person: Reviewer) -> DecisionView:
    """Let the version serve again that did before, from the next prediction on."""
    return DecisionView.of(services.learning.promoting.roll_back(name, person, form.version, form.reason))


@router.get("/models/{name}/versions/{version_id}", responses=may(404))
def get_version(name: ModelName, version_id: VersionId, services: Served, person: Anybody) -> VersionCardView:
    """Return a version with its card and every decision about it."""
    record = _record(services, name, version_id)
    decided = [each for each in services.learning.models.promotions(name) if each.version == version_id]
    return VersionCardView(
        version=VersionView.of(record),
        recipe=record.recipe,
        card=CardView.of(services.registry.version(name, version_id).app.card),
        decisions=[DecisionView.of(promotion) for promotion in decided],
    )


@router.get(
    "/models/{name}/versions/{version_id}/evidence", response_class=Response, responses={**_EVIDENCE, **may(404)}
)
def get_evidence(name: ModelName, version_id: VersionId, services: Served, person: Anybody) -> Response:
    """Return what the gate found of a version, as it was stored with the decision."""
    _record(services, name, version_id)
    for promotion in services.learning.models.promotions(name):
        if promotion.version == version_id and promotion.evidence is not None:
            return Response(services.learning.blobs.read(promotion.evidence), media_type="application/json")
    raise NotFound(f"no gate has decided about version {version_id}")


def _record(services: Services, name: str, version_id: str) -> VersionRecord:
    for record in services.learning.models.versions(services.learning.models.get(name).name):
        if record.id == version_id:
            return record
    raise NotFound(f"{name} has no version {version_id}")
