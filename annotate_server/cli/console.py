"""How every command speaks: sentences for people, one JSON object for machines, exit codes for scripts."""

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.logging import RichHandler

from annotate_server.bootstrap import Ports, wire
from annotate_server.domain.errors import AnnotateError, InvalidSettings, UnknownModel
from annotate_server.settings import read_settings

out = Console()
err = Console(stderr=True)

WorkspaceOption = Annotated[
    Path | None,
    typer.Option("--workspace", help="Folder for weights and labels (ANNOTATE_WORKSPACE).", show_default=False),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object for machines, and nothing else.")]


class Exit(IntEnum):
    """Exit codes: 0 only if all went well."""

    OK = 0
    FAILED = 1
    USAGE = 2
    INTERRUPTED = 130


def ports(workspace: Path | None) -> Ports:
    """Return the ports of the settings, with the workspace of the command line."""
    return wire(read_settings(workspace=workspace))


def print_json(value: Mapping[str, object]) -> None:
    """Print one object on standard output."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, allow_nan=False, indent=2) + "\n")


@contextmanager
def reporting(as_json: bool) -> Iterator[None]:
    """Turn an error into one sentence (or its problem as JSON) and the exit code; Ctrl-C into 130."""
    try:
        yield
    except AnnotateError as error:
        if as_json:
            problem = error.problem()
            print_json({"problem": {"type": problem.type, "title": problem.title, "detail": problem.detail}})
        else:
            err.print(f"[bold red]Error:[/] {_escaped(str(error))}", soft_wrap=True)
        usage = isinstance(error, InvalidSettings | UnknownModel)
        raise typer.Exit(Exit.USAGE if usage else Exit.FAILED) from None
    except KeyboardInterrupt:
        err.print("Stopped. Everything finished so far is kept.")
        raise typer.Exit(Exit.INTERRUPTED) from None


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")


def configure_logging(verbose: int) -> None:
    """Send log records to standard error; warnings only, more with each -v."""
    level = {0: logging.WARNING, 1: logging.INFO}.get(verbose, logging.DEBUG)
    handler = RichHandler(console=err, show_path=False, rich_tracebacks=verbose > 0)
    logging.basicConfig(level=level, format="%(message)s", handlers=[handler])
    for name in ("pydicom", "highdicom"):
        logging.getLogger(name).setLevel(logging.ERROR)  # their warnings quote headers, and so the patient
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)  # they name every address, and a search names the patient
