"""Which of a visit's T1w images is preprocessed.

Clinica (0.12 and its development in 2026) takes the last of several runs that differ by their run
alone, and refuses a visit with any other choice. Ours is the same for runs; where Clinica refuses,
the order here decides, and the sidecar says what was not taken.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuroaug.errors import InputError
from neuroaug.imaging import bids as bids_names
from neuroaug.imaging.bids import Visit
from neuroaug.preprocessing.bids_filter import passes
from neuroaug.system.files import cell_text, read_json

RULE = "the last run, as Clinica 0.12"
_OTHER_BODY = re.compile(
    r"spine|neck|knee|hip|cord|lumbar|thorac|cervical|shoulder|eye|orbit|heart"
)
_LOCALISER = re.compile(
    r"scout|locali[sz]er|survey|loc(?:ali)?$|^loc|3plane|threeplane|test|phantom"
)


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
        What was not taken and why, or what is wrong beside it; empty where there is nothing to say.
    others : tuple of Path
        Images that were not taken.
    """

    visit: Visit
    path: Path
    note: str = ""
    others: tuple[Path, ...] = ()


def unlike_a_head(image: Path) -> str | None:
    """Say why an image is taken only where there is no other; None for an ordinary T1w.

    Examples
    --------
    >>> unlike_a_head(Path("sub-1_ce-gadolinium_T1w.nii.gz"))
    'contrast agent'
    >>> unlike_a_head(Path("sub-1_acq-cspine_T1w.nii.gz"))
    'not of the brain'
    >>> unlike_a_head(Path("sub-1_acq-mprage_T1w.nii.gz"))
    """
    of = {name: value.casefold() for name, value in bids_names.entities_of(image).items()}
    texts = [of[name] for name in ("acq", "rec", "bp", "desc") if name in of]
    if "ce" in of or any(re.search(r"gado|postcontrast|contrast|^gd", text) for text in texts):
        return "contrast agent"
    if any(_OTHER_BODY.search(text) for text in texts):
        return "not of the brain"
    if any(_LOCALISER.search(text) for text in texts):
        return "localiser"
    if of.get("part") in ("phase", "imag", "real"):
        return f"part-{of['part']}"
    return None


def choose(images: Sequence[Path]) -> tuple[Path, str]:
    """Choose one T1w image, and say by which rule.

    Parameters
    ----------
    images : sequence of Path
        At least one, in natural order, those without acquisition and run first.

    Returns
    -------
    image, rule
        The rule is empty where there is no choice.
    """
    if len(images) == 1:
        return images[0], ""
    ordinary = [image for image in images if unlike_a_head(image) is None]
    rules = []
    if ordinary and len(ordinary) < len(images):
        odd = sorted({unlike_a_head(image) or "" for image in images} - {""})
        rules.append(f"not {' or '.join(odd)}")
    left = ordinary or list(images)
    first = _without_run(left[0])
    alike = [image for image in left if _without_run(image) == first]
    if len(alike) < len(left):
        rules.append("the fewest entities, then by name")
    runs = [image for image in alike if "run" in bids_names.entities_of(image)]
    if len(runs) == len(alike) > 1:
        rules.append(RULE)
        return alike[-1], ", ".join(rules)
    if len(alike) > 1:
        rules.append("without a run")
    return alike[0], ", ".join(rules)


def _without_run(image: Path) -> tuple[tuple[str, str], ...]:
    of = bids_names.entities_of(image)
    return tuple((name, value) for name, value in of.items() if name != "run")


def choose_scan(
    visit: Visit, anat: Path, stem: str, root: Path, query: Mapping[str, Any]
) -> RawScan:
    """Choose the scan of a visit and look at its place.

    Parameters
    ----------
    visit : Visit
        Participant and session.
    anat : Path
        Folder of its images.
    stem : str
        What their names begin with: ``sub-X_ses-Y``, or ``sub-X`` where there are no sessions.
    root : Path
        The BIDS folder, resolved.
    query : mapping
        A BIDS filter, which is obeyed before any rule.

    Raises
    ------
    InputError
        If there is none, or it is not to be read: a link to nothing or to another visit's scan, a
        pipe, a name of another visit.
    """
    images = bids_names.t1w_images(anat)
    place = anat.relative_to(anat.parents[stem.count("_") + 1]).as_posix()
    if not images:
        raise InputError(f"no T1w image in {place}")
    for image in images:
        sessions = bids_names.entities_of(image).get("ses")
        if not image.name.startswith(f"{stem}_") or ("_" not in stem and sessions is not None):
            raise InputError(
                f"{image.name}: the name does not belong to its folder; expected {stem}_..."
            )
    wanted = [image for image in images if passes(bids_names.entities_of(image), query)]
    if not wanted:
        raise InputError(
            f"none of {len(images)} T1w image(s) passes the BIDS filter: "
            f"{some(image.name for image in images)}"
        )
    image, rule = choose(wanted)
    require_target(image)
    _refuse_another_visits(image, visit, stem, root)
    _regular(image)
    others = tuple(other for other in wanted if other != image)
    said = []
    if others:
        said.append(
            f"{len(wanted)} T1w images; took {image.name} ({rule}), and not "
            f"{some(other.name for other in others)}"
        )
    if (why := unlike_a_head(image)) is not None:
        said.append(f"its name says {why}; there was no other")
    said += _sidecar(image)
    return RawScan(visit, image, cell_text("; ".join(said)) if said else "", others)


def require_target(path: Path) -> None:
    """Refuse a link to nothing; where git-annex keeps the content, say how to get it.

    Raises
    ------
    InputError
        Naming the link.
    """
    if not path.is_symlink() or path.exists():
        return
    if ".git/annex" in os.readlink(path) or ".git/annex" in os.path.realpath(path):
        raise InputError(f"{path.name}: not downloaded; run `datalad get`, or `git annex get`")
    raise InputError(f"{path.name}: link to a file that is not there; put the file itself there")


def _refuse_another_visits(image: Path, visit: Visit, stem: str, root: Path) -> None:
    """Refuse a link to the scan of another visit of this data set."""
    target = Path(os.path.realpath(image))
    if not target.is_relative_to(root):
        return  # the user named this folder: its links are followed for reading, wherever they lead
    place = target.relative_to(root).parts
    own = (visit.participant_id, visit.session_id) if "_" in stem else (visit.participant_id,)
    if place[0].startswith("sub-") and place[: len(own)] != own:
        raise InputError(
            f"{image.name}: a link to the scan of another visit, {'/'.join(place[:2])}; "
            "put its own there"
        )


def _sidecar(image: Path) -> list[str]:
    """Warn of a sidecar that cannot be read: nothing of it is used, so the scan is."""
    sidecar = bids_names.sidecar_path(image)
    with suppress(OSError):
        if not sidecar.exists() or not sidecar.stat().st_size:
            return []
    try:
        read_json(sidecar)
    except InputError as error:
        reason = str(error).removeprefix(f"{sidecar}: ")
        return [f"warning: its sidecar {sidecar.name} is {reason}; nothing of it is used"]
    return []


def _regular(path: Path) -> None:
    """Refuse a pipe, a socket or a device, of which reading may never end."""
    with suppress(OSError):  # what else is wrong is told by its reader
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise InputError(f"{path.name}: a pipe, socket or device, where a file is expected")


def some(names: Iterable[str], at_most: int = 5) -> str:
    """Name a few of many."""
    names = list(names)
    more = f" and {len(names) - at_most} more" if len(names) > at_most else ""
    return ", ".join(names[:at_most]) + more
