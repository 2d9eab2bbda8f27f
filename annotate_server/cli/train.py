"""`annotate train`: improve a model by what was approved."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress

from annotate_server.bootstrap import Ports
from annotate_server.cli.console import JsonOption, WorkspaceOption, err, out, ports, print_json, reporting
from annotate_server.cli.servers import ServerOption, TokenOption, asked

if TYPE_CHECKING:
    from annotate_server.client import AnnotateClient

_LONGEST_S = 7 * 24 * 3600.0


def train(
    model: Annotated[str, typer.Argument(help="The model, or an app that becomes one.", show_default=False)],
    project: Annotated[
        str | None, typer.Option("--project", help="From whose labels an app learns, where several use it.")
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Begin from the original checkpoint, on everything that was approved.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="With --server: wait until it has ended.")] = False,
    server: ServerOption = None,
    token: TokenOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a model on the approved labels; the gate decides whether it serves.

    With --server the server trains, in the background unless --wait is given. Without, this process does, and no server
    may be using the workspace. A training that is interrupted goes on when the model is trained again.
    """
    with reporting(as_json):
        wanted = _Wanted(model, project, full)
        if server is None:
            result = _here(ports(workspace), wanted, as_json=as_json)
        else:
            with asked(server, token) as client:
                result = _on_server(client, wanted, waits=wait, as_json=as_json)
        if as_json:
            print_json(dict(result))
        else:
            _say(result)


@dataclass(frozen=True)
class _Wanted:
    """What is to be trained."""

    model: str
    project: str | None
    is_full: bool


def _on_server(client: "AnnotateClient", wanted: _Wanted, *, waits: bool, as_json: bool) -> Mapping[str, str]:
    job = client.train(wanted.model, wanted.project, is_full=wanted.is_full)
    if not waits:
        return {"job": job.id, "model": job.order["model"], "state": job.state}
    with _progress(as_json=as_json) as report:
        return {"job": job.id, **client.wait(job.id, _LONGEST_S, report).result}


def _here(found: Ports, wanted: _Wanted, *, as_json: bool) -> Mapping[str, str]:
    from annotate_server.bootstrap.local_learning import COMMAND_LINE, trained  # noqa: PLC0415  loads the workers

    with _progress(as_json=as_json) as report:
        return trained(
            found,
            lambda loop: loop.services.orders.order(wanted.model, COMMAND_LINE, wanted.project, is_full=wanted.is_full),
            report,
        )


@contextmanager
def _progress(*, as_json: bool) -> Iterator[Callable[[float, str], None]]:
    with Progress(console=err, disable=as_json, transient=True) as progress:
        bar = progress.add_task("training", total=1.0)
        yield lambda part, text: progress.update(bar, completed=part, description=text[:60])


def _say(result: Mapping[str, str]) -> None:
    if "version" not in result:
        out.print(f"{result['model']} is being trained (job {result['job']}).", markup=False)
        return
    serves = {"yes": "serves from now on", "provisionally": "serves provisionally", "no": "does not serve"}
    out.print(f"{result['model']}: version {result['version']} {serves[result['promoted']]}.", markup=False)
    out.print(result["reason"], markup=False)
