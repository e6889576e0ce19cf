"""Names of people and sessions as tables spell them, matched with the folders of the images."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from neuroaug.errors import InputError
from neuroaug.imaging.bids import by_session, loose, prefixed

__all__ = ["by_session", "loose", "match_people", "prefixed", "session_months"]

FIRST_SESSION = "ses-M000"  # of an image without sessions, as Clinica converts it
_MONTHS = re.compile(r"ses-M(\d+)")


def session_months(session_id: str) -> int | None:
    """Months after baseline of a session: ``ses-M006`` -> 6, ``ses-M00`` -> 0, others -> None."""
    match = _MONTHS.fullmatch(session_id)
    return int(match[1]) if match else None


def match_people(
    written: Sequence[object],
    folders: Iterable[str],
    where: str,
    lines: Sequence[int] | None = None,
) -> tuple[list[str], list[str]]:
    """Find the person whom each row means.

    Parameters
    ----------
    written : sequence of str
        ``participant_id`` of each row, as the table has it.
    folders : iterable of str
        Names of the people who have a folder.
    where : str
        The table, for messages.
    lines : sequence of int, optional
        Line of each row, for messages.

    Returns
    -------
    names : list of str
        ``sub-X`` of each row: the folder's spelling where there is one.
    notes : list of str
        What was matched by another spelling.

    Raises
    ------
    InputError
        For a name that is none, one that several folders fit, or two names of one person.
    """
    exact = set(folders)
    alike: defaultdict[str, set[str]] = defaultdict(set)
    for folder in exact:
        alike[loose(folder)].add(folder)
    found: dict[str, str] = {}
    for i, text in enumerate(written):
        if not isinstance(text, str):
            line = f"line {lines[i]}" if lines else f"row {i + 1}"
            raise InputError(f"{where}: {line} has no participant_id; write whose it is")
    for text in dict.fromkeys(map(str, written)):
        name = prefixed(text, "sub-")
        if name is None:
            raise InputError(
                f"{where}: participant_id '{text}' is not sub- followed by letters and digits"
            )
        candidates = {name} if name in exact else alike[loose(name)]
        if len(candidates) > 1:
            several = " and ".join(sorted(candidates))
            raise InputError(f"{where}: {text} may be {several}; write which one it is")
        found[text] = next(iter(candidates), name)
    _refuse_two_names(found, exact, where)
    changed = [(text, name) for text, name in found.items() if text != name]
    notes = []
    if changed:
        shown = ", ".join(f"'{text}' is {name}" for text, name in changed[:3])
        more = ", ..." if len(changed) > 3 else ""
        notes = [f"{where}: {len(changed)} people matched by another spelling ({shown}{more})"]
    return [found[str(text)] for text in written], notes


def _refuse_two_names(found: dict[str, str], exact: set[str], where: str) -> None:
    people: dict[str, tuple[str, str]] = {}
    for text, name in found.items():
        other, of = people.setdefault(loose(name), (text, name))
        if other == text or (name != of and {name, of} <= exact):
            continue
        if other.casefold() == text.casefold():
            how = "differ by upper and lower case only"
        else:
            how = "are two spellings of one name"
        raise InputError(f"{where}: {other} and {text} {how}; one person has one name")
