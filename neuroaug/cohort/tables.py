"""The clinical tables of ADNI, AIBL and OASIS-1 as Clinica writes them, read as one row a visit.

Clinica's converters write ``participants.tsv`` and ``sub-X/sub-X_sessions.tsv``; ``clinica iotools
merge-tsv`` writes both as one table. Column names moved between releases, so each quantity is found
by a short list of known names, whatever their case.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuroaug.errors import InputError
from neuroaug.system.files import read_tsv

if TYPE_CHECKING:
    import pandas as pd

COHORTS = ("adni", "aibl", "oasis1")
VISIT_COLUMNS = (
    "participant_id",
    "session_id",
    "months",
    "diagnosis",
    "screening",
    "age",
    "sex",
    "site",
    "mmse",
    "cdr",
)

NAMES: dict[str, tuple[str, ...]] = {
    "age": ("age",),
    "age at baseline": ("age_bl", "age_baseline"),
    "date of birth": ("date_of_birth",),
    "examination date": ("examination_date", "exam_date"),
    "sex": ("sex", "gender"),
    "diagnosis": ("diagnosis", "dx"),
    "diagnosis at baseline": ("diagnosis_bl", "diagnosis_baseline"),
    "screening": ("diagnosis_sc", "diagnosis_bl", "dx_bl"),
    "site": ("site", "site_id"),
    "mmse": ("mmse", "mms"),
    "mmse at baseline": ("mmse_bl",),
    "cdr": ("cdr_global", "cdr"),
}
DIAGNOSES = {"CN": "CN", "MCI": "MCI", "EMCI": "MCI", "LMCI": "MCI", "AD": "AD", "DEMENTIA": "AD"}
SEXES = {"M": "M", "MALE": "M", "F": "F", "FEMALE": "F"}
# Clinica writes n/a; AIBL's own code for a missing value is -4 and slips through in some releases.
MISSING = frozenset({"", "n/a", "na", "nan", "none", "-4", "-4.0"})

_PARTICIPANT = re.compile(r"sub-[A-Za-z0-9]+")
_SESSION = re.compile(r"ses-M(\d+)")
_YEAR = re.compile(r"(?<!\d)(\d{4})(?!\d)")
_ID_PREFIXES = {"sub-ADNI": "adni", "sub-AIBL": "aibl", "sub-OASIS1": "oasis1"}


def session_months(session_id: str) -> int | None:
    """Months after baseline of a session: ``ses-M006`` -> 6, ``ses-M00`` -> 0; None if it is no
    such name.
    """
    match = _SESSION.fullmatch(session_id)
    return int(match[1]) if match else None


def read_visits(folder: str | Path, cohort: str = "auto") -> tuple[pd.DataFrame, str]:
    """Read the visits of a cohort from its clinical tables.

    Parameters
    ----------
    folder : path-like
        A folder with ``participants.tsv`` and ``sub-*/*_sessions.tsv``, a merged TSV
        (``clinica iotools merge-tsv``), or a folder that holds one.
    cohort : {"auto", "adni", "aibl", "oasis1"}
        Whose conventions the tables follow; "auto" recognises them by ids and columns.

    Returns
    -------
    visits : DataFrame
        One row a visit, ordered by participant and months: participant_id, session_id, months,
        diagnosis (CN, MCI, AD or None), screening, age (years), sex (M, F or None), site, mmse,
        cdr. A participant without any session has one row whose session_id is None.
    cohort : str
        The cohort that was given or recognised.

    Raises
    ------
    InputError
        A file or column is missing (the names found are given), a value is unknown, or a visit or
        participant stands twice.
    """
    import pandas as pd

    if cohort not in ("auto", *COHORTS):
        raise InputError(f"cohort '{cohort}': unknown; one of auto, {', '.join(COHORTS)}")
    source = _find(Path(folder))
    if cohort == "auto":
        cohort = recognise(source)
    columns = _Columns(source, cohort)
    rows = [_visit(record, columns, cohort) for record in source.records]
    table = pd.DataFrame(rows, columns=[*VISIT_COLUMNS, "file"])
    _refuse_duplicates(table)
    table = table.sort_values(["participant_id", "months"], kind="stable", ignore_index=True)
    return table.drop(columns="file").astype(object).where(lambda t: t.notna(), None), cohort


@dataclass(frozen=True)
class _Record:
    """One visit: its values by lower-case column name, and the file that it stands in."""

    file: Path
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class _TableSource:
    """All visits of a cohort as text, and the columns seen in each file."""

    root: Path
    records: list[_Record]
    columns: dict[str, list[str]]  # file description -> its columns, lower case

    def participants(self) -> list[str]:
        return [str(record.fields["participant_id"]) for record in self.records]

    def seen(self) -> set[str]:
        return {name for names in self.columns.values() for name in names}


def _lower(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    table = table.rename(columns=lambda name: str(name).strip().lower())
    repeated = table.columns[table.columns.duplicated()]
    if len(repeated):
        raise InputError(f"{path}: column '{repeated[0]}' stands twice; keep one of them")
    return table


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(k): v for k, v in row.items()} for row in table.to_dict("records")]


def _find(path: Path) -> _TableSource:
    """Find the tables at `path`, whichever of the three layouts they have."""
    if path.is_file():
        return _read_merged(path)
    if not path.is_dir():
        raise InputError(
            f"{path}: no such file or folder; give the folder with participants.tsv, or a merged TSV"
        )
    participants = path / "participants.tsv"
    if participants.is_file():
        table = _lower(read_tsv(participants, ["participant_id"]), participants)
        if "session_id" in table.columns:
            return _read_merged(participants)
        return _read_bids(path, participants, table)
    merged = []
    for candidate in sorted(path.glob("*.tsv")):
        names = {
            name.strip().lower()
            for name in candidate.read_text("utf-8", "replace").split("\n", 1)[0].split("\t")
        }
        if {"participant_id", "session_id"} <= names:
            merged.append(candidate)
    if len(merged) == 1:
        return _read_merged(merged[0])
    if merged:
        raise InputError(
            f"{path}: several merged tables ({', '.join(p.name for p in merged)}); give one of them"
        )
    raise InputError(
        f"{path}: neither participants.tsv nor a table with participant_id and session_id in it"
    )


def _check_participant(participant: Any, path: Path) -> str:
    if not isinstance(participant, str) or not _PARTICIPANT.fullmatch(participant):
        raise InputError(
            f"{path}: participant_id '{participant}' is not sub- followed by letters and digits"
        )
    return participant


def _read_merged(path: Path) -> _TableSource:
    table = _lower(read_tsv(path), path)
    missing = [name for name in ("participant_id", "session_id") if name not in table.columns]
    if missing:
        raise InputError(
            f"{path}: column(s) {', '.join(missing)} missing; found {', '.join(table.columns)}"
        )
    records = [_Record(path, values) for values in _rows(table)]
    for record in records:
        _check_participant(record.fields["participant_id"], path)
    if not records:
        raise InputError(f"{path}: no visit in it")
    return _TableSource(path, records, {str(path): list(table.columns)})


def _read_bids(root: Path, path: Path, participants: pd.DataFrame) -> _TableSource:
    known: set[str] = set()
    records: list[_Record] = []
    session_columns: list[str] = []
    for person in _rows(participants):
        name = _check_participant(person["participant_id"], path)
        if name in known:
            raise InputError(f"{path}: participant {name} stands twice; keep one row")
        known.add(name)
        sessions_path = root / name / f"{name}_sessions.tsv"
        if not sessions_path.is_file():
            # Clinica's AIBL table lists people without any image: they have no sessions file.
            records.append(_Record(path, {**person, "session_id": None}))
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
                    f"{sessions_path}: holds a visit of {other}; each participant has a file of their own"
                )
            # A visit's own value counts; where it is missing, the participant's stands in.
            values = {
                **person,
                **{k: v for k, v in visit.items() if isinstance(v, str) or k not in person},
            }
            records.append(_Record(sessions_path, {**values, "participant_id": name}))
        if not visits:
            records.append(_Record(path, {**person, "session_id": None}))
    strangers = sorted(
        folder.parent.name
        for folder in root.glob("sub-*/sub-*_sessions.tsv")
        if folder.parent.name not in known and folder.name == f"{folder.parent.name}_sessions.tsv"
    )
    if strangers:
        raise InputError(
            f"{path}: no row for {', '.join(strangers[:5])}, who have sessions; add them or remove the files"
        )
    if not records:
        raise InputError(f"{path}: no participant in it")
    if not session_columns:
        raise InputError(
            f"{root}: no participant has a sub-*/sub-*_sessions.tsv, and {path.name} is not a merged table"
        )
    return _TableSource(
        root,
        records,
        {str(path): list(participants.columns), "sub-*_sessions.tsv": session_columns},
    )


