"""The verbs: parse, call one function, print. No logic.

Nothing heavy is imported before a verb runs, so that ``neuroaug --help`` answers at once.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from neuroaug import __version__
from neuroaug.cli_support import (
    NeuroaugGroup,
    VariadicCommand,
    start,
    start_in_study,
    typed_options,
)

app = typer.Typer(
    name="neuroaug",
    cls=NeuroaugGroup,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Say more.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Say only what went wrong.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1 ...")]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed.")]
Label = Annotated[str, typer.Option("--label", help="Diagnosis: CN or AD.")]
SplitOption = Annotated[
    str | None,
    typer.Option(
        "--split", help="Training set: a name in a study (train, train-50), else a TSV's path."
    ),
]
OptionalPath = Path | None


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

    A folder holding [bold]neuroaug.yaml[/bold] is a study; inside it, arguments default from that
    file.

    Example: [bold]neuroaug demo[/bold] runs everything on an embedded cohort.
    """


@app.command(cls=VariadicCommand, epilog="Example: neuroaug check /data/adni_bids --json")
def check(
    dataset: Annotated[Path, typer.Argument(help="A BIDS or CAPS folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable findings.")] = False,
    n_procs: Annotated[int | None, typer.Option("--n-procs", help="Processes.")] = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Find every unreadable or inconsistent file before hours are spent."""
    start("check", verbose, quiet or as_json)
    from neuroaug.verbs.check import check as run

    raise typer.Exit(run(dataset, as_json=as_json, n_procs=n_procs))


@app.command(
    cls=VariadicCommand,
    epilog="Example: neuroaug preprocess /data/adni_caps --bids /data/adni_bids --participant-label 01 02 --n-procs 8",
)
def preprocess(
    caps: Annotated[
        OptionalPath, typer.Argument(help="CAPS folder (default: the study's).")
    ] = None,
    bids: Annotated[OptionalPath, typer.Option("--bids", help="Raw images.")] = None,
    participant_label: Annotated[
        list[str] | None,
        typer.Option("--participant-label", help="Only these, space separated; 'sub-' optional."),
    ] = None,
    session_label: Annotated[
        list[str] | None,
        typer.Option("--session-label", help="Only these, space separated; 'ses-' optional."),
    ] = None,
    visits: Annotated[
        OptionalPath, typer.Option("--visits", help="TSV of participant_id and session_id.")
    ] = None,
    bids_filter_file: Annotated[
        OptionalPath, typer.Option("--bids-filter-file", help="JSON, as fMRIPrep's.")
    ] = None,
    profile: Annotated[
        str | None, typer.Option("--profile", help="exact, default or fast.")
    ] = None,
    n4_distance: Annotated[
        int | None, typer.Option("--n4-distance", help="N4 spline distance: 200 or 600 mm.")
    ] = None,
    template: Annotated[
        OptionalPath, typer.Option("--template", help="Full-head template on the MNI grid.")
    ] = None,
    resolution: Annotated[
        list[str] | None,
        typer.Option("--resolution", help="Grids to write: 1mm 2mm 4mm (1mm always)."),
    ] = None,
    n_procs: Annotated[int | None, typer.Option("--n-procs", help="Visits at a time.")] = None,
    omp_nthreads: Annotated[int, typer.Option("--omp-nthreads", help="ANTs threads a visit.")] = 1,
    mem_mb: Annotated[int | None, typer.Option("--mem-mb", help="Memory budget.")] = None,
    work_dir: Annotated[OptionalPath, typer.Option("--work-dir", help="Scratch folder.")] = None,
    out: Annotated[
        OptionalPath, typer.Option("--out", help="CAPS for added copies where CAPS is read-only.")
    ] = None,
    rerun_failed: Annotated[
        bool, typer.Option("--rerun-failed", help="Try failed visits again.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and the estimated hours.")
    ] = False,
    part: Annotated[
        str | None, typer.Option("--part", help="i/n: these participants only, for job arrays.")
    ] = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """N4, affine registration to MNI, crop, 2 mm and 4 mm copies: a CAPS as Clinica writes it."""
    study = start("preprocess", verbose, quiet)
    from neuroaug.verbs.preprocess import preprocess as run

    raise typer.Exit(
        run(
            study,
            caps=caps,
            bids=bids,
            participants=participant_label,
            sessions=session_label,
            visits=visits,
            bids_filter=bids_filter_file,
            options={
                "profile": profile,
                "n4_distance": n4_distance,
                "template": str(template) if template else None,
                "resolutions": resolution,
            },
            n_procs=n_procs,
            omp_nthreads=omp_nthreads,
            mem_mb=mem_mb,
            work_dir=work_dir,
            out=out,
            rerun_failed=rerun_failed,
            dry_run=dry_run,
            part=part,
        )
    )


@app.command(
    cls=VariadicCommand,
    epilog="Example: neuroaug split /data/adni_caps --tables /data/adni_bids --out splits --n-test 100",
)
def split(
    ctx: typer.Context,
    caps: Annotated[
        OptionalPath, typer.Argument(help="CAPS folder (default: the study's).")
    ] = None,
    tables: Annotated[
        OptionalPath,
        typer.Option("--tables", help="Folder with participants.tsv, or a merged TSV."),
    ] = None,
    out: Annotated[
        OptionalPath, typer.Option("--out", help="Folder to write (default: the study's splits).")
    ] = None,
    n_test: Annotated[
        str | None,
        typer.Option("--n-test", help="Test participants per label: a number or fraction."),
    ] = None,
    validation: Annotated[
        float | None, typer.Option("--validation", help="Fraction of the rest.")
    ] = None,
    subset: Annotated[
        list[int] | None, typer.Option("--subset", help="Write train-K too; repeatable.")
    ] = None,
    cohort: Annotated[
        str | None, typer.Option("--cohort", help="auto, adni, aibl or oasis1.")
    ] = None,
    min_age: Annotated[
        float | None, typer.Option("--min-age", help="Years; OASIS-1 defaults to 62.")
    ] = None,
    seed: Seed = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Draw matched test, train, validation and train-K sets, with the tests that show they match."""
    study = start("split", verbose, quiet)
    from neuroaug.verbs.options import split_options
    from neuroaug.verbs.split import split as run

    config = split_options(study, n_test, validation, subset, cohort, min_age, seed)
    run(study, caps=caps, tables_folder=tables, out=out, config=config, typed=typed_options(ctx))


@app.command(cls=VariadicCommand, epilog="Example: neuroaug train --label AD --split train-50")
def train(
    label: Label,
    caps: Annotated[
        OptionalPath, typer.Argument(help="CAPS folder (default: the study's).")
    ] = None,
    split: SplitOption = None,
    out: Annotated[
        OptionalPath, typer.Option("--out", help="Model folder (default: the study's).")
    ] = None,
    resolution: Annotated[str | None, typer.Option("--resolution", help="1mm, 2mm or 4mm.")] = None,
    network: Annotated[
        str | None, typer.Option("--network", help="conv3d, mlp or mlp-toy.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="rhvae or vae.")] = None,
    latent_dim: Annotated[
        int | None, typer.Option("--latent-dim", help="Latent dimension.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", help="Images a step.")] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="At most so many epochs.")] = None,
    learning_rate: Annotated[float | None, typer.Option("--learning-rate", help="Adam's.")] = None,
    seed: Seed = None,
    device: Device = "auto",
    n_devices: Annotated[int, typer.Option("--n-devices", help="GPUs (or CPU processes).")] = 1,
    omp_nthreads: Annotated[int | None, typer.Option("--omp-nthreads", help="CPU threads.")] = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Train one generator (RHVAE) on one label's training participants. Resumes where it stopped."""
    study = start("train", verbose, quiet)
    from neuroaug.verbs.options import generator_options, resolution_option
    from neuroaug.verbs.train import train as run

    config = generator_options(study, network, model, latent_dim, batch_size, epochs, learning_rate)
    run(
        study,
        label=label,
        caps=caps,
        split=split,
        out=out,
        config=config,
        resolution=resolution_option(resolution),
        seed=seed,
        device=device,
        n_devices=n_devices,
        n_threads=omp_nthreads,
        typed_batch=batch_size,
    )


@app.command(cls=VariadicCommand, epilog="Example: neuroaug augment --label AD --n 5000")
def augment(
    label: Label,
    n: Annotated[int, typer.Option("--n", help="Images the set is to hold.")],
    caps: Annotated[
        OptionalPath, typer.Argument(help="CAPS folder (default: the study's).")
    ] = None,
    split: SplitOption = None,
    model: Annotated[OptionalPath, typer.Option("--model", help="A trained model folder.")] = None,
    out: Annotated[
        OptionalPath, typer.Option("--out", help="Synthetic CAPS (default: the study's).")
    ] = None,
    sampler: Annotated[
        str | None, typer.Option("--sampler", help="hmc, random-walk, geometric, prior, mixture.")
    ] = None,
    sampler_profile: Annotated[
        str | None, typer.Option("--sampler-profile", help="tuned or paper.")
    ] = None,
    seed: Seed = None,
    model_seed: Annotated[
        int | None, typer.Option("--model-seed", help="Which of the label's generators.")
    ] = None,
    dtype: Annotated[str | None, typer.Option("--dtype", help="float32 or uint8 on disk.")] = None,
    shard: Annotated[
        str | None, typer.Option("--shard", help="i/n: this part only, for job arrays.")
    ] = None,
    device: Device = "auto",
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Draw synthetic images as a CAPS; trains the generator first if there is none. Resumes,
    extends.
    """
    study = start("augment", verbose, quiet)
    from neuroaug.verbs.augment import augment as run
    from neuroaug.verbs.options import one_of

    run(
        study,
        label=label,
        n=n,
        caps=caps,
        split=split,
        model=model,
        out=out,
        sampler=one_of(
            "--sampler", sampler, ("hmc", "random-walk", "geometric", "prior", "mixture")
        ),
        profile=one_of("--sampler-profile", sampler_profile, ("tuned", "paper")),
        seed=seed,
        model_seed=model_seed,
        dtype=one_of("--dtype", dtype, ("float32", "uint8")),
        shard=shard,
        device=device,
    )


@app.command(
    cls=VariadicCommand,
    epilog="Example: neuroaug evaluate --cell train-50_baseline_2mm_real+synthetic-5000",
)
def evaluate(
    study: Annotated[
        OptionalPath, typer.Argument(help="Study folder (default: the current one).")
    ] = None,
    cell: Annotated[
        list[str] | None, typer.Option("--cell", help="Only these cells, space separated.")
    ] = None,
    run: Annotated[
        list[int] | None, typer.Option("--run", help="Only these runs (from 0), space separated.")
    ] = None,
    n_procs: Annotated[int, typer.Option("--n-procs", help="Runs at a time.")] = 1,
    omp_nthreads: Annotated[
        int | None, typer.Option("--omp-nthreads", help="CPU threads a run.")
    ] = None,
    device: Device = "auto",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Prove that nothing leaks, estimate the time, stop.")
    ] = False,
    summary: Annotated[
        bool, typer.Option("--summary", help="Only remake the tables from the scores there are.")
    ] = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Train and test ClinicaDL CNNs on real, synthetic and real + synthetic images; write the
    tables.
    """
    opened = start_in_study("evaluate", verbose, quiet, study)
    from neuroaug.verbs.evaluate import evaluate as run_verb

    run_verb(
        opened,
        cells=cell,
        runs=run,
        n_procs=n_procs,
        n_threads=omp_nthreads,
        device=device,
        dry_run=dry_run,
        summary_only=summary,
    )


@app.command(cls=VariadicCommand, epilog="Example: neuroaug search --trials 100")
def search(
    study: Annotated[
        OptionalPath, typer.Argument(help="Study folder (default: the current one).")
    ] = None,
    trials: Annotated[int | None, typer.Option("--trials", help="Random architectures.")] = None,
    folds: Annotated[int | None, typer.Option("--folds", help="Cross-validation folds.")] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="Epochs a fold.")] = None,
    resolution: Annotated[str | None, typer.Option("--resolution", help="1mm, 2mm or 4mm.")] = None,
    omp_nthreads: Annotated[int | None, typer.Option("--omp-nthreads", help="CPU threads.")] = None,
    device: Device = "auto",
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Random search of the classifier on the training set. Resumes; may run in parallel."""
    opened = start_in_study("search", verbose, quiet, study)
    from neuroaug.verbs.options import resolution_option
    from neuroaug.verbs.search import search as run

    run(
        opened,
        resolution=resolution_option(resolution),
        trials=trials,
        folds=folds,
        epochs=epochs,
        device=device,
        n_threads=omp_nthreads,
    )


@app.command(cls=VariadicCommand, epilog="Example: neuroaug report /studies/adni")
def report(
    study: Annotated[
        OptionalPath, typer.Argument(help="Study folder (default: the current one).")
    ] = None,
    out: Annotated[
        OptionalPath, typer.Option("--out", help="HTML file (default: the study's report.html).")
    ] = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Write one self-contained HTML file: results, curves, montages, proofs, versions."""
    opened = start_in_study("report", verbose, quiet, study)
    from neuroaug.verbs.report import report as run

    run(opened, out=out)


@app.command(
    cls=VariadicCommand,
    epilog="Example: neuroaug run configs/adni-train50.yaml --study /studies/adni --profile slurm",
)
def run(
    config: Annotated[Path, typer.Argument(help="YAML with a study's keys, or a study folder.")],
    study: Annotated[
        OptionalPath, typer.Option("--study", help="Study folder to make or continue.")
    ] = None,
    cores: Annotated[
        int | None, typer.Option("--cores", help="Cores of this machine to use.")
    ] = None,
    profile: Annotated[
        str | None, typer.Option("--profile", help="Snakemake profile: slurm, or a folder.")
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
    from neuroaug.workflow.run_study import run as run_verb

    raise typer.Exit(
        run_verb(
            config,
            study,
            cores=cores,
            profile=profile,
            dry_run=dry_run,
            overrides=overrides or (),
            rehearsal=rehearse,
        )
    )


@app.command(cls=VariadicCommand, epilog="Example: neuroaug demo /tmp/neuroaug-demo --cores 2")
def demo(
    folder: Annotated[Path, typer.Argument(help="Where the study goes.")] = Path("neuroaug-demo"),
    cores: Annotated[
        int | None, typer.Option("--cores", help="Cores to use (default: all).")
    ] = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Run the whole protocol on the embedded cohort of phantoms: minutes on a laptop, no data
    needed.
    """
    start("demo", verbose, quiet, use_study=False)
    from neuroaug.workflow.run_study import demo as run_verb

    raise typer.Exit(run_verb(folder, cores=cores))


@app.command(cls=VariadicCommand, epilog="Example: neuroaug bench sampler --json sampler.json")
def bench(
    name: Annotated[
        str | None, typer.Argument(help="Which benchmark (default: list them).")
    ] = None,
    json_file: Annotated[
        OptionalPath, typer.Option("--json", help="Write the figures here too.")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Papers' sizes: long.")] = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Measure speeds on this machine, side by side with the reference code where it is installed."""
    start("bench", verbose, quiet, use_study=False)
    from neuroaug.verbs.bench import bench as run_verb

    run_verb(name, json_file=json_file, full=full)


@app.command(cls=VariadicCommand, hidden=True)
def phantom(
    folder: Annotated[
        OptionalPath, typer.Argument(help="BIDS folder to make (default: the study's).")
    ] = None,
    participants: Annotated[int | None, typer.Option("--participants", help="How many.")] = None,
    seed: Seed = None,
    cohort: Annotated[
        str | None, typer.Option("--cohort", help="Whose tables: adni, aibl or oasis1.")
    ] = None,
    n_procs: Annotated[int, typer.Option("--n-procs", help="Processes.")] = 1,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Make the embedded cohort: raw BIDS of phantoms, no patient in it."""
    study = start("phantom", verbose, quiet)
    from neuroaug.verbs.phantom import phantom as run_verb

    run_verb(study, folder, participants=participants, seed=seed, cohort=cohort, n_procs=n_procs)


def main(argv: list[str] | None = None) -> Any:
    """Entry point of the command."""
    sys.exit(app(args=argv, standalone_mode=True))
