"""``neuroaug run``: the whole protocol of a study as one workflow."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neuroaug.cli.console import command, start
from neuroaug.cli.options import FILES, HARDWARE, Cores, Quiet, Verbose


@command(
    "run",
    epilog="Example: neuroaug run configs/adni-train50.yaml --study /studies/adni --profile slurm",
)
def run(
    config: Annotated[Path, typer.Argument(help="YAML with a study's keys, or a study folder.")],
    study: Annotated[
        Path | None,
        typer.Option("--study", help="Study folder to make or continue.", rich_help_panel=FILES),
    ] = None,
    cores: Cores = None,
    profile: Annotated[
        str | None,
        typer.Option(
            "--profile", help="Snakemake profile: slurm, or a folder.", rich_help_panel=HARDWARE
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the jobs and the hours they may take.")
    ] = False,
    rehearse: Annotated[
        bool,
        typer.Option(
            "--rehearse", help="Every cell on phantoms, sizes cut down: minutes, means nothing."
        ),
    ] = False,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="KEY=VALUE over the YAML's, space separated: evaluation.runs=5."
        ),
    ] = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Run the whole protocol as one workflow. Kill it at will: the same command goes on."""
    start("run", verbose, quiet, use_study=False)
    from neuroaug.workflow.run_study import run as run_workflow

    raise typer.Exit(
        run_workflow(
            config,
            study,
            cores=cores,
            profile=profile,
            dry_run=dry_run,
            overrides=overrides or (),
            rehearsal=rehearse,
        )
    )
