"""Visits without a label, from a table of the user's: a shared generator learns from them too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from neuroaug.cohort.reading.numbers import read_number
from neuroaug.cohort.tables import SEXES
from neuroaug.config.label_settings import UNLABELLED
from neuroaug.errors import InputError, LeakageError
from neuroaug.system.files import read_tsv
from neuroaug.system.tsv import column_key

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("participant_id", "session_id")


def read_unlabelled(path: Path) -> pd.DataFrame:
    """Read a table of visits whose label is unknown, or does not count.

    Parameters
    ----------
    path : Path
        ``participant_id session_id``, and ``age``, ``sex`` and ``caps`` where known; ``caps`` is
        the folder of the visit's image, relative to the table, where that is not the study's.

    Returns
    -------
    DataFrame
        participant_id, session_id, diagnosis (`UNLABELLED`), age (float), sex (M, F or None), caps
        (absolute, or None).

    Raises
    ------
    InputError
        A column is missing, a visit stands twice, an age is no number, or a sex no sex.
    """
    table = read_tsv(path, COLUMNS, any_case=True, lines=True)
    lines = table.attrs["lines"]
    table = table.rename(columns=column_key)
    for column in ("age", "sex", "caps"):
        if column not in table.columns:
            table[column] = None
    if table.empty:
        raise InputError(f"{path}: no visit in it")
    rows: list[dict[str, object]] = []
    seen: dict[tuple[str, str], int] = {}
    for line, row in zip(lines, table.itertuples(index=False), strict=True):
        if not isinstance(row.participant_id, str) or not isinstance(row.session_id, str):
            raise InputError(f"{path}: line {line} lacks a participant_id or session_id")
        visit = (row.participant_id, row.session_id)
        if visit in seen:
            raise InputError(
                f"{path}: line {line}: {' '.join(visit)} stands in line {seen[visit]} already"
            )
        seen[visit] = line
        rows.append(
            {
                "participant_id": visit[0],
                "session_id": visit[1],
                "diagnosis": UNLABELLED,
                "age": _age(row.age, path, line),
                "sex": _sex(row.sex, path, line),
                "caps": str((path.parent / row.caps).absolute())
                if isinstance(row.caps, str)
                else None,
            }
        )
    import pandas as pd

    return pd.DataFrame(rows)


def _age(text: object, path: Path, line: int) -> float:
    try:
        number = read_number(text if isinstance(text, str) else None)
    except ValueError:
        raise InputError(f"{path}: line {line}: age '{text}' is not a number") from None
    return float("nan") if number is None else number.value


def _sex(text: object, path: Path, line: int) -> str | None:
    if not isinstance(text, str):
        return None
    if text.upper() not in SEXES:
        raise InputError(f"{path}: line {line}: sex '{text}'; expected M or F")
    return SEXES[text.upper()]


def refuse_tested(unlabelled: pd.DataFrame, sets: Mapping[str, pd.DataFrame], path: Path) -> None:
    """Refuse unlabelled people whom something is tested or validated on, in whatever visit.

    Parameters
    ----------
    unlabelled : DataFrame
        Of `read_unlabelled`.
    sets : mapping of str to DataFrame
        Validation, test and external sets, by name.
    path : Path
        The table, for the message.

    Raises
    ------
    LeakageError
        Naming them.
    """
    for name, table in sets.items():
        both = sorted(set(unlabelled["participant_id"]) & set(table["participant_id"]))
        if both:
            more = f" and {len(both) - 20} more" if len(both) > 20 else ""
            raise LeakageError(
                f"{path}: {', '.join(both[:20])}{more}: in the {name} set; nobody there may shape "
                "a generator; take them out of the table"
            )


def refuse_trained(unlabelled: pd.DataFrame, train: pd.DataFrame, path: Path) -> None:
    """Refuse a visit that the training set holds with its label; other visits of its people stay.

    Raises
    ------
    InputError
        Naming the first.
    """
    keys = {tuple(row) for row in train[list(COLUMNS)].to_numpy()}
    for visit in map(tuple, unlabelled[list(COLUMNS)].to_numpy()):
        if visit in keys:
            raise InputError(
                f"{path}: {' '.join(visit)} is in the training set, with its label; take it out "
                "of the table"
            )
