"""Cases: what the server knows, what is uploaded, and the modality that a file does not name."""

from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import WithJsonSchema

from annotate_server.api.files import volume_response
from annotate_server.api.rendered_cases import RenderedCases
from annotate_server.api.services import Services
from annotate_server.api.uploads import received
from annotate_server.api.v1.documented import CaseId, Limit, Offset, gives_file, may
from annotate_server.api.v1.forms import ModalityForm
from annotate_server.api.v1.views import CasesView, CaseView, RefusedView
from annotate_server.api.who import Anybody, Served
from annotate_server.domain.store_ports import CaseFilter
from annotate_server.domain.stored import KnownCase
from annotate_server.domain.volume import Modality
from annotate_server.workflows.dicom_serving import slices_or_none

router = APIRouter(tags=["cases"])
_UID = r"^[0-9.]{1,64}$"
Uid = Annotated[
    str | None,
    WithJsonSchema({"type": "string", "pattern": _UID}),
    Query(pattern=_UID, description="Of this study, or series, only."),
]
ModalityFilter = Annotated[
    Literal["CT", "MR", "PT", "OT"] | None,
    WithJsonSchema({"type": "string", "enum": ["CT", "MR", "PT", "OT"]}),
    Query(description="Of this modality only."),
]
_DIGEST = r"^[0-9a-f]{64}$"
Digest = Annotated[
    str | None,
    WithJsonSchema({"type": "string", "pattern": _DIGEST}),
    Query(pattern=_DIGEST, description="With these voxels on this grid only (SHA-256)."),
]
_VOLUME = {"schema": {"type": "string", "format": "binary"}}


def _chosen(
    study: Uid = None, modality: ModalityFilter = None, series: Uid = None, digest: Digest = None
) -> CaseFilter:
    return CaseFilter(study, series, None if modality is None else Modality(modality), digest)


@dataclass(frozen=True)
class _Part:
    """Which part of a list is asked for."""

    limit: Limit = 100
    offset: Offset = 0


@router.get("/cases", response_model=CasesView)
def list_cases(
    request: Request,
    services: Served,
    person: Anybody,
    chosen: Annotated[CaseFilter, Depends(_chosen)],
    part: Annotated[_Part, Depends()],
) -> Response:
    """List the cases, oldest first."""
    case_ids, total = services.cases.page_ids(chosen, part.limit, part.offset)
    if not total and chosen.study_uid is not None and chosen.series_uid is None and chosen.digest is None:
        every = _of_made_study(services, chosen.study_uid, chosen.modality)
        case_ids, total = every[part.offset : part.offset + part.limit], len(every)
    rendered: RenderedCases = request.app.state.rendered
    content = b'{"cases":[%s],"total":%d}' % (b",".join(rendered.of(case_ids)), total)
    return Response(content, media_type="application/json")


def _of_made_study(services: Services, study: str, modality: str | None) -> tuple[str, ...]:
    """Return the cases of a study whose identifier is ours: that of a volume in another format."""
    known = services.cases.those(services.dicom.shelf.case_ids(study))
    return tuple(each.id for each in known if modality in (None, each.modality))


def rendered_case(known: KnownCase) -> bytes:
    """Return a case as the list has it."""
    return CaseView.of(known).model_dump_json().encode()


@router.post(
    "/cases",
    status_code=201,
    responses=may(408, 409, 415, 507),
    openapi_extra={
        "requestBody": {
            "required": True,
            "description": "One NIfTI, NRRD, MetaImage or DICOM file, or a zip of DICOM files.",
            "content": {"application/octet-stream": _VOLUME, "application/zip": _VOLUME},
        }
    },
)
async def upload_cases(request: Request, services: Served, person: Anybody, response: Response) -> CasesView:
    """Upload a volume, or a zip of DICOM series; answers with every case found in it, to pick from."""
    known = await received(request, services)
    if len(known) == 1:
        response.headers["Location"] = f"/api/v1/cases/{known[0].id}"
    return CasesView(cases=[CaseView.of(each) for each in known], total=len(known))


@router.get("/refused")
def list_refused(services: Served, person: Anybody) -> list[RefusedView]:
    """List what lies among the studies and can be no case: a missing slice, a damaged file, nothing to draw on."""
    return [RefusedView.of(each) for each in services.ingest.refused]


@router.get("/cases/{case_id}", responses=may(404))
def get_case(case_id: CaseId, services: Served, person: Anybody) -> CaseView:
    """Return a case: its grid, identifiers, slices and warnings."""
    known = services.cases.get(case_id)
    return CaseView.of(known, slices_or_none(services.dicom, known).slices)


@router.get("/cases/{case_id}/volume", response_class=Response, responses=gives_file(404, 415, 507))
def get_volume(case_id: CaseId, services: Served, person: Anybody) -> Response:
    """Download a case's volume as NRRD, not compressed, on the very grid that its labels have."""
    known = services.cases.get(case_id)
    return volume_response(services.dicom.volumes.volume(known), known.id)


@router.put("/cases/{case_id}/modality", responses=may(404, 409, 507))
def declare_modality(case_id: CaseId, form: ModalityForm, services: Served, person: Anybody) -> CaseView:
    """Say the modality of a case whose file names none."""
    services.cases.get(case_id)
    services.cases.declare(case_id, Modality(form.modality), person)
    services.dicom.forget((case_id,))
    return CaseView.of(services.cases.get(case_id))
