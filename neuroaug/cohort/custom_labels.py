"""Who has which label in a cohort of the user's own, and who is left out by which rule."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from neuroaug.cohort.labels import (
    EXCLUSION_COLUMNS,
    LABELLED_COLUMNS,
    NO_IMAGE,
    NO_ROW,
    age_bound,
    age_rule,
    image_rule,
    pairs_of,
)
from neuroaug.cohort.reading.custom_tables import CustomTables, TableVisit, age_of, score_of
from neuroaug.cohort.reading.identifiers import FIRST_SESSION, by_session, loose, session_months
from neuroaug.cohort.reading.numbers import NumberReader, is_missing

if TYPE_CHECKING:
    import pandas as pd

    from neuroaug.config.label_settings import LabelRules

MISSING_LABEL = "{} missing"
NO_LABEL = "{} '{}' is no label of the study"
CHANGES = "{} changes from {} to {}"
NO_LABELLED_IMAGE = "no session with an image and a label"
UNREADABLE_AGE = "age not readable: '{}'"

Excluded = tuple[str | None, str]


class LabelLookup:
    """Finds the label that a cell means: its case, its blanks and ``1.0`` for 1 do not count."""

    def __init__(self, rules: LabelRules) -> None:
        self.column = rules.column
        self._labels = {
            normal(value): label
            for label, meant in rules.values.items()  # noqa: PD011  # no table
            for value in meant
        }

    def label(self, text: str | None) -> str | None:
        """Label of a cell; None if it means none."""
        return None if text is None else self._labels.get(normal(text))

    def known(self, text: str | None) -> str | None:
        """Text of a cell that tells something: a value that is named, or no word for missing."""
        if text is None or (self.label(text) is None and is_missing(text)):
            return None
        return text

    def said(self, text: str) -> str:
        """How a cell is called in a rule: by its label, else as it is written."""
        return self.label(text) or f"'{' '.join(text.split())}'"


def normal(text: str) -> str:
    """Key that spellings of one value share.

    Examples
    --------
    >>> normal(" Major  Depression "), normal("1.0") == normal("1")
    ('major depression', True)
    """
    folded = " ".join(unicodedata.normalize("NFKC", text).split()).casefold()
    return re.sub(r"(?<=\d)\.0+$", "", folded) if re.fullmatch(r"-?\d+\.0+", folded) else folded


def assign_custom_labels(
    tables: CustomTables,
    rules: LabelRules,
    *,
    images: Iterable[Any] | None = None,
    passed: Iterable[Any] | None = None,
    checked: Iterable[Any] | None = None,
    min_age: float | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """Label people by their first session that has an image and a label.

    Parameters
    ----------
    tables : CustomTables
        What the tables say.
    rules : LabelRules
        Which values give a label, and what becomes of people whose label changes.
    images, passed, checked : iterable of visits, optional
        See `neuroaug.cohort.labels.assign_labels`.
    min_age : float, optional
        Youngest age; by default none.

    Returns
    -------
    labelled, exclusions : DataFrame
        See `neuroaug.cohort.labels.assign_labels`; here every person is in one of them, once.
    notes : list of str
        How sessions were ordered, and what was read otherwise than written.

    Raises
    ------
    InputError
        A negative age, or one visit under two spellings of its session.
    """
    import pandas as pd

    labeller = _Labeller(tables, rules, images, passed, checked, age_bound(min_age or 0.0))
    labelled, exclusions = [], []
    for person in sorted({*tables.people, *labeller.images}):
        result = labeller.label(person)
        if isinstance(result, dict):
            labelled.append(result)
        else:
            exclusions.append((person, *result))
    return (
        pd.DataFrame(labelled, columns=list(LABELLED_COLUMNS)).astype({"age": object}),
        pd.DataFrame(exclusions, columns=list(EXCLUSION_COLUMNS)),
        labeller.notes(),
    )


class _Labeller:
    def __init__(
        self,
        tables: CustomTables,
        rules: LabelRules,
        images: Iterable[Any] | None,
        passed: Iterable[Any] | None,
        checked: Iterable[Any] | None,
        bound: float,
    ) -> None:
        self._tables, self._rules, self._bound = tables, rules, bound
        self._lookup = LabelLookup(rules)
        self._have = None if images is None else by_session(pairs_of(images))
        self._good = None if passed is None else by_session(pairs_of(passed), "qc.tsv")
        self._checked = None if checked is None else by_session(pairs_of(checked), "qc.tsv")
        self.images: dict[str, list[str]] = {}
        for person, session in (self._have or {}).values():
            self.images.setdefault(person, []).append(session)
        self._numbers = NumberReader()
        self._orders: Counter[str] = Counter()
        self._sexes: Counter[str] = Counter()

    def notes(self) -> list[str]:
        lines = [f"order of sessions: {how} ({n} people)" for how, n in self._orders.items()]
        lines += self._numbers.notes()
        lines += [
            f"sex: '{text}' of {n} people is neither M nor F; counted as missing"
            for text, n in sorted(self._sexes.items())
        ]
        return lines

    def label(self, person: str) -> dict[str, Any] | Excluded:
        """Row of a labelled person, or the session and rule by which they are left out."""
        mine = self.images.get(person, [])
        if person not in self._tables.people:
            return min(mine), NO_ROW
        ordered = self._ordered(person, mine)
        said = [(name, self._text(person, name)) for name in ordered]
        known = [(name, text) for name, text in said if text is not None]
        first = next(iter(ordered), None)
        if not known:
            return first, MISSING_LABEL.format(self._rules.column)
        rule = self._value_rule(known)
        if rule is not None:
            return rule
        with_image = [
            pair for pair in known if self._have is None or (person, loose(pair[0])) in self._have
        ]
        if not mine and self._have is not None:
            return known[0][0], NO_IMAGE
        candidates = [name for name, text in with_image if self._lookup.label(text)]
        if not candidates:
            if with_image:
                name, text = with_image[0]
                return name, NO_LABEL.format(self._rules.column, " ".join(text.split()))
            described = any(self._tables.visit(person, session) for session in mine)
            return mine[0], NO_LABELLED_IMAGE if described else NO_ROW
        return self._checked_row(person, candidates[0])

    def _text(self, person: str, session: str) -> str | None:
        visit = self._tables.visit(person, session)
        return None if visit is None else self._lookup.known(visit.label_text)

    def _value_rule(self, known: Sequence[tuple[str, str]]) -> Excluded | None:
        """Rule by what the label's column says at all sessions of a person."""
        column, lookup = self._rules.column, self._lookup
        meanings = [lookup.label(text) or normal(text) for _, text in known]
        if not any(lookup.label(text) for _, text in known) and len(set(meanings)) == 1:
            return known[0][0], NO_LABEL.format(column, " ".join(known[0][1].split()))
        if self._rules.changing == "exclude":
            for (name, text), meaning in zip(known, meanings, strict=True):
                if meaning != meanings[0]:
                    before, now = lookup.said(known[0][1]), lookup.said(text)
                    return name, CHANGES.format(column, before, now)
        return None

    def _checked_row(self, person: str, session: str) -> dict[str, Any] | Excluded:
        """Row of a person by their baseline, unless its image or age leaves them out."""
        key = (person, loose(session))
        rule = image_rule(key, self._have, self._good, self._checked)
        visit = self._tables.visit(person, session)
        assert visit is not None  # it has told the label
        age = None
        if rule is None:
            try:
                age = age_of(visit, self._numbers)
            except ValueError as error:
                rule = UNREADABLE_AGE.format(error)
        rule = rule or age_rule(age, self._bound)
        if rule is not None:
            return session, rule
        if visit.sex is None and (text := visit.text("sex")) is not None:
            self._sexes[text] += 1
        return {
            "participant_id": person,
            "session_id": session if self._have is None else self._have[key][1],
            "diagnosis": self._lookup.label(visit.label_text),
            "age": age,
            "sex": visit.sex,
            "site": visit.text("site"),
            "mmse": score_of(visit, "mmse", self._numbers),
            "cdr": score_of(visit, "cdr", self._numbers),
        }

    def _ordered(self, person: str, images: Sequence[str]) -> list[str]:
        """Sessions of a person, of tables and images, in the order of time."""
        visits: Mapping[str, TableVisit] = self._tables.sessions.get(person, {})
        names = {key: str(visit.session) for key, visit in visits.items()}
        names |= {loose(name): name for name in images}
        if not names:
            return [FIRST_SESSION]
        keys = sorted(names, key=_natural)
        if len(keys) == 1:
            return list(names.values())
        months = [session_months(names[key]) for key in keys]
        rank: dict[str, Any] | None = None
        if None not in months:
            how, rank = "by the months in their names", dict(zip(keys, months, strict=True))
        elif dates := _all_known(keys, {key: visit.date for key, visit in visits.items()}):
            how, rank = "by date", dates
        elif ages := _all_known(keys, {key: self._age(visit) for key, visit in visits.items()}):
            how, rank = "by age", ages
        else:
            how = "by name"
        self._orders[how] += 1
        ordered = keys if rank is None else sorted(keys, key=lambda key: rank[key])
        return [names[key] for key in ordered]

    def _age(self, visit: TableVisit) -> float | None:
        try:
            return age_of(visit, NumberReader())
        except ValueError:
            return None


def _all_known(keys: Sequence[str], values: Mapping[str, Any]) -> dict[str, Any] | None:
    """Values of all keys, if each has one and no two are equal."""
    found = {key: values.get(key) for key in keys}
    if None in found.values() or len(set(found.values())) < len(found):
        return None
    return found


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort ``ses-2`` before ``ses-10``."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]
