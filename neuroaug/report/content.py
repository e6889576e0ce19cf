"""What a report is made of, before it is HTML: sections, tables, figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import pandas as pd


@dataclass(frozen=True)
class ReportTable:
    """Rows of text under a caption.

    Attributes
    ----------
    caption : str
        What the table shows.
    columns : tuple of str
        Heads of the columns; all empty where the table has no head.
    rows : tuple of tuple of str
        Text of the cells.
    numeric : frozenset of int
        Indices of the columns that are set flush right.
    folded : bool
        Whether the table is shown only when opened; it is always printed.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: frozenset[int] = frozenset()
    folded: bool = False


@dataclass(frozen=True)
class ReportFigure:
    """A PNG with a caption, and in words what it shows, for readers who cannot see it."""

    png: bytes
    caption: str
    alternative: str


@dataclass
class ReportSection:
    """A part of the report.

    Attributes
    ----------
    name : str
        The section's id in the document: lower case letters and hyphens, unique.
    title : str
        The section's heading.
    paragraphs : list of str
        Plain text, shown before tables and figures.
    tables, figures : list
        What the section shows, in this order.
    problem : str
        Why the section's files could not be read; empty where they could.
    """

    name: str
    title: str
    paragraphs: list[str] = field(default_factory=list)
    tables: list[ReportTable] = field(default_factory=list)
    figures: list[ReportFigure] = field(default_factory=list)
    problem: str = ""

    @property
    def empty(self) -> bool:
        """Whether there is nothing to show: the stage has not run."""
        return not (self.paragraphs or self.tables or self.figures or self.problem)


def make_table(
    caption: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    numeric: Iterable[int] = (),
    folded: bool = False,
) -> ReportTable:
    """Build a table from any values; missing ones are shown as a dash."""
    text = tuple(tuple(cell_text(value) for value in row) for row in rows)
    return ReportTable(caption, tuple(columns), text, frozenset(numeric), folded)


def cell_text(value: object) -> str:
    """Text of one value: floats short, missing values as a dash, booleans as yes or no."""
    if value is None or value is pd.NaT or (isinstance(value, float) and value != value):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


def percent(value: object, sign: bool = False) -> str:
    """``0.663`` -> ``66.3``; missing -> a dash. The unit stands in the column's head."""
    number = to_number(value)
    if number is None:
        return "–"
    return f"{100 * number:+.1f}" if sign else f"{100 * number:.1f}"


def to_number(value: object) -> float | None:
    """Read a table's text as a finite float, or None."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if abs(number) < float("inf") else None


def p_text(value: object) -> str:
    """Text of a p-value as papers print it."""
    number = to_number(value)
    if number is None:
        return "–"
    return "< .001" if number < 0.001 else f"{number:.3f}".lstrip("0") if number < 1 else "1"


def data_text(data: str) -> str:
    """A cell's data in words: ``real+synthetic-50`` -> ``real + 50 synthetic per label``."""
    words = []
    for part in data.split("+"):
        name, _, n = part.partition("-")
        words.append(
            f"{n} synthetic per label"
            if name == "synthetic"
            else {"classical": "classical augmentation"}.get(name, name)
        )
    return " + ".join(words) + (" only" if data.startswith("synthetic") else "")
