"""Names of a raw BIDS folder, and the T1w images in one: the only place that spells them.

A scan is ``<bids>/sub-X/[ses-Y/]anat/sub-X[_ses-Y][_<entities>]_T1w.nii[.gz]`` with a JSON sidecar;
its participant's row is in ``participants.tsv``, its session's in ``sub-X/sub-X_sessions.tsv``.
Hidden files (macOS writes ``._X`` beside X) are passed over everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuroaug.errors import InputError
from neuroaug.system.files import list_folder, reading

BIDS_VERSION = "1.7.0"  # the one Clinica 0.12 writes beside CAPS 1.0.0
DESCRIPTION = "dataset_description.json"
PARTICIPANTS = "participants.tsv"
ONLY_SESSION = "ses-M000"  # of a participant without a session level, as Clinica converts it
# What a T1w image's name may say of it: as a BIDS filter spells it, and as the name does.
ENTITIES = {
    "subject": "sub",
    "session": "ses",
    "acquisition": "acq",
    "ceagent": "ce",
    "reconstruction": "rec",
    "run": "run",
    "echo": "echo",
    "part": "part",
    "direction": "dir",
    "chunk": "chunk",
    "space": "space",
}

_PARTICIPANT = re.compile(r"sub-[A-Za-z0-9]+")
_SESSION = re.compile(r"ses-[A-Za-z0-9]+")
_LABEL = re.compile(r"[A-Za-z0-9]+")
_ZEROS = re.compile(r"(?<!\d)0+(?=\d)")
_IMAGE = re.compile(r".+_T1w\.nii(?:\.gz)?", re.IGNORECASE)


def _require(pattern: re.Pattern[str], value: str, what: str, form: str) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise InputError(f"{value!r}: not a {what}; expected {form} with letters and digits only")
    return value


@dataclass(frozen=True, order=True)
class Visit:
    """One participant at one session.

    Both names are checked in full, so that neither can lead out of its folder.

    Attributes
    ----------
    participant_id : str
        ``sub-X``, X of letters and digits.
    session_id : str
        ``ses-Y``, Y of letters and digits.

    Raises
    ------
    InputError
        If a name is anything else.
    """

    participant_id: str
    session_id: str

    def __post_init__(self) -> None:
        _require(_PARTICIPANT, self.participant_id, "participant", "sub-<label>")
        _require(_SESSION, self.session_id, "session", "ses-<label>")

    def __str__(self) -> str:
        return f"{self.participant_id} {self.session_id}"

    @property
    def stem(self) -> str:
        """``sub-X_ses-Y``, what every file name of the visit starts with."""
        return f"{self.participant_id}_{self.session_id}"


def is_participant(name: object) -> bool:
    """Whether `name` is ``sub-X`` with X of letters and digits."""
    return isinstance(name, str) and _PARTICIPANT.fullmatch(name) is not None


def is_session(name: object) -> bool:
    """Whether `name` is ``ses-Y`` with Y of letters and digits."""
    return isinstance(name, str) and _SESSION.fullmatch(name) is not None


def loose(name: str) -> str:
    """Key that spellings of one name share: without case and leading zeros.

    Examples
    --------
    >>> loose("ses-M00") == loose("ses-m000"), loose("sub-01") == loose("sub-1")
    (True, True)
    """
    return _ZEROS.sub("", name.casefold())


def prefixed(text: str, prefix: str) -> str | None:
    """Name with its prefix, ``sub-`` or ``ses-``; None if it has more than letters and digits."""
    stripped = text.strip()
    label = stripped[len(prefix) :] if stripped.casefold().startswith(prefix) else stripped
    return f"{prefix}{label}" if _LABEL.fullmatch(label) else None


def by_session(
    pairs: Iterable[tuple[str, str]], where: str = "CAPS"
) -> dict[tuple[str, str], tuple[str, str]]:
    """Visits by the key that spellings of one session share.

    Raises
    ------
    InputError
        If one visit is there under two spellings; both are named.
    """
    visits: dict[tuple[str, str], tuple[str, str]] = {}
    for participant, session in sorted(pairs):
        other = visits.setdefault((participant, loose(session)), (participant, session))
        if other[1] != session:
            raise InputError(
                f"{where}: {participant} has {other[1]} and {session}, two spellings of one "
                "session; keep one of them"
            )
    return visits


def normalize_participant(label: str) -> str:
    """``"01"`` or ``"sub-01"`` -> ``"sub-01"``.

    Raises
    ------
    InputError
        If the label holds anything but letters and digits.
    """
    name = label if label.startswith("sub-") else f"sub-{label}"
    return _require(_PARTICIPANT, name, "participant", "sub-<label>")


def normalize_session(label: str) -> str:
    """``"M000"`` or ``"ses-M000"`` -> ``"ses-M000"``.

    Raises
    ------
    InputError
        If the label holds anything but letters and digits.
    """
    name = label if label.startswith("ses-") else f"ses-{label}"
    return _require(_SESSION, name, "session", "ses-<label>")


def participant_folders(bids: Path) -> list[Path]:
    """List the folders ``sub-*``, whatever follows, sorted.

    Raises
    ------
    InputError
        If the folder is absent, cannot be read, is a CAPS, or holds no participant.
    """
    if not bids.is_dir():
        raise InputError(
            f"{bids}: {'not a folder' if bids.exists() else 'no such folder'}; check --bids"
        )
    if (bids / "subjects").is_dir():
        raise InputError(
            f"{bids}: looks like a CAPS (it has a folder 'subjects'), "
            "where a BIDS folder is expected"
        )
    with reading(bids, "a folder", "check --bids"):
        folders = sorted(p for p in bids.glob("sub-*") if p.is_dir() or p.is_symlink())
    if not folders:
        raise InputError(f"{bids}: not a BIDS folder (no sub-<label> folder in it); check --bids")
    return folders


def session_folders(participant: Path) -> list[Path]:
    """List a participant's folders ``ses-*``, whatever follows, sorted.

    Raises
    ------
    InputError
        If the participant's folder cannot be read.
    """
    folders = [path for path in list_folder(participant) if path.name.startswith("ses-")]
    return [path for path in folders if path.is_dir() or path.is_symlink()]


def sessions_path(participant: Path) -> Path:
    """``sub-X/sub-X_sessions.tsv``, given the participant's folder."""
    return participant / f"{participant.name}_sessions.tsv"


