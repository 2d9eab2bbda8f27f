"""Labels: what was submitted, as lists and files, and the second look."""

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from annotate_server.api.files import file_response
from annotate_server.api.uploads import received_label
from annotate_server.api.v1.documented import CaseId, LabelId, ProjectId, gives_file, may
from annotate_server.api.v1.forms import ReviewForm
from annotate_server.api.v1.views import LabelView
from annotate_server.api.who import Anybody, Reviewer, Served
from annotate_server.domain.annotation import Label
from annotate_server.imaging.labelmap_orders import LabelmapFormat

router = APIRouter(tags=["labels"])
FileFormat = Annotated[LabelmapFormat, Query(alias="format", description="How it is written.")]


@router.get("/projects/{project_id}/cases/{case_id}/labels", responses=may(404))
def list_labels(project_id: ProjectId, case_id: CaseId, services: Served, person: Anybody) -> list[LabelView]:
    """List the labels of a case in a project, oldest first."""
    services.projects.get(project_id)
    services.cases.get(case_id)
    return [LabelView.of(label) for label in services.labels.of_case(project_id, case_id)]


@router.post(
    "/projects/{project_id}/cases/{case_id}/labels",
    status_code=201,
    responses=may(404, 408, 409, 415, 507),
    openapi_extra={
        "requestBody": {
            "required": True,
            "description": "A NIfTI, `.seg.nrrd` or DICOM SEG file on the case's grid.",
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def import_label(
    project_id: ProjectId, case_id: CaseId, request: Request, services: Served, person: Anybody
) -> LabelView:
    """Take a file of labels in as a label of the case; overlapping segments become layers."""

    def take(file: Path) -> Label:
        return services.downloads.import_label(project_id, case_id, file, person)

    label = await received_label(request, services, take)
    return LabelView.of(await run_in_threadpool(services.labels.get, label.id))


@router.get("/labels/{label_id}", responses=may(404))
def get_label(label_id: LabelId, services: Served, person: Anybody) -> LabelView:
    """Return a label."""
    return LabelView.of(services.labels.get(label_id))


@router.get("/labels/{label_id}/file", response_class=Response, responses=gives_file(404, 409, 415, 507))
def get_label_file(
    label_id: LabelId, services: Served, person: Anybody, kind: FileFormat = LabelmapFormat.NIFTI
) -> Response:
    """Download a label as a file."""
    return file_response(services.downloads.label_file(label_id, kind), kind, f"label-{label_id}")


@router.get("/projects/{project_id}/reviews", responses=may(404))
def list_reviews(project_id: ProjectId, services: Served, person: Anybody) -> list[LabelView]:
    """List the labels that wait for a second person, oldest first."""
    return [LabelView.of(label) for label in services.reviewing.queue(project_id)]


@router.post("/labels/{label_id}/review", responses=may(404, 409, 507))
def review_label(label_id: LabelId, form: ReviewForm, services: Served, person: Reviewer) -> LabelView:
    """Approve a label of somebody else, or return it with a comment."""
    services.reviewing.review(label_id, person, form.state, form.comment)
    return LabelView.of(services.labels.get(label_id))
