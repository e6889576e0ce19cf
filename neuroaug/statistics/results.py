"""From the scores of all runs to the tables ``results.tsv`` and ``comparisons.tsv``.

Means and standard deviations over runs are those that the papers print. Beside them stand 95 %
intervals that count the participants' sampling too, and differences from the real-only cell on the
same participants, with Holm's correction over the cells of one test set and measure. Everything is
computed from the per-image scores alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from neuroaug.config import Cell
from neuroaug.statistics import supplementary_tables
from neuroaug.statistics.bootstrap import N_REPLICATES, Resampling, interval, p_value
from neuroaug.statistics.cell_scores import (
    CellScores,
    RealCounts,
    real_per_label,
    require_same_images,
)
from neuroaug.statistics.columns import COMPARISON_COLUMNS, REPORTED, RESULT_COLUMNS
from neuroaug.statistics.holm import holm

FEW_PARTICIPANTS = 30  # per label; with fewer, intervals are called rough


@dataclass(frozen=True)
class EvaluationSummary:
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
    tables: dict[str, pd.DataFrame]
    notes: list[str]


def reference_cells(cell: Cell) -> tuple[Cell, ...]:
    """Cells that `cell` may be compared with, best first: real images only, all else equal.

    The steps of a matched cell are those of the real-only cell, so that cell serves under either
    name.
    """
    if cell.data == "real":
        return ()
    real = cell.model_copy(update={"data": "real"})
    same = () if cell.steps == "epochs" else (real.model_copy(update={"steps": "epochs"}),)
    return (real, *same)


def summarise_scores(
    pairs: Sequence[tuple[CellScores, CellScores | None]],
    *,
    n_real_per_label: Mapping[str, RealCounts] | None = None,
    people: Mapping[str, pd.DataFrame] | None = None,
    n_replicates: int = N_REPLICATES,
    seed: int = 0,
) -> EvaluationSummary:
    """Summarise the scores of some cells.

    Parameters
    ----------
    pairs : sequence of (CellScores, CellScores or None)
        Each cell beside the one of `reference_cells` that it is compared with, in the order of the
        tables.
    n_real_per_label : mapping of str to counts, optional
        Real training images of each cell by name: a count, or counts by label. By default what the
        runs recorded.
    people : mapping of str to DataFrame, optional
        participant_id, age, sex, site of each test set, for scores by group.
    n_replicates : int
        Replicates of the bootstrap.
    seed : int
        Seed of the bootstrap.

    Raises
    ------
    InputError
        Two cells to be compared were tested on different images.
    """
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
        "measures": supplementary_tables.further_measures(shown, bootstrap.interval),
        "detectable": supplementary_tables.detectable_differences(pairs, bootstrap.difference),
        "selection": supplementary_tables.selection(shown, bootstrap.interval),
        "subgroups": supplementary_tables.subgroups(shown, people or {}, n_replicates, seed),
        "calibration": supplementary_tables.calibration(shown),
    }
    return EvaluationSummary(
        pd.DataFrame(results, columns=list(RESULT_COLUMNS)), comparisons, tables, _notes(shown)
    )


class _Bootstrap:
    """One resampling of each test set's participants for all cells, and each cell's replicates."""

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
            resampling, outcomes = self.resampling(found, test_set), found.outcomes[test_set]
            self._replicates[key] = {
                **resampling.replicates(outcomes, found.name),
                "auc": resampling.auc(outcomes, found.name),
                "brier": resampling.brier(outcomes, found.name),
            }
        return self._replicates[key]

    def interval(self, found: CellScores, test_set: str, measure: str) -> tuple[float, float]:
        estimate = float(found.per_run(test_set)[measure].mean())
        n = found.n_people(test_set, measure)
        return interval(self.replicates(found, test_set)[measure], estimate, n)

    def difference(
        self, found: CellScores, reference: CellScores, test_set: str, measure: str
    ) -> np.ndarray:
        own, other = (self.replicates(cell, test_set)[measure] for cell in (found, reference))
        return own - other


def _result_row(
    found: CellScores,
    test_set: str,
    bootstrap: _Bootstrap,
    n_real: RealCounts | None,
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
    for measure in REPORTED:
        row[f"{measure}_mean"] = float(per_run[measure].mean())
        row[f"{measure}_std"] = float(per_run[measure].std(ddof=1))
        ends = bootstrap.interval(found, test_set, measure)
        row[f"{measure}_ci_low"], row[f"{measure}_ci_high"] = ends
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
            for measure in REPORTED:
                means = [float(of.per_run(test_set)[measure].mean()) for of in (found, reference)]
                difference = means[0] - means[1]
                replicates = bootstrap.difference(found, reference, test_set, measure)
                n = found.n_people(test_set, measure)
                tested = (*interval(replicates, difference, n), p_value(replicates, n), np.nan)
                rows.append((found.name, reference.name, test_set, measure, difference, *tested))
    table = pd.DataFrame(rows, columns=list(COMPARISON_COLUMNS))
    for _, family in table.groupby(["test_set", "metric"]):
        table.loc[family.index, "p_holm"] = holm(family["p"].astype(float).tolist())
    return table


def _notes(shown: Sequence[CellScores]) -> list[str]:
    """Lines that say what small numbers do to the intervals."""
    notes = []
    sets = {test_set: found for found in shown for test_set in found.outcomes}
    for test_set, found in sets.items():
        outcomes, (negative, positive) = found.outcomes[test_set], found.classes
        n_positive, n_negative = int(outcomes.positive.sum()), int((~outcomes.positive).sum())
        if outcomes.n_smallest < FEW_PARTICIPANTS:
            step = f"{0.5 / outcomes.n_smallest:.3f}" if outcomes.n_smallest else "n/a"
            notes.append(
                f"{test_set}: {n_negative} {negative} and {n_positive} {positive} participants; "
                f"in one run, one participant moves balanced accuracy by {step}. Intervals are "
                "rough, and a difference that is not shown may still be there"
            )
    one_run = [
        found.name for found in shown if all(len(o.correct) == 1 for o in found.outcomes.values())
    ]
    if one_run:
        notes.append(
            f"one run only: {', '.join(one_run)}; their intervals count the participants' sampling "
            "alone"
        )
    return notes
