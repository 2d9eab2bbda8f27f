"""`annotate models`: the models of the workspace."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress
from rich.table import Table

from annotate_server.bootstrap import Ports
from annotate_server.cli.console import JsonOption, WorkspaceOption, err, out, ports, print_json, reporting
from annotate_server.cli.model_adoption import adopt
from annotate_server.cli.model_environments import environment_missing, environments
from annotate_server.cli.servers import ServerOption, TokenOption, asked
from annotate_server.domain.errors import AnnotateError
from annotate_server.domain.model import App
from annotate_server.domain.ports import Control

if TYPE_CHECKING:
    from annotate_server.client.answers import RemoteDecision
    from annotate_server.domain.learning import Promotion

app = typer.Typer(help="List, describe, install, begin and promote models.", no_args_is_help=True)

app.command("adopt")(adopt)
app.command("env")(environments)

NameArgument = Annotated[str, typer.Argument(help="The model's name.", show_default=False)]


@app.command("list")
def list_models(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """List every model, what it is for and whether it can be used."""
    with reporting(as_json):
        found = ports(workspace)
        rows = [_summary(found, name) for name in found.registry.names()]
        if as_json:
            print_json({"models": rows})
            return
        table = Table("Model", "For", "Modality", "Prompts", "State", box=None, pad_edge=False)
        for row in rows:
            table.add_row(*(str(row[key]) for key in ("name", "title", "modalities", "prompts", "state")))
        out.print(table)


@app.command("show")
def show(name: NameArgument, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Show a model's version, segments and weights."""
    with reporting(as_json):
        found = ports(workspace)
        model = found.registry.app(name)
        if as_json:
            print_json({**_summary(found, name), **_details(model), **_learned(found, name)})
            return
        for key, value in _summary(found, name).items():
            out.print(f"{key:12} {value}", markup=False)
        _print_segments(model)
        for weight in model.weights:
            origin = "shipped" if weight.bundled else weight.url or "no public address"
            out.print(f"weights      {weight.name}  {weight.size_bytes / 1e6:.2f} MB  {origin}", markup=False)
        _print_decisions(found, name)


