"""What cannot be preprocessed, and why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from neuroaug.system.files import cell_text


@dataclass(frozen=True, order=True)
class Refusal:
    """A row of ``failures.tsv``: a visit, or a row of a table, that cannot be used.

    Attributes
    ----------
    participant_id, session_id : str
        As found, possibly no names that BIDS allows; ``n/a`` where it is about none.
    stage : str
        ``select`` (folders), ``tables`` (rows), or the stage of preprocessing that failed.
    reason : str
        Why, in one line.
    """

    participant_id: str
    session_id: str
    stage: str
    reason: str


NO_FOLDER = "listed in participants.tsv, but has no folder, so no T1w"


def named(participants: Sequence[str], at_most: int = 5) -> str:
    """``sub-01, sub-02, ...``: the first few."""
    more = ", ..." if len(participants) > at_most else ""
    return ", ".join(participants[:at_most]) + more


def tell_refusals(rows: Iterable[Refusal]) -> str:
    """``2 failed, 56 listed in participants.tsv without a folder``: who is left out, counted."""
    rows = list(rows)
    absent = sum(row.reason == NO_FOLDER for row in rows)
    told = f"{len(rows) - absent} failed"
    return f"{told}, {absent} listed in participants.tsv without a folder" if absent else told


def tell_each(rows: Sequence[Refusal]) -> list[str]:
    """Tell of every refused visit or row in a line; people without a folder share one."""
    absent = [row.participant_id for row in rows if row.reason == NO_FOLDER]
    lines = []
    if len(absent) > 1:
        who = f"{len(absent)} people of participants.tsv"
        lines = [f"{who} have no folder, so no T1w: {named(absent, 20)}"]
    return lines + [
        f"{row.participant_id} {row.session_id}: {row.stage}: {row.reason}"
        for row in rows
        if row.reason != NO_FOLDER or len(absent) == 1
    ]


def refuse(
    reason: object, participant: object = "n/a", session: object = "n/a", stage: str = "select"
) -> Refusal:
    """Make a refusal of names and reasons that may hold any bytes."""
    return Refusal(cell_text(participant), cell_text(session), stage, cell_text(reason))
