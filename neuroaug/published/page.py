"""The pages: an overview and one page per table, from the committed per-run results.

The words come from the tables' configurations (``about`` in each), every number from the results.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neuroaug.errors import InputError
from neuroaug.published.markdown import bracketed, bullets, filled, measure_tables, signed
from neuroaug.published.run_scores import (
    CELL,
    interval,
    paired_difference,
    read_scores,
    summarise,
)
from neuroaug.published.table_jobs import MODES, read_configuration
from neuroaug.system.files import read_tsv

REFERENCE = "reference.tsv"
RUNS, PICTURES = "runs", "pictures"


@dataclass(frozen=True, eq=False)
class TableResult:
    """Results of one table, or of its ``full`` or ``smoke`` version.

    Attributes
    ----------
    settings : dict
        The table's configuration.
    mode : str
        ``full``, ``smoke``, or nothing.
    scores : DataFrame
        Per-run results, `run_scores.RUN_COLUMNS`.
    summary : DataFrame
        Their summary beside the published figures, `run_scores.SUMMARY_COLUMNS`.
    """

    settings: dict[str, Any]
    mode: str
    scores: pd.DataFrame
    summary: pd.DataFrame

    @property
    def name(self) -> str:
        """Name of the table's files."""
        return self.settings["table"] + (f"-{self.mode}" if self.mode else "")

    @property
    def about(self) -> dict[str, Any]:
        """The words on the table."""
        return self.settings.get("about", {})

    @property
    def title(self) -> str:
        """The page's title."""
        return self.about.get("title", self.name) + (f" ({self.mode})" if self.mode else "")

    @property
    def n_runs(self) -> int:
        """Runs of which there are results."""
        return self.scores["run"].nunique()


def configurations(folder: Path) -> list[Path]:
    """The tables' configurations, in the order of the overview (``order`` in each)."""
    found = sorted(folder.glob("*.yaml"))
    return sorted(found, key=lambda path: (read_configuration(path).get("order", 99), path.stem))


def read_results(out: Path, folder: Path) -> list[TableResult]:
    """Results that there are, summarised beside the published figures.

    Parameters
    ----------
    out : Path
        Holds ``runs/<table>.tsv``.
    folder : Path
        Holds the tables' configurations and the published figures.

    Raises
    ------
    InputError
        If there are no results, or they are not readable.
    """
    published = read_tsv(folder / REFERENCE, (*CELL, "value"))
    found = list(_found(out / RUNS, folder, published))
    if not found:
        raise InputError(
            f"{out}: no results in it; make a table with 'python -m neuroaug.published run'"
        )
    return found


def _found(runs: Path, folder: Path, published: pd.DataFrame) -> Iterator[TableResult]:
    for path in configurations(folder):
        settings = read_configuration(path)
        for mode in ("", *MODES):
            name = settings["table"] + (f"-{mode}" if mode else "")
            if (runs / f"{name}.tsv").is_file():
                scores = read_scores(runs / f"{name}.tsv")
                known = published[published["table"] == settings["table"]].assign(table=name)
                yield TableResult(settings, mode, scores, summarise(scores, known))


def table_page(result: TableResult, out: Path) -> str:
    """The page of one table; `out` is the folder that it will lie in, beside its picture."""
    about, name, n = result.about, result.name, result.n_runs

    def shown(text: str) -> str:
        # Results, and the hashes of kept ones, have the names that their runs were made under.
        for stored, better in about.get("shown", {}).items():
            text = text.replace(stored, better)
        return text

    parts = [
        f"# {result.title}",
        f"[All tables, and what their columns mean](../{out.name}.md)",
        filled(about.get("text", "")),
        f"Per-run results: [`{name}.tsv`]({RUNS}/{name}.tsv), {n} run{'s' * (n != 1)}.",
        "" if result.mode else filled(shown(unfinished(result.settings, result.scores))),
    ]
    if about.get("why"):
        parts += ["## What came out", filled(about["why"])]
    parts += ["## Results", *map(shown, measure_tables(result.scores, result.summary))]
    if about.get("compare"):
        lines = [_comparison(result.scores, name, comparison) for comparison in about["compare"]]
        parts += ["## Differences, run by run", bullets(map(shown, lines))]
    if (out / PICTURES / f"{name}.png").is_file():
        caption = about.get("figure", name)
        parts += ["## Picture", f"![{caption}]({PICTURES}/{name}.png)", filled(caption)]
    return "\n\n".join(filter(None, parts)) + "\n"


def unfinished(settings: dict[str, Any], scores: pd.DataFrame) -> str:
    """A line that names the runs of a table that are still to be made; nothing where all are."""
    done = scores.groupby("column")["run"].nunique()
    titles = [spec.get("title", name) for name, spec in settings["datasets"].items()]
    n = settings["runs"]
    missing = {title: n - int(done.get(title, 0)) for title in titles}
    named = ", ".join(f"{title} ({left} of {n})" for title, left in missing.items() if left > 0)
    return f"**Unfinished.** Runs still to be made: {named}." if named else ""


def _comparison(scores: pd.DataFrame, table: str, comparison: dict[str, str]) -> str:
    """The paired difference of two rows, run by run, on every data set."""
    measure = comparison["measure"]
    parts = []
    for column in scores["column"].unique():
        first, second = ((table, comparison[name], column, measure) for name in ("first", "second"))
        difference = paired_difference(scores, first, second)
        if len(difference):
            low, high = interval(difference, measure)
            mean = signed(float(np.mean(difference)))
            parts.append(f"{column} {mean}{bracketed(low, high, signed)}")
    return f"{comparison['first']} minus {comparison['second']} ({measure}): {'; '.join(parts)}."
