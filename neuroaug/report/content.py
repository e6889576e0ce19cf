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
    phantom : bool
        Whether the study's participants are phantoms.
    """

    name: str
    title: str
    paragraphs: list[str] = field(default_factory=list)
    tables: list[ReportTable] = field(default_factory=list)
    figures: list[ReportFigure] = field(default_factory=list)
    problem: str = ""
    phantom: bool = False

    @property
    def empty(self) -> bool:
        """Whether there is nothing to show: the stage has not run."""
        return not (self.paragraphs or self.tables or self.figures or self.problem)

    def add_table(
        self,
        caption: str,
        head: str,
        rows: Iterable[Sequence[object]],
        *,
        numeric: Iterable[int] = (),
        folded: bool = False,
    ) -> None:
        """Add a table of any values, missing ones as a dash; ``|`` parts the columns' heads."""
        columns = tuple(name.strip() for name in head.split("|"))
        text = tuple(tuple(cell_text(value) for value in row) for row in rows)
        self.tables.append(ReportTable(caption, columns, text, frozenset(numeric), folded))


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
    return "–" if number is None else f"{100 * number:{'+' if sign else ''}.1f}"


def decimals(value: object, sign: bool = False) -> str:
    """``0.7134`` -> ``.713``, of measures that are no percentage; missing -> a dash."""
    number = to_number(value)
    if number is None:
        return "–"
    return f"{number:{'+' if sign else ''}.3f}".replace("0.", ".", 1)


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
    only = "" if data.startswith("real") else " only"
    return " + ".join(map(_part_text, data.split("+"))) + only


def _part_text(part: str) -> str:
    name, _, rest = part.partition("-")
    n, _, labels = rest.partition("-")
    texts = {
        "soft": "unlabelled scans (soft labels)",
        "classical": "classical augmentation",
        "duplicates": f"{n} duplicates per label",
        "synthetic": f"{n} synthetic per label" + (f" ({labels} labels)" if labels else ""),
        "tta": "test-time augmentation",
        "ensemble": f"ensemble of {n}",
    }
    return texts.get(name, part)
