"""Numbers, tables and prose of the pages, as Markdown."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Callable, Iterable, Sequence

import pandas as pd

from neuroaug.published.run_scores import CELL, DIVERGED, interval

WIDTH = 100
LONG = 24
"""Rows of a table above which every data set gets its own."""

ROUNDING = 1e-9
"""What is nearer to zero is what a sum leaves by rounding."""


def filled(text: str, indent: str = "") -> str:
    """Prose wrapped at `WIDTH`, paragraph by paragraph; `indent` stands before further lines."""
    # A sign at the beginning of a line would be an item of a list; an equation is not cut either.
    held = re.sub(r" ([-+=]) ", "\0\\1\0", text.strip())
    wrapper = textwrap.TextWrapper(
        WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return "\n\n".join(map(wrapper.fill, held.split("\n\n"))).replace("\0", " ")


def bullets(items: Iterable[str]) -> str:
    """A list, each item wrapped."""
    return "\n".join(filled(f"- {item}", indent="  ") for item in items)


def number(value: float) -> str:
    """Three or four significant digits; nothing for NaN."""
    if math.isnan(value):
        return ""
    size = abs(value)
    if size < ROUNDING:
        return "0"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}" if size >= 1 else f"{value:.3g}"


def signed(value: float) -> str:
    """As `number`, with its sign."""
    return f"{'+' if value >= ROUNDING else ''}{number(value)}"


def bracketed(low: float, high: float, shown: Callable[[float], str] = number) -> str:
    """An interval as it stands behind a mean; nothing where there is none."""
    return "" if math.isnan(low) else f" [{shown(low)}, {shown(high)}]"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; a bar within a cell, as in KL(q || p), does not end it."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines
    )


def measure_tables(scores: pd.DataFrame, summary: pd.DataFrame) -> list[str]:
    """One table per measure, diverged runs last; a long one is cut into one per data set."""
    parts = []
    for measure in sorted(summary["measure"].unique(), key=DIVERGED.__eq__):
        rows = summary[summary["measure"] == measure]
        columns = rows["column"].unique()
        for group in [rows[rows["column"] == c] for c in columns] if len(rows) > LONG else [rows]:
            alone = len(set(group["column"])) == 1
            title = f"{group['column'].iloc[0]}, {measure}" if alone else measure
            parts.append(f"**{title}**\n\n{_measure_table(scores, group, with_data=not alone)}")
    return parts


def _measure_table(scores: pd.DataFrame, summary: pd.DataFrame, *, with_data: bool) -> str:
    """Rows of the summary beside a further run's range, and the published figures if there are."""
    compared = bool(summary["published"].notna().any())
    hidden = {*(() if with_data else ("data",)), *(() if compared else ("published", "verdict"))}
    groups = {cell: group["value"].to_numpy() for cell, group in scores.groupby(CELL, sort=False)}
    lines = []
    for row in summary.to_dict("records"):
        low, high = interval(groups[tuple(row[k] for k in CELL)], row["measure"], further=1)
        cells = {
            "": row["row"],
            "data": row["column"],
            "published": number(row["published"]),
            "ours [95 %]": number(row["ours"]) + bracketed(row["ci_low"], row["ci_high"]),
            "a further run": "" if math.isnan(low) else f"{number(low)} to {number(high)}",
            "runs": row["n_runs"],
            "verdict": "" if row["verdict"] == "n/a" else row["verdict"],
        }
        lines.append({name: cell for name, cell in cells.items() if name not in hidden})
    return table(list(lines[0]), [list(line.values()) for line in lines])
