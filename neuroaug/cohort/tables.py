"""The clinical tables of ADNI, AIBL and OASIS-1 as Clinica writes them, read as one row per visit.

Column names moved between Clinica's releases, so each quantity is found by a short list of known
names, whatever their case.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuroaug.cohort.reading.identifiers import prefixed, session_months
from neuroaug.cohort.reading.numbers import MAX_AGE, MISSING, NumberReader
from neuroaug.cohort.reading.table_layouts import ClinicalTables, TableRecord, find_tables
from neuroaug.cohort.rules import (
    CLINICAL_RATINGS,
    COHORTS,
    DIAGNOSES,
    EXPECTED_DIAGNOSES,
    ID_PREFIXES,
    rated,
)
from neuroaug.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["NAMES", "SEXES", "VISIT_COLUMNS", "read_published", "read_visits", "session_months"]

log = logging.getLogger(__name__)

MEASURED = ("age", "sex", "site", "mmse", "cdr")
VISIT_COLUMNS = ("participant_id", "session_id", "months", "diagnosis", "screening", *MEASURED)

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
SEXES = {"M": "M", "MALE": "M", "F": "F", "FEMALE": "F"}
# Clinica writes n/a; AIBL's own code for a missing value is -4 and slips through in some releases.
_CODE = ("-4", "-4.0")
_CODES = ("-1", "-1.0", "999", "999.0", "9999", "9999.0")
_NO_NUMBERS = ("sex", "diagnosis", "diagnosis at baseline", "screening")
_ABSENT = MISSING.union(_CODE)
# Two names of one quantity: both in a table, they must say the same.
_ONE_VALUE = ("sex", "diagnosis", "mmse", "cdr")

_YEAR = re.compile(r"(?<!\d)(\d{4})(?!\d)")


def read_visits(folder: str | Path, cohort: str = "auto") -> tuple[pd.DataFrame, str]:
    """Read the visits of a cohort from its clinical tables.

    Parameters
    ----------
    folder : path-like
        A folder with ``participants.tsv`` and ``sub-*/*_sessions.tsv``, a merged TSV
        (``clinica iotools merge-tsv``), or a folder that holds one.
    cohort : {"auto", "adni", "aibl", "oasis1"}
        Cohort whose conventions the tables follow; "auto" recognises it by ids and columns.

    Returns
    -------
    visits : DataFrame
        One row per visit, ordered by participant and months: participant_id, session_id, months,
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
    visits, cohort, _ = read_published(folder, cohort)
    return visits, cohort


def read_published(
    folder: str | Path, cohort: str = "auto", folders: Iterable[str] = ()
) -> tuple[pd.DataFrame, str, list[str]]:
    """Read the visits of a published cohort, as `read_visits`, and what had to be decided.

    Parameters
    ----------
    folder, cohort
        See `read_visits`.
    folders : iterable of str
        Names of people who have images: those that a table spells otherwise are matched.

    Returns
    -------
    visits : DataFrame
        See `read_visits`.
    cohort : str
        The cohort that was given or recognised.
    notes : list of str
        What was understood otherwise than written, with counts.

    Raises
    ------
    InputError
        See `read_visits`.
    """
    import pandas as pd

    if cohort not in ("auto", *COHORTS):
        raise InputError(f"cohort '{cohort}': unknown; one of auto, {', '.join(COHORTS)}")
    source = find_tables(Path(folder), folders)
    if cohort == "auto":
        cohort = recognise(source)
    columns = _Columns(source, cohort)
    rows = [_visit(record, columns, cohort) for record in source.records]
    table = pd.DataFrame(rows, columns=[*VISIT_COLUMNS, "file"])
    _refuse_duplicates(table)
    table = table.sort_values(["participant_id", "months"], kind="stable", ignore_index=True)
    visits = table.drop(columns="file").astype(object).where(lambda t: t.notna(), None)
    # Read so from the first: recorded splits do not have it among their notes.
    for quantity, n in sorted((+columns.n_minus_four).items()):
        log.info("%s: %s: %d cells of -4, which stands for a missing value", folder, quantity, n)
    return visits, cohort, [*source.notes, *columns.numbers.notes()]


def recognise(source: ClinicalTables) -> str:
    """Tell a cohort by its participants' ids, else by columns that only one cohort has."""
    found = {
        cohort
        for participant in source.participants()
        for prefix, cohort in ID_PREFIXES.items()
        if participant.startswith(prefix)
    }
    if len(found) > 1:
        raise InputError(
            f"{source.root}: participants of several cohorts ({', '.join(sorted(found))}) in one "
            "table; give each its own"
        )
    if found:
        return found.pop()
    seen = source.seen()
    if seen & {"diagnosis_sc", "original_study"}:
        return "adni"
    if seen & {"date_of_birth", "apoe_gen1", "apoe_gen2"}:
        return "aibl"
    if seen & {"laterality", "education_level"} and seen & {"cdr_global", "diagnosis_bl"}:
        return "oasis1"
    raise InputError(
        f"{source.root}: cohort not recognised by ids or columns; "
        f"give --cohort {' or '.join(COHORTS)}"
    )


class _Columns:
    """Where each quantity stands in these tables; refuses tables that lack what labelling needs."""

    def __init__(self, source: ClinicalTables, cohort: str) -> None:
        seen = source.seen()
        self.numbers = NumberReader()
        self.n_minus_four: Counter[str] = Counter()
        self._names = {
            quantity: [n for n in names if n in seen] for quantity, names in NAMES.items()
        }
        needed = {
            "age": ("age", "age at baseline", "date of birth"),
            "sex": ("sex",),
            "diagnosis": ("cdr", "diagnosis at baseline") if cohort == "oasis1" else ("diagnosis",),
        }
        for quantity, alternatives in needed.items():
            if any(self._names[name] for name in alternatives):
                continue
            expected = [column for name in alternatives for column in NAMES[name]]
            files = "; ".join(f"{file} has {', '.join(c)}" for file, c in source.columns.items())
            raise InputError(
                f"{source.root}: no column for {quantity} (one of {', '.join(expected)}); {files}"
            )

    def text(self, record: TableRecord, quantity: str) -> str | None:
        """Read a quantity as text, None where missing."""
        found = {}
        for name in self._names[quantity]:
            value = record.fields.get(name)
            if not isinstance(value, str) or value.strip().lower() in _ABSENT:
                continue
            if quantity in _NO_NUMBERS and value.strip() in _CODES:
                self.numbers.codes[quantity, value.strip()] += 1
                continue
            found[name] = value.strip()
        if len(found) > 1 and quantity in _ONE_VALUE:
            _refuse_contradiction(record, quantity, found)
        return next(iter(found.values()), None)

    def number(self, record: TableRecord, quantity: str) -> float | None:
        """Read a quantity as a number, None where missing."""
        text = self.text(record, quantity)
        raw = (record.fields.get(name) for name in self._names[quantity])
        self.n_minus_four[quantity] += text is None and any(value in _CODE for value in raw)
        try:
            return self.numbers.read(quantity, text)
        except ValueError:
            raise _bad_value(record, quantity, str(text), "expected a number") from None


def _refuse_contradiction(record: TableRecord, quantity: str, found: dict[str, str]) -> None:
    def meaning(text: str) -> object:
        known = {"sex": SEXES, "diagnosis": DIAGNOSES}.get(quantity, {})
        try:
            return known.get(text.upper()) or float(text)
        except ValueError:
            return text

    if len({meaning(text) for text in found.values()}) > 1:
        said = " and ".join(f"{name} {text}" for name, text in found.items())
        raise InputError(
            f"{record.file}: {_who(record)}: two columns for {quantity} that differ ({said}); "
            "keep one of them"
        )


def _who(record: TableRecord) -> str:
    names = (record.fields.get(name) for name in ("participant_id", "session_id"))
    return " ".join(str(name) for name in names if name)


def _bad_value(record: TableRecord, quantity: str, value: str, expected: str) -> InputError:
    what = f"unknown {quantity} '{value}'"
    return InputError(f"{record.file}: {_who(record)}: {what}; {expected}, or n/a")


def _visit(record: TableRecord, columns: _Columns, cohort: str) -> dict[str, Any]:
    session = record.fields.get("session_id")
    if isinstance(session, str):
        # Older tables leave the prefix out, or write a small m.
        name = prefixed(session, "ses-") or session.strip()
        session = name.replace("ses-m", "ses-M", 1)
    else:
        session = None
    months = None if session is None else session_months(session)
    if session is not None and months is None:
        expected = "expected ses-M and the months since baseline, as ses-M006"
        raise _bad_value(record, "session_id", session, expected)
    sex = columns.text(record, "sex")
    if sex is not None and sex.upper() not in SEXES:
        raise _bad_value(record, "sex", sex, "expected M or F")
    mmse = columns.number(record, "mmse")
    if mmse is None and months == 0:
        mmse = columns.number(record, "mmse at baseline")
    diagnosis = _oasis_diagnosis if cohort == "oasis1" else _diagnosis
    return {
        "participant_id": record.fields["participant_id"],
        "session_id": session,
        "months": months,
        "diagnosis": diagnosis(record, columns),
        "screening": columns.text(record, "screening") if cohort == "adni" else None,
        "age": _age(record, columns, months),
        "sex": None if sex is None else SEXES[sex.upper()],
        "site": columns.text(record, "site"),
        "mmse": mmse,
        "cdr": columns.number(record, "cdr"),
        "file": str(record.file),
    }


def _diagnosis(record: TableRecord, columns: _Columns, quantity: str = "diagnosis") -> str | None:
    text = columns.text(record, quantity)
    if text is None:
        return None
    if text.upper() not in DIAGNOSES:
        raise _bad_value(record, quantity, text, f"expected {EXPECTED_DIAGNOSES}")
    return DIAGNOSES[text.upper()]


def _oasis_diagnosis(record: TableRecord, columns: _Columns) -> str | None:
    """By the CDR; Clinica's ``diagnosis`` is n/a for CDR 0.5: it comes last."""
    cdr = columns.number(record, "cdr")
    baseline = _diagnosis(record, columns, "diagnosis at baseline")
    if cdr is None:
        return baseline or _diagnosis(record, columns)
    if cdr not in CLINICAL_RATINGS:
        raise _bad_value(record, "cdr", str(cdr), "expected 0, 0.5, 1, 2 or 3")
    diagnosis = rated(cdr)
    if baseline not in (None, diagnosis):
        advice = f"its cdr of {cdr:g} says {diagnosis}: correct one of the two"
        raise _bad_value(record, "diagnosis", baseline, advice)
    return diagnosis


def _age(record: TableRecord, columns: _Columns, months: int | None) -> float | None:
    """Age at the visit: as written, else from baseline, else from the years of birth and visit."""
    age = columns.number(record, "age")
    if age is None:
        baseline = columns.number(record, "age at baseline")
        if baseline is not None:
            age = round(baseline + (months or 0) / 12, 2)
    if age is None:  # AIBL publishes the year of birth alone
        dates = (columns.text(record, date) for date in ("date of birth", "examination date"))
        born, seen = (_YEAR.search(date or "") for date in dates)
        age = float(int(seen[1]) - int(born[1])) if born and seen else None
    if age is not None and not 0 < age < MAX_AGE:
        raise _bad_value(record, "age", f"{age:g}", "expected years")
    return age


def _refuse_duplicates(table: pd.DataFrame) -> None:
    # M00 and M000 are one session: compare months, not names.
    repeated = table[table.duplicated(["participant_id", "months"], keep="first")]
    if len(repeated):
        row = repeated.iloc[0]
        same = (table["participant_id"] == row["participant_id"]) & (
            (table["months"] == row["months"]) | table["months"].isna()
        )
        others = [s for s in table.loc[same, "session_id"] if s != row["session_id"]]
        also = f" (as {others[0]} too)" if others and row["session_id"] else ""
        raise InputError(
            f"{row['file']}: {row['participant_id']} {row['session_id']} stands twice{also}; "
            "keep one row"
        )
