"""Tables of a cohort of the user's own, in any of the layouts that BIDS data sets have.

``participants.tsv`` alone, or with rows per session (as OpenNeuro has them),
``sub-X_sessions.tsv``, one merged table, or a table of ``phenotype/``: what they say of one person
and session is put together.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuroaug.cohort.reading.identifiers import loose, prefixed, session_months
from neuroaug.cohort.reading.numbers import MAX_AGE, NumberReader, is_missing
from neuroaug.cohort.reading.table_layouts import (
    find_merged,
    lower_columns,
    name_people,
    people_folders,
    rows_of,
)
from neuroaug.cohort.tables import NAMES, SEXES
from neuroaug.errors import InputError
from neuroaug.system.files import read_tsv, visible
from neuroaug.system.tsv import column_key

if TYPE_CHECKING:
    import pandas as pd

    from neuroaug.config.label_settings import LabelRules

PARTICIPANTS = "participants.tsv"
_SESSIONS = "sessions.tsv"
_SESSION_COLUMNS = ("session_id", "session")
_DATES = ("acq_time", "acq_date", "acquisition_date", "scan_date", "session_date", "date")
_AGES = ("age", "age at baseline")
_MEASURES = {"age": _AGES, "sex": ("sex",), "site": ("site",)}


@dataclass
class TableVisit:
    """What the tables say of one person at one session.

    Attributes
    ----------
    session : str or None
        ``ses-Y``; None where it is said of the person, whatever the session.
    fields : dict of str to str
        Values by lower-case column.
    label_text : str or None
        Value of the label column, None where missing.
    where : str
        The table, for messages.
    """

    session: str | None
    fields: dict[str, str]
    label_text: str | None = None
    where: str = ""

    @property
    def months(self) -> int | None:
        """Months since baseline that the session's name tells."""
        return None if self.session is None else session_months(self.session)

    def text(self, quantity: str) -> str | None:
        """A quantity as text; None where it is missing."""
        found = {n: self.fields[n] for n in NAMES[quantity] if not is_missing(self.fields.get(n))}
        if quantity == "sex" and len({_sex(text) for text in found.values()}) > 1:
            said = " and ".join(f"{name} {text}" for name, text in found.items())
            raise InputError(f"{self.where}: two columns for sex that differ ({said}); keep one")
        return next(iter(found.values()), None)

    @property
    def sex(self) -> str | None:
        """M, F, or None."""
        text = self.text("sex")
        return None if text is None else SEXES.get(text.upper())

    @property
    def date(self) -> str | None:
        """When the visit was, as ISO text that sorts; None where no column tells."""
        for name in _DATES:
            text = (self.fields.get(name) or "").strip()
            if re.match(r"\d{4}-\d{2}-\d{2}", text):
                return text
        return None


