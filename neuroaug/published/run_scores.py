"""Per-run results, and the summary made from them: means, intervals, verdicts."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd

from neuroaug.errors import InputError
from neuroaug.system.files import read_tsv, write_text, write_tsv

RUN_COLUMNS = ("table", "row", "column", "run", "seed", "measure", "value")
CELL = ["table", "row", "column", "measure"]
SUMMARY_COLUMNS = (*CELL, "published", "ours", "ci_low", "ci_high", "n_runs", "verdict")
VERDICTS = ("same", "better", "worse", "higher", "lower")
LEVEL = 0.95
PERCENT = 100.0
LOWER_IS_BETTER = ("mmd", "kl")
"""Beginnings of the names of measures of which less is better."""

NEITHER = ("gan-test",)
"""Beginnings of the names of measures of which neither more nor less is better.

GAN-test is best near the baseline's accuracy.
"""

DIVERGED = "training diverged"
"""Measure: percentage of runs whose generator's training diverged; those have no other measure."""


@dataclass(frozen=True)
class Score:
    """One number of one run."""

    table: str
    row: str
    column: str
    run: int
    seed: int
    measure: str
    value: float


def write_scores(path: Path, scores: Iterable[Score]) -> None:
    """Write per-run results, values so that they read back exactly."""
    lines = ["\t".join(RUN_COLUMNS)]
    lines += ["\t".join([*map(str, astuple(s)[:-1]), repr(float(s.value))]) for s in scores]
    write_text(path, "\n".join(lines) + "\n")


def read_scores(path: Path) -> pd.DataFrame:
    """Read per-run results.

    Raises
    ------
    InputError
        If the file lacks a column, or a value is not a number.
    """
    table = read_tsv(path, RUN_COLUMNS)
    try:
        table["value"] = table["value"].astype(float)
        table["run"] = table["run"].astype(int)
    except ValueError as error:
        raise InputError(f"{path}: not a table of results ({error}); make it again") from None
    return table


def student_interval(values: np.ndarray, further: int = 0) -> tuple[float, float]:
    """95 % interval of the mean over runs, or of the mean of some further runs.

    Parameters
    ----------
    values : ndarray, shape (n,)
        One value per run.
    further : int
        Number of further runs whose mean is to be predicted; 0 for the interval of the mean itself.

    Returns
    -------
    low, high : float
        Limits of the interval; NaN with fewer than two runs.
    """
    from scipy import stats

    n = len(values)
    if n < 2:
        return math.nan, math.nan
    variance = 1 / n + (1 / further if further else 0)
    half = float(stats.t.ppf((1 + LEVEL) / 2, n - 1) * values.std(ddof=1) * math.sqrt(variance))
    return float(values.mean() - half), float(values.mean() + half)


def interval(values: np.ndarray, measure: str, further: int = 0) -> tuple[float, float]:
    """`student_interval` of a measure's values; NaN where it does not hold, runs being 0 or 100."""
    return (math.nan, math.nan) if measure == DIVERGED else student_interval(values, further)


def verdict(published: float, low: float, high: float, measure: str) -> str:
    """``same`` where the interval holds the published figure, else ``better`` or ``worse``.

    ``higher`` or ``lower`` for measures of which neither more nor less is better; ``n/a`` without a
    published figure or an interval.
    """
    if any(math.isnan(x) for x in (published, low, high)):
        return "n/a"
    if low <= published <= high:
        return "same"
    if measure.lower().startswith(NEITHER):
        return "higher" if low > published else "lower"
    less_is_better = measure.lower().startswith(LOWER_IS_BETTER)
    return "better" if (low > published) != less_is_better else "worse"


def summarise(scores: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """Summarise runs beside the published figures.

    Parameters
    ----------
    scores : DataFrame
        Per-run results with the columns of `RUN_COLUMNS`.
    published : DataFrame
        Published figures with the columns table, row, column, measure and value.

    Returns
    -------
    DataFrame
        The columns of `SUMMARY_COLUMNS`; cells in the order in which they first occur.
    """
    records = published.to_dict("records")
    known = {tuple(row[name] for name in CELL): float(row["value"]) for row in records}
    rows = []
    for name, group in scores.groupby(CELL, sort=False):
        cell = tuple(map(str, cast("tuple[str, ...]", name)))
        values = group["value"].to_numpy()
        low, high = interval(values, cell[3])
        figure = known.get(cell, math.nan)
        ours = (float(values.mean()), low, high, len(values))
        rows.append((*cell, figure, *ours, verdict(figure, low, high, cell[3])))
    return pd.DataFrame(rows, columns=list(SUMMARY_COLUMNS))


def paired_difference(
    scores: pd.DataFrame, first: tuple[str, ...], second: tuple[str, ...]
) -> np.ndarray:
    """Differences, run by run, of two cells (table, row, column, measure) that share their runs."""

    def cell(key: tuple[str, ...]) -> pd.Series:
        return scores[(scores[CELL] == key).all(axis=1)].set_index("run")["value"]

    a, b = cell(first).align(cell(second), join="inner")
    return (a - b).to_numpy()


def write_summary(path: Path, summary: pd.DataFrame) -> None:
    """Write the summary with five significant digits."""
    shown = summary.copy()
    for name in ("published", "ours", "ci_low", "ci_high"):
        shown[name] = [math.nan if math.isnan(x) else float(f"{x:.5g}") for x in shown[name]]
    write_tsv(path, shown)
