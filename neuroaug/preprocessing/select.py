"""Which T1w image stands for each visit of a BIDS folder, and which visits have none that can be
used.
"""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from neuroaug.errors import InputError
from neuroaug.imaging.caps import Visit, normalize_participant, normalize_session
from neuroaug.preprocessing.bids_filter import passes
from neuroaug.system.files import read_json, read_tsv

MAX_STEM = 170  # a file name has 255 characters
_IMAGE = re.compile(r"(?P<entities>.+)_T1w\.nii(?:\.gz)?", re.IGNORECASE)


@dataclass(frozen=True)
class RawScan:
    """The raw image taken for a visit.

    Attributes
    ----------
    visit : Visit
        Participant and session.
    path : Path
        The image.
    note : str
        What was not taken, empty where there was no choice.
    """

    visit: Visit
    path: Path
    note: str = ""


@dataclass(frozen=True, order=True)
class Refusal:
    """A row of ``failures.tsv``: a visit, or a row of a table, that cannot be used."""

    participant_id: str
    session_id: str
    stage: str
    reason: str


@dataclass(frozen=True)
class Selection:
    """What was asked for, out of all visits; None stands for all."""

    participants: frozenset[str] | None = None
    sessions: frozenset[str] | None = None
    visits: frozenset[Visit] | None = None

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
        if _is_session(refusal.session_id) and _is_participant(refusal.participant_id):
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
                raise InputError(f"{where}: no {kind} {_some(missing)}; check --{kind}-label")


def select(
    participants: Iterable[str] | None = None,
    sessions: Iterable[str] | None = None,
    visits_tsv: str | Path | None = None,
) -> tuple[Selection, list[Refusal]]:
    """Read what was asked for: labels with or without their prefix, and a table of visits.

    Returns
    -------
    selection, refusals
        The refusals are rows of the table that name no possible visit.

    Raises
    ------
    InputError
        For a label that cannot be one, or a table that cannot be read or lacks a column.
    """
    visits, refusals = None, []
    if visits_tsv is not None:
        table = read_tsv(visits_tsv, required=("participant_id", "session_id"))
        found: list[Visit] = []
        for participant, session in zip(table["participant_id"], table["session_id"], strict=True):
            try:
                found.append(Visit(participant, session))
            except InputError as error:
                refusals.append(
                    Refusal(plain(participant), plain(session), "tables", f"visits table: {error}")
                )
        for visit, times in Counter(found).items():
            if times > 1:
                reason = (
                    f"visits table: {times} rows for this visit; it was taken once, keep one row"
                )
                refusals.append(Refusal(visit.participant_id, visit.session_id, "tables", reason))
        visits = frozenset(found)
    return (
        Selection(
            None if participants is None else frozenset(map(normalize_participant, participants)),
            None if sessions is None else frozenset(map(normalize_session, sessions)),
            visits,
        ),
        refusals,
    )


