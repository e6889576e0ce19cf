"""Everybody of a cohort accounted for: labelled, or left out by one rule each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from neuroaug.cohort.custom_labels import assign_custom_labels
from neuroaug.cohort.labels import EXCLUSION_COLUMNS, NO_ROW, assign_labels
from neuroaug.cohort.reading.custom_tables import read_custom
from neuroaug.cohort.reading.identifiers import by_session, loose
from neuroaug.cohort.rules import LABELS
from neuroaug.cohort.tables import read_published
from neuroaug.config.label_settings import CUSTOM, LabelRules
from neuroaug.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from neuroaug.study import Study

Pair = tuple[str, str]


@dataclass(frozen=True)
class Account:
    """What became of everybody who stands in the tables or has an image.

    Attributes
    ----------
    people : int
        People in the tables or with an image.
    labelled : dict of str to int
        People of each label.
    left_out : dict of str to list of str
        People of each rule, each person once: by the first rule that applied.
    images : int
        Visits with an image; without a CAPS, 0.
    images_without_row : tuple of str
        Visits (``sub-X_ses-Y``) with an image that no row of the tables describes.
    rows_without_image : tuple of str
        Rows (``sub-X_ses-Y``; ``sub-X`` where it names no session) whose visit has no image.
    """

    people: int
    labelled: dict[str, int]
    left_out: dict[str, list[str]]
    images: int = 0
    images_without_row: tuple[str, ...] = ()
    rows_without_image: tuple[str, ...] = ()

    @property
    def excluded(self) -> dict[str, int]:
        """Number of people left out by each rule."""
        return {rule: len(people) for rule, people in self.left_out.items()}

    def lines(self) -> list[str]:
        """Say the counts, as `split` and `check` print them."""
        out = sum(self.excluded.values())
        labels = ", ".join(f"{n} {label}" for label, n in self.labelled.items()) or "nobody"
        lines = [f"{self.people} people: {labels}; {out} left out"]
        for rule, people in self.left_out.items():
            lines.append(f"left out, {rule}: {len(people)} ({_named(people)})")
        if self.images or self.rows_without_image:
            lines.append(f"images of {self.images} visits")
        for what, names in (
            ("images without a row in the tables", self.images_without_row),
            ("rows without an image", self.rows_without_image),
        ):
            if names:
                lines.append(f"{what}: {len(names)} ({_named(names)})")
        return lines


@dataclass(frozen=True)
class LabelledCohort:
    """A cohort read, labelled and accounted for.

    Attributes
    ----------
    cohort : str
        ``adni``, ``aibl``, ``oasis1`` or ``custom``.
    labelled : DataFrame
        One row per labelled person: participant_id, session_id, diagnosis (the label), age, sex,
        site, mmse, cdr.
    exclusions : DataFrame
        participant_id, session_id, rule: everybody left out, and visits that were dropped.
    account : Account
        Counts of both.
    notes : tuple of str
        What was understood otherwise than written, and what is not in the tables.
    absent : tuple of str
        Which of age, sex and site no table has.
    """

    cohort: str
    labelled: pd.DataFrame
    exclusions: pd.DataFrame
    account: Account
    notes: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()


def label_cohort(
    tables: str | Path,
    caps: str | Path | None = None,
    *,
    cohort: str = "auto",
    rules: LabelRules | None = None,
    min_age: float | None = None,
    resolution: str | None = None,
) -> LabelledCohort:
    """Read a cohort's tables, images and quality check, and say who has which label.

    Every command that believes something about a cohort asks here.

    Parameters
    ----------
    tables : path-like
        Folder of the clinical tables, or one merged table.
    caps : path-like, optional
        Preprocessed images; without it every row is taken to have a good one.
    cohort : {"auto", "adni", "aibl", "oasis1", "custom"}
        Whose conventions the tables follow.
    rules : LabelRules, optional
        Which values of which column give a label; with them the cohort is a custom one.
    min_age : float, optional
        Youngest age; by default that of the cohort.
    resolution : {"1mm", "2mm", "4mm"}, optional
        Only images of this voxel size; by default any.

    Raises
    ------
    InputError
        A table cannot be understood, or one person or visit has two names.
    """
    if rules is None and cohort == CUSTOM:
        raise InputError("cohort custom: its labels are not given; write labels: in neuroaug.yaml")
    images, passed, checked = _images(caps, resolution)
    folders = sorted({person for person, _ in images or ()})
    absent: tuple[str, ...] = ()
    if rules is None:
        visits, cohort, notes = read_published(tables, cohort, folders)
        labelled, exclusions = assign_labels(
            visits, cohort, caps_visits=images, passed=passed, checked=checked, min_age=min_age
        )
        rows = [
            (str(person), None if session is None else str(session))
            for person, session in zip(visits["participant_id"], visits["session_id"], strict=True)
        ]
        exclusions = _with_strangers(exclusions, images or (), {person for person, _ in rows})
    else:
        source = read_custom(Path(tables), rules, folders)
        labelled, exclusions, more = assign_custom_labels(
            source, rules, images=images, passed=passed, checked=checked, min_age=min_age
        )
        cohort, rows, absent = CUSTOM, source.rows(), source.absent
        notes = [*source.notes, *more]
    labels = rules.names if rules is not None else LABELS
    account = _account(labelled, exclusions, rows, images, labels)
    return LabelledCohort(cohort, labelled, exclusions, account, tuple(notes), absent)


def external_rules(study: Study, name: str) -> LabelRules | None:
    """Label rules of an external test cohort: its own, else the study's; None if published."""
    external = study.config.external[name]
    if external.labels is None and external.cohort in ("auto", CUSTOM):
        return study.config.label_rules
    return external.labels


