"""Clinical tables in any of three layouts, read as text: one record per visit.

Clinica's converters write ``participants.tsv`` and ``sub-X/sub-X_sessions.tsv``; ``clinica iotools
merge-tsv`` writes both as one table.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuroaug.errors import InputError
from neuroaug.system.files import read_tsv

if TYPE_CHECKING:
    import pandas as pd

_PARTICIPANT = re.compile(r"sub-[A-Za-z0-9]+")


@dataclass(frozen=True)
class TableRecord:
    """One visit: its values by lower-case column name, and the file that it stands in.

    Attributes
    ----------
    file : Path
        Table that the visit stands in, for messages.
    fields : mapping of str to str
        Values by column name in lower case; missing ones are None or NaN.
    """

    file: Path
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class ClinicalTables:
    """All visits of a cohort as text, and the columns seen in each file.

    Attributes
    ----------
    root : Path
        Folder or file that was read.
    records : list of TableRecord
        Visits in the order of the files.
    columns : dict of str to list of str
        Columns by file, or kind of file; in lower case.
    """

    root: Path
    records: list[TableRecord]
    columns: dict[str, list[str]]

    def participants(self) -> list[str]:
        """Participant of each visit."""
        return [str(record.fields["participant_id"]) for record in self.records]

    def seen(self) -> set[str]:
        """All columns of all files."""
        return {name for names in self.columns.values() for name in names}


def _lower(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    table = table.rename(columns=lambda name: str(name).strip().lower())
    repeated = table.columns[table.columns.duplicated()]
    if len(repeated):
        raise InputError(f"{path}: column '{repeated[0]}' stands twice; keep one of them")
    return table


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(k): v for k, v in row.items()} for row in table.to_dict("records")]


def find_tables(path: Path) -> ClinicalTables:
    """Find and read the tables at `path`, whichever of the three layouts they have.

    Raises
    ------
    InputError
        There are none, or several; a column is missing; a participant stands twice, or lacks a row.
    """
    if path.is_file():
        return _read_merged(path)
    if not path.is_dir():
        raise InputError(
            f"{path}: no such file or folder; give the folder with participants.tsv, "
            "or a merged TSV"
        )
    participants = path / "participants.tsv"
    if participants.is_file():
        table = _lower(read_tsv(participants, ["participant_id"]), participants)
        if "session_id" in table.columns:
            return _read_merged(participants)
        return _read_bids(path, participants, table)
    merged = []
    for candidate in sorted(path.glob("*.tsv")):
        head = candidate.read_text("utf-8", "replace").split("\n", 1)[0].lower()
        if {"participant_id", "session_id"} <= set(map(str.strip, head.split("\t"))):
            merged.append(candidate)
    if len(merged) == 1:
        return _read_merged(merged[0])
    if merged:
        found = ", ".join(p.name for p in merged)
        raise InputError(f"{path}: several merged tables ({found}); give one of them")
    raise InputError(
        f"{path}: neither participants.tsv nor a table with participant_id and session_id in it"
    )


def _check_participant(participant: Any, path: Path) -> str:
    if not isinstance(participant, str) or not _PARTICIPANT.fullmatch(participant):
        raise InputError(
            f"{path}: participant_id '{participant}' is not sub- followed by letters and digits"
        )
    return participant


def _read_merged(path: Path) -> ClinicalTables:
    table = _lower(read_tsv(path), path)
    missing = [name for name in ("participant_id", "session_id") if name not in table.columns]
    if missing:
        raise InputError(
            f"{path}: column(s) {', '.join(missing)} missing; found {', '.join(table.columns)}"
        )
    records = [TableRecord(path, values) for values in _rows(table)]
    for record in records:
        _check_participant(record.fields["participant_id"], path)
    if not records:
        raise InputError(f"{path}: no visit in it")
    return ClinicalTables(path, records, {str(path): list(table.columns)})


def _read_bids(root: Path, path: Path, participants: pd.DataFrame) -> ClinicalTables:
    known: set[str] = set()
    records: list[TableRecord] = []
    session_columns: list[str] = []
    for person in _rows(participants):
        name = _check_participant(person["participant_id"], path)
        if name in known:
            raise InputError(f"{path}: participant {name} stands twice; keep one row")
        known.add(name)
        sessions_path = root / name / f"{name}_sessions.tsv"
        if not sessions_path.is_file():
            # Clinica's AIBL table lists people without any image: they have no sessions file.
            records.append(TableRecord(path, {**person, "session_id": None}))
            continue
        sessions = _lower(read_tsv(sessions_path), sessions_path)
        if "session_id" not in sessions.columns:
            raise InputError(
                f"{sessions_path}: column session_id missing; found {', '.join(sessions.columns)}"
            )
        session_columns += [column for column in sessions.columns if column not in session_columns]
        visits = _rows(sessions)
        for visit in visits:
            other = visit.get("participant_id", name)
            if isinstance(other, str) and other != name:
                raise InputError(
                    f"{sessions_path}: holds a visit of {other}; "
                    "each participant has a file of their own"
                )
            # A visit's own value counts; where it is missing, the participant's stands in.
            own = {k: v for k, v in visit.items() if isinstance(v, str) or k not in person}
            values = {**person, **own, "participant_id": name}
            records.append(TableRecord(sessions_path, values))
        if not visits:
            records.append(TableRecord(path, {**person, "session_id": None}))
    strangers = sorted(
        folder.parent.name
        for folder in root.glob("sub-*/sub-*_sessions.tsv")
        if folder.parent.name not in known and folder.name == f"{folder.parent.name}_sessions.tsv"
    )
    if strangers:
        raise InputError(
            f"{path}: no row for {', '.join(strangers[:5])}, who have sessions; "
            "add them or remove the files"
        )
    if not records:
        raise InputError(f"{path}: no participant in it")
    if not session_columns:
        raise InputError(
            f"{root}: no participant has a sub-*/sub-*_sessions.tsv, "
            f"and {path.name} is not a merged table"
        )
    columns = {str(path): list(participants.columns), "sub-*_sessions.tsv": session_columns}
    return ClinicalTables(root, records, columns)
