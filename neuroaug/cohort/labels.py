"""Who has which label in a published cohort, and who is left out by which rule (TPAMI sec. 5.2)."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from neuroaug.cohort.reading.identifiers import by_session, session_months
from neuroaug.cohort.reading.numbers import MAX_AGE
from neuroaug.cohort.rules import COHORTS, DEFAULT_MIN_AGE, LABELS, NORMAL
from neuroaug.cohort.tables import MEASURED
from neuroaug.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

LABELLED_COLUMNS = ("participant_id", "session_id", "diagnosis", *MEASURED)
EXCLUSION_COLUMNS = ("participant_id", "session_id", "rule")
NO_SESSION = "no session in the tables"
NO_BASELINE = "no baseline session"
SMC = "SMC at screening"
NO_BASELINE_DIAGNOSIS = "baseline without diagnosis"
OTHER_DIAGNOSIS = "{} at baseline"
CHANGES = "diagnosis changes to {}"
DROPPED_VISIT = "visit without diagnosis dropped"
NO_IMAGE = "no preprocessed T1w image"
NO_ROW = "image without a row in the tables"
FAILED_QUALITY = "quality check failed"
NOT_CHECKED = "not in qc.tsv"
TOO_YOUNG = "younger than {:g}"
UNKNOWN_AGE = "age unknown"


def fill_diagnoses(diagnoses: Sequence[str | None]) -> list[str | None]:
    """Fill each missing diagnosis that stands between two equal ones; the others stay None.

    Parameters
    ----------
    diagnoses : sequence of str or None
        One participant's, in the order of their visits.
    """
    filled = list(diagnoses)
    known = [i for i, diagnosis in enumerate(diagnoses) if diagnosis is not None]
    for before, after in pairwise(known):
        if diagnoses[before] == diagnoses[after]:
            filled[before + 1 : after] = [diagnoses[before]] * (after - before - 1)
    return filled


def assign_labels(
    visits: pd.DataFrame,
    cohort: str,
    *,
    caps_visits: Iterable[Any] | None = None,
    passed: Iterable[Any] | None = None,
    checked: Iterable[Any] | None = None,
    min_age: float | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Label participants by their baseline session, and list everyone left out.

    A label is that of the baseline, where every later visit with a diagnosis has it too. A missing
    diagnosis between two equal ones is filled with it, otherwise that visit is dropped. In OASIS-1
    a participant who was never given a CDR (the young controls) counts as normal.

    Parameters
    ----------
    visits : DataFrame
        As `neuroaug.cohort.tables.read_visits` returns it.
    cohort : {"adni", "aibl", "oasis1"}
        Cohort whose rules apply.
    caps_visits : iterable of visits, optional
        Preprocessed visits: pairs, or objects with participant_id and session_id. Without it, every
        baseline is taken to have an image. Sessions are matched by their months and take the name
        that they have here (``ses-M00`` in a table is ``ses-M000`` of the CAPS).
    passed : iterable of visits, optional
        Visits that passed the quality check; without it all did.
    checked : iterable of visits, optional
        Visits that the quality check looked at, where it did not look at all: the others are left
        out for that, not for having failed.
    min_age : float, optional
        Youngest age at baseline; by default 62 for OASIS-1 and none elsewhere. 0 takes all.

    Returns
    -------
    labelled : DataFrame
        One row per participant: participant_id, session_id, diagnosis, age, sex, site, mmse, cdr.
    exclusions : DataFrame
        participant_id, session_id, rule: the visit where the first rule that applied did so, and
        each later visit that was dropped for want of a diagnosis.

    Raises
    ------
    InputError
        Unknown cohort, a negative age, or one visit under two spellings of its session.
    """
    import pandas as pd

    if cohort not in COHORTS:
        raise InputError(f"cohort '{cohort}': unknown; one of {', '.join(COHORTS)}")
    bound = age_bound(DEFAULT_MIN_AGE[cohort] if min_age is None else min_age)
    images, good = _by_months(caps_visits, "CAPS"), _by_months(passed, "qc.tsv")
    seen = _by_months(checked, "qc.tsv")
    labelled, exclusions = [], []
    for participant, group in visits.groupby("participant_id", sort=True):
        history = group.sort_values("months", kind="stable").to_dict("records")
        label, rows = _label(history, cohort)
        if label is not None:
            baseline = history[0]
            key = (str(participant), 0)
            rule = image_rule(key, images, good, seen) or age_rule(baseline["age"], bound)
            if rule is None:
                session = images[key] if images is not None else baseline["session_id"]
                labelled.append({**baseline, "session_id": session, "diagnosis": label})
            else:
                rows = [(baseline["session_id"], rule)]
        exclusions += [(participant, session, rule) for session, rule in rows]
    return (
        pd.DataFrame(labelled, columns=list(LABELLED_COLUMNS)),
        pd.DataFrame(exclusions, columns=list(EXCLUSION_COLUMNS)),
    )


