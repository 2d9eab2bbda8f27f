"""Projects."""

from fastapi import APIRouter, Response

from annotate_server.api.v1.documented import ProjectId, may
from annotate_server.api.v1.forms import NewProjectForm, ProjectForm
from annotate_server.api.v1.views import ProjectView
from annotate_server.api.who import Admin, Anybody, Served

router = APIRouter(tags=["projects"])


@router.get("/projects")
def list_projects(services: Served, person: Anybody) -> list[ProjectView]:
    """List every project."""
    return [ProjectView.of(project) for project in services.projects.all()]


@router.post("/projects", status_code=201, responses=may(404, 409, 507))
def add_project(form: NewProjectForm, services: Served, person: Admin, response: Response) -> ProjectView:
    """Add a project."""
    services.projects.add(form.project(form.id), person)
    response.headers["Location"] = f"/api/v1/projects/{form.id}"
    return ProjectView.of(services.projects.get(form.id))


@router.get("/projects/{project_id}", responses=may(404))
def get_project(project_id: ProjectId, services: Served, person: Anybody) -> ProjectView:
    """Return a project."""
    return ProjectView.of(services.projects.get(project_id))


@router.put("/projects/{project_id}", responses=may(404, 409, 507))
def change_project(project_id: ProjectId, form: ProjectForm, services: Served, person: Admin) -> ProjectView:
    """Replace a project's description."""
    services.projects.get(project_id)
    services.projects.change(form.project(project_id), person)
    return ProjectView.of(services.projects.get(project_id))
