"""`annotate export`: approved labels with their volumes, for those who train elsewhere."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from annotate_server.bootstrap.exporting import exporter
from annotate_server.cli.console import Exit, JsonOption, WorkspaceOption, err, out, ports, print_json, reporting
from annotate_server.cli.modality import DeclaredModality, declared
from annotate_server.domain.ports import Control
from annotate_server.workflows.export import Exported
from annotate_server.workflows.export_plan import ExportFormat, ExportOrder


class Layout(StrEnum):
    """What can be chosen."""

    NNUNET = "nnunet"
    MSD = "msd"
    BIDS = "bids"


def export(
    project: Annotated[str, typer.Argument(help="The project's id.", show_default=False)],
    folder: Annotated[Path, typer.Option("--out", help="Where the data set is written.")],
    layout: Annotated[Layout, typer.Option("--format", help="nnU-Net v2, Medical Segmentation Decathlon, or BIDS.")],
    modality: Annotated[
        DeclaredModality | None, typer.Option("--modality", help="Only volumes of this one, where there are several.")
    ] = None,
    number: Annotated[int, typer.Option("--number", min=1, max=999, help="The data set's number (nnunet, msd).")] = 500,
    suffix: Annotated[str | None, typer.Option("--suffix", help="What BIDS calls the volumes, such as T1w.")] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a project's approved labels and their volumes as a data set, under pseudonyms.

    Run it again to bring the data set up to date, or to go on after a stop. A server may be using the workspace. The
    exit code is 1 when a case could not be exported. Faces and writing in the volumes stay: see docs/export.md.
    """
    with reporting(as_json):
        order = ExportOrder(
            project,
            ExportFormat(layout.value),
            modality=declared(modality),
            number=number,
            suffix=suffix,
        )
        with (
            exporter(ports(workspace)) as exporting,
            Progress(console=err, disable=as_json, transient=True) as progress,
        ):
            bar = progress.add_task("exporting", total=1.0)
            control = Control(report=lambda part, text: progress.update(bar, completed=part, description=text))
            exported = exporting.export(order, folder, control)
        if as_json:
            print_json(_as_json(exported))
        else:
            _say(exported)
    if exported.failed:
        raise typer.Exit(Exit.FAILED)


def _as_json(exported: Exported) -> dict[str, object]:
    return {
        "folder": str(exported.folder),
        "cases": len(exported.cases) - len(exported.failed),
        "written": sum(case.is_new for case in exported.cases),
        "segments": {segment.name: segment.index for segment in exported.plan.segments},
        "notes": list(exported.notes),
        "failed": [{"label": case.case.label.id, "problem": case.problem} for case in exported.failed],
    }


def _say(exported: Exported) -> None:
    there = len(exported.cases) - len(exported.failed)
    new = sum(case.is_new for case in exported.cases)
    out.print(f"{there} cases, {new} of them new, are in {exported.folder}.", markup=False, soft_wrap=True)
    for note in exported.notes:
        out.print(note, markup=False, soft_wrap=True)
    for case in exported.failed:
        err.print(f"not exported: label {case.case.label.id}: {case.problem}", markup=False, soft_wrap=True)
