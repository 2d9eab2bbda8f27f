"""Models: what each is for, and whether it can be used."""

from fastapi import APIRouter

from annotate_server.api.v1.documented import ModelName, may
from annotate_server.api.v1.views import SegmentView, View
from annotate_server.api.who import Anybody, Served
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
    """A model; `state` is ready, weights-missing or unavailable, and `reason` says what to do about it."""

    name: str
    state: str
    reason: str
    version: str | None
    missing: list[str]
    card: CardView | None


@router.get("/models")
def list_models(services: Served, person: Anybody) -> list[ModelView]:
    """List every model; one whose description is broken is listed with what is wrong."""
    return [_listed(services, name) for name in services.registry.names()]


@router.get("/models/{name}", responses=may(404))
def get_model(name: ModelName, services: Served, person: Anybody) -> ModelView:
    """Return a model with its card."""
    return _view(services, name)


def _listed(services: Served, name: str) -> ModelView:
    try:
        return _view(services, name)
    except AnnotateError as error:
        return ModelView(name=name, state="unavailable", reason=str(error), version=None, missing=[], card=None)


def _view(services: Served, name: str) -> ModelView:
    app = services.registry.app(name)
    missing = [weight.name for weight in services.registry.missing(app)]
    reason = services.unavailable_backends().get(app.backend, "")
    state = "unavailable" if reason else "weights-missing" if missing else "ready"
    if missing and not reason:
        reason = f"Its weights are not installed; run: annotate models pull {name}"
    version = None if missing else services.registry.champion(name).id
    return ModelView(
        name=name, state=state, reason=reason, version=version, missing=missing, card=CardView.of(app.card)
    )
