"""Commands: ``run`` makes tables by Snakemake, whose rules are ``job`` and ``collect``; ``page``
writes the page.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from neuroaug.errors import NeuroaugError
from neuroaug.published import page
from neuroaug.published.jobs import collected, read_configuration, run_job
from neuroaug.system.files import write_tsv
from neuroaug.system.packaged_files import shipped

FOLDER = Path("build/published")
OUT = Path("docs/published")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m neuroaug.published", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run", help="make tables, and the page")
    run.add_argument("tables", nargs="*", help="names of tables; none: all")
    run.add_argument("--cores", type=int, default=2, help="jobs at a time, one core each")
    run.add_argument("--out", type=Path, default=OUT)
    run.add_argument(
        "--smoke",
        action="store_const",
        const="smoke",
        dest="mode",
        help="minutes: few images, one run",
    )
    run.add_argument(
        "--full",
        action="store_const",
        const="full",
        dest="mode",
        help="the papers' whole tables; a GPU's work",
    )
    run.add_argument("--dry-run", action="store_true")
    job = verbs.add_parser("job", help="one data set and run of a table")
    job.add_argument("config", type=Path)
    job.add_argument("--dataset", required=True)
    job.add_argument("--run", type=int, required=True)
    collect = verbs.add_parser(
        "collect", help="put the runs of a table together, and draw its figure"
    )
    collect.add_argument("config", type=Path)
    collect.add_argument("--out", type=Path, default=OUT)
    write = verbs.add_parser("page", help="write summary and page from the results")
    write.add_argument("--out", type=Path, default=OUT)
    for verb in (run, job, collect):
        verb.add_argument(
            "--folder", type=Path, default=FOLDER, help="generators and intermediate results"
        )
    for verb in (job, collect):
        verb.add_argument("--mode", choices=("none", "smoke", "full"), default="none")
    return parser


def table_names() -> list[str]:
    """The tables that there are, in the order of the page."""
    return [path.stem for path in page.configurations(shipped("pipelines") / "published")]


def has_mode(workflow: Path, name: str, mode: str) -> bool:
    """Whether a table has a ``smoke`` or ``full`` version."""
    return mode in read_configuration(workflow / f"{name}.yaml")


def _run(arguments: argparse.Namespace) -> int:
    workflow = shipped("pipelines") / "published"
    mode = arguments.mode or ""
    names = arguments.tables or [
        name for name in table_names() if not mode or has_mode(workflow, name, mode)
    ]
    for name in names:
        read_configuration(workflow / f"{name}.yaml", mode)
    folder, out = arguments.folder.absolute(), arguments.out.absolute()
    if arguments.mode == "smoke" and arguments.out == OUT:
        out = folder / "smoke"
    folder.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--snakefile",
        str(workflow / "Snakefile"),
        "--cores",
    ]
    command += [
        str(arguments.cores),
        "--directory",
        str(folder),
        "--nolock",
        "--rerun-incomplete",
        "--keep-going",
    ]
    command += ["--rerun-triggers", "mtime", "--quiet", "rules", "progress"]
    command += ["--dry-run"] if arguments.dry_run else []
    command += ["--config", f"tables={','.join(names)}", f"folder={folder}", f"out={out}"]
    command += [f"mode={arguments.mode}"] if arguments.mode else []
    code = subprocess.call(command)
    if code == 0 and not arguments.dry_run:
        page.write(out, workflow)
    return code


def main(words: list[str] | None = None) -> int:
    """Run one command; errors of the user's are one line, and exit 2."""
    arguments = _parser().parse_args(words)
    try:
        if arguments.verb == "run":
            return _run(arguments)
        if arguments.verb == "page":
            page.write(arguments.out, shipped("pipelines") / "published")
            return 0
        settings = read_configuration(
            arguments.config, "" if arguments.mode == "none" else arguments.mode
        )
        if arguments.verb == "job":
            print(run_job(settings, arguments.dataset, arguments.run, arguments.folder))
        else:
            from neuroaug.published import pictures

            write_tsv(
                arguments.out / f"{settings['table']}.tsv", collected(settings, arguments.folder)
            )
            pictures.draw(settings, arguments.folder, arguments.out)
    except NeuroaugError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
