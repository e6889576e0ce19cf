"""Clinical tables in any of three layouts, read as text: one record per visit.

Clinica's converters write ``participants.tsv`` and ``sub-X/sub-X_sessions.tsv``; ``clinica iotools
merge-tsv`` writes both as one table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuroaug.cohort.reading.identifiers import loose, match_people
from neuroaug.errors import InputError
from neuroaug.system.files import list_folder, read_tsv, reading, visible
from neuroaug.system.tsv import column_key, parse_header

if TYPE_CHECKING:
    import pandas as pd

_OTHER_FORMATS = (".csv", ".txt", ".xlsx", ".xls", ".gz", ".ods")
# What labels are made from: a participant's own value says nothing about one visit of theirs, and
# stands in for it only where the data set has none by visit.
_BY_VISIT = {"diagnosis": ("diagnosis", "dx"), "cdr": ("cdr_global", "cdr")}


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
    notes : tuple of str
        What was understood otherwise than written, with counts.
    """

    root: Path
    records: list[TableRecord]
    columns: dict[str, list[str]]
    notes: tuple[str, ...] = ()

    def participants(self) -> list[str]:
        """Participant of each visit."""
        return [str(record.fields["participant_id"]) for record in self.records]

    def seen(self) -> set[str]:
        """All columns of all files."""
        return {name for names in self.columns.values() for name in names}


def lower_columns(table: pd.DataFrame) -> pd.DataFrame:
    """Name the columns in lower case; the reader has refused two that are then the same."""
    return table.rename(columns=column_key)


