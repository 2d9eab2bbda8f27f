"""Who may sign in; for administrators."""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from annotate_server.api.v1.documented import may
from annotate_server.api.v1.forms import UserForm
from annotate_server.api.v1.views import UserView, View
from annotate_server.api.who import Admin, Served

router = APIRouter(tags=["users"])
UserName = Annotated[str, Path(pattern=r"^[^\x00-\x1f\x7f/]{1,100}$")]


class TokenView(View):
    """A token: it is shown only this once."""

    name: str
    role: str
    token: str


@router.get("/users")
def list_users(services: Served, person: Admin) -> list[UserView]:
    """List who may sign in."""
    return [UserView.of(user) for user in services.users.all()]


@router.post("/users", status_code=201, responses=may(409, 507))
def add_user(form: UserForm, services: Served, person: Admin) -> TokenView:
    """Let somebody sign in, or give them a new role and token."""
    token = services.users.add(form.name, form.rank)
    return TokenView(name=form.name, role=form.role, token=token)


@router.delete("/users/{name}", status_code=204, responses=may(404, 507))
def remove_user(name: UserName, services: Served, person: Admin) -> Response:
    """Let somebody sign in no more; what they did stays theirs."""
    services.users.remove(name)
    return Response(status_code=204)
