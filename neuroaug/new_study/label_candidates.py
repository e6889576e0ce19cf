"""Columns of a data set's tables that may tell a label, the likeliest first."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MAX_VALUES = 10  # a column with more is no label
_LIKELY: tuple[str, ...] = (
    "diagnosis",
    "dx",
    "group",
    "diag",
    "condition",
    "patient",
    "clinical",
    "cohort",
    "label",
)
_LIKELY += ("disease", "status", "case", "class", "subtype")
# What is known of everybody and is no disease.
_NO_LABEL = re.compile(
    r"(participant|subject|session|visit|scan|acq|run|file|date|time)|^(id|sex|gender|age|weight|"
    r"height|hand|handed|handedness|edinburgh|site|centre|center|scanner|manufacturer|field|race|"
    r"ethnicity|education|species|strain|language|iq|bmi)|_(id|date|age|time)$"
)
_CONTROL = re.compile(
    r"(hc|nc|cn|td|con|ctl|ctrl|control|controls|healthy|healthycontrol|healthycontrols|normal|"
    r"normalcontrol|cognitivelynormal|unaffected|typical|neurotypical|nonpatient|none|no|0)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Candidate:
    """A column whose values may be labels.

    Attributes
    ----------
    file : str
        Table, relative to the folder of the tables.
    column : str
        The column, as it is written.
    counts : dict of str to int
        People of each value, the most frequent first.
    n_missing : int
        People without a value.
    """

    file: str
    column: str
    counts: dict[str, int]
    n_missing: int

    @property
    def rank(self) -> tuple[int, int, int, int]:
        """Likelier candidates have lower ones."""
        name = self.column.casefold()
        place = next((i for i, word in enumerate(_LIKELY) if word in name), len(_LIKELY))
        control = 0 if any(is_control(value) for value in self.counts) else 1
        return (min(place, 3) if place < len(_LIKELY) else 9, control, len(self.counts), place)

    def text(self) -> str:
        """``group: depr 51, control 21``."""
        values = ", ".join(f"{value} {n}" for value, n in self.counts.items())
        missing = f", n/a {self.n_missing}" if self.n_missing else ""
        return f"{self.column} ({self.file}): {values}{missing}"


def is_control(value: str) -> bool:
    """Whether a value reads as that of healthy controls.

    Examples
    --------
    >>> is_control("Healthy control"), is_control("HC"), is_control("depr")
    (True, True, False)
    """
    return _CONTROL.fullmatch(re.sub(r"[^A-Za-z0-9]", "", value)) is not None


def candidates(
    file: str, columns: Mapping[str, Sequence[str | None]], people: Sequence[str]
) -> list[Candidate]:
    """Find the columns of a table that may be labels.

    Parameters
    ----------
    file : str
        Name of the table.
    columns : mapping of str to sequence
        Cells by column; missing ones are None.
    people : sequence of str
        Person of each row.
    """
    found = []
    for column, cells in columns.items():
        if _NO_LABEL.search(column.casefold()):
            continue
        first: dict[str, str] = {}
        for person, cell in zip(people, cells, strict=True):
            if cell is not None:
                first.setdefault(person, cell)
        counts = Counter(first.values())
        n_people = len(set(people))
        if not 2 <= len(counts) <= MAX_VALUES or len(counts) > max(2, n_people // 2):
            continue
        if len(counts) > 3 and all(map(_is_number, counts)):
            continue  # a score
        common = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
        found.append(Candidate(file, column, common, n_people - len(first)))
    return found


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True


def label_names(values: Sequence[str], column: str) -> dict[str, str]:
    """Name a label for each value: its letters and digits; ``group1`` for the value 1.

    Examples
    --------
    >>> label_names(["Healthy control", "MCI (late)", "1"], "group")
    {'HealthyControl': 'Healthy control', 'MCILate': 'MCI (late)', 'group1': '1'}
    """
    names: dict[str, str] = {}
    taken: set[str] = set()
    prefix = re.sub(r"[^A-Za-z0-9]", "", column) or "label"
    for value in values:
        words = re.findall(r"[A-Za-z0-9]+", value)
        name = words[0] + "".join(w[0].upper() + w[1:] for w in words[1:]) if words else prefix
        if not re.match(r"[A-Za-z]", name):
            name = f"{prefix}{name}"
        unique, k = name, 2
        while unique.casefold() in taken:
            unique, k = f"{name}{k}", k + 1
        taken.add(unique.casefold())
        names[unique] = value
    return names


def guess_classes(names: Mapping[str, str], counts: Mapping[str, int]) -> tuple[str, str]:
    """Guess the negative and the positive class: controls, and the most frequent other label."""
    order = sorted(names, key=lambda name: -counts.get(names[name], 0))
    controls = [name for name in order if is_control(names[name])]
    negative = controls[0] if controls else order[0]
    positive = next(name for name in order if name != negative)
    return negative, positive