def rows_of(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as mappings by column."""
    return [{str(k): v for k, v in row.items()} for row in table.to_dict("records")]


def name_people(table: pd.DataFrame, path: Path, folders: Iterable[str]) -> list[str]:
    """Give each row its person as the folders spell them; what was spelled otherwise is returned.

    Raises
    ------
    InputError
        See `neuroaug.cohort.reading.identifiers.match_people`.
    """
    written = list(table["participant_id"])
    names, notes = match_people(written, folders, str(path), table.attrs.get("lines"))
    table["participant_id"] = names
    return notes


def people_folders(root: Path) -> set[str]:
    """Names of the folders ``sub-*`` of a data set."""
    if not root.is_dir():
        return set()
    return {p.name for p in list_folder(root) if p.name.startswith("sub-") and p.is_dir()}


def find_tables(path: Path, folders: Iterable[str] = ()) -> ClinicalTables:
    """Find and read the tables at `path`, whichever of the three layouts they have.

    Parameters
    ----------
    path : Path
        A folder, or a merged table.
    folders : iterable of str
        Names of people who have images: those that a table spells otherwise are matched.

    Raises
    ------
    InputError
        There are none, or several; a column is missing; a participant stands twice, or lacks a row.
    """
    folders = set(folders)
    if path.is_file():
        return _read_merged(path, folders | people_folders(path.parent))
    if not path.is_dir():
        raise InputError(
            f"{path}: no such file or folder; give the folder with participants.tsv, "
            "or a merged TSV"
        )
    folders |= people_folders(path)
    participants = path / "participants.tsv"
    if participants.is_file():
        table = lower_columns(read_tsv(participants, ["participant_id"], any_case=True, lines=True))
        if "session_id" in table.columns:
            return _read_merged(participants, folders)
        return _read_bids(path, participants, table, folders)
    return _read_merged(find_merged(path), folders)


def find_merged(path: Path) -> Path:
    """Find the one merged table in a folder.

    Raises
    ------
    InputError
        There is none, or there are several.
    """
    merged = []
    for candidate in visible(path, "*.tsv"):
        with reading(candidate, "a tab-separated table"):
            content = candidate.read_bytes()
        head = {column_key(name) for name in parse_header(content, candidate)}
        if {"participant_id", "session_id"} <= head:
            merged.append(candidate)
    if len(merged) == 1:
        return merged[0]
    if merged:
        found = ", ".join(p.name for p in merged)
        raise InputError(f"{path}: several merged tables ({found}); give one of them")
    other = sorted(p.name for p in path.glob("participants.*") if p.suffix in _OTHER_FORMATS)
    advice = f"; save {other[0]} as tab-separated text, participants.tsv" if other else ""
    raise InputError(
        f"{path}: neither participants.tsv nor a table with participant_id and session_id in it"
        f"{advice}"
    )


def _read_merged(path: Path, folders: Iterable[str]) -> ClinicalTables:
    table = lower_columns(read_tsv(path, lines=True))
    missing = [name for name in ("participant_id", "session_id") if name not in table.columns]
    if missing:
        raise InputError(
            f"{path}: column(s) {', '.join(missing)} missing; found {', '.join(table.columns)}"
        )
    notes = name_people(table, path, folders)
    records = [TableRecord(path, values) for values in rows_of(table)]
    if not records:
        raise InputError(f"{path}: no visit in it")
    return ClinicalTables(path, records, {str(path): list(table.columns)}, tuple(notes))


def _read_bids(
    root: Path, path: Path, participants: pd.DataFrame, folders: set[str]
) -> ClinicalTables:
    notes = name_people(participants, path, folders)
    known: set[str] = set()
    records: list[TableRecord] = []
    session_columns: list[str] = []
    visit_records: list[dict[str, Any]] = []
    own_columns: list[set[str]] = []
    for person in rows_of(participants):
        name = person["participant_id"]
        if name in known:
            raise InputError(f"{path}: participant {name} stands twice; keep one row")
        known.add(name)
        sessions_path = root / name / f"{name}_sessions.tsv"
        if not sessions_path.is_file():
            # Clinica's AIBL table lists people without any image: they have no sessions file.
            records.append(TableRecord(path, {**person, "session_id": None}))
            continue
        sessions = lower_columns(read_tsv(sessions_path))
        if "session_id" not in sessions.columns:
            raise InputError(
                f"{sessions_path}: column session_id missing; found {', '.join(sessions.columns)}"
            )
        session_columns += [column for column in sessions.columns if column not in session_columns]
        visits = rows_of(sessions)
        for visit in visits:
            other = visit.get("participant_id", name)
            if isinstance(other, str) and loose(other) not in (loose(name), loose(name)[4:]):
                raise InputError(
                    f"{sessions_path}: holds a visit of {other}; "
                    "each participant has a file of their own"
                )
            # A visit's own value counts; where it is missing, the participant's stands in.
            own = {k: v for k, v in visit.items() if isinstance(v, str) or k not in person}
            values = {**person, **own, "participant_id": name}
            visit_records.append(values)
            records.append(TableRecord(sessions_path, values))
            own_columns.append({k for k, v in visit.items() if isinstance(v, str)})
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
            f"and {path.name} is not a merged table; if a column of it tells the label, write "
            "cohort: custom and labels: {column: ...} into neuroaug.yaml"
        )
    notes += _keep_own_values(visit_records, own_columns, path)
    columns = {str(path): list(participants.columns), "sub-*_sessions.tsv": session_columns}
    return ClinicalTables(root, records, columns, tuple(notes))


def _keep_own_values(
    visits: Sequence[dict[str, Any]], own: Sequence[set[str]], path: Path
) -> list[str]:
    """Take away a participant's diagnosis from their visits, where other visits have their own."""
    notes = []
    for quantity, columns in _BY_VISIT.items():
        by_visit = any(not given.isdisjoint(columns) for given in own)
        lent = 0
        for values, given in zip(visits, own, strict=True):
            borrowed = [c for c in columns if isinstance(values.get(c), str) and c not in given]
            # A quantity has two names: a visit that has its own under one borrows none.
            lent += bool(borrowed) and given.isdisjoint(columns)
            if by_visit:
                values.update(dict.fromkeys(borrowed))
        if lent and by_visit:
            notes.append(
                f"{path}: its {quantity} does not stand in for that of {lent} visits without one: "
                "the sessions have their own"
            )
        elif lent:
            notes.append(f"{path}: its {quantity} counts for all {lent} visits; none has its own")
    return notes
