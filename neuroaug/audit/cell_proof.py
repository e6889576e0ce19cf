"""The proof that nothing in a cell was learned from anyone whom the cell is tested on.

Every generator's folder, and every synthetic CAPS sampled from it, holds ``lineage.tsv``.
Participant ids alone prove little: a copy of a test image under another name is still the test
image, so the checksums of the images' voxels are compared as well, and so is what they look like: a
copy that was saved with fewer bits, or mirrored, has another checksum.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from neuroaug.audit.near_copies import VisitKey, near_copies
from neuroaug.cohort.lineage import read_lineage
from neuroaug.config.label_settings import UNLABELLED
from neuroaug.errors import InputError, LeakageError

if TYPE_CHECKING:
    import pandas as pd

FILE_NAME = "leakage.tsv"  # in the folder of a cell
PROOF_COLUMNS = (
    "generator",
    "check",
    "against",
    "n_learned_from",
    "n_against",
    "n_found",
    "result",
)
NEARLY = "no image nearly the same"  # in the proof
TRAINING_SET = "training set"  # in the proof: the cell's own, as opposed to a generator's
MOST_NAMES = 20  # in a message


class LineageError(LeakageError):
    """A cell leaks.

    Attributes
    ----------
    proof : DataFrame
        Every check of `check_cell`, those that failed as ``refused``.
    """

    def __init__(self, message: str, proof: pd.DataFrame) -> None:
        super().__init__(message)
        self.proof = proof


def check_cell(
    *,
    cell_train: pd.DataFrame,
    forbidden: Mapping[str, pd.DataFrame],
    generators: Sequence[str | Path],
    split_hash: str,
    image_sha256: Mapping[VisitKey, str],
    fingerprints: Mapping[VisitKey, str] | None = None,
) -> pd.DataFrame:
    """Prove that nothing in a cell was learned from anyone whom the cell is tested or validated on.

    Parameters
    ----------
    cell_train : DataFrame
        The training set of the cell: participant_id, session_id, diagnosis.
    forbidden : mapping of str to DataFrame
        Validation, test and external sets by name.
    generators : sequence of path-like
        Model folders or synthetic CAPS; empty for a cell of real images.
    split_hash : str
        `SplitFolder.hash` of the split that the sets come from.
    image_sha256 : mapping of (participant_id, session_id) to str
        Checksum of the voxels of every visit of the sets (`neuroaug.imaging.cache.voxel_sha256`).
    fingerprints : mapping of (participant_id, session_id) to str, optional
        `near_copies.image_fingerprint` of the same images. Training images that look like one of a
        set up to rounding are then refused too. It is enough to look at these, and at unlabelled
        visits of a shared generator, where they are given: a generator learned from them, by
        checksum.

    Returns
    -------
    DataFrame
        `PROOF_COLUMNS`, one row per check; n_found is 0 in all of them, and result ``passed``.

    Raises
    ------
    LineageError
        One line naming the generator, the participants, and every check that found something.
    InputError
        A lineage is absent or incomplete, or the checksum of an image is not given.
    """
    import pandas as pd

    rows: list[tuple[object, ...]] = []
    faults: list[str] = []
    own = _visits(cell_train)
    looks = fingerprints or {}
    sets = {name: _visits(table) for name, table in forbidden.items()}
    unknown = sorted(visit for visit in chain(own, *sets.values()) if visit not in image_sha256)
    if unknown:
        raise InputError(
            f"lineage: no checksum of the image of {' '.join(unknown[0])}; "
            "nothing can be proved without"
        )
    for name, visits in sets.items():
        found = _overlaps(own, visits, name, image_sha256, image_sha256)
        if fingerprints is not None:
            found[NEARLY] = _near(own, visits, name, looks, image_sha256)
        _record(rows, faults, TRAINING_SET, own, found, name, len(visits))
    for folder in map(Path, generators):
        table = read_lineage(folder)
        learned = _visits(table)
        checksums = dict(zip(learned, map(str, table["image_sha256"]), strict=True))
        label = "/".join(folder.parts[-2:])
        unlabelled = [visit for visit in _unlabelled(table, own) if visit in looks]
        for name, visits in sets.items():
            found = _overlaps(learned, visits, name, checksums, image_sha256)
            if unlabelled:
                found[NEARLY] = _near(unlabelled, visits, name, looks, image_sha256)
            _record(rows, faults, label, learned, found, name, len(visits))
        found = _against_training_set(table, cell_train, checksums, image_sha256)
        _record(rows, faults, label, learned, found, TRAINING_SET, len(own))
        found = {"same split": _other_split(table, split_hash)}
        _record(rows, faults, label, learned, found, "split", len(own))
    proof = pd.DataFrame(rows, columns=list(PROOF_COLUMNS))
    if faults:
        raise LineageError(
            f"leak: {'; '.join(faults)}; learn it again on this split's training set", proof
        )
    return proof


def _near(
    own: Sequence[VisitKey],
    others: Sequence[VisitKey],
    name: str,
    fingerprints: Mapping[VisitKey, str],
    images: Mapping[VisitKey, str],
) -> list[str]:
    """Whose image looks like one of a set, up to rounding, though it is no exact copy."""
    return [
        f"{a[0]} is nearly the image of {b[0]} (saved again, or mirrored), who is in {name}"
        for a, b in near_copies(own, others, fingerprints)
        if a[0] != b[0] and images[a] != images[b]
    ]


def _unlabelled(table: pd.DataFrame, own: Sequence[VisitKey]) -> list[VisitKey]:
    """Visits of a lineage that a shared generator learned from without a label."""
    known = set(own)
    without = table[table["diagnosis"].astype(str) == UNLABELLED]
    return [visit for visit in _visits(without) if visit not in known]


def _visits(table: pd.DataFrame) -> list[VisitKey]:
    return list(zip(map(str, table["participant_id"]), map(str, table["session_id"]), strict=True))


def _overlaps(
    learned: Iterable[VisitKey],
    tested: Sequence[VisitKey],
    name: str,
    learned_images: Mapping[VisitKey, str],
    tested_images: Mapping[VisitKey, str],
) -> dict[str, list[str]]:
    """Whom of `learned` the set `tested` holds too: in person, or their image by another name."""
    sessions: dict[str, list[str]] = {}
    for participant, session in tested:
        sessions.setdefault(participant, []).append(session)
    owners = {tested_images[visit]: visit for visit in tested if visit in tested_images}
    people, copies = [], []
    for visit in learned:
        participant, session = visit
        if participant in sessions:
            other = "" if session in sessions[participant] else f" (another visit, {session})"
            people.append(f"{participant}{other} is in {name}")
        elif (owner := owners.get(learned_images.get(visit, ""))) is not None:
            copies.append(f"{participant} is a copy of the image of {owner[0]}, who is in {name}")
    return {"no participant in common": people, "no image in common": copies}


def _against_training_set(
    table: pd.DataFrame,
    cell_train: pd.DataFrame,
    checksums: Mapping[VisitKey, str],
    images: Mapping[VisitKey, str],
) -> dict[str, list[str]]:
    """Whom the generator saw but the training set lacks, or has with another label or image."""
    known = (map(str, cell_train[name]) for name in ("participant_id", "diagnosis"))
    expected = dict(zip(*known, strict=True))
    known_visits = set(_visits(cell_train))
    outside, relabelled, replaced = [], [], []
    for visit, diagnosis in zip(_visits(table), map(str, table["diagnosis"]), strict=True):
        participant = visit[0]
        if diagnosis == UNLABELLED and visit not in known_visits:
            # Whom no set may hold is checked against every set.
            if visit in images and images[visit] != checksums[visit]:
                replaced.append(
                    f"the image of {participant} is not the one that the generator learned from"
                )
            continue
        if participant not in expected:
            outside.append(f"{participant} is not in the cell's training set")
        elif expected[participant] != diagnosis:
            relabelled.append(
                f"{participant} was {diagnosis} for the generator and is {expected[participant]}"
            )
        elif visit in images and images[visit] != checksums[visit]:
            replaced.append(
                f"the image of {participant} is not the one that the generator learned from"
            )
    return {
        "learned from this training set only": outside,
        "same diagnoses": relabelled,
        "same images": replaced,
    }


def _other_split(table: pd.DataFrame, split_hash: str) -> list[str]:
    """Whose rows carry the hash of another split, in one line per split."""
    other = table[table["split_hash"] != split_hash]
    found = []
    for recorded, group in other.groupby("split_hash"):
        who = " ".join(map(str, group["participant_id"][:MOST_NAMES]))
        more = f" and {len(group) - MOST_NAMES} more" if len(group) > MOST_NAMES else ""
        found.append(
            f"learned in split {str(recorded)[:12]}, not {split_hash[:12]} (edited, or another): "
            f"{who}{more}"
        )
    return found


def _record(
    rows: list[tuple[object, ...]],
    faults: list[str],
    generator: str,
    learned: Sequence[VisitKey],
    found: Mapping[str, list[str]],
    against: str,
    n_against: int,
) -> None:
    for check, persons in found.items():
        counts, result = (len(learned), n_against, len(persons)), "refused" if persons else "passed"
        rows.append((generator, check, against, *counts, result))
        if persons:
            more = f", and {len(persons) - MOST_NAMES} more" if len(persons) > MOST_NAMES else ""
            faults.append(f"{generator}: {', '.join(persons[:MOST_NAMES])}{more}")
