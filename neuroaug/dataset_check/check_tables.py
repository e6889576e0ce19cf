"""What is wrong with ``participants.tsv`` and ``sub-X_sessions.tsv``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from neuroaug.cohort.reading.identifiers import loose, prefixed
from neuroaug.cohort.reading.numbers import MAX_AGE, read_number
from neuroaug.cohort.reading.table_layouts import lower_columns, name_people
from neuroaug.cohort.rules import DIAGNOSES, ID_PREFIXES
from neuroaug.cohort.tables import SEXES
from neuroaug.dataset_check.finding import Finding, Severity, unreadable
from neuroaug.errors import InputError
from neuroaug.imaging.bids import PARTICIPANTS, sessions_path
from neuroaug.system.files import read_tsv

if TYPE_CHECKING:
    import pandas as pd

_KNOWN = {*DIAGNOSES, "SMC"}
_SESSION = ("session_id", "session")


def check_participants(root: Path) -> Iterator[Finding]:
    """Check ``participants.tsv``: one row per participant, each with a folder, plausible values."""
    name = PARTICIPANTS
    path = root / name
    if not path.exists():
        yield Finding(name, "warning", "missing", "labels and splits need it")
        return
    table = yield from _read(path, name, "participant_id")
    if table is None:
        return
    folders = {p.name for p in (*root.glob("sub-*"), *root.glob("subjects/sub-*")) if p.is_dir()}
    try:
        name_people(table, path, folders)
    except InputError as error:
        yield unreadable(path, name, error, "correct the names")
    listed = [str(value) for value in table["participant_id"]]
    # OpenNeuro's tables have a row a session.
    session = next((column for column in _SESSION if column in table.columns), None)
    rows = zip(listed, table[session] if session else listed, strict=True)
    for (participant, of), times in sorted(Counter(rows).items(), key=str):
        if times > 1:
            who = participant if session is None else f"{participant} {of}"
            yield Finding(name, "error", f"{who} has {times} rows", "keep one")
    if (root / "subjects").is_dir():
        for participant in sorted(set(listed) - folders):
            yield Finding(
                name, "error", f"{participant} has no folder", "remove the row, or add the images"
            )
    for participant in sorted(folders - set(listed)):
        yield Finding(
            name,
            "warning",
            f"{participant} has images but no row",
            "add it: without, it has no label",
        )
    yield from _values(table, "participant_id", name)


def check_sessions(root: Path, participant: Path) -> Iterator[Finding]:
    """Check ``sub-X_sessions.tsv``: every session's folder has a row, plausible values."""
    path = sessions_path(participant)
    name = path.relative_to(root).as_posix()
    if not path.exists():
        return
    table = yield from _read(path, name, "session_id")
    if table is None:
        return
    listed = {loose(prefixed(str(value), "ses-") or str(value)) for value in table["session_id"]}
    for folder in sorted(
        p.name for p in participant.glob("ses-*") if p.is_dir() and loose(p.name) not in listed
    ):
        yield Finding(
            name,
            "warning",
            f"{folder} has images but no row",
            "add it: without, the visit has no label",
        )
    yield from _values(table, "session_id", name)


def _read(path: Path, name: str, key: str) -> Generator[Finding, None, pd.DataFrame | None]:
    try:
        return lower_columns(read_tsv(path, required=(key,), any_case=True))
    except InputError as error:
        yield unreadable(path, name, error, "write the table again, tab separated")
        return None


def _values(table: pd.DataFrame, key: str, name: str) -> Iterator[Finding]:
    """Values that no stage would understand."""
    for column in table.columns:
        present = table[[key, column]].dropna()
        if column in ("diagnosis", "diagnosis_sc", "diagnosis_bl", "diagnosis_1"):
            known = present[column].str.upper().isin(_KNOWN)
            # A column with words of its own is one of a cohort with labels of its own.
            wrong = present[~known] if known.sum() >= len(known) / 2 else present[:0]
            expected = ", ".join(sorted(_KNOWN))
        elif column in ("sex", "gender"):
            wrong = present[~present[column].str.upper().isin(SEXES)]
            expected = "M or F"
        elif column in ("age", "age_bl"):
            wrong = present[[not _is_age(value) for value in present[column]]]
            expected = f"years from 0 to {MAX_AGE}"
        else:
            continue
        for who, value in wrong.itertuples(index=False):
            # Tables of the published cohorts are refused for it; of others, the row is left out.
            published = name != PARTICIPANTS or str(who).startswith(tuple(ID_PREFIXES))
            severity: Severity = "error" if published or column == "diagnosis" else "warning"
            advice = f"expected {expected}, or n/a"
            yield Finding(name, severity, f"{who}: {column} is '{value}'", advice)


def _is_age(value: str) -> bool:
    try:
        age = read_number(value)
    except ValueError:
        return False
    return age is None or 0 <= age.value < MAX_AGE