def recognise(source: _TableSource) -> str:
    """Tell the cohort of a set of tables by its participants' ids, else by columns that only one
    cohort has.
    """
    found = {
        next(
            (cohort for prefix, cohort in _ID_PREFIXES.items() if participant.startswith(prefix)),
            None,
        )
        for participant in source.participants()
    }
    if len(found) > 1 and len(found - {None}) > 1:
        names = ", ".join(sorted(name for name in found if name))
        raise InputError(
            f"{source.root}: participants of several cohorts ({names}) in one table; give each its own"
        )
    by_id = next(iter(found - {None}), None)
    if by_id:
        return by_id
    seen = source.seen()
    if seen & {"diagnosis_sc", "original_study"}:
        return "adni"
    if seen & {"date_of_birth", "apoe_gen1", "apoe_gen2"}:
        return "aibl"
    if seen & {"laterality", "education_level"} and seen & {"cdr_global", "diagnosis_bl"}:
        return "oasis1"
    raise InputError(
        f"{source.root}: cohort not recognised by ids or columns; give --cohort {' or '.join(COHORTS)}"
    )


class _Columns:
    """Where each quantity stands in these tables; refuses tables that lack what labelling needs."""

    def __init__(self, source: _TableSource, cohort: str) -> None:
        seen = source.seen()
        self._names = {
            quantity: [n for n in names if n in seen] for quantity, names in NAMES.items()
        }
        needed = [("age", ("age", "age at baseline", "date of birth")), ("sex", ("sex",))]
        needed.append(
            (
                "diagnosis",
                ("cdr", "diagnosis at baseline") if cohort == "oasis1" else ("diagnosis",),
            )
        )
        for quantity, alternatives in needed:
            if any(self._names[name] for name in alternatives):
                continue
            expected = [column for name in alternatives for column in NAMES[name]]
            files = "; ".join(
                f"{file} has {', '.join(columns)}" for file, columns in source.columns.items()
            )
            raise InputError(
                f"{source.root}: no column for {quantity} (one of {', '.join(expected)}); {files}"
            )

    def text(self, record: _Record, quantity: str) -> str | None:
        """Read a quantity as text, None where missing."""
        for name in self._names[quantity]:
            value = record.fields.get(name)
            if isinstance(value, str) and value.strip().lower() not in MISSING:
                return value.strip()
        return None

    def number(self, record: _Record, quantity: str) -> float | None:
        """Read a quantity as a number, None where missing."""
        text = self.text(record, quantity)
        if text is None:
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise _bad_value(record, quantity, text, "expected a number")
        return value


