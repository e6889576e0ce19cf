"""From the folders of a cell's runs to its scores, checked and brought into one order."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from neuroaug.config import PUBLISHED_LABELS, Cell
from neuroaug.errors import InputError
from neuroaug.evaluation.run_folder import RECORD, SCORES, VALIDATION_SCORES, intact
from neuroaug.statistics.bootstrap import RunOutcomes
from neuroaug.statistics.cell_scores import VALIDATION, CellScores, real_per_label
from neuroaug.statistics.results import reference_cells
from neuroaug.statistics.scores import aligned, measures, read_scores
from neuroaug.system.files import read_json

_RUN = re.compile(r"run-(\d+)")


def gather_pairs(
    evaluation_folder: Path,
    cells: Sequence[Cell],
    n_generators: int = 1,
    classes: tuple[str, str] = PUBLISHED_LABELS,
) -> list[tuple[CellScores, CellScores | None]]:
    """Read the scores of some cells, each beside the real-only cell that it is compared with.

    Parameters
    ----------
    evaluation_folder : Path
        Holds ``<cell>/run-<k>/scores.tsv``.
    cells : sequence of Cell
        The cells; one of which no run has ended is left out.
    n_generators : int
        Run k of a cell with synthetic images used generator k modulo this.
    classes : (str, str)
        Negative and positive class.

    Returns
    -------
    list of (CellScores, CellScores or None)
        In the order of `cells`. The real-only cell need not be among them; None where no run of it
        has ended.

    Raises
    ------
    InputError
        A table is not as it should be or was edited, or a cell's runs were tested on different
        images.
    """
    known: dict[str, CellScores | None] = {}

    def gathered(cell: Cell) -> CellScores | None:
        if cell.name not in known:
            known[cell.name] = gather(evaluation_folder, cell, n_generators, classes)
        return known[cell.name]

    shown = [found for cell in dict.fromkeys(cells) if (found := gathered(cell))]
    return [
        (cell, next(filter(None, map(gathered, reference_cells(cell.cell))), None))
        for cell in shown
    ]


def gather(
    evaluation_folder: Path,
    cell: Cell,
    n_generators: int = 1,
    classes: tuple[str, str] = PUBLISHED_LABELS,
) -> CellScores | None:
    """Read the scores of every run of a cell; None where no run has ended.

    See `gather_pairs` for the parameters and what is refused.
    """
    folders = run_folders(evaluation_folder / cell.name)
    if not folders:
        return None
    by_set: dict[str, dict[int, pd.DataFrame]] = {}
    rows = []
    for k, folder in folders.items():
        _refuse_edited(folder)
        tables = [read_scores(folder / SCORES, classes)]
        if (folder / VALIDATION_SCORES).is_file():
            tables.append(read_scores(folder / VALIDATION_SCORES, classes))
        for table in tables:
            for test_set, scores in table.groupby("test_set", sort=False):
                by_set.setdefault(str(test_set), {})[k] = scores
                row = {"cell": cell.name, "run": k, "test_set": test_set}
                rows.append({**row, **measures(scores, classes[1])})
    outcomes = {
        name: _outcomes(
            by_set[name],
            f"cell {cell.name}, {name}",
            n_generators if cell.n_synthetic else 1,
            classes[1],
        )
        for name in sorted(by_set, key=lambda name: (name != "test", name))
        if name != VALIDATION
    }
    return CellScores(cell, outcomes, pd.DataFrame(rows), _recorded_real(folders), classes)


def run_folders(cell_folder: Path) -> dict[int, Path]:
    """Folders of the runs whose scores are there, by number."""
    found = {
        int(m[1]): path for path in cell_folder.glob("run-*") if (m := _RUN.fullmatch(path.name))
    }
    return {k: found[k] for k in sorted(found) if (found[k] / SCORES).is_file()}


def _refuse_edited(folder: Path) -> None:
    """Refuse scores that are not those that the run wrote, where it left its record."""
    if not (folder / RECORD).is_file():
        return
    record = read_json(folder / RECORD)
    for name in (SCORES, VALIDATION_SCORES):
        known = name in record.get("files", {}) and (folder / name).is_file()
        if known and not intact(folder, record, [name]):
            raise InputError(
                f"{folder / name}: not as the run wrote it; `neuroaug evaluate` makes it again"
            )


def _outcomes(
    runs: Mapping[int, pd.DataFrame], what: str, n_generators: int, positive: str
) -> RunOutcomes:
    ordered = aligned(list(runs.values()), what)
    first = ordered[0]
    return RunOutcomes(
        participants=tuple(first["participant_id"] + " " + first["session_id"]),
        positive=(first["label"] == positive).to_numpy(),
        correct=np.array([(run["label"] == run["prediction"]).to_numpy(float) for run in ordered]),
        score=np.array([run["score"].to_numpy(float) for run in ordered]),
        generators=np.array([k % n_generators for k in runs]),
    )


def _recorded_real(folders: Mapping[int, Path]) -> str:
    for folder in folders.values():
        if (folder / RECORD).is_file():
            recorded = read_json(folder / RECORD).get("n_real_per_label")
            if isinstance(recorded, dict):
                return real_per_label(recorded)
    return "n/a"
