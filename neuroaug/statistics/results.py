"""From the scores of all runs to ``results.tsv`` and ``comparisons.tsv``.

Means and standard deviations over runs are those that the papers print. Beside them stand 95 %
intervals that count the participants' sampling too, and differences from the real-only cell on the
same participants, with Holm's correction over the cells of one test set and measure. Everything is
computed from the per-image scores alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from neuroaug.config import Cell
from neuroaug.errors import InputError
from neuroaug.statistics import supplementary_tables
from neuroaug.statistics.bootstrap import N_REPLICATES, Resampling, interval, p_value
from neuroaug.statistics.cell_scores import CellScores, gather, real_per_label, require_same_images
from neuroaug.statistics.holm import holm
from neuroaug.statistics.scores import MEASURES
from neuroaug.study import Study
from neuroaug.system.files import write_tsv

RESULT_COLUMNS = (
    "cell",
    "training_split",
    "network",
    "resolution",
    "data",
    "n_real_per_label",
    "n_synthetic_per_label",
    "steps",
    "test_set",
    "n_runs",
    *(f"{measure}_{part}" for measure in MEASURES for part in ("mean", "std", "ci_low", "ci_high")),
)
COMPARISON_COLUMNS = (
    "cell",
    "reference_cell",
    "test_set",
    "metric",
    "difference",
    "ci_low",
    "ci_high",
    "p",
    "p_holm",
)
FEW_PARTICIPANTS = 30


@dataclass(frozen=True)
class Summary:
    """What the scores say.

    Attributes
    ----------
    results, comparisons : DataFrame
        With the columns of `RESULT_COLUMNS` and `COMPARISON_COLUMNS`.
    tables : dict of str to DataFrame
        Further tables by name: runs, measures, detectable, selection, subgroups, calibration.
    notes : list of str
        What a reader must know to read the intervals, one line each.
    """

    results: pd.DataFrame
    comparisons: pd.DataFrame
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def reference_of(cell: Cell) -> tuple[Cell, ...]:
    """Cells that `cell` may be compared with, best first: real images only, all else equal.

    The steps of a matched cell are those of the real-only cell, so that cell serves under either
    name.
    """
    if cell.data == "real":
        return ()
    real = cell.model_copy(update={"data": "real"})
    return (
        (real,) if cell.steps == "epochs" else (real, real.model_copy(update={"steps": "epochs"}))
    )


def summarise(
    evaluation_folder: Path,
    cells: Sequence[Cell],
    *,
    n_real_per_label: Mapping[str, Mapping[str, int] | int | str] | None = None,
    people: Mapping[str, pd.DataFrame] | None = None,
    n_generators: int = 1,
    n_replicates: int = N_REPLICATES,
    seed: int = 0,
) -> Summary:
    """Summarise the runs of an evaluation.

    Parameters
    ----------
    evaluation_folder : Path
        Holds ``<cell>/run-<k>/scores.tsv``.
    cells : sequence of Cell
        In the order of the tables; a cell of which no run has ended is left out.
    n_real_per_label : mapping, optional
        Real training images of each cell by name: a count, or counts by label. By default what the
        runs recorded.
    people : mapping of str to DataFrame, optional
        participant_id, age, sex, site of each test set, for scores by group.
    n_generators : int
        Run k of a cell with synthetic images used generator k modulo this.
    n_replicates, seed : int
        Of the bootstrap.

    Raises
    ------
    InputError
        A table of scores is not as it should be, or cells were tested on different images.
    """
    known: dict[str, CellScores] = {}
    for cell in cells:
        found = gather(Path(evaluation_folder), cell, n_generators)
        if found is not None:
            known[cell.name] = found
    if not known:
        raise InputError(f"{evaluation_folder}: no run has ended yet; nothing to summarise")
    pairs = [
        (found, _reference(evaluation_folder, found, known, n_generators))
        for found in list(known.values())
    ]

    bootstrap = _Bootstrap(n_replicates, seed)
    results = [
        _result_row(found, test_set, bootstrap, (n_real_per_label or {}).get(found.name))
        for found, _ in pairs
        for test_set in found.outcomes
    ]
    comparisons = _comparisons(pairs, bootstrap)
    shown = [found for found, _ in pairs]
    tables = {
        "runs": pd.concat([found.runs for found in shown], ignore_index=True),
        "measures": supplementary_tables.further_measures(shown, bootstrap.resampling),
        "detectable": supplementary_tables.detectable_differences(pairs, bootstrap.difference),
        "selection": supplementary_tables.selection(shown, bootstrap.interval),
        "subgroups": supplementary_tables.subgroups(shown, people or {}, n_replicates, seed),
        "calibration": supplementary_tables.calibration(shown),
    }
    return Summary(
        pd.DataFrame(results, columns=list(RESULT_COLUMNS)), comparisons, tables, _notes(shown)
    )


def summarise_study(study: Study, cells: Sequence[Cell]) -> Summary:
    """Summarise a study, and write its ``results.tsv``, ``comparisons.tsv`` and
    ``evaluation/*.tsv``.
    """
    from neuroaug.cohort.split_folder import SplitFolder
    from neuroaug.cohort.tables import read_visits

    columns = ["participant_id", "age", "sex", "site"]
    real: dict[str, Mapping[str, int] | int | str] = {}
    people: dict[str, pd.DataFrame] = {}
    if (study.splits / "split.json").is_file():
        split = SplitFolder.open(study.splits)
        people["test"] = split.table("test")[columns]
        for cell in cells:
            if not cell.uses_real:
                real[cell.name] = 0
            elif cell.split in split.names():
                counts = split.table(cell.split)["diagnosis"].value_counts()
                real[cell.name] = {
                    label: int(counts.get(label, 0)) for label in study.config.labels
                }
    for name, external in study.config.external.items():
        if study.path(external.tables).exists():
            visits, _ = read_visits(study.path(external.tables), cohort=external.cohort)
            people[name] = visits.loc[visits["months"] == 0, columns]
    summary = summarise(
        study.root / "evaluation",
        cells,
        n_real_per_label=real,
        people=people,
        n_generators=len(study.config.generator.seeds),
        seed=study.config.evaluation.seed,
    )
    write_summary(summary, study.results, study.comparisons, study.root / "evaluation")
    return summary


def write_summary(
    summary: Summary, results: Path, comparisons: Path, folder: Path | None = None
) -> None:
    """Write the two tables, and the further ones into `folder`."""
    write_tsv(results, summary.results)
    write_tsv(comparisons, summary.comparisons)
    if folder is not None:
        for name, table in summary.tables.items():
            write_tsv(folder / f"{name}.tsv", table)


class _Bootstrap:
    """One resampling of each test set's participants for all cells, and the replicates of each
    cell.
    """

    def __init__(self, n_replicates: int, seed: int) -> None:
        self._n_replicates, self._seed = n_replicates, seed
        self._resamplings: dict[tuple[str, tuple[str, ...]], Resampling] = {}
        self._replicates: dict[tuple[str, str], dict[str, np.ndarray]] = {}

    def resampling(self, found: CellScores, test_set: str) -> Resampling:
        outcomes = found.outcomes[test_set]
        key = (test_set, outcomes.participants)
        if key not in self._resamplings:
            self._resamplings[key] = Resampling(
                outcomes.positive, self._seed, test_set, n_replicates=self._n_replicates
            )
        return self._resamplings[key]

    def replicates(self, found: CellScores, test_set: str) -> dict[str, np.ndarray]:
        key = (found.name, test_set)
        if key not in self._replicates:
            outcomes = found.outcomes[test_set]
            self._replicates[key] = self.resampling(found, test_set).replicates(
                outcomes, found.name
            )
        return self._replicates[key]

    def interval(self, found: CellScores, test_set: str, measure: str) -> tuple[float, float]:
        estimate = float(found.per_run(test_set)[measure].mean())
        n = people_of(found, test_set, measure)
        return interval(self.replicates(found, test_set)[measure], estimate, n)

    def difference(
        self, found: CellScores, reference: CellScores, test_set: str, measure: str
    ) -> np.ndarray:
        return (
            self.replicates(found, test_set)[measure]
            - self.replicates(reference, test_set)[measure]
        )


def people_of(found: CellScores, test_set: str, measure: str) -> int:
    """Participants that a measure rests on: of its label, or of the smaller label."""
    positive = found.outcomes[test_set].positive
    counts = {"sensitivity": int(positive.sum()), "specificity": int((~positive).sum())}
    return counts.get(measure, min(counts.values()))


def _reference(
    folder: Path, found: CellScores, known: dict[str, CellScores], n_generators: int
) -> CellScores | None:
    """The real-only cell of a cell: among those asked for, or in the folder."""
    for cell in reference_of(found.cell):
        reference = known.get(cell.name) or gather(Path(folder), cell, n_generators)
        if reference is not None:
            return reference
    return None


def _result_row(
    found: CellScores,
    test_set: str,
    bootstrap: _Bootstrap,
    n_real: Mapping[str, int] | int | str | None,
) -> dict[str, object]:
    cell = found.cell
    per_run = found.per_run(test_set)
    row: dict[str, object] = {
        "cell": cell.name,
        "training_split": cell.split,
        "network": cell.network,
        "resolution": cell.resolution,
        "data": cell.data,
        "n_real_per_label": found.n_real_per_label if n_real is None else real_per_label(n_real),
        "n_synthetic_per_label": cell.n_synthetic,
        "steps": cell.steps,
        "test_set": test_set,
        "n_runs": len(per_run),
    }
    for measure in MEASURES:
        low, high = bootstrap.interval(found, test_set, measure)
        row |= {
            f"{measure}_mean": float(per_run[measure].mean()),
            f"{measure}_std": float(per_run[measure].std(ddof=1)),
            f"{measure}_ci_low": low,
            f"{measure}_ci_high": high,
        }
    return row


def _comparisons(
    pairs: Sequence[tuple[CellScores, CellScores | None]], bootstrap: _Bootstrap
) -> pd.DataFrame:
    rows = []
    for found, reference in pairs:
        if reference is None:
            continue
        for test_set in found.outcomes:
            if test_set not in reference.outcomes:
                continue
            require_same_images(found, reference, test_set)
            for measure in MEASURES:
                means = [float(of.per_run(test_set)[measure].mean()) for of in (found, reference)]
                difference = means[0] - means[1]
                replicates = bootstrap.difference(found, reference, test_set, measure)
                n = people_of(found, test_set, measure)
                low, high = interval(replicates, difference, n)
                rows.append(
                    {
                        "cell": found.name,
                        "reference_cell": reference.name,
                        "test_set": test_set,
                        "metric": measure,
                        "difference": difference,
                        "ci_low": low,
                        "ci_high": high,
                        "p": p_value(replicates, n),
                    }
                )
    table = pd.DataFrame(rows, columns=list(COMPARISON_COLUMNS))
    for _, family in table.groupby(["test_set", "metric"]):
        table.loc[family.index, "p_holm"] = holm(family["p"].astype(float).tolist())
    return table


def _notes(shown: Sequence[CellScores]) -> list[str]:
    """Lines that say what small numbers do to the intervals."""
    notes = []
    sets = {test_set: found.outcomes[test_set] for found in shown for test_set in found.outcomes}
    for test_set, outcomes in sets.items():
        n_ad, n_cn = int(outcomes.positive.sum()), int((~outcomes.positive).sum())
        if outcomes.n_smallest < FEW_PARTICIPANTS:
            step = f"{0.5 / outcomes.n_smallest:.3f}" if outcomes.n_smallest else "n/a"
            notes.append(
                f"{test_set}: {n_cn} CN and {n_ad} AD participants; in one run, one participant moves balanced "
                f"accuracy by {step}. Intervals are rough, and a difference that is not shown may still be there"
            )
    one_run = [
        found.name for found in shown if all(len(o.correct) == 1 for o in found.outcomes.values())
    ]
    if one_run:
        notes.append(
            f"one run only: {', '.join(one_run)}; their intervals count the participants' sampling alone"
        )
    return notes