def _bad_value(record: _Record, quantity: str, value: str, expected: str) -> InputError:
    who = " ".join(
        str(record.fields[k]) for k in ("participant_id", "session_id") if record.fields.get(k)
    )
    return InputError(f"{record.file}: {who}: unknown {quantity} '{value}'; {expected}, or n/a")


def _visit(record: _Record, columns: _Columns, cohort: str) -> dict[str, Any]:
    session = record.fields.get("session_id")
    session = session.strip() if isinstance(session, str) else None
    months = None
    if session is not None:
        months = session_months(session)
        if months is None:
            raise _bad_value(
                record,
                "session_id",
                session,
                "expected ses-M and the months since baseline, as ses-M006",
            )
    sex = columns.text(record, "sex")
    if sex is not None and sex.upper() not in SEXES:
        raise _bad_value(record, "sex", sex, "expected M or F")
    mmse = columns.number(record, "mmse")
    if mmse is None and months == 0:
        mmse = columns.number(record, "mmse at baseline")
    return {
        "participant_id": record.fields["participant_id"],
        "session_id": session,
        "months": months,
        "diagnosis": _oasis_diagnosis(record, columns)
        if cohort == "oasis1"
        else _diagnosis(record, columns),
        "screening": columns.text(record, "screening") if cohort == "adni" else None,
        "age": _age(record, columns, months),
        "sex": None if sex is None else SEXES[sex.upper()],
        "site": columns.text(record, "site"),
        "mmse": mmse,
        "cdr": columns.number(record, "cdr"),
        "file": str(record.file),
    }