def label_external(study: Study, name: str) -> LabelledCohort:
    """Label an external test cohort of a study; see `label_cohort`.

    Raises
    ------
    InputError
        See `label_cohort`.
    """
    external = study.config.external[name]
    return label_cohort(
        study.path(external.tables),
        study.path(external.caps),
        cohort=external.cohort,
        rules=external_rules(study, name),
        min_age=external.min_age,
        resolution=study.config.resolution,
    )


def _images(
    caps: str | Path | None, resolution: str | None
) -> tuple[list[Pair] | None, list[Pair] | None, list[Pair] | None]:
    """Visits with an image, those that passed the quality check, and those that it looked at."""
    if caps is None:
        return None, None, None
    from neuroaug.imaging.caps import list_visits, require_caps
    from neuroaug.preprocessing.records import QC, passed_visits, read_decisions
    from neuroaug.system.files import read_tsv

    caps = require_caps(caps)
    images = [(v.participant_id, v.session_id) for v in list_visits(caps, resolution)]
    passed = passed_visits(caps)
    if passed is None:
        return images, None, None
    good = [(v.participant_id, v.session_id) for v in passed]
    if not (caps / QC).is_file():  # decisions alone: what they do not reject counts as looked at
        return images, good, None
    table = read_tsv(caps / QC, required=("participant_id", "session_id"))
    looked = list(zip(table["participant_id"], table["session_id"], strict=True))
    decided = [(v.participant_id, v.session_id) for v in read_decisions(caps)]
    return images, good, sorted({*looked, *decided})


def _with_strangers(
    exclusions: pd.DataFrame, images: Iterable[Pair], known: set[str]
) -> pd.DataFrame:
    """Add a row for everybody who has an image and stands in no table."""
    import pandas as pd

    first: dict[str, str] = {}
    for person, session in sorted(images):
        if person not in known:
            first.setdefault(person, session)
    if not first:
        return exclusions
    more = [(person, session, NO_ROW) for person, session in first.items()]
    return pd.concat(
        [exclusions, pd.DataFrame(more, columns=list(EXCLUSION_COLUMNS))], ignore_index=True
    )


def _account(
    labelled: pd.DataFrame,
    exclusions: pd.DataFrame,
    rows: Sequence[tuple[str, str | None]],
    images: Sequence[Pair] | None,
    labels: Sequence[str],
) -> Account:
    people = {person for person, _ in rows} | {person for person, _ in images or ()}
    kept = list(labelled["participant_id"])
    left_out: dict[str, list[str]] = {}
    seen = set(kept)
    for person, rule in zip(exclusions["participant_id"], exclusions["rule"], strict=True):
        if person not in seen:
            seen.add(person)
            left_out.setdefault(rule, []).append(person)
    if len(kept) != len(set(kept)) or seen != people:
        odd = sorted(seen ^ people) or sorted(p for p in set(kept) if kept.count(p) > 1)
        raise InputError(f"tables: {_named(odd)}: lost while labels were given; please report this")
    counts = labelled["diagnosis"].value_counts()
    names = list(labels) or sorted(counts.index)
    unseen, without_image = _unmatched(rows, images)
    return Account(
        people=len(people),
        labelled={str(label): int(counts.get(label, 0)) for label in names},
        left_out=left_out,
        images=len(images or ()),
        images_without_row=unseen,
        rows_without_image=without_image,
    )


def _unmatched(
    rows: Sequence[tuple[str, str | None]], images: Sequence[Pair] | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Images without a row, and rows without an image."""
    if images is None:
        return (), ()
    keys: Mapping[Pair, Pair] = by_session(images)
    have = {person for person, _ in keys}
    described = {(person, loose(session)) for person, session in rows if session is not None}
    whole = {person for person, session in rows if session is None}
    unseen = [
        f"{person}_{session}"
        for key, (person, session) in keys.items()
        if key not in described and person not in whole
    ]
    without = [
        person if session is None else f"{person}_{session}"
        for person, session in rows
        if (person not in have if session is None else (person, loose(session)) not in keys)
    ]
    return tuple(sorted(unseen)), tuple(sorted(without))


def _named(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
