"""`annotate serve`: the server."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from annotate_server.api.viewer_build import BUILT, HOW_TO_BUILD, viewer_build
from annotate_server.cli.console import JsonOption, WorkspaceOption, out, reporting
from annotate_server.domain.archive import ArchiveAddress
from annotate_server.domain.errors import UnreadableFile
from annotate_server.settings import read_settings


def serve(
    studies: Annotated[
        str | None,
        typer.Option(
            "--studies",
            help="Folder of DICOM or NIfTI to annotate, or the DICOMweb address of an archive; none for uploads only.",
        ),
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Address to serve on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    tls_cert: Annotated[Path | None, typer.Option("--tls-cert", help="Certificate (PEM) to speak TLS with.")] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", help="Its key (PEM).")] = None,
    behind_proxy: Annotated[
        bool, typer.Option("--behind-proxy", help="A proxy before the server speaks TLS with the browsers.")
    ] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Serve the annotation of a folder of studies, or of a DICOM archive, to browsers and scripts, until Ctrl-C.

    Without users only this machine gets in: another address takes users (`annotate users add`) and TLS. With --json
    the first line is an object whose `url` is the address.
    """
    with reporting(as_json):
        from annotate_server.api.app import create_app  # noqa: PLC0415  other commands start without a web server
        from annotate_server.api.serving import Binding, run  # noqa: PLC0415
        from annotate_server.bootstrap.allocation import give_large_blocks_back  # noqa: PLC0415
        from annotate_server.bootstrap.archive import archive_address, is_address  # noqa: PLC0415
        from annotate_server.bootstrap.server import limits_of, put_together  # noqa: PLC0415

        settings = read_settings(workspace=workspace)
        source: Path | ArchiveAddress | None = None
        if studies is not None:
            source = archive_address(studies, settings) if is_address(studies) else Path(studies)
        if isinstance(source, Path) and not source.is_dir():
            raise UnreadableFile("there is no such folder", source=studies)
        give_large_blocks_back()
        binding = Binding(host, port, tls_cert, tls_key, behind_proxy)
        with put_together(settings, source) as server:
            binding.check(has_users=bool(server.services.users.all()))
            options = replace(binding.options(limits_of(settings)), origins=frozenset(settings.allowed_origins))
            app = create_app(server.services, options)
            with binding.bound() as taken:
                server.begin()
                try:
                    run(app, binding, taken, lambda url: _say(url, as_json=as_json))
                finally:
                    server.end()


def _say(url: str, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps({"url": url}) + "\n")
        sys.stdout.flush()
    else:
        if viewer_build(BUILT) is None:
            out.print(f"The viewer is not built. {HOW_TO_BUILD}", markup=False, soft_wrap=True)
        out.print(f"Annotate at {url} (Ctrl-C ends it).", markup=False, soft_wrap=True)
