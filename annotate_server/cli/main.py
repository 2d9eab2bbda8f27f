"""`annotate`: the command line."""

import sys
from collections.abc import Iterable
from importlib import import_module
from typing import Annotated

import typer

from annotate_server import __version__
from annotate_server.cli.console import configure_logging, out

COMMANDS = ("batch", "evaluate", "demo", "doctor", "export", "serve", "simulate", "train")
"""Each is a function of its name in a module of its name in `annotate_server.cli`."""
GROUPS = ("import", "models", "users", "workspace")
"""Each is an `app` in a module of its name."""
_MODULES = {"import": "import_datastore"}
"""The modules of those whose names no module can have."""


def command_line(names: Iterable[str] = (*COMMANDS, *GROUPS)) -> typer.Typer:
    """Return the command line with these commands."""
    app = typer.Typer(
        name="annotate",
        help="AI-assisted annotation of CT and MRI: models draft, people correct.",
        no_args_is_help=True,
        add_completion=True,
        pretty_exceptions_enable=False,
    )
    app.callback()(common)
    for name in names:
        module = import_module(f"annotate_server.cli.{_MODULES.get(name, name)}")
        if name in GROUPS:
            app.add_typer(module.app, name=name)
        else:
            app.command(name)(getattr(module, name))
    return app


def _version(wanted: bool) -> None:
    if wanted:
        out.print(__version__)
        raise typer.Exit


def common(
    verbose: Annotated[int, typer.Option("--verbose", "-v", count=True, help="Say more; twice for everything.")] = 0,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Configure logging; nothing else does."""
    configure_logging(verbose)


def main() -> None:
    """Run the command line. Of the commands only the one that is named is loaded.

    Otherwise the server's process would hold what `evaluate` imports: 150 MB more than its own.
    """
    named = [word for word in sys.argv[1:] if not word.startswith("-")][:1]
    known = set(named) & {*COMMANDS, *GROUPS}
    (command_line(known) if known else command_line())()


if __name__ == "__main__":
    main()
