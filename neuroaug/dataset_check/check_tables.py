"""What `neuroaug.dataset_check.check_files` says about ``participants.tsv`` and
``sub-X_sessions.tsv``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuroaug.errors import InputError
from neuroaug.system.files import read_tsv

if TYPE_CHECKING:
    import pandas as pd

    from neuroaug.dataset_check.check_files import Finding

DIAGNOSES = {"CN", "SMC", "MCI", "EMCI", "LMCI", "AD", "Dementia"}
SEXES = {"M", "F"}
_MAX_AGE = 125
Make = Callable[..., "Finding"]


def check_participants(root: Path, make: Make) -> Iterator[Finding]:
    """Check ``participants.tsv``: readable, one row a participant, each with a folder, plausible
    values.
    """
    name = "participants.tsv"
    path = root / name
    if not path.exists():
        yield make(name, "warning", "missing", "labels and splits need it")
        return
    table = yield from _read(path, name, "participant_id", make)
    if table is None:
        return
    folders = {p.name for p in (*root.glob("sub-*"), *root.glob("subjects/sub-*")) if p.is_dir()}
    listed = [str(value) for value in table["participant_id"]]
    for participant, times in sorted(Counter(listed).items()):
        if times > 1:
            yield make(name, "error", f"{participant} has {times} rows", "keep one")
    if (root / "subjects").is_dir():
        for participant in sorted(set(listed) - folders):
            yield make(
                name, "error", f"{participant} has no folder", "remove the row, or add the images"
            )
    for participant in sorted(folders - set(listed)):
        yield make(
            name,
            "warning",
            f"{participant} has images but no row",
            "add it: without, it has no label",
        )
    yield from _values(table, "participant_id", name, make)


def check_sessions(root: Path, participant: Path, make: Make) -> Iterator[Finding]:
    """Check ``sub-X_sessions.tsv``: readable, one row a session, every folder listed, plausible
    values.
    """
    path = participant / f"{participant.name}_sessions.tsv"
    name = path.relative_to(root).as_posix()
    if not path.exists():
        return
    table = yield from _read(path, name, "session_id", make)
    if table is None:
        return
    listed = {str(value) for value in table["session_id"]}
    for folder in sorted(
        p.name for p in participant.glob("ses-*") if p.is_dir() and p.name not in listed
    ):
        yield make(
            name,
            "warning",
            f"{folder} has images but no row",
            "add it: without, the visit has no label",
        )
    yield from _values(table, "session_id", name, make)


def _read(path: Path, name: str, key: str, make: Make) -> Any:
    try:
        return read_tsv(path, required=(key,))
    except (InputError, OSError) as error:
        yield make(
            name,
            "error",
            str(error).removeprefix(f"{path}: "),
            "write the table again, tab separated",
        )
        return None


def _values(table: pd.DataFrame, key: str, name: str, make: Make) -> Iterator[Finding]:
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
            yield make(
                name, "error", f"{who}: {column} is '{value}'", f"expected {expected}, or n/a"
            )


def _is_age(value: str) -> bool:
    try:
        return 0 < float(value) < _MAX_AGE
    except ValueError:
        return False
