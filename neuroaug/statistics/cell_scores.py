"""The scores of all runs of a cell, checked and brought into one order."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from neuroaug.config import Cell
from neuroaug.errors import InputError
from neuroaug.evaluation import run_folder
from neuroaug.statistics.bootstrap import Outcomes
from neuroaug.statistics.scores import POSITIVE, aligned, measures, read_scores
from neuroaug.system.files import read_json

VALIDATION = "validation"
_RUN = re.compile(r"run-(\d+)")


@dataclass(frozen=True)
class CellScores:
    """All scores of one cell.

    Attributes
    ----------
    cell : Cell
        The cell.
    outcomes : mapping of str to Outcomes
        By test set, ``test`` first.
    runs : DataFrame
        One row a run and set (validation too, where its scores are there): run, test_set, and its
        measures.
    n_real_per_label : str
        As the runs recorded it, ``n/a`` where they did not.
    """

    cell: Cell
    outcomes: Mapping[str, Outcomes]
    runs: pd.DataFrame
    n_real_per_label: str

    @property
    def name(self) -> str:
        """The cell's name."""
        return self.cell.name

    def per_run(self, test_set: str) -> pd.DataFrame:
        """Measures of each run on one set."""
        return self.runs[self.runs["test_set"] == test_set]


def run_folders(cell_folder: Path) -> dict[int, Path]:
    """Folders of the runs whose scores are there, by number."""
    found = {
        int(m[1]): path for path in cell_folder.glob("run-*") if (m := _RUN.fullmatch(path.name))
    }
    return {k: found[k] for k in sorted(found) if (found[k] / "scores.tsv").is_file()}


def gather(evaluation_folder: Path, cell: Cell, n_generators: int = 1) -> CellScores | None:
    """Read the scores of every run of a cell; None where no run has ended.

    Parameters
    ----------
    evaluation_folder : Path
        Holds ``<cell>/run-<k>/scores.tsv``.
    cell : Cell
        Which cell.
    n_generators : int
        Run k of a cell with synthetic images used generator k modulo this.

    Raises
    ------
    InputError
        A table is not as it should be or was edited, or the runs were tested on different images.
    """
    folders = run_folders(evaluation_folder / cell.name)
    if not folders:
        return None
    by_set: dict[str, dict[int, pd.DataFrame]] = {}
    rows = []
    for k, folder in folders.items():
        _refuse_edited(folder)
        tables = [read_scores(folder / "scores.tsv")]
        if (folder / "validation-scores.tsv").is_file():
            tables.append(read_scores(folder / "validation-scores.tsv"))
        for table in tables:
            for test_set, scores in table.groupby("test_set", sort=False):
                by_set.setdefault(str(test_set), {})[k] = scores
                rows.append({"cell": cell.name, "run": k, "test_set": test_set, **measures(scores)})
    outcomes = {
        name: _outcomes(
            by_set[name], f"cell {cell.name}, {name}", n_generators if cell.n_synthetic else 1
        )
        for name in sorted(by_set, key=lambda name: (name != "test", name))
        if name != VALIDATION
    }
    return CellScores(cell, outcomes, pd.DataFrame(rows), _recorded_real(folders))


def _refuse_edited(folder: Path) -> None:
    """Refuse scores that are not those that the run wrote, where it left its record."""
    if not (folder / run_folder.RECORD).is_file():
        return
    record = read_json(folder / run_folder.RECORD)
    for name in (run_folder.SCORES, run_folder.VALIDATION_SCORES):
        known = name in record.get("files", {}) and (folder / name).is_file()
        if known and not run_folder.intact(folder, record, [name]):
            raise InputError(
                f"{folder / name}: not as the run wrote it; `neuroaug evaluate` makes it again"
            )


def _outcomes(runs: Mapping[int, pd.DataFrame], what: str, n_generators: int) -> Outcomes:
    ordered = aligned(list(runs.values()), what)
    first = ordered[0]
    return Outcomes(
        participants=tuple(first["participant_id"] + " " + first["session_id"]),
        positive=(first["label"] == POSITIVE).to_numpy(),
        correct=np.array([(run["label"] == run["prediction"]).to_numpy(float) for run in ordered]),
        score=np.array([run["score"].to_numpy(float) for run in ordered]),
        generators=np.array([k % n_generators for k in runs]),
    )


def _recorded_real(folders: Mapping[int, Path]) -> str:
    for folder in folders.values():
        if (folder / "run.json").is_file():
            recorded = read_json(folder / "run.json").get("n_real_per_label")
            if isinstance(recorded, dict):
                return real_per_label(recorded)
    return "n/a"


def real_per_label(counts: Mapping[str, int] | int | str) -> str:
    """``50`` where labels have equally many, else ``243 CN + 210 AD``."""
    if not isinstance(counts, Mapping):
        return str(counts)
    numbers = set(counts.values())
    return (
        str(numbers.pop())
        if len(numbers) == 1
        else " + ".join(f"{n} {label}" for label, n in counts.items())
    )


def require_same_images(first: CellScores, second: CellScores, test_set: str) -> None:
    """Refuse to compare two cells that were tested on other images.

    Raises
    ------
    InputError
        Naming the cells and one participant.
    """
    one, two = first.outcomes[test_set], second.outcomes[test_set]
    if one.participants != two.participants or not np.array_equal(one.positive, two.positive):
        who = sorted(set(one.participants) ^ set(two.participants)) or ["a label"]
        raise InputError(
            f"cells {first.name} and {second.name}: not tested on the same images of {test_set} "
            f"(e.g. {who[0]}); run one of them again"
        )
