"""``neuroaug run``: the whole protocol of a study as one workflow."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neuroaug.cli.console import command
from neuroaug.cli.options import FILES, HARDWARE, Cores, option


@command(
    "run",
    epilog="Example: neuroaug run configs/adni-train50.yaml --study /studies/adni --profile slurm",
)
def run(
    config: Annotated[Path, typer.Argument(help="YAML with a study's keys, or a study folder.")],
    study: Annotated[
        Path | None, option("--study", "Study folder to make or continue.", FILES)
    ] = None,
    cores: Cores = None,
    profile: Annotated[
        str | None, option("--profile", "Snakemake profile: slurm, or a folder.", HARDWARE)
    ] = None,
    dry_run: Annotated[
        bool, option("--dry-run", "Print the jobs and the hours they may take.")
    ] = False,
    rehearse: Annotated[
        bool,
        option("--rehearse", "Every cell on phantoms, sizes cut down: minutes, means nothing."),
    ] = False,
    overrides: Annotated[
        list[str] | None,
        option("--set", "KEY=VALUE over the YAML's, space separated: evaluation.runs=5."),
    ] = None,
) -> None:
    """Run the whole protocol as one workflow. Kill it at will: the same command goes on."""
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
