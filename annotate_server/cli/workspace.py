"""`annotate workspace`: is everything still there, and a copy of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from annotate_server.bootstrap.workspace import backed_up, checked
from annotate_server.cli.console import Exit, JsonOption, WorkspaceOption, err, out, ports, print_json, reporting
from annotate_server.domain.ports import Control

app = typer.Typer(help="Check and copy a workspace; a server may be using it.", no_args_is_help=True)


@app.command("check")
def check(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Verify the database, the audit trail, and every blob against its digest; the exit code is 1 for a fault."""
    with reporting(as_json):
        found = ports(workspace)
        with _progress("checking", as_json=as_json) as control:
            findings = checked(found, control)
        if as_json:
            print_json(
                {
                    "ok": not findings.faults,
                    "blobs": findings.blobs,
                    "orphans": findings.orphans,
                    "audit_rows": findings.audit_rows,
                    "faults": list(findings.faults),
                }
            )
        else:
            for fault in findings.faults:
                out.print(f"NO  {fault}", markup=False, soft_wrap=True)
            verdict = "all intact" if not findings.faults else f"{len(findings.faults)} fault(s)"
            out.print(f"{findings.blobs} blobs, {findings.audit_rows} rows of audit: {verdict}.", markup=False)
    if findings.faults:
        raise typer.Exit(Exit.FAILED)


@app.command("backup")
def backup(
    target: Annotated[Path, typer.Argument(help="An empty or new folder.", show_default=False)],
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy a workspace, as it was at one moment, into a folder; every blob is verified on the way."""
    with reporting(as_json):
        found = ports(workspace)
        with _progress("copying", as_json=as_json) as control:
            copied = backed_up(found, target, control)
        if as_json:
            print_json({"blobs": copied.blobs, "files": copied.files, "size_bytes": copied.size_bytes})
        else:
            size = f"{copied.size_bytes / 1e6:.1f} MB"
            out.print(f"{copied.blobs} blobs and {copied.files} files ({size}) are in {target}.", markup=False)


@contextmanager
def _progress(word: str, *, as_json: bool) -> Iterator[Control]:
    """Give a control whose reports move a bar."""
    with Progress(console=err, disable=as_json, transient=True) as progress:
        bar = progress.add_task(word, total=1.0)
        yield Control(report=lambda part, text: progress.update(bar, completed=part, description=text))
