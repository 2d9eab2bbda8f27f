"""`annotate`: the command line."""

from typing import Annotated

import typer

from annotate_server import __version__
from annotate_server.cli import batch, demo, doctor, evaluate, models
from annotate_server.cli.console import configure_logging, out

app = typer.Typer(
    name="annotate",
    help="AI-assisted annotation of CT and MRI: models draft, people correct.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)
app.command("batch")(batch.batch)
app.command("evaluate")(evaluate.evaluate)
app.command("demo")(demo.demo)
app.command("doctor")(doctor.doctor)
app.add_typer(models.app, name="models")


def _version(wanted: bool) -> None:
    if wanted:
        out.print(__version__)
        raise typer.Exit


@app.callback()
def common(
    verbose: Annotated[int, typer.Option("--verbose", "-v", count=True, help="Say more; twice for everything.")] = 0,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Configure logging; nothing else does."""
    configure_logging(verbose)


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
