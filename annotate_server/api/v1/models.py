"""Models: what each is for, whether it can be used, and when one that learns is trained."""

from fastapi import APIRouter, Response

from annotate_server.api.services import Services
from annotate_server.api.v1.documented import ModelName, may
from annotate_server.api.v1.forms import NewModelForm, TrainingSettingsForm
from annotate_server.api.v1.model_views import LearnedView
from annotate_server.api.v1.views import SegmentView, View
from annotate_server.api.who import Admin, Anybody, Served
from annotate_server.domain.errors import AnnotateError
from annotate_server.domain.model import ModelCard

router = APIRouter(tags=["models"])


class CardView(View):
    """What a model is for and what it must not be used for."""

    title: str
    purpose: str
    not_for: str
    modalities: list[str]
    body_part: str
    segments: list[SegmentView]
    licence: str
    attribution: str
    prompts: list[str]
    drafts: bool
    trainable: bool
    min_slices: int
    figures: list[str]

    @classmethod
    def of(cls, card: ModelCard) -> "CardView":
        """Return the view of a card."""
        return cls(
            title=card.title,
            purpose=card.purpose,
            not_for=card.not_for,
            modalities=[str(each) for each in card.modalities],
            body_part=card.body_part,
            segments=[SegmentView.of(segment) for segment in card.segments],
            licence=card.licence,
            attribution=card.attribution,
            prompts=sorted(card.prompts),
            drafts=card.drafts,
            trainable=card.trainable,
            min_slices=card.min_slices,
            figures=list(card.figures),
        )


class ModelView(View):
    """A model; `state` is ready, weights-missing, untrained or unavailable, and `reason` says what to do about it.

    `learned` is there for one that learns here: its project, versions and decisions.
    """

    name: str
    state: str
    reason: str
    version: str | None
    missing: list[str]
    card: CardView | None
    learned: LearnedView | None = None


@router.get("/models")
def list_models(services: Served, person: Anybody) -> list[ModelView]:
    """List every model; one whose description is broken is listed with what is wrong."""
    return [_listed(services, name) for name in services.registry.names()]


@router.post("/models", status_code=201, responses=may(404, 409, 507))
def add_model(form: NewModelForm, services: Served, person: Admin, response: Response) -> ModelView:
    """Begin a model from nothing: it is trained once five labels of its project are approved."""
    model = services.learning.own.begin(form.name, form.project, person)
    services.learning.orders.consider(model.project_id)
    response.headers["Location"] = f"/api/v1/models/{model.name}"
    return model_view(services, model.name)


@router.get("/models/{name}", responses=may(404))
def get_model(name: ModelName, services: Served, person: Anybody) -> ModelView:
    """Return a model with its card, and the versions and decisions of one that learns."""
    return model_view(services, name)


@router.put("/models/{name}/training", responses=may(404, 409, 507))
def change_training(name: ModelName, form: TrainingSettingsForm, services: Served, person: Admin) -> ModelView:
    """Say when a model is trained by itself: after how many approved labels, and whether at night."""
    own = services.learning.own
    model = own.change(name, person, every_labels=form.every_labels, is_nightly=form.nightly)
    services.learning.orders.consider(model.project_id)
    return model_view(services, name)


def model_view(services: Services, name: str) -> ModelView:
    """Return the view of a model."""
    app = services.registry.app(name)
    missing = [weight.name for weight in services.registry.missing(app)]
    learned = LearnedView.of(services.learning, name) if services.registry.is_learned(name) else None
    state, reason = _state(services, name, missing, learned)
    return ModelView(
        name=name,
        state=state,
        reason=reason,
        version=services.registry.champion(name).id if state == "ready" else None,
        missing=missing,
        card=CardView.of(app.card),
        learned=learned,
    )


def _listed(services: Services, name: str) -> ModelView:
    try:
        return model_view(services, name)
    except AnnotateError as error:
        return ModelView(name=name, state="unavailable", reason=str(error), version=None, missing=[], card=None)


def _state(services: Services, name: str, missing: list[str], learned: LearnedView | None) -> tuple[str, str]:
    app = services.registry.app(name)
    if reason := services.unavailable_backends().get(app.backend, ""):
        return "unavailable", reason
    if learned is not None and learned.champion is None:
        return "untrained", (
            f"{learned.missing_labels} approved labels are missing before it can be trained"
            if learned.missing_labels
            else f"It has not been trained yet; run: annotate train {name}"
        )
    if missing:
        return "weights-missing", f"Its weights are not installed; run: annotate models pull {name}"
    return "ready", ""
