"""Whole drafts that models stored."""

from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import WithJsonSchema

from annotate_server.api.files import file_response
from annotate_server.api.v1.documented import CaseId, PredictionId, gives_file, may
from annotate_server.api.v1.labels import FileFormat
from annotate_server.api.v1.views import PredictionView
from annotate_server.api.who import Anybody, Served
from annotate_server.domain.errors import NotFound
from annotate_server.imaging.labelmap_orders import LabelmapFormat

router = APIRouter(tags=["predictions"])
_MODEL = r"^[A-Za-z0-9_.-]{1,100}$"
ModelFilter = Annotated[
    str | None,
    WithJsonSchema({"type": "string", "pattern": _MODEL}),
    Query(pattern=_MODEL, description="By this model only."),
]


@router.get("/cases/{case_id}/prediction", responses=may(404))
def get_newest(case_id: CaseId, services: Served, person: Anybody, model: ModelFilter = None) -> PredictionView:
    """Return the newest stored draft of a case."""
    services.cases.get(case_id)
    found = services.predictions.newest(case_id, () if model is None else (model,))
    if found is None:
        raise NotFound("no model drafted the case yet", source=case_id, remedy="Order a draft.")
    return PredictionView.of(found)


@router.get("/predictions/{prediction_id}", responses=may(404))
def get_prediction(prediction_id: PredictionId, services: Served, person: Anybody) -> PredictionView:
    """Return a stored draft."""
    return PredictionView.of(services.predictions.get(prediction_id))


@router.get("/predictions/{prediction_id}/file", response_class=Response, responses=gives_file(404, 409, 415, 507))
def get_prediction_file(
    prediction_id: PredictionId, services: Served, person: Anybody, kind: FileFormat = LabelmapFormat.NIFTI
) -> Response:
    """Download a stored draft as a file."""
    return file_response(services.downloads.prediction_file(prediction_id, kind), kind, f"draft-{prediction_id}")