@dataclass
class CustomTables:
    """All that the tables of a custom cohort say.

    Attributes
    ----------
    people : dict of str to TableVisit
        By person: what is said of them whatever the session.
    sessions : dict of str to dict of str to TableVisit
        By person and by the key that spellings of one session share: their sessions.
    column : str
        The label's column, as the user writes it.
    notes : list of str
        What was understood otherwise than written.
    absent : tuple of str
        Which of age, sex and site no table has.
    """

    column: str
    people: dict[str, TableVisit] = field(default_factory=dict)
    sessions: dict[str, dict[str, TableVisit]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    absent: tuple[str, ...] = ()

    def rows(self) -> list[tuple[str, str | None]]:
        """Person and session of each row; a person without sessions has one row without."""
        return [
            (person, session)
            for person in self.people
            for session in [v.session for v in self.sessions.get(person, {}).values()] or [None]
        ]

    def visit(self, person: str, session: str) -> TableVisit | None:
        """What the tables say of a session; of the person, where their label is told once."""
        of = self.sessions.get(person, {})
        whole = self.people.get(person)
        if of and (whole is None or whole.label_text is None):
            whole = None
        return of.get(loose(session), whole)


@dataclass(frozen=True)
class _Table:
    path: Path
    rows: list[dict[str, Any]]
    columns: tuple[str, ...]
    session_column: str | None


def read_custom(root: Path, rules: LabelRules, folders: Iterable[str] = ()) -> CustomTables:
    """Read the tables of a custom cohort.

    Parameters
    ----------
    root : Path
        Folder of the tables, or one table.
    rules : LabelRules
        Which column tells the label, and in which file of the folder.
    folders : iterable of str
        Names of people who have images: those that a table spells otherwise are matched.

    Raises
    ------
    InputError
        A table or the label's column is missing, a name is none, a person or visit stands twice, or
        two columns of one quantity contradict each other.
    """
    column = column_key(rules.column)
    cohort = CustomTables(rules.column)
    tables = _read_all(root, rules, set(folders), cohort.notes)
    labelling = [t for t in tables if column in t.columns]
    main = tables[0]
    if not labelling:
        found = "; ".join(f"{t.path} has {', '.join(t.columns)}" for t in tables[:2])
        raise InputError(
            f"{main.path}: no column '{rules.column}', which labels.column names; {found}"
        )
    for table in tables:
        _add(cohort, table)
    if not cohort.people:
        raise InputError(f"{main.path}: nobody in it")
    _label(cohort, labelling, main, column)
    seen = {name for table in tables for name in table.columns}
    cohort.absent = tuple(
        measure
        for measure, quantities in _MEASURES.items()
        if not any(name in seen for quantity in quantities for name in NAMES[quantity])
    )
    cohort.notes += [f"{measure}: not in the tables" for measure in cohort.absent]
    return cohort


def _read_all(root: Path, rules: LabelRules, folders: set[str], notes: list[str]) -> list[_Table]:
    """Read the tables: the one that holds the labels first."""
    if root.is_file():
        return [_read(root, folders | people_folders(root.parent), notes)]
    if not root.is_dir():
        raise InputError(
            f"{root}: no such file or folder; give the folder with {PARTICIPANTS}, or a table"
        )
    folders |= people_folders(root)
    participants = root / PARTICIPANTS
    named = root / rules.file
    by_session = Path(rules.file).name.endswith(_SESSIONS) and not named.is_file()
    paths = []
    if named.is_file():
        paths.append(named)
    elif rules.file == PARTICIPANTS and not (root / PARTICIPANTS).exists():
        paths.append(find_merged(root))
    elif not by_session:
        found = ", ".join(sorted(p.relative_to(root).as_posix() for p in _near(root))) or "none"
        raise InputError(f"{named}: no such table, which labels.file names; tables here: {found}")
    if participants.is_file() and participants not in paths:
        paths.append(participants)
    tables = []
    # Phenotype tables may leave the prefix out: participants.tsv tells who is meant.
    for path in sorted(paths, key=lambda path: path != participants):
        tables.append(_read(path, folders, notes))
        folders |= {row["participant_id"] for row in tables[-1].rows}
    tables.sort(key=lambda table: table.path != named)
    for path in sorted(root.glob(f"sub-*/sub-*_{_SESSIONS}")):
        if path.name == f"{path.parent.name}_{_SESSIONS}" and not path.name.startswith("."):
            tables.append(_read_sessions(path))
    if not tables:
        raise InputError(f"{root}: no {PARTICIPANTS} and no sub-*/sub-*_{_SESSIONS}")
    if by_session:
        tables.sort(key=lambda table: not table.path.name.endswith(f"_{_SESSIONS}"))
    return tables


def _near(root: Path) -> list[Path]:
    return [*visible(root, "*.tsv"), *visible(root, "phenotype/*.tsv")]


def _read(path: Path, folders: set[str], notes: list[str]) -> _Table:
    table = lower_columns(read_tsv(path, ["participant_id"], any_case=True, lines=True))
    notes += name_people(table, path, folders)
    return _table(path, table)


def _read_sessions(path: Path) -> _Table:
    table = lower_columns(read_tsv(path, lines=True))
    person = path.parent.name
    for other in table.get("participant_id", ()):
        if isinstance(other, str) and loose(prefixed(other, "sub-") or other) != loose(person):
            raise InputError(
                f"{path}: holds a visit of {other}; each participant has a file of their own"
            )
    table["participant_id"] = person
    read = _table(path, table)
    if read.session_column is None:
        found = ", ".join(read.columns)
        raise InputError(f"{path}: column session_id missing; found {found}")
    return read


def _table(path: Path, table: pd.DataFrame) -> _Table:
    columns = tuple(map(str, table.columns))
    sessions = [name for name in _SESSION_COLUMNS if name in columns]
    if len(sessions) == 2:
        one, two = table[sessions[0]].fillna(""), table[sessions[1]].fillna("")
        if not one.equals(two):
            raise InputError(
                f"{path}: columns session_id and session differ; keep the one that names sessions"
            )
    rows = rows_of(table)
    name = sessions[0] if sessions else None
    seen: dict[tuple[str, str | None], str] = {}
    for row, line in zip(rows, table.attrs["lines"], strict=True):
        text, person = row.get(name) if name else None, row["participant_id"]
        session = None if is_missing(text) else prefixed(str(text), "ses-")
        if session is None and not is_missing(text):
            raise InputError(
                f"{path}: line {line}: session '{text}' is not ses- followed by letters and digits"
            )
        row["session"] = session
        key = (person, None if session is None else loose(session))
        other = seen.get(key)
        if other is not None and other != (session or person):
            raise InputError(
                f"{path}: {person} has {other} and {session}, two spellings of one session; "
                "keep one row"
            )
        if other is not None:
            who = person if session is None else f"{person} {session}"
            raise InputError(f"{path}: line {line}: {who} stands twice; keep one row")
        seen[key] = session or person
    return _Table(path, rows, columns, name)


def _add(cohort: CustomTables, table: _Table) -> None:
    """Put the rows of a table to those of their person and session; the first value counts."""
    for row in table.rows:
        person, session = row["participant_id"], row["session"]
        whole = cohort.people.setdefault(person, TableVisit(None, {}, where=str(table.path)))
        visit = whole
        if session is not None:
            of = cohort.sessions.setdefault(person, {})
            own = TableVisit(session, {}, where=f"{table.path}: {person} {session}")
            visit = of.setdefault(loose(session), own)
        fields = {k: v.strip() for k, v in row.items() if isinstance(v, str)}
        visit.fields.update({k: v for k, v in fields.items() if k not in visit.fields})


def _label(cohort: CustomTables, tables: Sequence[_Table], main: _Table, column: str) -> None:
    """Find the label's text of each session; a person's own stands in where sessions have none."""
    own_file = main in tables and main.path.name not in (PARTICIPANTS,)
    if own_file and not main.path.name.endswith(f"_{_SESSIONS}"):
        tables = [main]  # a table that the user names for it; others may mean something else
    by_session: dict[tuple[str, str], str] = {}
    by_person: dict[str, str] = {}
    mixed: set[str] = set()
    for table in tables:
        for row in table.rows:
            text, person = row.get(column), row["participant_id"]
            if not isinstance(text, str):
                continue
            if row["session"] is not None:
                by_session.setdefault((person, loose(row["session"])), text.strip())
                continue
            by_person.setdefault(person, text.strip())
            if table.session_column is not None:
                mixed.add(person)
    lent = kept_back = 0
    for person, whole in cohort.people.items():
        given = by_person.get(person)
        if by_session and person not in mixed:
            kept_back += given is not None and any(
                (person, key) not in by_session for key in cohort.sessions.get(person, {"": None})
            )
            given = None
        whole.label_text = given
        for key, visit in cohort.sessions.get(person, {}).items():
            visit.label_text = by_session.get((person, key), given)
            lent += visit.label_text is not None and (person, key) not in by_session
            visit.fields = {**whole.fields, **visit.fields}
    name = cohort.column
    if kept_back:
        cohort.notes.append(
            f"{name} of {PARTICIPANTS} does not stand in for the sessions without one of "
            f"{kept_back} people: the sessions have their own"
        )
    elif lent:
        cohort.notes.append(f"{name}: told once a person, counts for all {lent} of their sessions")


def _sex(text: str) -> str:
    return SEXES.get(text.strip().upper(), text.strip().casefold())


def age_of(visit: TableVisit, numbers: NumberReader) -> float | None:
    """Age at a visit, None where it is not known.

    Raises
    ------
    ValueError
        If it is no number, or not that of a person; the message is the cell.
    """
    for quantity in _AGES:
        text = visit.text(quantity)
        try:
            age = numbers.read(quantity, text)
        except ValueError:
            raise ValueError(text) from None
        if age is None:
            continue
        if not 0 <= age < MAX_AGE:
            raise ValueError(text)
        return round(age + (visit.months or 0) / 12, 2) if quantity != "age" else age
    return None


def score_of(visit: TableVisit, quantity: str, numbers: NumberReader) -> float | None:
    """A score at a visit; None where it is missing or no number."""
    try:
        return numbers.read(quantity, visit.text(quantity))
    except ValueError:
        numbers.codes[quantity, str(visit.text(quantity))] += 1
        return None
