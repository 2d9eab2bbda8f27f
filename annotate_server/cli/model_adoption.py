"""`annotate models adopt`: a model that was made elsewhere becomes one of this workspace."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import Progress

from annotate_server.cli.console import JsonOption, WorkspaceOption, err, out, ports, print_json, reporting
from annotate_server.domain.adoption import AdoptionOrder
from annotate_server.domain.errors import InvalidRequest
from annotate_server.domain.model import App
from annotate_server.domain.ports import Control
from annotate_server.domain.volume import Modality


def adopt(
    source: Annotated[
        Path, typer.Argument(help="A folder or zip: a MONAI bundle, an nnU-Net results folder, a MONAI Label app …")
    ],
    name: Annotated[str | None, typer.Option("--name", help="What to call it; default: what it suggests.")] = None,
    modality: Annotated[
        list[Modality] | None, typer.Option("--modality", help="What it is made for, where it does not say; repeat.")
    ] = None,
    backend: Annotated[str | None, typer.Option("--backend", help="What is to run it, where several could.")] = None,
    trust: Annotated[
        str | None, typer.Option("--trust", metavar="SHA256", help="Let code of its own run, if it has this digest.")
    ] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make an app of a model that was made elsewhere; a running server lists it from then on."""
    with reporting(as_json):
        if trust is not None and (len(trust) != 64 or set(trust.lower()) - set("0123456789abcdef")):
            raise InvalidRequest(f"{trust!r} is no SHA-256", remedy="Give its 64 hexadecimal digits.")
        from annotate_server.bootstrap.adoption import adopted_into  # noqa: PLC0415  not for who lists models

        found = ports(workspace)
        order = AdoptionOrder(source, name, tuple(modality or ()), trust.lower() if trust else None)
        with Progress(console=err, disable=as_json, transient=True) as progress:
            bar = progress.add_task("Adopting", total=1.0)
            control = Control(report=lambda part, text: progress.update(bar, completed=part, description=escape(text)))
            apps = adopted_into(found, order, backend, control)
        if as_json:
            print_json({"models": [_as_json(app) for app in apps]})
            return
        for app in apps:
            out.print(f"{app.name}: {app.card.title} ({app.backend}), in {app.folder}", markup=False, soft_wrap=True)
        first = apps[0].name
        todo = (
            f"annotate batch SOURCE --model {first} --out DIR"
            if apps[0].card.drafts
            else "annotate serve --studies STUDIES"
        )
        out.print(f"Licence: {apps[0].card.licence}", markup=False, soft_wrap=True)
        out.print(f"See `annotate models card {first}`, then run `{todo}`.", markup=False, soft_wrap=True)


def _as_json(app: App) -> dict[str, object]:
    return {
        "name": app.name,
        "title": app.card.title,
        "backend": app.backend,
        "folder": str(app.folder),
        "licence": app.card.licence,
        "segments": [segment.name for segment in app.card.segments],
        "size_bytes": sum(weight.size_bytes for weight in app.weights),
    }
