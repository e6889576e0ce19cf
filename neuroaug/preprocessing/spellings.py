"""One session under two names, in the raw folder, in the CAPS, or across both."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from neuroaug.imaging import caps as caps_names
from neuroaug.imaging.bids import Visit, is_session, loose
from neuroaug.preprocessing.refusal import Refusal, refuse
from neuroaug.preprocessing.request import Request


def two_spellings(request: Request, wanted: Iterable[Visit]) -> dict[Visit, Refusal]:
    """Refuse visits whose session has another name too (``ses-M00`` and ``ses-M000``).

    To preprocess one would repeat work, and tables that name the other would find both.
    """
    wanted = list(wanted)
    names: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for visit in wanted:
        place = "CAPS" if request.bids is None else "BIDS folder"
        names[_key(visit)].setdefault(visit.session_id, place)
    for participant in {visit.participant_id for visit in wanted}:
        for caps in {request.caps, request.target}:
            for visit in _registered(caps, participant):
                names[_key(visit)].setdefault(visit.session_id, "CAPS")
    refused = {}
    for visit in wanted:
        if len(spelled := names[_key(visit)]) > 1:
            told = " and ".join(f"{name} ({place})" for name, place in sorted(spelled.items()))
            refused[visit] = refuse(
                f"{told} are two spellings of one session; rename or remove one of them",
                visit.participant_id,
                visit.session_id,
            )
    return refused


def _key(visit: Visit) -> tuple[str, str]:
    return visit.participant_id, loose(visit.session_id)


def _registered(caps: Path, participant: str) -> Iterable[Visit]:
    """Visits of a participant that have a folder of t1-linear in a CAPS."""
    for folder in sorted(caps.glob(f"subjects/{participant}/ses-*/t1_linear")):
        session = folder.parent.name
        visit = Visit(participant, session) if is_session(session) else None
        if visit is not None and caps_names.t1_linear_files(caps, visit):
            yield visit
