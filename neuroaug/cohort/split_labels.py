"""Labels of a table of the user's own, read by the rules by which `split` gives them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from neuroaug.cohort.custom_labels import LabelLookup, normal
from neuroaug.cohort.rules import DIAGNOSES, SYNONYMS
from neuroaug.errors import InputError

if TYPE_CHECKING:
    from neuroaug.config.label_settings import LabelRules


def study_labels(
    written: Sequence[str],
    lines: Sequence[int],
    where: str,
    *,
    labels: Sequence[str],
    rules: LabelRules | None,
) -> list[str]:
    """Labels of a study that the rows of a table mean.

    Parameters
    ----------
    written : sequence of str
        ``diagnosis`` of each row.
    lines : sequence of int
        Line of each row, for messages.
    where : str
        The table, for messages.
    labels : sequence of str
        Labels of the study.
    rules : LabelRules or None
        Of a custom cohort: a label's values mean it too. Else the published cohorts' diagnoses do.

    Raises
    ------
    InputError
        For labels that are none of the study's; their lines are named.
    """
    names = {normal(label): label for label in labels}
    if rules is not None:
        lookup = LabelLookup(rules)

        def meaning(text: str) -> str | None:
            return names.get(normal(text)) or lookup.label(text)
    else:

        def meaning(text: str) -> str | None:
            return names.get(normal(text)) or DIAGNOSES.get(text.strip().upper())

    return _meant(written, lines, where, meaning, labels)


def _meant(
    written: Sequence[str],
    lines: Sequence[int],
    where: str,
    meaning: Callable[[str], str | None],
    labels: Sequence[str],
) -> list[str]:
    found = [meaning(text) for text in written]
    rows = zip(lines, written, found, strict=True)
    odd = [(line, text) for line, text, label in rows if label not in labels]
    if odd:
        shown = ", ".join(f"line {line} '{text}'" for line, text in odd[:5])
        more = f" and {len(odd) - 5} more" if len(odd) > 5 else ""
        raise InputError(
            f"{where}: no label of the study ({', '.join(labels)}): {shown}{more}; "
            "correct these rows or take them out"
        )
    return [label for label in found if label is not None]


def refuse_two_spellings(written: Sequence[str], lines: Sequence[int], where: str) -> None:
    """Check, where no study tells the labels, that each has one spelling.

    Raises
    ------
    InputError
        If two differ by case, blanks or as synonyms only; their lines are named.
    """
    first: dict[str, tuple[str, int]] = {}
    for text, line in zip(written, lines, strict=True):
        key = normal(SYNONYMS.get(normal(text), text))
        other, at = first.setdefault(key, (text, line))
        if other != text:
            raise InputError(
                f"{where}: '{other}' (line {at}) and '{text}' (line {line}) are one label; "
                "write it one way"
            )