def find_scans(
    bids: str | Path, selection: Selection | None = None, query: Mapping[str, Any] | None = None
) -> tuple[list[RawScan], list[Refusal]]:
    """Find the T1w image of each visit of a BIDS folder.

    Of several runs or acquisitions of a visit the first is taken (run-2 before run-10), and the
    scan's note says so.

    Parameters
    ----------
    bids : path-like
        The BIDS folder.
    selection : Selection, optional
        Visits wanted; all by default.
    query : mapping, optional
        From `read_filter`.

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
    folders = _participant_folders(bids)
    listed, refusals = _listed_participants(bids)
    refusals += _description(bids)
    scans: list[RawScan] = []
    seen: set[Visit] = set()
    root = bids.resolve()
    for folder in folders:
        if not selection.has_participant(folder.name):
            continue
        try:
            normalize_participant(folder.name)
            _inside(folder, root)
            own: list[RawScan | Refusal] = [
                *_visits_of(folder, root, query or {}),
                *_session_table(folder),
            ]
        except InputError as error:
            refusals.append(Refusal(plain(folder.name), "n/a", "select", str(error)))
            continue
        except OSError as error:
            refusals.append(
                Refusal(
                    folder.name,
                    "n/a",
                    "select",
                    f"{folder.name}: cannot be read ({error.strerror})",
                )
            )
            continue
        seen |= {visit for s in own if (visit := _visit_seen(s)) is not None}
        if not own:
            own = [
                Refusal(
                    folder.name,
                    "n/a",
                    "select",
                    "no session folder in the BIDS folder, so no T1w image",
                )
            ]
        scans += [s for s in own if isinstance(s, RawScan) and s.visit in selection]
        refusals += [s for s in own if isinstance(s, Refusal) and selection.concerns(s)]
    names = {folder.name for folder in folders}
    for participant in sorted(listed - names):
        refusals.append(
            Refusal(
                participant,
                "n/a",
                "select",
                "listed in participants.tsv, but has no folder, so no T1w",
            )
        )
    selection.require_known(seen, names | listed, bids)
    for visit in sorted((selection.visits or frozenset()) - seen):
        refusals.append(
            Refusal(
                visit.participant_id, visit.session_id, "select", "no such visit in the BIDS folder"
            )
        )
    # The rows go into the CAPS, which names no folder of this machine.
    kept = {
        replace(r, reason=r.reason.replace(f"{bids}/", ""))
        for r in refusals
        if selection.concerns(r)
    }
    return sorted(scans, key=lambda scan: scan.visit), sorted(kept)


def _visit_seen(found: RawScan | Refusal) -> Visit | None:
    """Name the visit whose folder was looked into, whatever was found there."""
    if isinstance(found, RawScan):
        return found.visit
    if found.stage == "select" and _is_session(found.session_id):
        return Visit(found.participant_id, found.session_id)
    return None


def _is_session(session_id: str) -> bool:
    try:
        return normalize_session(session_id) == session_id
    except InputError:
        return False


def _is_participant(participant_id: str) -> bool:
    try:
        return normalize_participant(participant_id) == participant_id
    except InputError:
        return False


def _participant_folders(bids: Path) -> list[Path]:
    if not bids.is_dir():
        raise InputError(
            f"{bids}: {'not a folder' if bids.exists() else 'no such folder'}; check --bids"
        )
    if (bids / "subjects").is_dir():
        raise InputError(
            f"{bids}: looks like a CAPS (it has a folder 'subjects'), where a BIDS folder is expected"
        )
    try:
        folders = sorted(
            path for path in bids.iterdir() if path.name.startswith("sub-") and path.is_dir()
        )
    except OSError as error:
        raise InputError(f"{bids}: cannot be read ({error.strerror}); check --bids") from None
    if not folders:
        raise InputError(f"{bids}: not a BIDS folder (no sub-<label> folder in it); check --bids")
    return folders


def _listed_participants(bids: Path) -> tuple[set[str], list[Refusal]]:
    """Participants of ``participants.tsv``, and its rows that cannot be used."""
    path = bids / "participants.tsv"
    if not path.exists():
        return set(), []
    try:
        rows = read_tsv(path, required=("participant_id",))["participant_id"]
    except InputError as error:
        return set(), [Refusal("n/a", "n/a", "tables", str(error))]
    except OSError as error:
        return set(), [
            Refusal("n/a", "n/a", "tables", f"{path}: cannot be read ({error.strerror})")
        ]
    listed, refusals = set(), []
    for participant, times in Counter(map(plain, rows)).items():
        try:
            if not participant.startswith("sub-"):
                raise InputError(
                    f"{participant!r}: not a participant; expected sub-<label> with letters and digits only"
                )
            listed.add(normalize_participant(participant))
        except InputError as error:
            refusals.append(Refusal(participant, "n/a", "tables", f"participants.tsv: {error}"))
        if times > 1:
            reason = f"participants.tsv: {times} rows for this participant; keep one"
            refusals.append(Refusal(participant, "n/a", "tables", reason))
    return listed, refusals


def _description(bids: Path) -> list[Refusal]:
    """Tell of a ``dataset_description.json`` that cannot be read."""
    path = bids / "dataset_description.json"
    if not path.exists():
        return []
    try:
        read_json(path)
    except InputError as error:
        return [Refusal("n/a", "n/a", "tables", str(error))]
    return []


def _session_table(folder: Path) -> list[RawScan | Refusal]:
    """Rows of ``sub-X_sessions.tsv`` that cannot be used."""
    path = folder / f"{folder.name}_sessions.tsv"
    if not path.exists():
        return []
    try:
        rows = read_tsv(path, required=("session_id",))["session_id"]
    except InputError as error:
        return [Refusal(folder.name, "n/a", "tables", str(error))]
    except OSError as error:
        return [Refusal(folder.name, "n/a", "tables", f"{path}: cannot be read ({error.strerror})")]
    refusals: list[RawScan | Refusal] = []
    for session, times in Counter(map(plain, rows)).items():
        if not _is_session(session):
            reason = f"{path.name}: {session!r} is not a session; expected ses-<label> with letters and digits only"
            refusals.append(Refusal(folder.name, session, "tables", reason))
        if times > 1:
            reason = f"{path.name}: {times} rows for this session; keep one"
            refusals.append(Refusal(folder.name, session, "tables", reason))
    return refusals


def _visits_of(folder: Path, root: Path, query: Mapping[str, Any]) -> Iterator[RawScan | Refusal]:
    sessions = sorted(
        path for path in folder.iterdir() if path.name.startswith("ses-") and path.is_dir()
    )
    if any(_images(folder / "anat")):
        reason = "T1w image outside a session folder; move it into ses-<label>/anat (for one visit: ses-M000)"
        yield Refusal(folder.name, "n/a", "select", reason)
    for session in sessions:
        try:
            visit = Visit(folder.name, session.name)
            _inside(session, root)
            yield _choose(visit, session, root, query)
        except InputError as error:
            yield Refusal(folder.name, plain(session.name), "select", str(error))
        except OSError as error:
            reason = f"{error.filename or session}: cannot be read ({error.strerror})"
            yield Refusal(folder.name, plain(session.name), "select", reason)


def is_image(path: Path) -> bool:
    """Whether a file is named as a T1w image."""
    return _IMAGE.fullmatch(path.name) is not None


def _images(anat: Path) -> list[Path]:
    if not anat.is_dir():
        return []
    return sorted(filter(is_image, anat.iterdir()), key=_natural)


def _natural(path: Path) -> tuple[Any, ...]:
    """Sort key with run-2 before run-10, and an image without further entities before those with."""
    stem = path.name.split(".")[0]
    parts = re.split(r"(\d+)", stem)
    numbered = [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]
    return ("_run-" in stem or "_acq-" in stem, numbered, path.name)


def _choose(visit: Visit, session: Path, root: Path, query: Mapping[str, Any]) -> RawScan:
    if len(visit.stem) > MAX_STEM:
        raise InputError(f"{visit.stem[:40]}...: too long for the names of files; shorten the ids")
    images = _images(session / "anat")
    if not images:
        raise InputError(f"no T1w image in {visit.participant_id}/{visit.session_id}/anat")
    for image in images:
        if not image.name.startswith(f"{visit.stem}_"):
            raise InputError(
                f"{image.name}: the name does not belong to its folder; expected {visit.stem}_..."
            )
    chosen = [image for image in images if passes(_entities(image), query)]
    if not chosen:
        raise InputError(
            f"none of {len(images)} T1w image(s) passes the BIDS filter: {_some(i.name for i in images)}"
        )
    image = chosen[0]
    _inside(image, root)
    place = Path(os.path.realpath(image)).relative_to(root).parts
    if place[0].startswith("sub-") and place[:2] != (visit.participant_id, visit.session_id):
        raise InputError(
            f"{image.name}: a link to the scan of another visit, {'/'.join(place[:2])}; put its own there"
        )
    _regular(image)
    sidecar = image.with_name(image.name.split(".")[0] + ".json")
    # Its content is not used, but where it is torn, who says that the image is whole? An empty one
    # says nothing.
    if sidecar.exists() and sidecar.stat().st_size:
        read_json(sidecar)
    others = [path.name for path in chosen[1:]]
    note = (
        f"{len(chosen)} T1w images; took the first, {image.name}, and not {_some(others)}"
        if others
        else ""
    )
    return RawScan(visit, image, plain(note) if note else "")


def _entities(image: Path) -> dict[str, str]:
    stem = image.name.split(".")[0]
    return dict(part.split("-", 1) for part in stem.split("_") if "-" in part)  # type: ignore[misc]


def _inside(path: Path, root: Path) -> None:
    """Refuse a link that leads out of the BIDS folder."""
    target = Path(os.path.realpath(path))
    if not target.is_relative_to(root):
        raise InputError(
            f"{path.name}: a link that leads out of the BIDS folder; put the file itself there"
        )


def _regular(path: Path) -> None:
    """Refuse a pipe, a socket or a device: reading one may never end. What else is wrong is told by
    its reader.
    """
    with suppress(OSError):
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise InputError(f"{path.name}: a pipe, socket or device, where a file is expected")


def plain(value: object) -> str:
    """Make a table's cell fit for another table: no tabs or line ends, UTF-8, ``n/a`` for missing."""
    text = "n/a" if value is None or value != value else " ".join(str(value).split())
    return text.encode(errors="surrogateescape").decode(errors="replace") or "n/a"


def _some(names: Iterable[str], at_most: int = 5) -> str:
    names = list(names)
    more = f" and {len(names) - at_most} more" if len(names) > at_most else ""
    return ", ".join(names[:at_most]) + more
