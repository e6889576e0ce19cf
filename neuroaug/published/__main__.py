"""Commands: ``run`` makes tables by Snakemake, ``page`` writes the pages from their results.

Snakemake's rules are the commands ``job`` and ``collect``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from neuroaug.errors import NeuroaugError
from neuroaug.published import overview, page
from neuroaug.published.table_jobs import collected, read_configuration, run_job
from neuroaug.system.files import write_tsv
from neuroaug.system.packaged_files import shipped

FOLDER = Path("build/published")
OUT = Path("docs/published")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m neuroaug.published", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="make tables, and the pages")
    run.add_argument("tables", nargs="*", help="names of tables; none: all")
    run.add_argument("--cores", type=int, default=2, help="jobs at a time, one core each")
    run.add_argument("--dry-run", action="store_true")
    for mode, what in {
        "smoke": "minutes: few images, one run",
        "full": "the papers' whole tables; a GPU's work",
    }.items():
        run.add_argument(f"--{mode}", action="store_const", const=mode, dest="mode", help=what)
    job = commands.add_parser("job", help="one data set and run of a table")
    job.add_argument("config", type=Path)
    job.add_argument("--dataset", required=True)
    job.add_argument("--run", type=int, required=True)
    collect = commands.add_parser("collect", help="put a table's runs together; draw its picture")
    collect.add_argument("config", type=Path)
    write = commands.add_parser("page", help="write summary and pages from the results")
    for command in (run, collect, write):
        command.add_argument("--out", type=Path, default=OUT, help="results and pages")
    for command in (run, job, collect):
        what = "generators and intermediate results"
        command.add_argument("--folder", type=Path, default=FOLDER, help=what)
    for command in (job, collect):
        command.add_argument("--mode", choices=("none", "smoke", "full"), default="none")
    return parser


def _run(arguments: argparse.Namespace, workflow: Path) -> int:
    """Make tables by Snakemake, and the pages; return Snakemake's exit code."""
    mode = arguments.mode or ""
    names = arguments.tables or [
        path.stem
        for path in page.configurations(workflow)
        if not mode or mode in read_configuration(path)
    ]
    for name in names:
        read_configuration(workflow / f"{name}.yaml", mode)
    folder, out = arguments.folder.absolute(), arguments.out.absolute()
    if mode == "smoke" and arguments.out == OUT:
        out = folder / "smoke"
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(workflow / "Snakefile")]
    command += ["--cores", str(arguments.cores), "--directory", str(folder), "--nolock"]
    command += ["--rerun-incomplete", "--keep-going", "--rerun-triggers", "mtime"]
    command += ["--quiet", "rules", "progress"]
    command += ["--dry-run"] if arguments.dry_run else []
    command += ["--config", f"tables={','.join(names)}", f"folder={folder}", f"out={out}"]
    command += [f"mode={mode}"] if mode else []
    code = subprocess.call(command)
    if code == 0 and not arguments.dry_run:
        overview.write_pages(out, workflow)
    return code


def main(words: list[str] | None = None) -> int:
    """Run one command; errors of the user's are one line, and exit 2."""
    arguments = _parser().parse_args(words)
    workflow = shipped("pipelines") / "published"
    try:
        if arguments.command == "run":
            return _run(arguments, workflow)
        if arguments.command == "page":
            overview.write_pages(arguments.out, workflow)
            return 0
        mode = "" if arguments.mode == "none" else arguments.mode
        settings = read_configuration(arguments.config, mode)
        if arguments.command == "job":
            print(run_job(settings, arguments.dataset, arguments.run, arguments.folder))
        else:
            from neuroaug.published import pictures

            table = arguments.out / page.RUNS / f"{settings['table']}.tsv"
            write_tsv(table, collected(settings, arguments.folder))
            pictures.draw(settings, arguments.folder, arguments.out / page.PICTURES)
    except NeuroaugError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
