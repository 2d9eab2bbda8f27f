"""The worklist of a project: where every case stands, which is next, which cannot be used."""

from fastapi import APIRouter, Response

from annotate_server.api.v1.documented import CaseId, Limit, Offset, ProjectId, etag, may
from annotate_server.api.v1.forms import PutAsideForm
from annotate_server.api.v1.views import SessionView, WorkItemView
from annotate_server.api.who import Anybody, Served
from annotate_server.domain.errors import NotFound

router = APIRouter(tags=["worklist"])


@router.get("/projects/{project_id}/worklist", responses=may(404))
def list_worklist(
    project_id: ProjectId, services: Served, person: Anybody, limit: Limit = 1000, offset: Offset = 0
) -> list[WorkItemView]:
    """List where every case of a project stands, oldest case first."""
    items = services.worklist.items(project_id)
    return [WorkItemView.of(item) for item in items[offset : offset + limit]]


@router.post("/projects/{project_id}/next", status_code=201, responses=may(404, 409, 415, 507))
def open_next(project_id: ProjectId, services: Served, person: Anybody, response: Response) -> SessionView:
    """Open the next case that waits; two people never get the same one. 404 where none is left."""
    session = services.worklist.next_case(project_id, person)
    if session is None:
        raise NotFound("no case of the project waits for somebody", source=project_id)
    response.headers["Location"] = f"/api/v1/sessions/{session.id}"
    response.headers["ETag"] = etag(session.revision)
    return SessionView.of(session)


@router.post("/projects/{project_id}/cases/{case_id}/put-aside", responses=may(404, 409, 507))
def put_aside(
    project_id: ProjectId, case_id: CaseId, form: PutAsideForm, services: Served, person: Anybody
) -> WorkItemView:
    """Put a case aside as unusable, with the reason."""
    services.worklist.put_aside(project_id, case_id, form.reason, person)
    return _item(services, project_id, case_id)


@router.post("/projects/{project_id}/cases/{case_id}/take-back", responses=may(404, 409, 507))
def take_back(project_id: ProjectId, case_id: CaseId, services: Served, person: Anybody) -> WorkItemView:
    """Take a case back that was put aside."""
    services.worklist.take_back(project_id, case_id, person)
    return _item(services, project_id, case_id)


def _item(services: Served, project_id: str, case_id: str) -> WorkItemView:
    for item in services.worklist.items(project_id):
        if item.case_id == case_id:
            return WorkItemView.of(item)
    raise NotFound("the project has no such case", source=case_id)
