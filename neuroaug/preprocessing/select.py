"""Which T1w image stands for each visit asked for, and which visits have none that can be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from neuroaug.errors import InputError
from neuroaug.imaging import bids as bids_names
from neuroaug.imaging.bids import Visit, is_participant, is_session
from neuroaug.preprocessing.bids_filter import read_filter
from neuroaug.preprocessing.choose_scan import RawScan, choose_scan, require_target, some
from neuroaug.preprocessing.refusal import NO_FOLDER, Refusal, refuse
from neuroaug.system.files import cell_text, read_json, read_tsv, reading

MAX_STEM = 170  # a file name has 255 characters


@dataclass(frozen=True)
class Selection:
    """What was asked for, out of all visits and images; None stands for all.

    Attributes
    ----------
    participants, sessions : frozenset of str, optional
        Names with their prefix.
    visits : frozenset of Visit, optional
        Rows of a table of visits.
    query : mapping
        What chooses among several T1w images per visit (`bids_filter.read_filter`).
    part : (i, n)
        Of n parts that the participants are dealt into, the i-th.
    refusals : tuple of Refusal
        Rows of the table that name no possible visit.
    """

    participants: frozenset[str] | None = None
    sessions: frozenset[str] | None = None
    visits: frozenset[Visit] | None = None
    query: Mapping[str, Any] = field(default_factory=dict)
    part: tuple[int, int] = (1, 1)
    refusals: tuple[Refusal, ...] = ()

    def __contains__(self, visit: Visit) -> bool:
        return (
            self.has_participant(visit.participant_id)
            and (self.sessions is None or visit.session_id in self.sessions)
            and (self.visits is None or visit in self.visits)
        )

    def concerns(self, refusal: Refusal) -> bool:
        """Whether a refusal is about something in the selection."""
        if not self.has_participant(refusal.participant_id):
            return False
        if is_session(refusal.session_id) and is_participant(refusal.participant_id):
            return Visit(refusal.participant_id, refusal.session_id) in self
        return True

    def has_participant(self, participant_id: str) -> bool:
        """Whether any visit of a participant can be in the selection."""
        if self.participants is not None and participant_id not in self.participants:
            return False
        return self.visits is None or participant_id in self._participants_of_visits

    @cached_property
    def _participants_of_visits(self) -> frozenset[str]:
        return frozenset(visit.participant_id for visit in self.visits or ())

    def absent(self, known: Collection[Visit], what: str) -> list[Refusal]:
        """Refuse the rows of the table of visits that are not among those of a folder."""
        lost = sorted((self.visits or frozenset()) - set(known))
        return [
            refuse(f"no such visit in the {what}", v.participant_id, v.session_id) for v in lost
        ]

    def require_known(
        self, visits: Collection[Visit], participants: Collection[str], where: Path
    ) -> None:
        """Refuse labels that were typed and do not exist.

        Raises
        ------
        InputError
            Naming the participants or sessions that are not there.
        """
        known = set(participants) | {v.participant_id for v in visits}
        for kind, asked, there in (
            ("participant", self.participants, known),
            ("session", self.sessions, {v.session_id for v in visits}),
        ):
            if missing := sorted((asked or frozenset()) - there):
                raise InputError(f"{where}: no {kind} {some(missing)}; check --{kind}-label")


def select(
    participants: Iterable[str] | None = None,
    sessions: Iterable[str] | None = None,
    visits_tsv: str | Path | None = None,
    bids_filter: str | Path | None = None,
    part: tuple[int, int] = (1, 1),
) -> Selection:
    """Read what was asked for.

    Parameters
    ----------
    participants, sessions : iterable of str, optional
        Labels, with or without their prefix.
    visits_tsv : path-like, optional
        Table of visits (participant_id, session_id).
    bids_filter : path-like, optional
        JSON that chooses among several T1w images per visit.
    part : (i, n)
        Of n parts that the participants are dealt into, the i-th.

    Raises
    ------
    InputError
        For a label that cannot be one, or a file that cannot be read or lacks a column.
    """
    visits, refusals = None, []
    if visits_tsv is not None:
        table = read_tsv(visits_tsv, required=("participant_id", "session_id"))
        found: list[Visit] = []
        for participant, session in zip(table["participant_id"], table["session_id"], strict=True):
            try:
                found.append(Visit(participant, session))
            except InputError as error:
                refusals.append(refuse(f"visits table: {error}", participant, session, "tables"))
        for visit, times in Counter(found).items():
            if times > 1:
                reason = f"visits table: {times} rows for this visit; it was taken once, keep one"
                refusals.append(refuse(reason, visit.participant_id, visit.session_id, "tables"))
        visits = frozenset(found)
    return Selection(
        None
        if participants is None
        else frozenset(map(bids_names.normalize_participant, participants)),
        None if sessions is None else frozenset(map(bids_names.normalize_session, sessions)),
        visits,
        read_filter(bids_filter) if bids_filter else {},
        part,
        tuple(refusals),
    )


def find_scans(
    bids: str | Path, selection: Selection | None = None
) -> tuple[list[RawScan], list[Refusal]]:
    """Find the T1w image of each visit of a BIDS folder.

    Of several images of a visit `choose_scan` takes one, and the scan's note says so. A participant
    without a session level has the one session ``ses-M000``, as Clinica converts it. Links are
    followed for reading.

    Parameters
    ----------
    bids : path-like
        The BIDS folder.
    selection : Selection, optional
        Visits wanted; all by default.

    Returns
    -------
    scans, refusals
        Sorted by visit. A participant without a T1w image, in or out of ``participants.tsv``, is a
        refusal.

    Raises
    ------
    InputError
        If the folder is absent, is a CAPS, holds no participant, or lacks a participant or session
        that was typed.
    """
    bids, selection = Path(bids), selection or Selection()
    folders = bids_names.participant_folders(bids)
    listed, refusals = _listed_participants(bids)
    refusals += _description(bids)
    scans: list[RawScan] = []
    seen: set[Visit] = set()
    for folder in folders:
        if selection.has_participant(folder.name):
            for found in _participant(folder, bids.resolve(), selection.query):
                if isinstance(found, Refusal):
                    refusals.append(found)
                elif found.visit in selection:
                    scans.append(found)
                if (visit := _visit_seen(found)) is not None:
                    seen.add(visit)
    there = {folder.name for folder in folders}
    refusals += [refuse(NO_FOLDER, participant) for participant in listed - there]
    selection.require_known(seen, there | listed, bids)
    refusals += selection.absent(seen, "BIDS folder")
    # The rows go into the CAPS, which names no folder of this machine.
    kept = {
        replace(row, reason=row.reason.replace(f"{bids}/", ""))
        for row in refusals
        if selection.concerns(row)
    }
    return sorted(scans, key=lambda scan: scan.visit), sorted(kept)


def _visit_seen(found: RawScan | Refusal) -> Visit | None:
    """Name the visit whose folder was looked into, whatever was found there."""
    if isinstance(found, RawScan):
        return found.visit
    if found.stage == "select" and is_session(found.session_id):
        return Visit(found.participant_id, found.session_id)
    return None


def _listed_participants(bids: Path) -> tuple[set[str], list[Refusal]]:
    """Participants of ``participants.tsv``, and its rows that cannot be used."""
    path = bids / bids_names.PARTICIPANTS
    if not path.exists():
        return set(), []
    try:
        rows = read_tsv(path, required=("participant_id",))["participant_id"]
    except InputError as error:
        return set(), [refuse(error, stage="tables")]
    listed, refusals = set(), []
    for participant, times in Counter(map(cell_text, rows)).items():
        if is_participant(participant):
            listed.add(participant)
        else:
            reason = (
                f"{path.name}: {participant!r}: not a participant; "
                "expected sub-<label> with letters and digits only"
            )
            refusals.append(refuse(reason, participant, stage="tables"))
        if times > 1:
            reason = f"{path.name}: {times} rows for this participant; keep one"
            refusals.append(refuse(reason, participant, stage="tables"))
    return listed, refusals


def _description(bids: Path) -> list[Refusal]:
    """Tell of a ``dataset_description.json`` that cannot be read."""
    path = bids / bids_names.DESCRIPTION
    try:
        if path.exists():
            read_json(path)
    except InputError as error:
        return [refuse(error, stage="tables")]
    return []


def _participant(folder: Path, root: Path, query: Mapping[str, Any]) -> list[RawScan | Refusal]:
    """What there is of one participant; never nothing."""
    try:
        require_target(folder)
        with reading(folder, "a folder"):
            bids_names.normalize_participant(folder.name)
            found = [*_visits_of(folder, root, query), *_session_table(folder)]
    except InputError as error:
        return [refuse(error, folder.name)]
    return found or [
        refuse(
            "no session folder and no anat folder in the BIDS folder, so no T1w image", folder.name
        )
    ]


def _session_table(folder: Path) -> list[RawScan | Refusal]:
    """Rows of ``sub-X_sessions.tsv`` that cannot be used."""
    path = bids_names.sessions_path(folder)
    if not path.exists():
        return []
    try:
        rows = read_tsv(path, required=("session_id",))["session_id"]
    except InputError as error:
        return [refuse(error, folder.name, stage="tables")]
    refusals: list[RawScan | Refusal] = []
    for session, times in Counter(map(cell_text, rows)).items():
        if not is_session(session):
            reason = (
                f"{path.name}: {session!r} is not a session; "
                "expected ses-<label> with letters and digits only"
            )
            refusals.append(refuse(reason, folder.name, session, "tables"))
        if times > 1:
            reason = f"{path.name}: {times} rows for this session; keep one"
            refusals.append(refuse(reason, folder.name, session, "tables"))
    return refusals


def _visits_of(folder: Path, root: Path, query: Mapping[str, Any]) -> Iterator[RawScan | Refusal]:
    """Each session's scan; that of a participant without a session level is ``ses-M000``."""
    sessions = bids_names.session_folders(folder)
    if bids_names.t1w_images(folder / "anat"):
        if sessions:
            shown = some(session.name for session in sessions)
            reason = (
                f"T1w image outside a session folder, beside {shown}; move it into ses-<label>/anat"
            )
            yield refuse(reason, folder.name)
        else:
            yield _visit(folder.name, bids_names.ONLY_SESSION, folder, folder.name, root, query)
            return
    for session in sessions:
        stem = f"{folder.name}_{session.name}"
        yield _visit(folder.name, session.name, session, stem, root, query)


def _visit(
    participant: str, session: str, place: Path, stem: str, root: Path, query: Mapping[str, Any]
) -> RawScan | Refusal:
    try:
        require_target(place)
        with reading(place, "a folder"):
            visit = Visit(participant, session)
            if len(visit.stem) > MAX_STEM:
                raise InputError(
                    f"{visit.stem[:40]}...: too long for the names of files; shorten the ids"
                )
            return choose_scan(visit, place / "anat", stem, root, query)
    except InputError as error:
        return refuse(error, participant, session)
