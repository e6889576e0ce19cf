"""Jobs of the study: one split of one data set and task each, to a file of every image's scores."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neuroaug.errors import InputError
from neuroaug.proof.people import People, Task, read_people
from neuroaug.proof.study_arms import ARMS
from neuroaug.proof.study_bench import Bench, Scores, StudySettings
from neuroaug.proof.study_splits import draw
from neuroaug.statistics.worth import SplitScores
from neuroaug.system.files import read_json, write_json
from neuroaug.system.threads import torch_threads

log = logging.getLogger("neuroaug")

DIGITS = 5
"""Of a score as kept: enough that no two of a test set become equal that were not."""


@dataclass(frozen=True)
class Plan:
    """What is run on one data set.

    Attributes
    ----------
    dataset : str
        Name, of `neuroaug.proof.people`.
    task : Task
        What is told apart.
    ns : tuple of int
        People per class.
    arms : tuple of str
        At every n.
    minor_arms : tuple of str
        At `minor_ns` only.
    minor_ns : tuple of int
        See there.
    n_test, n_validation : int
        People of each class.
    splits : int
        How many.
    null : str
        ``none``, ``labels`` or ``ages``.
    """

    dataset: str
    task: Task
    ns: tuple[int, ...]
    arms: tuple[str, ...]
    minor_arms: tuple[str, ...]
    minor_ns: tuple[int, ...]
    n_test: int
    n_validation: int
    splits: int
    null: str = "none"

    @property
    def name(self) -> str:
        """Of its files."""
        return f"{self.dataset}_{self.task.name}" + ("" if self.null == "none" else f"_{self.null}")

    def arms_at(self, n: int) -> tuple[str, ...]:
        """Arms of one n."""
        return (*self.arms, *(self.minor_arms if n in self.minor_ns else ()))

    def file(self, out: Path, split: int) -> Path:
        """Scores of one split."""
        return out / self.name / f"split-{split:02d}.json"


def run_job(
    plan: Plan, split: int, settings: StudySettings, data: Path, folder: Path, out: Path
) -> Path:
    """Run all arms of one split; those whose scores are there are not run again.

    Parameters
    ----------
    plan : Plan
        What is run.
    split : int
        Number of the split.
    settings : StudySettings
        The same everywhere.
    data : Path
        Folder of the data set's arrays.
    folder : Path
        Trained generators.
    out : Path
        Scores.
    """
    people = read_people(plan.dataset, data)
    drawn = draw(people, plan.task, split, plan.n_test, plan.n_validation)
    path = plan.file(out, split)
    kept = read_json(path) if path.is_file() else _empty(plan, split, people, drawn)
    shared: dict[str, Any] = {}
    with torch_threads(1):
        for n in plan.ns:
            where = folder / f"{plan.dataset}_{plan.task.name}" / f"split-{split:02d}"
            bench = Bench(drawn, plan.task, n, settings, where, plan.null, anatomies=shared)
            for arm in plan.arms_at(n):
                done = kept["scores"].setdefault(arm, {})
                if str(n) in done:
                    continue
                started = time.monotonic()
                found = ARMS[arm](bench)
                seconds = round(time.monotonic() - started, 2)
                done[str(n)] = {**_rounded(found), "seconds": seconds}
            write_json(path, kept)
            log.info("%s split %d: n = %d done", plan.name, split, n)
    return path


def _empty(plan: Plan, split: int, people: People, drawn: Any) -> dict[str, Any]:
    sets = {"validation": drawn.validation, "test": drawn.test}
    return {
        "dataset": plan.dataset,
        "task": plan.task.name,
        "null": plan.null,
        "split": split,
        **{
            name: {
                "participants": [people.ids[i] for i in rows],
                "labels": [int(drawn.labels[i]) for i in rows],
            }
            for name, rows in sets.items()
        },
        "scores": {},
    }


def _rounded(scores: Scores) -> dict[str, list[float]]:
    return {
        name: [float(f"{value:.{DIGITS}g}") for value in values] for name, values in scores.items()
    }


def read_scores(files: Iterable[Path], which: str = "test") -> list[SplitScores]:
    """Scores of all arms of some jobs.

    Raises
    ------
    InputError
        If a file is none of a job.
    """
    found = []
    for path in files:
        content = read_json(path)
        if "scores" not in content:
            raise InputError(f"{path}: no scores in it; run its split again")
        people = tuple(content[which]["participants"])
        positive = np.array(content[which]["labels"], dtype=bool)
        for arm, by_n in content["scores"].items():
            for n, sets in by_n.items():
                score = np.array([sets[which]], dtype=np.float64)
                found.append(SplitScores(arm, int(n), content["split"], people, positive, score))
    return found


def files_of(plan: Plan, out: Path) -> Sequence[Path]:
    """Files of a plan's splits that are there."""
    return [path for k in range(plan.splits) if (path := plan.file(out, k)).is_file()]