def _diagnosis(record: _Record, columns: _Columns, quantity: str = "diagnosis") -> str | None:
    text = columns.text(record, quantity)
    if text is None:
        return None
    if text.upper() not in DIAGNOSES:
        raise _bad_value(record, quantity, text, "expected CN, MCI or AD (or Dementia)")
    return DIAGNOSES[text.upper()]


def _oasis_diagnosis(record: _Record, columns: _Columns) -> str | None:
    """CN for a CDR of 0, AD above; Clinica's ``diagnosis`` is n/a for CDR 0.5, so it comes last."""
    cdr = columns.number(record, "cdr")
    baseline = _diagnosis(record, columns, "diagnosis at baseline")
    if cdr is None:
        return baseline or _diagnosis(record, columns)
    if cdr not in (0, 0.5, 1, 2, 3):
        raise _bad_value(record, "cdr", str(cdr), "expected 0, 0.5, 1, 2 or 3")
    diagnosis = "AD" if cdr > 0 else "CN"
    if baseline not in (None, diagnosis):
        raise _bad_value(
            record,
            "diagnosis",
            f"{baseline}",
            f"its cdr of {cdr:g} says {diagnosis}: correct one of the two",
        )
    return diagnosis


def _age(record: _Record, columns: _Columns, months: int | None) -> float | None:
    """Age at the visit: as written; else from baseline; else from the years of birth and
    examination.
    """
    age = columns.number(record, "age")
    if age is None:
        baseline = columns.number(record, "age at baseline")
        if baseline is not None:
            age = round(baseline + (months or 0) / 12, 2)
    if age is None:
        age = _age_from_dates(
            columns.text(record, "date of birth"), columns.text(record, "examination date")
        )
    if age is not None and not 0 < age < 125:
        raise _bad_value(record, "age", f"{age:g}", "expected years")
    return age


def _age_from_dates(birth: str | None, examination: str | None) -> float | None:
    """Difference of the years; AIBL publishes the year of birth alone."""
    born, seen = (_YEAR.search(text or "") for text in (birth, examination))
    return float(int(seen[1]) - int(born[1])) if born and seen else None


def _refuse_duplicates(table: pd.DataFrame) -> None:
    names: dict[str, str] = {}
    for name in table["participant_id"]:
        other = names.setdefault(name.lower(), name)
        if other != name:
            file = table.loc[table["participant_id"] == name, "file"].iloc[0]
            raise InputError(
                f"{file}: {other} and {name} differ by upper and lower case only; one person has one name"
            )
    # M00 and M000 are one session: compare months, not names.
    repeated = table[table.duplicated(["participant_id", "months"], keep="first")]
    if len(repeated):
        row = repeated.iloc[0]
        raise InputError(
            f"{row['file']}: {row['participant_id']} {row['session_id']} stands twice; keep one row"
        )