def age_bound(min_age: float) -> float:
    """Check the youngest age.

    Raises
    ------
    InputError
        If it is no number of years.
    """
    if not 0 <= min_age < MAX_AGE:
        raise InputError(f"min_age {min_age:g}: expected years from 0 (no bound) to {MAX_AGE}")
    return min_age


def pairs_of(visits: Iterable[Any]) -> list[tuple[str, str]]:
    """Visits as pairs of names, whether they are pairs or objects with both names."""
    return [v if isinstance(v, tuple) else (v.participant_id, v.session_id) for v in visits]


def _by_months(visits: Iterable[Any] | None, where: str) -> dict[tuple[str, int], str] | None:
    """Session names by participant and months; without those that months do not name."""
    if visits is None:
        return None
    pairs = by_session(pairs_of(visits), where).values()
    return {(p, months): s for p, s in pairs if (months := session_months(s)) is not None}


def _label(
    history: Sequence[Mapping[Any, Any]], cohort: str
) -> tuple[str | None, list[tuple[str | None, str]]]:
    """One participant's label, or None, and the exclusion rows of their visits."""
    baseline = history[0]
    session = baseline["session_id"]
    if session is None:
        return None, [(None, NO_SESSION)]
    if baseline["months"] != 0:
        return None, [(session, NO_BASELINE)]
    if (baseline["screening"] or "").upper() == "SMC":
        return None, [(session, SMC)]
    given = [visit["diagnosis"] for visit in history]
    if cohort == "oasis1" and not any(given):
        given = [NORMAL] * len(given)
    diagnoses = fill_diagnoses(given)
    label = diagnoses[0]
    if label is None:
        return None, [(session, NO_BASELINE_DIAGNOSIS)]
    if label not in LABELS:
        return None, [(session, OTHER_DIAGNOSIS.format(label))]
    for visit, diagnosis in zip(history, diagnoses, strict=True):
        if diagnosis not in (None, label):
            return None, [(visit["session_id"], CHANGES.format(diagnosis))]
    visits = zip(history, diagnoses, strict=True)
    return label, [(v["session_id"], DROPPED_VISIT) for v, known in visits if known is None]


def image_rule(
    key: tuple[str, Any],
    images: Container[tuple[str, Any]] | None,
    good: Container[tuple[str, Any]] | None,
    checked: Container[tuple[str, Any]] | None = None,
) -> str | None:
    """Rule by which a visit is left out for its image; None where the image is good."""
    if images is not None and key not in images:
        return NO_IMAGE
    if good is not None and key not in good:
        return FAILED_QUALITY if checked is None or key in checked else NOT_CHECKED
    return None


def age_rule(age: float | None, bound: float) -> str | None:
    """Rule by which a person is left out for their age; None where it is no reason."""
    if bound <= 0:
        return None
    if age is None:
        return UNKNOWN_AGE
    return TOO_YOUNG.format(bound) if age < bound else None
