"""`annotate models env`: the interpreters of their own that some backends run in."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from annotate_server.backends.discovery import without_environment
from annotate_server.backends.environments.environment import RunsElsewhere
from annotate_server.backends.environments.making import EnvironmentOrder, EnvironmentState, make_environment, state_of
from annotate_server.backends.environments.recipes import RECIPES, recipe_of
from annotate_server.cli.console import JsonOption, WorkspaceOption, err, out, ports, print_json, reporting
from annotate_server.domain.errors import InvalidRequest
from annotate_server.domain.ports import Backend, Control


def environments(
    kind: Annotated[str | None, typer.Argument(help="Which to make; without it, all are listed.")] = None,
    python: Annotated[
        Path | None, typer.Option("--python", help="Interpreter to make it from (3.11 or newer); default: ours.")
    ] = None,
    extra: Annotated[
        list[str] | None, typer.Option("--with", help="A package that it is to have as well, as pip names it; repeat.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Begin from nothing, where there is one already.")] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make the environment of a kind of models, or list those that there are.

    An attempt that was stopped goes on where it stopped. Packages come from where pip's own configuration says
    (PIP_INDEX_URL, PIP_FIND_LINKS, pip.conf).
    """
    with reporting(as_json):
        ports(workspace)
        if kind is None:
            if python or extra or again:
                raise InvalidRequest("it does not say which environment", remedy=f"Name one of: {', '.join(RECIPES)}.")
            _list([state_of(recipe) for recipe in RECIPES.values()], as_json=as_json)
            return
        order = EnvironmentOrder(recipe_of(kind), python, tuple(extra or ()), again)
        with Progress(console=err, disable=as_json, transient=True) as progress:
            bar = progress.add_task(kind, total=1.0)
            control = Control(report=lambda part, text: progress.update(bar, completed=part, description=_cut(text)))
            make_environment(order, control)
        state = state_of(order.recipe)
        if as_json:
            print_json(_as_json(state))
        else:
            out.print(f"{kind} is ready (Python {state.python}) in {state.folder}.", markup=False, soft_wrap=True)


def environment_missing(backend: Backend) -> str | None:
    """Return what to run where a backend needs an environment that is not there."""
    if not isinstance(backend, RunsElsewhere):
        return None
    return without_environment({backend.name: backend.environment}).get(backend.name)


def _list(states: list[EnvironmentState], *, as_json: bool) -> None:
    if as_json:
        print_json({"environments": [_as_json(state) for state in states]})
        return
    table = Table("Environment", "For", "State", "To do", box=None, pad_edge=False)
    for state in states:
        table.add_row(state.kind, state.purpose, state.state, state.remedy)
    out.print(table)


def _as_json(state: EnvironmentState) -> dict[str, object]:
    return {
        "kind": state.kind,
        "purpose": state.purpose,
        "state": state.state,
        "ready": state.is_ready,
        "folder": str(state.folder),
        "python": state.python,
        "packages": dict(state.packages or {}),
        "remedy": state.remedy,
    }


def _cut(text: str) -> str:
    """Return the beginning of what pip says, as plain text."""
    return escape(text if len(text) <= 60 else text[:59] + "…")
