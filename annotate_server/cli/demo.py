"""`annotate demo`: sample volumes, drafted, to look at."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from annotate_server.cli.console import JsonOption, WorkspaceOption, out, ports, print_json, reporting
from annotate_server.domain.case import StoredVolume
from annotate_server.domain.ports import Control
from annotate_server.workflows.demonstration import Demonstration


def demo(
    check: Annotated[bool, typer.Option("--check", help="Also hold the drafts against their truth.")] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make sample volumes (a chest, a torso, a head), draft them, and print where to look.

    With --check the exit code is 1 when a draft is not what it should be.
    """
    with reporting(as_json):
        found = ports(workspace)
        shown = Demonstration(found.settings.workspace / "demo")
        predictor = found.predictor()

        def scan(folder: Path) -> Iterable[StoredVolume]:
            with found.studies(folder) as studies:
                return list(studies.scan())

        rows, sheets = [], {}
        with found.reader() as reader:
            for draft in shown.drafts(scan, predictor, reader, Control()):
                worst = shown.check(draft, reader) if check else None
                sheets[draft.sheet.resolve().as_uri()] = draft.case.model
                rows.append({"case": draft.case.name, "status": draft.line.status, "worst_dice": worst})
                if not as_json:
                    verdict = "" if worst is None else f", lowest Dice against the truth {worst:.3f}"
                    seconds = f"{draft.line.seconds:.1f} s"
                    out.print(f"{draft.case.name}: drafted by {draft.case.model} in {seconds}{verdict}", markup=False)
        predictor.close()
        if as_json:
            print_json({"cases": rows, "contact_sheets": list(sheets)})
            return
        for address, model in sheets.items():
            out.print(f"Look at the drafts of {model}: {address}", markup=False, soft_wrap=True)
        out.print(
            f"Sample volumes to try the other commands on: {shown.samples / 'images'}", markup=False, soft_wrap=True
        )
