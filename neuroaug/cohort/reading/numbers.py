"""Numbers as people write them: bounds of censored ages, decimal commas, codes for missing."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass, field

MISSING = frozenset(
    {
        "",
        "n/a",
        "#n/a",
        "na",
        "nan",
        "none",
        "null",
        "unknown",
        "unk",
        "missing",
        "-",
        "--",
        ".",
        "?",
    }
)
MAX_AGE = 125
# Possible values; beyond them, a code that stands for a missing score (-1, -4, 999, 9999).
_SCORES = {"mmse": (0, 30), "mmse at baseline": (0, 30), "cdr": (0, 98), "age": (-0.5, 998)}
_AGES = ("age", "age at baseline")
_YEARS = re.compile(r"\s*(?:y|yrs?|years?)$", re.IGNORECASE)  # 072Y, as DICOM writes ages
_DECIMAL_COMMA = re.compile(r"-?\d+,\d{1,2}")
_BOUND = re.compile(r"(?:>=?|≥)\s*(\d+(?:\.\d+)?)|(\d+(?:\.\d+)?)\s*\+")


def is_missing(text: object) -> bool:
    """Whether a cell says that its value is not known."""
    return not isinstance(text, str) or text.strip().casefold() in MISSING


@dataclass(frozen=True)
class Number:
    """A number as it was read.

    Attributes
    ----------
    value : float
        The number; of a bound, the bound.
    is_bound : bool
        Whether it stands for all numbers from there on (``89+``).
    """

    value: float
    is_bound: bool = False


def read_number(text: str | None) -> Number | None:
    """Read a number, None where it is missing.

    Raises
    ------
    ValueError
        If it is no number.

    Examples
    --------
    >>> read_number("89+"), read_number("72,4"), read_number("-")
    (Number(value=89.0, is_bound=True), Number(value=72.4, is_bound=False), None)
    """
    if text is None or is_missing(text):
        return None
    written = _YEARS.sub("", text.strip())
    if bound := _BOUND.fullmatch(written):
        return Number(float(bound[1] or bound[2]), is_bound=True)
    value = float(written.replace(",", ".") if _DECIMAL_COMMA.fullmatch(written) else written)
    if not math.isfinite(value) or "_" in written:
        raise ValueError(f"'{text}' is no number")
    return Number(value)


@dataclass
class NumberReader:
    """Reads the numbers of a cohort and counts what had to be decided.

    Attributes
    ----------
    bounds, codes : Counter
        By quantity and text: bounds that count as the number, codes that count as missing.
    """

    bounds: Counter[tuple[str, str]] = field(default_factory=Counter)
    codes: Counter[tuple[str, str]] = field(default_factory=Counter)

    def read(self, quantity: str, text: str | None) -> float | None:
        """Read one cell, None where it is missing.

        Raises
        ------
        ValueError
            If it is no number.
        """
        number = read_number(text)
        if number is None:
            return None
        low, high = _SCORES.get("age" if quantity in _AGES else quantity, (-math.inf, math.inf))
        if not low <= number.value <= high:
            self.codes[quantity, f"{number.value:g}"] += 1
            return None
        if number.is_bound:
            self.bounds[quantity, str(text).strip()] += 1
        return number.value

    def notes(self) -> list[str]:
        """Say what was decided, with counts."""
        lines = []
        for counts, meaning in (
            (self.codes, "no possible value; counted as missing"),
            (self.bounds, "bounds of censored values; the bound is counted"),
        ):
            for quantity in sorted({quantity for quantity, _ in counts}):
                texts = [(t, n) for (q, t), n in sorted(counts.items()) if q == quantity]
                shown = ", ".join(f"'{text}' ({n})" for text, n in texts[:10])
                total = sum(n for _, n in texts)
                lines.append(f"{quantity}: {total} cells, {shown}: {meaning}")
        return lines
