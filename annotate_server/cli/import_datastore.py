"""`annotate import`: what was annotated with another program."""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from annotate_server.bootstrap import Ports
from annotate_server.cli.console import Exit, JsonOption, WorkspaceOption, err, out, ports, print_json, reporting
from annotate_server.cli.modality import DeclaredModality, declared
from annotate_server.domain.errors import AnnotateError, InvalidRequest
from annotate_server.domain.ports import Control
from annotate_server.imaging.foreign_datastore import ForeignDatastore, read_foreign_datastore
from annotate_server.workflows.importing import DEFAULT_PROJECT, ImportOrder
from annotate_server.workflows.importing_report import ImportedItem, ImportTally, ItemKind, Outcome
from annotate_server.workflows.value_names import Named, listed_names

app = typer.Typer(help="Bring in what was annotated with another program.", no_args_is_help=True)


@app.callback()
def _import() -> None:
    """Bring in what was annotated with another program."""


@app.command("monailabel")
def monailabel(
    studies: Annotated[Path, typer.Argument(help="The folder of the MONAI Label server.", show_default=False)],
    project: Annotated[
        str, typer.Option("--project", help="Where the labels go; made where there is none.")
    ] = DEFAULT_PROJECT,
    modality: Annotated[
        DeclaredModality | None, typer.Option("--modality", help="Of volumes that name none (NIfTI).")
    ] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="Only labels of this tag; may be repeated.")] = None,
    labels: Annotated[
        str | None,
        typer.Option("--labels", help="What values mean where the datastore does not say: spleen=1,liver=2."),
    ] = None,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="Leave the volumes where they lie instead of copying them.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read everything, say what would be done, do none.")
    ] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring in the volumes of a MONAI Label datastore, their labels of all tags, and what is known of these.

    STUDIES is only read. What is in the workspace already is not added again, so that the command can be repeated. No
    server may be using the workspace. The exit code is 0 when nothing was refused, 1 when something was, 130 after
    Ctrl-C (what was brought in stays). See docs/coming-from-monailabel.md.
    """
    order = ImportOrder(
        project,
        declared(modality),
        frozenset(tag or ()),
        () if labels is None else _names(labels),
        is_in_place=in_place,
        is_tried_only=dry_run,
    )
    with reporting(as_json):
        tally = _imported(studies, order, ports(workspace), as_json=as_json)
    if tally.of(Outcome.REFUSED):
        raise typer.Exit(Exit.FAILED)


def _names(text: str) -> tuple[Named, ...]:
    """Return `spleen=1,liver=2` as names and numbers."""
    pairs = [pair.rpartition("=") for pair in text.split(",")]
    try:
        return listed_names({name: int(number) for name, _, number in pairs})
    except (ValueError, InvalidRequest) as error:
        raise typer.BadParameter("write it as spleen=1,liver=2", param_hint="--labels") from error


def _imported(studies: Path, order: ImportOrder, found: Ports, *, as_json: bool) -> ImportTally:
    """Import with a progress bar, and say at the end what became of it."""
    from annotate_server.bootstrap.importing import importer  # noqa: PLC0415  loads the stores

    datastore = read_foreign_datastore(studies)
    if not as_json:
        for note in datastore.notes:
            err.print(note, markup=False, soft_wrap=True)
    tally, items = ImportTally(), list[ImportedItem]()
    tells = True
    with importer(found) as importing, _bar(datastore, order, as_json=as_json) as progress:
        bar = progress.tasks[0].id
        control = Control(report=lambda _, text: progress.update(bar, description=text[:60]))
        try:
            for item in importing.items(datastore, order, control):
                progress.advance(bar)
                tally.add(item)
                items.append(item)
                if not as_json:
                    _say(item, order)
        except AnnotateError:
            tells = not as_json  # the one object is then what is wrong
            raise
        finally:
            if tells:
                _conclude(tally, items, (datastore, order), as_json=as_json)
    return tally


def _bar(datastore: ForeignDatastore, order: ImportOrder, *, as_json: bool) -> Progress:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    progress = Progress(*columns, console=err, disable=as_json, transient=True)
    wanted = [label for volume in datastore.volumes for label in volume.labels]
    labels = sum(not order.tags or label.tag in order.tags for label in wanted)
    progress.add_task("reading", total=len(datastore.volumes) + labels + len(datastore.unplaced))
    return progress


def _say(item: ImportedItem, order: ImportOrder) -> None:
    """Print what became of one item."""
    name = f"{item.name} {item.tag}".strip()
    outcome = "would be" if order.is_tried_only and item.outcome is Outcome.IMPORTED else str(item.outcome)
    told = " ".join(item.notes) if item.problem is None else item.problem.detail
    out.print(f"{outcome:13} {item.kind} {name}{': ' if told else ''}{told}", markup=False, soft_wrap=True)


def _conclude(
    tally: ImportTally, items: list[ImportedItem], of: tuple[ForeignDatastore, ImportOrder], *, as_json: bool
) -> None:
    """Print the totals."""
    datastore, order = of
    if as_json:
        counts = {
            f"{kind}s": {outcome.name.lower(): tally.of(outcome, kind) for outcome in Outcome} for kind in ItemKind
        }
        print_json(
            {
                "project": order.project_id,
                "dry_run": order.is_tried_only,
                **counts,
                "notes": list(datastore.notes),
                "items": [item.as_json() for item in items],
            }
        )
        return
    what = "would be brought in" if order.is_tried_only else "brought in"
    new = ", ".join(f"{tally.of(Outcome.IMPORTED, kind)} {kind}s" for kind in ItemKind)
    rest = f"{tally.of(Outcome.THERE)} there already, {tally.of(Outcome.REFUSED)} refused"
    out.print(f"{new} {what}; {rest}. Labels: project {order.project_id}.", markup=False)
