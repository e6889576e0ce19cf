"""What is wrong with ``participants.tsv`` and ``sub-X_sessions.tsv``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from neuroaug.dataset_check.finding import Finding, unreadable
from neuroaug.errors import InputError
from neuroaug.imaging.bids import PARTICIPANTS, sessions_path
from neuroaug.system.files import read_tsv

if TYPE_CHECKING:
    import pandas as pd

DIAGNOSES = {"CN", "SMC", "MCI", "EMCI", "LMCI", "AD", "Dementia"}
SEXES = {"M", "F"}
_MAX_AGE = 125


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
    listed = [str(value) for value in table["participant_id"]]
    for participant, times in sorted(Counter(listed).items()):
        if times > 1:
            yield Finding(name, "error", f"{participant} has {times} rows", "keep one")
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
    listed = {str(value) for value in table["session_id"]}
    for folder in sorted(
        p.name for p in participant.glob("ses-*") if p.is_dir() and p.name not in listed
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
        return read_tsv(path, required=(key,))
    except InputError as error:
        yield unreadable(path, name, error, "write the table again, tab separated")
        return None


def _values(table: pd.DataFrame, key: str, name: str) -> Iterator[Finding]:
    """Values that no stage would understand."""
    for column in table.columns:
        present = table[[key, column]].dropna()
        if column in ("diagnosis", "diagnosis_sc", "diagnosis_bl", "diagnosis_1"):
            wrong = present[~present[column].isin(DIAGNOSES)]
            expected = ", ".join(sorted(DIAGNOSES))
        elif column == "sex":
            wrong = present[~present[column].isin(SEXES)]
            expected = "M or F"
        elif column in ("age", "age_bl"):
            wrong = present[[not _is_age(value) for value in present[column]]]
            expected = f"years from 0 to {_MAX_AGE}"
        else:
            continue
        for who, value in wrong.itertuples(index=False):
            yield Finding(
                name, "error", f"{who}: {column} is '{value}'", f"expected {expected}, or n/a"
            )


def _is_age(value: str) -> bool:
    try:
        return 0 < float(value) < _MAX_AGE
    except ValueError:
        return False
