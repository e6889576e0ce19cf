"""Command: ``run`` works off the study's splits, several at a time; what is done is not redone."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from neuroaug.errors import NeuroaugError
from neuroaug.proof.jobs import Plan, files_of, run_job
from neuroaug.proof.study_file import read_study
from neuroaug.system.threads import processes


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m neuroaug.proof", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run the splits that are not done")
    run.add_argument("study", type=Path, help="YAML of plans and settings")
    run.add_argument("--data", nargs="+", type=Path, required=True, help="folders of the arrays")
    run.add_argument("--plan", nargs="*", default=[], help="only these (DATASET_TASK[_NULL])")
    run.add_argument("--splits", type=int, help="only the first so many")
    run.add_argument("--procs", type=int, default=2, help="splits at a time, one core each")
    run.add_argument("--out", type=Path, default=Path("docs/proof/runs"), help="scores")
    run.add_argument("--folder", type=Path, default=Path("build/proof"), help="generators")
    return parser


def _folder(plan: Plan, folders: list[Path]) -> Path:
    """The folder that holds a plan's arrays."""
    name = {"slab": "oasis1-slabs-2mm.npz", "brains": "brains-2mm.npz"}
    wanted = name.get(plan.dataset, "oasis1-slices.npz")
    return next((f for f in folders if (f / wanted).is_file()), folders[0])


def main(words: list[str] | None = None) -> int:
    """Run; errors of the user's are one line, and exit 2."""
    arguments = _parser().parse_args(words)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        plans, settings = read_study(arguments.study)
        chosen = [plan for plan in plans if not arguments.plan or plan.name in arguments.plan]
        jobs = []
        for plan in chosen:
            n_splits = min(plan.splits, arguments.splits or plan.splits)
            data = _folder(plan, arguments.data)
            places = (data, arguments.folder, arguments.out)
            jobs += [(plan, split, settings, *places) for split in range(n_splits)]
        if arguments.procs <= 1:
            for job in jobs:
                run_job(*job)
        else:
            with processes(arguments.procs) as pool:
                list(pool.map(run_job, *zip(*jobs, strict=True)))
        for plan in chosen:
            print(f"{plan.name}: {len(files_of(plan, arguments.out))} of {plan.splits} splits")
    except NeuroaugError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
