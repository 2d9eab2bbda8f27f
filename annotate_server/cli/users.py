"""`annotate users`: who may sign in."""

from enum import StrEnum
from typing import Annotated

import typer
from rich.table import Table

from annotate_server.bootstrap.workspace import opened_users
from annotate_server.cli.console import JsonOption, WorkspaceOption, out, ports, print_json, reporting
from annotate_server.domain.person import Role

app = typer.Typer(help="Say who may sign in, and as what.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(help="The person's name.", show_default=False)]


class RoleName(StrEnum):
    """The roles of `--role`; each may do what the ones before it may."""

    ANNOTATOR = "annotator"
    REVIEWER = "reviewer"
    ADMIN = "admin"


@app.command("add")
def add(
    name: NameArgument,
    role: Annotated[RoleName, typer.Option("--role", help="What the person may do.")] = RoleName.ANNOTATOR,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let somebody sign in, or give them another role and token; the token is printed this once only."""
    with reporting(as_json), opened_users(ports(workspace)) as users:
        token = users.add(name, Role(role.value))
        if as_json:
            print_json({"name": name, "role": role.value, "token": token})
            return
        out.print(f"{name} signs in as {role.value} with this token, which is not shown again:", markup=False)
        out.print(token, markup=False, soft_wrap=True, highlight=False)


@app.command("list")
def list_users(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """List who may sign in."""
    with reporting(as_json), opened_users(ports(workspace)) as users:
        found = users.all()
        if as_json:
            rows = [{"name": user.name, "role": user.role, "made_at": user.made_at.isoformat()} for user in found]
            print_json({"users": rows})
            return
        if not found:
            out.print("Nobody: without users, only this machine gets in.", markup=False)
            return
        table = Table("Name", "Role", "Since", box=None, pad_edge=False)
        for user in found:
            table.add_row(user.name, user.role, f"{user.made_at:%Y-%m-%d}")
        out.print(table)


@app.command("remove")
def remove(name: NameArgument, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Let somebody sign in no more; what they did stays theirs."""
    with reporting(as_json), opened_users(ports(workspace)) as users:
        users.remove(name)
        if as_json:
            print_json({"name": name, "removed": True})
        else:
            out.print(f"{name} no longer gets in.", markup=False)
