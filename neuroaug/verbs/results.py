"""The results table on the terminal, and in one sentence whether synthetic images helped."""

from __future__ import annotations

import sys

import pandas as pd

from neuroaug.files import read_tsv
from neuroaug.study import Study

MEASURES = ("balanced_accuracy", "sensitivity", "specificity")


def print_results(study: Study) -> None:
    """Print ``results.tsv`` and the verdict drawn from ``comparisons.tsv``."""
    if not study.results.is_file():
        return
    from rich.console import Console
    from rich.table import Table

    results = read_tsv(study.results)
    title = f"{study.root.name}: mean over runs [95 % interval], per test set"
    if study.config.phantom:
        title = f"{study.root.name} (phantom, not patients): mean over runs [95 % interval]"
    table = Table(title=title)
    for name in ("training set", "test set", "runs", "n per label"):
        table.add_column(name)
    for measure in MEASURES:
        table.add_column(measure.replace("_", " "), justify="right")
    for row in results.itertuples():
        table.add_row(
            f"{row.training_split} {row.data}",
            str(row.test_set),
            str(row.n_runs),
            f"{row.n_real_per_label} real, {row.n_synthetic_per_label} synthetic",
            *(_interval(row, measure) for measure in MEASURES),
        )
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else 150).print(table)
    for sentence in verdicts(study):
        print(sentence, flush=True)


def _interval(row: tuple, measure: str) -> str:
    mean, low, high = (getattr(row, f"{measure}_{part}") for part in ("mean", "ci_low", "ci_high"))
    if any(pd.isna(v) for v in (mean, low, high)):
        return "n/a"
    return f"{float(mean):.3f} [{float(low):.3f}, {float(high):.3f}]"


def verdicts(study: Study) -> list[str]:
    """One sentence for each comparison of balanced accuracy with the real-only cell."""
    if not study.comparisons.is_file():
        return []
    from neuroaug.config import Cell

    sentences = []
    for row in read_tsv(study.comparisons).itertuples():
        if row.metric != "balanced_accuracy":
            continue
        low, high, difference = (float(str(v)) for v in (row.ci_low, row.ci_high, row.difference))
        meaning = (
            "better than real alone"
            if low > 0
            else "worse than real alone"
            if high < 0
            else "no difference that this study could show"
        )
        data = Cell.parse(str(row.cell)).data
        sentences.append(
            f"{data} on {row.test_set}: balanced accuracy {difference:+.3f} against real alone, "
            f"95 % interval [{low:+.3f}, {high:+.3f}]: {meaning}."
        )
    return sentences
