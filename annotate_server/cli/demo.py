"""`annotate demo`: sample volumes, drafted, and a server to annotate them on."""

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

import typer

from annotate_server.bootstrap import Ports
from annotate_server.cli.console import JsonOption, WorkspaceOption, out, ports, print_json, reporting
from annotate_server.cli.serve import serve
from annotate_server.domain.case import StoredVolume
from annotate_server.domain.ports import Control
from annotate_server.workflows.demonstration import Demonstration, LocalModels

_MODEL = "demo_ct"


def demo(
    check: Annotated[
        bool,
        typer.Option("--check", help="Hold drafts against their truth, annotate over HTTP, and end."),
    ] = False,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port of the server; 0 takes a free one.")
    ] = 8000,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make sample volumes (a chest, a torso, a head), draft them, and serve them until Ctrl-C.

    With --check a server on a free port is gone through from draft to download instead; the exit code is 1 when
    anything is not what it should be.
    """
    with reporting(as_json):
        found = ports(workspace)
        shown = Demonstration(found.settings.workspace / "demo")
        rows, sheets = _drafted(found, shown, check=check, as_json=as_json)
        steps = _journey(shown) if check else ()
        if as_json:
            print_json({"cases": rows, "contact_sheets": list(sheets), "journey": list(steps)})
        else:
            _say(sheets, shown, steps)
    if not check and not as_json:
        studies = shown.samples / "images"
        serve(studies=str(studies), port=port, workspace=shown.workspace, host="127.0.0.1")


def _drafted(
    found: Ports, shown: Demonstration, *, check: bool, as_json: bool
) -> tuple[list[Mapping[str, object]], dict[str, str]]:
    """Draft the sample volumes; return a row for each, and the contact sheets with their models."""
    predictor = found.predictor()

    def scan(folder: Path) -> Iterable[StoredVolume]:
        with found.studies(folder) as studies:
            return list(studies.scan())

    rows: list[Mapping[str, object]] = []
    sheets: dict[str, str] = {}
    served = ports(shown.workspace)
    with found.reader() as reader, served.predictions() as keep:
        for draft in shown.drafts(scan, LocalModels(predictor, keep), reader, Control()):
            worst = shown.check(draft, reader) if check else None
            sheets[draft.sheet.resolve().as_uri()] = draft.case.model
            rows.append({"case": draft.case.name, "status": draft.line.status, "worst_dice": worst})
            if not as_json:
                verdict = "" if worst is None else f", lowest Dice against the truth {worst:.3f}"
                seconds = f"{draft.line.seconds:.1f} s"
                out.print(f"{draft.case.name}: drafted by {draft.case.model} in {seconds}{verdict}", markup=False)
    predictor.close()
    return rows, sheets


def _journey(shown: Demonstration) -> tuple[str, ...]:
    """Go through the journey on a server with a workspace of its own, made anew."""
    from annotate_server.cli.demo_journey import check_journey, served  # noqa: PLC0415  loads an HTTP client

    workspace = shown.folder / "check"
    shutil.rmtree(workspace, ignore_errors=True)
    with served(shown.samples / "images", workspace) as client:
        return check_journey(client, _MODEL)


def _say(sheets: Mapping[str, str], shown: Demonstration, steps: Iterable[str]) -> None:
    for address, model in sheets.items():
        out.print(f"Look at the drafts of {model}: {address}", markup=False, soft_wrap=True)
    out.print(f"Sample volumes to try the other commands on: {shown.samples / 'images'}", markup=False, soft_wrap=True)
    for step in steps:
        out.print(f"Over HTTP: {step}", markup=False, soft_wrap=True)
