"""What a folder of scans and its tables hold: images, people, sessions, cohort, label columns."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from neuroaug.cohort.account import LabelledCohort, label_cohort
from neuroaug.cohort.reading.numbers import is_missing
from neuroaug.cohort.reading.table_layouts import find_tables, lower_columns, name_people
from neuroaug.cohort.tables import recognise
from neuroaug.config.label_settings import CUSTOM, LabelRules
from neuroaug.errors import InputError
from neuroaug.imaging import caps as caps_names
from neuroaug.new_study.label_candidates import (
    Candidate,
    candidates,
    guess_classes,
    label_names,
)
from neuroaug.system.files import read_tsv, visible

if TYPE_CHECKING:
    import pandas as pd

    from neuroaug.imaging.bids import Visit

FEW = 20  # people a label; with fewer, little can be learned or shown


@dataclass(frozen=True)
class Survey:
    """What was found.

    Attributes
    ----------
    data : Path
        The folder that was looked at.
    kind : {"bids", "caps"}
        Raw scans or preprocessed ones.
    tables : Path
        Folder of the tables, or one table.
    visits : tuple of Visit
        Visits with an image.
    without_scan : int
        People who are listed and have no folder.
    refused : int
        Other visits, people or rows that `preprocess` would refuse.
    cohort : str
        ``adni``, ``aibl``, ``oasis1`` or ``custom``.
    found : tuple of Candidate
        Columns that may tell the label, the likeliest first; of custom cohorts.
    rules : LabelRules or None
        Rules made of the first of them.
    labelled : LabelledCohort or None
        Who has which label by the tables alone; None where they do not tell.
    problems : tuple of str
        Why something could not be found out.
    """

    data: Path
    kind: Literal["bids", "caps"]
    tables: Path
    visits: tuple[Visit, ...]
    without_scan: int
    refused: int
    cohort: str
    found: tuple[Candidate, ...]
    rules: LabelRules | None
    labelled: LabelledCohort | None
    problems: tuple[str, ...]

    @property
    def people(self) -> frozenset[str]:
        """People with an image."""
        return frozenset(visit.participant_id for visit in self.visits)

    @property
    def sessions(self) -> dict[str, int]:
        """Visits of each session's name, the most frequent first."""
        counts = Counter(visit.session_id for visit in self.visits)
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    @property
    def counts(self) -> dict[str, int]:
        """People with a label and an image, by label."""
        if self.labelled is None:
            return {}
        table = self.labelled.labelled
        with_image = table[table["participant_id"].isin(self.people)]
        found = with_image["diagnosis"].value_counts()
        return {label: int(found.get(label, 0)) for label in self.labelled.account.labelled}


def survey(data: str | Path, tables: str | Path | None = None) -> Survey:
    """Look at a BIDS or CAPS folder and its tables. Writes nothing.

    Parameters
    ----------
    data : path-like
        The folder.
    tables : path-like, optional
        Folder of the tables, or a table; by default they lie in `data`.

    Raises
    ------
    InputError
        If the folder is absent, or neither BIDS nor CAPS.
    """
    data = Path(data).expanduser().absolute()
    kind, visits, without_scan, refused = _images(data)
    where = Path(tables).expanduser().absolute() if tables is not None else data
    if not where.exists():
        raise InputError(f"{where}: no such file or folder; check --tables")
    people = sorted({visit.participant_id for visit in visits})
    problems: list[str] = []
    cohort, found, rules = CUSTOM, [], None
    try:
        cohort = recognise(find_tables(where, people))
    except InputError as error:
        if "several cohorts" in str(error):
            problems.append(str(error))
    if cohort == CUSTOM:
        found = sorted(_candidates(where, people, problems), key=lambda c: c.rank)
        rules = _rules(found[0]) if found else None
    labelled = None
    if cohort != CUSTOM or rules is not None:
        try:
            labelled = label_cohort(where, cohort=cohort, rules=rules)
        except InputError as error:
            problems.append(str(error))
    return Survey(
        data=data,
        kind=kind,
        tables=where,
        visits=visits,
        without_scan=without_scan,
        refused=refused,
        cohort=cohort,
        found=tuple(found),
        rules=rules,
        labelled=labelled,
        problems=tuple(problems),
    )


def _images(data: Path) -> tuple[Literal["bids", "caps"], tuple[Visit, ...], int, int]:
    if not data.is_dir():
        raise InputError(f"{data}: {'not a folder' if data.exists() else 'no such folder'}")
    if (data / "subjects").is_dir() or caps_names.is_caps(data):
        return "caps", tuple(caps_names.list_visits(caps_names.require_caps(data))), 0, 0
    if not any(data.glob("sub-*")):
        raise InputError(
            f"{data}: neither BIDS (no sub-<label> folder in it) nor CAPS (no folder 'subjects'); "
            "give the folder that holds the participants' folders"
        )
    from neuroaug.preprocessing.refusal import NO_FOLDER
    from neuroaug.preprocessing.select import find_scans

    scans, refusals = find_scans(data)
    lost = sum(row.reason == NO_FOLDER for row in refusals)
    return "bids", tuple(scan.visit for scan in scans), lost, len(refusals) - lost


def _candidates(where: Path, people: list[str], problems: list[str]) -> list[Candidate]:
    """Candidates of every table that may hold labels."""
    root = where if where.is_dir() else where.parent
    files = [where] if where.is_file() else visible(root, "*.tsv")
    files += visible(root, "phenotype/*.tsv") if where.is_dir() else []
    found = []
    for file in files:
        try:
            table = lower_columns(read_tsv(file, ["participant_id"], any_case=True))
            name_people(table, file, people)
        except InputError as error:
            if file.name == "participants.tsv" or file == where:
                problems.append(str(error))
            continue
        found += _of(table, file.relative_to(root).as_posix())
    sessions = [p for p in visible(root, "sub-*/sub-*_sessions.tsv") if p.is_file()]
    rows: dict[str, list[str | None]] = {}
    owners: list[str] = []
    for file in sessions if where.is_dir() else []:
        try:
            table = lower_columns(read_tsv(file))
        except InputError as error:
            problems.append(str(error))
            continue
        for name in table.columns:
            rows.setdefault(name, [None] * len(owners)).extend(_cells(table[name]))
        owners += [file.parent.name] * len(table)
        for cells in rows.values():
            cells.extend([None] * (len(owners) - len(cells)))
    if owners:
        found += candidates("sessions.tsv", rows, owners)
    return found


def _of(table: pd.DataFrame, file: str) -> list[Candidate]:
    people = [str(person) for person in table["participant_id"]]
    return candidates(file, {str(c): _cells(table[c]) for c in table.columns}, people)


def _cells(column: pd.Series) -> list[str | None]:
    return [None if is_missing(cell) else str(cell).strip() for cell in column]


def _rules(candidate: Candidate) -> LabelRules:
    names = label_names(list(candidate.counts), candidate.column)
    negative, positive = guess_classes(names, candidate.counts)
    ordered = [negative, positive, *(n for n in names if n not in (negative, positive))]
    return LabelRules(
        column=candidate.column,
        file=candidate.file,
        values={name: (names[name],) for name in ordered},
        positive=positive,
        negative=negative if len(names) > 2 else None,
    )