@app.command("card")
def card(name: NameArgument, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Print the model card: what the model is for, what it must not be used for, licence and figures."""
    with reporting(as_json):
        model = ports(workspace).registry.app(name)
        if as_json:
            print_json({"name": name, **_details(model)})
            return
        facts = model.card
        out.print(f"{facts.title} ({name})", style="bold", markup=False)
        lines = {
            "For": facts.purpose,
            "Not for": facts.not_for,
            "Modality": " and ".join(facts.modalities),
            "Licence": facts.licence,
            "Attribution": facts.attribution,
        }
        for key, text in lines.items():
            out.print(f"[bold]{key}:[/] ", end="")
            out.print(text, markup=False)
        for figure in facts.figures:
            out.print(f"- {figure}", markup=False)
        _print_segments(model)


@app.command("import")
def import_weights(
    name: NameArgument,
    source: Annotated[Path, typer.Option("--from", help="A file, or a folder that holds the weights somewhere.")],
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Install a model's weights from this machine; they are recognised by their SHA-256."""
    with reporting(as_json):
        found = ports(workspace)
        version = found.registry.import_from(name, source)
        _installed(found, name, version.id, as_json=as_json)


@app.command("pull")
def pull(
    name: NameArgument,
    mirror: Annotated[
        str | None, typer.Option("--mirror", help="Fetch MIRROR/<model>/<file> instead of the public address.")
    ] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Install a model's weights from their public address; an interrupted download goes on where it stopped."""
    with reporting(as_json):
        found = ports(workspace)
        with Progress(console=err, disable=as_json, transient=True) as progress:
            bar = progress.add_task(name, total=1.0)
            control = Control(report=lambda part, text: progress.update(bar, completed=part, description=text))
            version = found.registry.pull(name, mirror, control)
        _installed(found, name, version.id, as_json=as_json)


@app.command("new")
def new(
    name: NameArgument,
    project: Annotated[str, typer.Option("--project", help="From whose approved labels it learns.")],
    server: ServerOption = None,
    token: TokenOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Begin a model from nothing; it is trained once five labels of the project are approved, then with every five."""
    with reporting(as_json):
        if server is not None:
            with asked(server, token) as client:
                learned = client.new_model(name, project).learned
                missing = learned.missing_labels if learned is not None else 0
        else:
            from annotate_server.bootstrap.local_learning import COMMAND_LINE, opened_learning  # noqa: PLC0415  slow

            with opened_learning(ports(workspace)) as loop:
                missing = loop.services.orders.missing(loop.services.own.begin(name, project, COMMAND_LINE))
        if as_json:
            print_json({"name": name, "project": project, "missing_labels": missing})
        else:
            lacks = (
                f"{missing} approved labels are missing before it can be trained" if missing else "it can be trained"
            )
            out.print(f"{name} learns from the project {project}: {lacks}.", markup=False)


@app.command("promote")
def promote(
    name: NameArgument,
    version: Annotated[str, typer.Option("--version", help="The version that is to serve.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; it is kept with the decision.")] = "",
    server: ServerOption = None,
    token: TokenOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a version of a model serve, from the next prediction on."""
    with reporting(as_json):
        if server is not None:
            with asked(server, token) as client:
                _say_moved(name, client.promote(name, version, reason), as_json=as_json)
            return
        from annotate_server.bootstrap.local_learning import COMMAND_LINE, opened_learning  # noqa: PLC0415  slow

        with opened_learning(ports(workspace)) as loop:
            promotion = loop.services.promoting.promote(name, version, COMMAND_LINE, reason)
        _say_moved(name, promotion, as_json=as_json)


@app.command("rollback")
def roll_back(
    name: NameArgument,
    version: Annotated[str | None, typer.Option("--version", help="One that served; default: the one before.")] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why; it is kept with the decision.")] = "",
    server: ServerOption = None,
    token: TokenOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let the version of a model serve again that did before, from the next prediction on."""
    with reporting(as_json):
        if server is not None:
            with asked(server, token) as client:
                _say_moved(name, client.roll_back(name, version, reason), as_json=as_json)
            return
        from annotate_server.bootstrap.local_learning import COMMAND_LINE, opened_learning  # noqa: PLC0415  slow

        with opened_learning(ports(workspace)) as loop:
            promotion = loop.services.promoting.roll_back(name, COMMAND_LINE, version, reason)
        _say_moved(name, promotion, as_json=as_json)


def _say_moved(name: str, decision: "Promotion | RemoteDecision", *, as_json: bool) -> None:
    version, previous = decision.version, decision.previous
    if as_json:
        print_json({"name": name, "version": version, "previous": previous})
    else:
        before = f" ({previous} did before)" if previous else ""
        out.print(f"Version {version} of {name} serves from now on{before}.", markup=False)


def _installed(found: Ports, name: str, version_id: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"name": name, "version": version_id, "state": "ready"})
    else:
        out.print(f"{name} is ready (version {version_id}) in {found.settings.workspace}.", markup=False)


def _summary(found: Ports, name: str) -> dict[str, object]:
    """Return one line of the list; a broken app is listed with what is wrong."""
    try:
        model = found.registry.app(name)
        missing = found.registry.missing(model)
        backend = found.backends.get(model.backend)
        state = f"weights missing: annotate models pull {name}" if missing else environment_missing(backend) or "ready"
        version = None if missing else found.registry.champion(name).id
    except AnnotateError as error:
        return {"name": name, "title": "", "modalities": "", "prompts": "", "version": None, "state": str(error)}
    return {
        "name": name,
        "title": model.card.title,
        "modalities": ", ".join(model.card.modalities),
        "prompts": ", ".join(sorted(model.card.prompts)),
        "version": version,
        "state": state,
        **_counted(found, name),
    }


def _counted(found: Ports, name: str) -> dict[str, object]:
    """Return how many versions a model that learns has."""
    store = found.models()
    if store is None or not found.registry.is_learned(name):
        return {}
    return {"versions": len(store.versions(name))}


def _details(model: App) -> dict[str, object]:
    facts = model.card
    return {
        "backend": model.backend,
        "purpose": facts.purpose,
        "not_for": facts.not_for,
        "licence": facts.licence,
        "attribution": facts.attribution,
        "figures": list(facts.figures),
        "drafts": facts.drafts,
        "trainable": facts.trainable,
        "segments": [
            {
                "index": segment.index,
                "name": segment.name,
                "colour": list(segment.colour),
                "code": None
                if segment.kind is None
                else {"value": segment.kind.value, "scheme": segment.kind.scheme, "meaning": segment.kind.meaning},
            }
            for segment in facts.segments
        ],
        "weights": [
            {"name": w.name, "sha256": w.sha256, "size_bytes": w.size_bytes, "url": w.url} for w in model.weights
        ],
    }


def _learned(found: Ports, name: str) -> dict[str, object]:
    """Return the versions of a model that learns, and the decisions about them; nothing for an app."""
    store = found.models()
    if store is None or not found.registry.is_learned(name):
        return {}
    versions = [
        {"id": version.id, "parent": version.parent, "made_at": str(version.made_at), "seconds": version.seconds}
        for version in store.versions(name)
    ]
    decisions = [
        {
            "version": each.version,
            "kind": str(each.kind),
            "person": each.person,
            "reason": each.reason,
            "previous": each.previous,
            "provisional": each.is_provisional,
            "at": str(each.at),
        }
        for each in store.promotions(name)
    ]
    return {"project": store.get(name).project_id, "versions": versions, "decisions": decisions}


def _print_decisions(found: Ports, name: str) -> None:
    store = found.models()
    if store is None or not found.registry.is_learned(name):
        return
    table = Table("At", "Version", "Decision", "By", "Reason", box=None, pad_edge=False)
    for each in store.promotions(name):
        kind = f"{each.kind}, provisional" if each.is_provisional else str(each.kind)
        table.add_row(f"{each.at:%Y-%m-%d %H:%M}", each.version, kind, each.person, each.reason)
    out.print(table)


def _print_segments(model: App) -> None:
    if not model.card.segments:
        out.print("segments     any that you name", markup=False)
        return
    table = Table("", "Segment", "Code", box=None, pad_edge=False)
    for segment in model.card.segments:
        red, green, blue = segment.colour
        code = f"{segment.kind.value} {segment.kind.scheme}" if segment.kind else ""
        table.add_row(f"[rgb({red},{green},{blue})]■[/] {segment.index}", segment.name, code)
    out.print(table)
