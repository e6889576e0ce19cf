"""The command line: one file per command, which parses, binds a study's defaults, calls one stage.

A command is a function with ``@command("its-name", epilog="Example: ...")`` in a file of that name
in this folder. Nothing heavy is imported before it runs, so that ``neuroaug --help`` answers at
once.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from neuroaug import __version__
from neuroaug.cli.console import CommandGroup, any_terminal

__all__ = ["app", "main"]

app = typer.Typer(
    name="neuroaug",
    cls=CommandGroup,
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"neuroaug {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """Synthetic 3D brain MRIs from small cohorts, and the proof whether they help.

    A folder holding [bold]neuroaug.yaml[/bold] is a study; inside it, arguments default from it.

    Example: [bold]neuroaug demo[/bold] runs everything on an embedded cohort.
    """


def main(argv: list[str] | None = None) -> Any:
    """Entry point of the command."""
    any_terminal()
    sys.exit(app(args=argv, prog_name="neuroaug", standalone_mode=True))