def t1w_path(bids: Path, visit: Visit) -> Path:
    """Path of a visit's only T1w image, compressed."""
    folder = bids / visit.participant_id / visit.session_id / "anat"
    return folder / f"{visit.stem}_T1w.nii.gz"


def is_t1w(path: Path) -> bool:
    """Whether a file is named as a T1w image; hidden ones are none."""
    return not path.name.startswith(".") and _IMAGE.fullmatch(path.name) is not None


def t1w_images(anat: Path) -> list[Path]:
    """List the T1w images in a folder ``anat``: run-2 before run-10, those without entities first.

    Raises
    ------
    InputError
        If the folder cannot be read; one that is absent holds none.
    """
    return sorted(filter(is_t1w, list_folder(anat)), key=_natural) if anat.is_dir() else []


def _natural(image: Path) -> tuple[Any, ...]:
    stem = _stem(image)
    parts = re.split(r"(\d+)", stem)
    numbered = [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]
    return ("_run-" in stem or "_acq-" in stem, numbered, image.name)


def _stem(image: Path) -> str:
    return image.name.split(".")[0]


def sidecar_path(image: Path) -> Path:
    """Path of the JSON beside an image."""
    return image.with_name(f"{_stem(image)}.json")


def entities_of(image: Path) -> dict[str, str]:
    """``sub-01_ses-M000_run-2_T1w.nii.gz`` -> ``{"sub": "01", "ses": "M000", "run": "2"}``."""
    pairs = (part.partition("-") for part in _stem(image).split("_") if "-" in part)
    return {name: value for name, _, value in pairs}
