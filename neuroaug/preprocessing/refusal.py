"""What cannot be preprocessed, and why."""

from __future__ import annotations

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


def refuse(
    reason: object, participant: object = "n/a", session: object = "n/a", stage: str = "select"
) -> Refusal:
    """Make a refusal of names and reasons that may hold any bytes."""
    return Refusal(cell_text(participant), cell_text(session), stage, cell_text(reason))
