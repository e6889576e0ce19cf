"""The results table on the terminal, and in one sentence whether synthetic images helped."""

from __future__ import annotations

import sys

import pandas as pd

from neuroaug.report.verdict import judge
from neuroaug.statistics.columns import MEASURES
from neuroaug.study import Study
from neuroaug.system.files import read_tsv

SHOWN = (*MEASURES, "auc")


def print_results(study: Study) -> None:
    """Print ``results.tsv`` and, as the report has it, the verdict from ``comparisons.tsv``."""
    if not study.results.is_file():
        return
    from rich.console import Console
    from rich.table import Table

    results = read_tsv(study.results)
    shown = [measure for measure in SHOWN if f"{measure}_mean" in results.columns]
    title = f"{study.root.name}: mean over runs [95 % interval], per test set"
    if study.config.phantom:
        title = f"{study.root.name} (phantom, not patients): mean over runs [95 % interval]"
    table = Table(title=title)
    for name in ("training set", "classifier", "test set", "runs", "n per label"):
        table.add_column(name)
    for measure in shown:
        table.add_column(measure.replace("auc", "AUC").replace("_", " "), justify="right")
    for row in results.itertuples():
        steps = ", equal steps" if row.steps == "matched" else ""
        table.add_row(
            f"{row.training_split} {row.data}{steps}",
            f"{row.network} {row.resolution}",
            str(row.test_set),
            str(row.n_runs),
            f"{row.n_real_per_label} real, {row.n_synthetic_per_label} synthetic",
            *(_interval(row, measure) for measure in shown),
        )
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else 150).print(table)
    verdict = judge(read_tsv(study.comparisons) if study.comparisons.is_file() else None)
    rest = f"{len(verdict.folded)} comparisons show no difference; they are in the report."
    sentences = [verdict.headline, *verdict.sentences, *([rest] if verdict.folded else [])]
    for sentence in (*sentences, *verdict.cautions):
        print(sentence, flush=True)


def _interval(row: tuple, measure: str) -> str:
    mean, low, high = (getattr(row, f"{measure}_{part}") for part in ("mean", "ci_low", "ci_high"))
    if any(pd.isna(v) for v in (mean, low, high)):
        return "n/a"
    return f"{float(mean):.3f} [{float(low):.3f}, {float(high):.3f}]"
