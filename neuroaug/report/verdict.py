"""Did synthetic images help? The answer in plain words, from the comparisons table alone."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from neuroaug.config import Cell
from neuroaug.report.content import data_text, percent, to_number

ALPHA = 0.05
MOST_SENTENCES = 8


@dataclass(frozen=True)
class Verdict:
    """A headline and one sentence per comparison.

    Attributes
    ----------
    outcome : {"unknown", "helped", "hurt", "not shown", "mixed"}
        The answer in one word.
    headline : str
        The answer in one sentence.
    sentences : tuple of str
        One sentence per comparison.
    cautions : tuple of str
        What the study is too small to see.
    folded : tuple of str
        Sentences of those among many comparisons that show nothing.
    """

    outcome: str
    headline: str
    sentences: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()
    folded: tuple[str, ...] = ()


UNKNOWN = Verdict(
    "unknown",
    "Not known yet: no cell with synthetic images has been compared with its real-only cell.",
)


def judge(comparisons: pd.DataFrame | None) -> Verdict:
    """Judge how cells with synthetic images differ in balanced accuracy from their real-only cells.

    A difference counts as shown when its 95 % interval leaves out zero and its p-value, corrected
    by Holm for the number of cells compared on that test set, is below .05.

    Parameters
    ----------
    comparisons : DataFrame or None
        Content of ``comparisons.tsv``, as text or numbers; None where it is absent.
    """
    if comparisons is None or comparisons.empty:
        return UNKNOWN
    rows = comparisons[comparisons["metric"] == "balanced_accuracy"]
    rows = rows[["synthetic" in str(cell) for cell in rows["cell"]]]
    judged = [(_judge_row(row), row) for _, row in rows.iterrows()]
    said = [(kind, _sentence(kind, row)) for kind, row in judged if kind != "unknown"]
    if not said:
        return UNKNOWN
    n = len(said)
    many = n > MOST_SENTENCES
    sentences = tuple(sentence for kind, sentence in said if not many or kind in ("helped", "hurt"))
    folded = tuple(sentence for kind, sentence in said if many and kind not in ("helped", "hurt"))
    better, worse = (sum(kind == which for kind, _ in said) for which in ("helped", "hurt"))
    of = f"in {{}} of {n} comparisons" if n > 1 else "in the one comparison made"
    helped, hurt = of.format(better), of.format(worse)
    if better and worse:
        outcome, headline = "mixed", f"Mixed: synthetic images helped {helped} and hurt {hurt}."
    elif better:
        outcome, headline = "helped", f"Synthetic images helped {helped}."
    elif worse:
        outcome, headline = "hurt", f"Synthetic images made the classifier worse {hurt}."
    else:
        outcome = "not shown"
        headline = (
            "This study shows no difference between training with and without synthetic images."
        )
    return Verdict(outcome, headline, sentences, folded=folded)


def _judge_row(row: pd.Series) -> str:
    low, high, p = (to_number(row[name]) for name in ("ci_low", "ci_high", "p_holm"))
    if low is None or high is None or to_number(row["difference"]) is None:
        return "unknown"
    corrected = p is None or p < ALPHA
    if low > 0:
        return "helped" if corrected else "perhaps helped"
    if high < 0:
        return "hurt" if corrected else "perhaps hurt"
    return "not shown"


def _sentence(kind: str, row: pd.Series) -> str:
    cell, reference = Cell.parse(str(row["cell"])), Cell.parse(str(row["reference_cell"]))
    low, high = to_number(row["ci_low"]) or 0.0, to_number(row["ci_high"]) or 0.0
    uncorrected = "but not once corrected for the number of comparisons: not shown."
    meaning = {
        "helped": "better, by more than random variation explains.",
        "hurt": "worse, by more than random variation explains.",
        "perhaps helped": f"better by this interval, {uncorrected}",
        "perhaps hurt": f"worse by this interval, {uncorrected}",
        "not shown": (
            "no difference shown. The truth may lie anywhere in the interval, from "
            f"{abs(100 * low):.1f} points worse to {abs(100 * high):.1f} points better."
        ),
    }[kind]
    steps = " with equal gradient steps" if cell.steps == "matched" else ""
    shown = [percent(value, sign=True) for value in (row["difference"], low, high)]
    return (
        f"{data_text(cell.data)}{steps} ({cell.split}, {cell.network}, {cell.resolution}) against "
        f"{data_text(reference.data)}, on {row['test_set']}: {shown[0]} points of balanced "
        f"accuracy, 95 % interval {shown[1]} to {shown[2]}: {meaning}"
    )
