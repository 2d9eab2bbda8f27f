"""Commands that a server can carry out instead: how it is named, and what is in a workspace without one."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from annotate_server.client import AnnotateClient

ServerOption = Annotated[
    str | None, typer.Option("--server", help="Address of a server that does it; default: in the workspace.")
]
TokenOption = Annotated[str | None, typer.Option("--token", envvar="ANNOTATE_TOKEN", help="Who asks the server.")]


@contextmanager
def asked(server: str, token: str | None) -> "Iterator[AnnotateClient]":
    """Give the line to a server."""
    from annotate_server.client import AnnotateClient  # noqa: PLC0415  loads an HTTP client

    with AnnotateClient(server, token) as client:
        yield client
