"""`annotate batch`: draft every case of a folder."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from annotate_server.bootstrap import Ports
from annotate_server.cli.console import Exit, JsonOption, WorkspaceOption, err, out, ports, print_json, reporting
from annotate_server.cli.modality import ModalityOption, declared
from annotate_server.domain.case import StoredVolume
from annotate_server.domain.errors import UnreadableFile
from annotate_server.domain.ports import Control
from annotate_server.imaging.labelmap_files import LabelmapFormat
from annotate_server.imaging.reading import IsolatedReader
from annotate_server.workflows.batch import Batch, BatchOrder
from annotate_server.workflows.contact_sheet import NAME as CONTACT_SHEET
from annotate_server.workflows.drafter import Drafter, LocalDrafter
from annotate_server.workflows.manifest import NAME as MANIFEST
from annotate_server.workflows.manifest import ManifestLine, Status


class OutputFormat(StrEnum):
    """The formats of `--format`."""

    NIFTI = "nifti"
    NRRD = "nrrd"
    DICOM_SEG = "dicom-seg"


def batch(
    source: Annotated[Path, typer.Argument(help="A folder of DICOM or NIfTI, or one file.", show_default=False)],
    model: Annotated[str, typer.Option("--model", help="The model that drafts; see `annotate models list`.")],
    out_folder: Annotated[Path, typer.Option("--out", help="Where drafts, manifest and contact sheet go.")],
    output_format: Annotated[OutputFormat, typer.Option("--format", help="Format of the drafts.")] = OutputFormat.NIFTI,
    resume: Annotated[bool, typer.Option("--resume", help="Keep what an earlier run finished and is intact.")] = False,
    modality: ModalityOption = None,
    server: Annotated[
        str | None,
        typer.Option("--server", help="Address of a server that drafts instead, and keeps the drafts."),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option("--token", envvar="ANNOTATE_TOKEN", help="Who asks the server."),
    ] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Draft every case of a folder; manifest.jsonl and index.html in OUT say what became of each.

    The drafts are kept in the workspace too (with --server in the server's): a session on a case opens with its draft.
    The exit code is 0 when no case failed, 1 when one did, 130 after Ctrl-C (what was finished stays valid).
    """
    with reporting(as_json):
        if not source.exists():
            raise UnreadableFile("there is no such file or folder", source=str(source))
        order = BatchOrder(
            model,
            out_folder,
            LabelmapFormat(output_format.value),
            resume=resume,
            modality=declared(modality),
        )
        drafters = _local if server is None else _remote(server, token)
        finished = _run(order, source, ports(workspace), drafters, as_json=as_json)
    if finished.tally.failed:
        raise typer.Exit(Exit.FAILED)


Drafters = Callable[[BatchOrder, Ports, IsolatedReader], AbstractContextManager[Drafter]]


def _run(order: BatchOrder, source: Path, found: Ports, drafters: Drafters, *, as_json: bool) -> Batch:
    """Scan, draft with a progress bar, and say at the end what became of it."""
    with found.reader() as reader, found.studies(source) as studies, drafters(order, found, reader) as drafter:
        drafter.version()
        batch_run = Batch(order, drafter, reader)
        try:
            _draft(batch_run, _scanned(studies.scan(), source), as_json=as_json)
        finally:
            _conclude(batch_run, as_json=as_json)
    return batch_run


@contextmanager
def _local(order: BatchOrder, found: Ports, reader: IsolatedReader) -> Iterator[Drafter]:
    """Give the model of this installation; its drafts are kept in the workspace."""
    predictor = found.predictor()
    with found.predictions() as keep:
        try:
            yield LocalDrafter(order.model, predictor, keep)
        finally:
            predictor.close()


def _remote(server: str, token: str | None) -> Drafters:
    """Return what gives the model of a server."""

    @contextmanager
    def drafter(order: BatchOrder, found: Ports, reader: IsolatedReader) -> Iterator[Drafter]:
        from annotate_server.bootstrap.remote_drafter import RemoteDrafter  # noqa: PLC0415  loads an HTTP client
        from annotate_server.client import AnnotateClient  # noqa: PLC0415

        with AnnotateClient(server, token) as client:
            yield RemoteDrafter(client, order.model, reader)

    return drafter


def _scanned(volumes: Iterator[StoredVolume], source: Path) -> list[StoredVolume]:
    found = list(volumes)
    if not found:
        raise UnreadableFile(
            "no volume was found in it", source=str(source), remedy="DICOM, NIfTI, MetaImage and NRRD are read."
        )
    return found


def _draft(batch_run: Batch, volumes: list[StoredVolume], *, as_json: bool) -> None:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, disable=as_json, transient=True) as progress:
        bar = progress.add_task("reading", total=float(len(volumes)))
        position = {"done": 0}

        def report(fraction: float, message: str) -> None:
            progress.update(bar, completed=position["done"] + 0.99 * fraction, description=message[:60])

        for line in batch_run.drafts(volumes, Control(report=report)):
            position["done"] += 1
            progress.update(bar, completed=position["done"], description=line.key[-60:] if line else "kept")
            if line is not None and not as_json:
                _say(line)


def _say(line: ManifestLine) -> None:
    """Print what became of one case."""
    if line.status is Status.OK:
        volumes = ", ".join(f"{m.segment.name} {m.volume_ml:.1f} ml" for m in line.segments[:6] if m.volume_ml)
        more = f" and {len(line.segments) - 6} more" if len(line.segments) > 6 else ""
        out.print(f"ok       {line.key}  {line.seconds:.1f} s  {volumes or 'nothing found'}{more}", markup=False)
    else:
        detail = line.problem.detail if line.problem else ""
        out.print(f"{line.status:8} {detail if line.key in detail else f'{line.key}: {detail}'}", markup=False)


def _conclude(batch_run: Batch, *, as_json: bool) -> None:
    """Print the totals and where to look."""
    tally, folder = batch_run.tally, batch_run.order.out
    sheet = (folder / CONTACT_SHEET).resolve()
    if as_json:
        print_json(
            {
                "model": batch_run.order.model,
                "ok": tally.ok,
                "kept": tally.kept,
                "skipped": tally.skipped,
                "failed": tally.failed,
                "seconds": round(tally.seconds, 3),
                "cases_per_hour": round(tally.cases_per_hour, 1),
                "manifest": str((folder / MANIFEST).resolve()),
                "contact_sheet": str(sheet),
            }
        )
    elif sheet.is_file():
        kept = f", {tally.kept} kept from before" if tally.kept else ""
        out.print(
            f"{tally.ok} drafted, {tally.skipped} skipped, {tally.failed} failed{kept}; "
            f"{tally.cases_per_hour:.0f} cases per hour.",
            markup=False,
        )
        out.print(f"Look at them: {sheet.as_uri()}", markup=False, soft_wrap=True)
