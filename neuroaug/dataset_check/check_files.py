"""Every file and table problem of a BIDS or CAPS folder, or of a study, in one go. Reads only."""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from neuroaug.dataset_check.check_tables import check_participants, check_sessions
from neuroaug.errors import InputError
from neuroaug.imaging import caps as layout
from neuroaug.imaging.caps import Visit
from neuroaug.imaging.grid import GRIDS, UNCROPPED, Grid
from neuroaug.imaging.nifti import inspect_volume
from neuroaug.preprocessing.claims import hidden
from neuroaug.preprocessing.plan import visit_folders
from neuroaug.preprocessing.records import (
    DECISIONS,
    FAILURES,
    QC,
    read_decisions,
    read_failures,
    read_record,
)
from neuroaug.preprocessing.select import find_scans, is_image, plain
from neuroaug.study import CONFIG_NAME, Study
from neuroaug.system.files import TEMPORARY_PREFIX, read_json, read_tsv, sha256_file
from neuroaug.system.pool import Pool, PoolTask

Severity = Literal["error", "warning"]
_BATCH = 4  # visits a task
_KEYS = ("Name", "BIDSVersion", "DatasetType", "CAPSVersion")
_COPY_AGAIN = "copy the scan again or leave the visit out"
_PREPROCESS_AGAIN = "preprocess the visit again"
_CHANGED = "not the file that was written (its checksum is not the sidecar's)"


@dataclass(frozen=True, order=True)
class Finding:
    """One problem.

    Attributes
    ----------
    path : str
        Where, relative to the folder that was checked.
    severity : {"error", "warning"}
        An error stops or spoils a visit; a warning should be known.
    message : str
        What is wrong.
    fix : str
        What to do about it.
    """

    path: str
    severity: Severity
    message: str
    fix: str

    def as_dict(self) -> dict[str, str]:
        """As JSON holds it."""
        return asdict(self)


def check(dataset: str | Path, *, n_procs: int = 1) -> list[Finding]:
    """Find every problem of a data set. Writes nothing.

    Every image that a stage reads is decompressed to its end and its voxels are looked at. A CAPS's
    uncropped image beside a cropped one, which no stage reads, is compared with the checksum in our
    sidecar; where there is none (Clinica's), its beginning and its end are looked at.

    Parameters
    ----------
    dataset : path-like
        A BIDS folder, a CAPS (real or synthetic), or a study (then its raw, preprocessed and
        synthetic data).
    n_procs : int
        Processes.

    Returns
    -------
    list of Finding
        Sorted by path; empty for a clean data set.

    Raises
    ------
    InputError
        If there is nothing at `dataset` that can be looked at.
    """
    root = Path(dataset).expanduser().absolute()  # the worker processes sit in folders of their own
    if not root.is_dir():
        raise InputError(f"{root}: {'not a folder' if root.exists() else 'no such folder'}")
    found: list[Finding] = []
    for folder in _datasets(root):
        within = folder.relative_to(root) if folder.is_relative_to(root) else folder
        prefix = "" if folder == root else f"{within}/"
        visits: list[tuple[str, list[str]]] = []
        if (folder / "subjects").is_dir() or layout.is_caps(folder):
            own = list(_check_caps(folder, visits))
            kind = "caps"
        elif any(folder.glob("sub-*")):
            own = list(_check_bids(folder, visits))
            kind = "bids"
        elif folder != root:
            continue
        else:
            raise InputError(
                f"{root}: neither BIDS (no sub-* folder) nor CAPS (no subjects folder) nor a study"
            )
        own += _check_images(folder, kind, visits, n_procs)
        found += [
            Finding(plain(f"{prefix}{f.path}"), f.severity, plain(f.message), f.fix) for f in own
        ]
    return sorted(set(found))


def _datasets(root: Path) -> list[Path]:
    """List the folder itself, or the data sets of a study."""
    if not (root / CONFIG_NAME).is_file():
        return [root]
    study = Study.open(root)
    folders = [study.bids, study.caps, *sorted((study.root / "synthetic").glob("*/*"))]
    return [folder for folder in folders if folder is not None and folder.is_dir()]


def _check_images(
    folder: Path, kind: str, visits: list[tuple[str, list[str]]], n_procs: int
) -> list[Finding]:
    """Read the images in processes of their own: a file that crashes its reader is a finding like
    any other.
    """
    batches = [visits[start : start + _BATCH] for start in range(0, len(visits), _BATCH)]
    found: list[Finding] = []
    if not batches:
        return found
    with tempfile.TemporaryDirectory(prefix="neuroaug-check-") as scratch:
        pool = Pool(
            "neuroaug.dataset_check.check_files:look",
            n_workers=min(n_procs, len(batches)),
            scratch=Path(scratch),
        )
        tasks = (
            PoolTask(i, {"root": str(folder), "kind": kind, "visits": batch})
            for i, batch in enumerate(batches)
        )
        for outcome in pool.run(tasks):
            if outcome.result is not None:
                found += [Finding(**finding) for finding in outcome.result["found"]]
            else:
                message = f"an image here, or in the {_BATCH - 1} places after it, crashes its reader: {outcome.reason}"
                found.append(
                    Finding(
                        batches[outcome.key][0][0],
                        "error",
                        message,
                        "look at these files one by one",
                    )
                )
    return found


def look(payload: dict[str, Any]) -> dict[str, Any]:
    """Look at the images of some visits (in a worker)."""
    root = Path(payload["root"])
    found: list[Finding] = []
    for place, files in payload["visits"]:
        if payload["kind"] == "caps":
            found += _look_at_visit(root / place, place, files)
        else:
            for name in files:
                found += _look_at(root / place / name, f"{place}/{name}", _COPY_AGAIN)
    return {"found": [finding.as_dict() for finding in found]}


def _look_at_visit(folder: Path, place: str, files: list[str]) -> Iterator[Finding]:
    """Look at the images of a visit of a CAPS."""
    checksums = _checksums(folder)
    some_cropped = any(_grid_of(name)[1] == GRIDS["1mm"] for name in files)
    for name in files:
        shown, path = f"{place}/{name}", folder / name
        resolution, grid = _grid_of(name)
        try:
            same = name not in checksums or sha256_file(path) == checksums[name]
        except OSError as error:
            yield Finding(
                shown, "error", f"cannot be read ({error.strerror or error})", _PREPROCESS_AGAIN
            )
            continue
        if resolution is None and some_cropped:
            if name not in checksums:
                if (message := _end_is_missing(path)) is not None:
                    yield Finding(shown, "error", message, _PREPROCESS_AGAIN)
            elif not same:
                yield Finding(shown, "error", _CHANGED, _PREPROCESS_AGAIN)
            continue
        findings = list(_look_at(path, shown, _PREPROCESS_AGAIN, resolution or "template's", grid))
        if not same and not findings:
            findings.append(
                Finding(shown, "warning", _CHANGED, f"{_PREPROCESS_AGAIN}, unless you changed it")
            )
        yield from findings


def _look_at(
    path: Path, shown: str, fix: str, resolution: str | None = None, grid: Grid | None = None
) -> Iterator[Finding]:
    try:
        volume = inspect_volume(path)
    except InputError as error:
        message, _, hint = str(error).removeprefix(f"{path}: ").partition("; ")
        yield Finding(shown, "error", message, hint or fix)
        return
    for note in volume.notes:
        yield Finding(shown, "warning", note, "look at the image in a viewer: which side is left?")
    if grid is not None and not grid.matches(volume.shape, volume.affine):
        message = (
            f"not on the {resolution} grid: shape {volume.shape}, origin "
            f"{tuple(round(float(o), 3) for o in volume.affine[:3, 3])}, expected {grid.shape} and {grid.origin}"
        )
        yield Finding(shown, "error", message, fix)


def _checksums(folder: Path) -> dict[str, str]:
    """What our sidecar says of the files beside it; nothing where there is none, or it is not to be
    read.
    """
    for sidecar in sorted(folder.glob("*_desc-Crop_res-1x1x1_T1w.json")):
        try:
            content = read_json(sidecar)
        except (InputError, OSError):
            continue
        files = content.get("files") if isinstance(content, dict) else None
        if isinstance(files, dict):
            return {str(name): str(checksum) for name, checksum in files.items()}
    return {}


def _grid_of(name: str) -> tuple[str | None, Grid]:
    """Resolution of a cropped image by its name, and the grid it must have; None of an uncropped
    one.
    """
    if "_desc-Crop_" not in name:
        return None, UNCROPPED
    resolution = next(
        r for r, entity in layout.RESOLUTION_ENTITY.items() if f"_res-{entity}_" in name
    )
    return resolution, GRIDS[resolution]


def _end_is_missing(path: Path) -> str | None:
    """Look at the last bytes of a compressed image, which hold its size."""
    n_voxels = int(np.prod(UNCROPPED.shape))
    try:
        with open(path, "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(-4, 2)
            stored = int.from_bytes(file.read(4), "little") if packed else path.stat().st_size
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    # Other voxel types are as long as a whole fraction or multiple.
    if stored - 352 not in {n_voxels * width for width in (1, 2, 4, 8)}:
        return "truncated, or not on the template's grid"
    return None


# BIDS


def _check_bids(root: Path, visits: list[tuple[str, list[str]]]) -> Iterator[Finding]:
    yield from _description(root, ("Name", "BIDSVersion"))
    try:
        _, refusals = find_scans(root)
    except InputError as error:
        yield Finding(
            ".", "error", str(error).removeprefix(f"{root}: "), "see the BIDS specification"
        )
        refusals = []
    for row in refusals:
        file, _, _ = row.reason.partition(":")
        if not (
            file.endswith((".json", ".tsv")) and "not readable" in row.reason
        ):  # these are looked at below
            place = (
                "/".join(part for part in (row.participant_id, row.session_id) if part != "n/a")
                or file
            )
            yield Finding(place, "error", row.reason, "correct it, or leave the visit out")
    yield from check_participants(root, Finding)
    folders = (path for path in root.glob("sub-*") if path.is_dir())
    for participant in sorted(
        path for path in folders if path.resolve().is_relative_to(root.resolve())
    ):
        with suppress(OSError):  # of folders that cannot be read, find_scans has told
            yield from check_sessions(root, participant, Finding)
        for folder in sorted(path for path in participant.glob("**/anat") if path.is_dir()):
            place = folder.relative_to(root).as_posix()
            with suppress(OSError):
                images = sorted(path.name for path in folder.iterdir() if is_image(path))
                yield from _leftovers(root, folder)
                if images:
                    visits.append((place, images))
                for sidecar in sorted(folder.glob("*_T1w.json")):
                    yield from _json(root, sidecar)


# CAPS


def _check_caps(root: Path, visits: list[tuple[str, list[str]]]) -> Iterator[Finding]:
    yield from _description(root, _KEYS)
    if (root / "participants.tsv").exists():
        yield from check_participants(root, Finding)
    kept = (hidden(root) / "visits").is_dir()
    known: set[Visit] = set()
    folders, unreadable = visit_folders(root)
    for row in unreadable:
        yield Finding(
            f"subjects/{row.participant_id}", "error", row.reason, "ask for the right to read it"
        )
    for session in folders:
        participant = session.parent
        place = session.relative_to(root).as_posix()
        try:
            visit = Visit(participant.name, session.name)
        except InputError as error:
            yield Finding(place, "error", str(error), "rename the folder and its files")
            continue
        folder = layout.t1_linear_folder(root, visit)
        try:
            if not folder.is_dir():
                continue
            known.add(visit)
            images = yield from _check_visit(root, visit, folder, kept)
        except OSError as error:
            yield Finding(
                place, "error", f"cannot be read ({error.strerror})", "ask for the right to read it"
            )
            continue
        if images:
            visits.append((folder.relative_to(root).as_posix(), images))
    yield from _tables(root, known)
    yield from _distances(root, known)
    yield from _leftovers(root, root)


def _check_visit(
    root: Path, visit: Visit, folder: Path, kept: bool
) -> Generator[Finding, None, list[str]]:
    place = folder.relative_to(root).as_posix()
    yield from _leftovers(root, folder)
    names = {path.name for path in folder.iterdir()}
    expected = {layout.t1_linear_image(root, visit, r).name for r in layout.RESOLUTION_ENTITY}
    expected.add(layout.t1_linear_image(root, visit, cropped=False).name)
    expected |= {name.removesuffix(".gz") for name in expected}
    images = sorted(names & expected)
    for name in sorted(
        n for n in names - expected if ".nii" in n and not n.startswith(TEMPORARY_PREFIX)
    ):
        if name.startswith(f"{visit.stem}_"):
            yield Finding(
                f"{place}/{name}", "warning", "not a name that t1-linear gives", "no stage reads it"
            )
        else:
            yield Finding(
                f"{place}/{name}",
                "error",
                "the name belongs to another visit",
                "move it where it belongs",
            )
    if not images:
        yield Finding(place, "error", "no t1-linear image", _PREPROCESS_AGAIN)
    elif layout.t1_linear_affine(
        root, visit
    ).name not in names and not visit.participant_id.startswith("sub-syn"):
        yield Finding(
            place,
            "warning",
            "no affine beside the image: Clinica would do the visit again",
            "none needed",
        )
    for name in sorted(n for n in names if n.endswith(".json")):
        yield from _json(root, folder / name)
    record = read_record(root, visit)
    if record is None and kept and not visit.participant_id.startswith("sub-syn"):
        yield Finding(
            place, "warning", "no completion record", "neuroaug preprocess completes the visit"
        )
    elif record is not None and record.status != "ok":
        yield Finding(
            place,
            "error",
            "files of a visit that was not finished",
            "run neuroaug preprocess again",
        )
    for name, size in sorted(record.files.items()) if record is not None else ():
        if name not in names:
            yield Finding(
                f"{place}/{name}",
                "error",
                "missing, though the visit was finished",
                "preprocess it again",
            )
        elif (folder / name).stat().st_size != size:
            message = f"{(folder / name).stat().st_size} bytes where {size} were written"
            yield Finding(f"{place}/{name}", "error", message, _PREPROCESS_AGAIN)
    return images


def _tables(root: Path, known: set[Visit]) -> Iterator[Finding]:
    try:
        for row in read_failures(root):
            message = f"{row.participant_id} {row.session_id} failed: {row.reason}"
            yield Finding(
                FAILURES,
                "warning",
                message,
                "correct the scan, then neuroaug preprocess --rerun-failed",
            )
    except InputError as error:
        yield Finding(
            FAILURES,
            "error",
            str(error).removeprefix(f"{root / FAILURES}: "),
            "run preprocess again",
        )
    try:
        read_decisions(root)
    except InputError as error:
        yield Finding(
            DECISIONS,
            "error",
            str(error).removeprefix(f"{root / DECISIONS}: "),
            "correct the table",
        )
    if not (root / QC).exists():
        return
    try:
        table = read_tsv(root / QC, required=("participant_id", "session_id", "pass"))
    except InputError as error:
        yield Finding(
            QC, "error", str(error).removeprefix(f"{root / QC}: "), "run preprocess again"
        )
        return
    pairs = list(zip(table["participant_id"], table["session_id"], strict=True))
    for participant, session in sorted({pair for pair in pairs if pairs.count(pair) > 1}, key=str):
        yield Finding(QC, "error", f"{participant} {session} has several rows", "keep one")
    there = {(visit.participant_id, visit.session_id) for visit in known}
    for participant, session in sorted(set(pairs) - there, key=str):
        yield Finding(
            QC,
            "error",
            f"{participant} {session} has no images",
            "preprocess it, or remove the row",
        )


def _distances(root: Path, known: Iterable[Visit]) -> Iterator[Finding]:
    by_distance: dict[int, Visit] = {}
    for visit in sorted(known):
        record = read_record(root, visit)
        if record is not None and "n4_distance" in record.parameters:
            by_distance.setdefault(record.parameters["n4_distance"], visit)
    if len(by_distance) > 1:
        shown = ", ".join(
            f"{distance} mm ({visit})" for distance, visit in sorted(by_distance.items())
        )
        yield Finding(
            "subjects", "error", f"two N4 distances: {shown}", "preprocess all visits with one"
        )


# Both


def _description(root: Path, keys: Iterable[str]) -> Iterator[Finding]:
    name = layout.DESCRIPTION
    try:
        content = read_json(root / name)
    except InputError as error:
        absent = not (root / name).exists()
        message = "missing" if absent else str(error).removeprefix(f"{root / name}: ")
        yield Finding(name, "error", message, f"write one with {', '.join(keys)}")
        return
    lacking = [key for key in keys if not isinstance(content, dict) or key not in content]
    if lacking:
        yield Finding(name, "error", f"lacks {', '.join(lacking)}", "add what is missing")


def _json(root: Path, path: Path) -> Iterator[Finding]:
    shown = path.relative_to(root).as_posix()
    try:
        content = read_json(path)
    except (InputError, OSError) as error:
        yield Finding(shown, "error", str(error).removeprefix(f"{path}: "), "write the file again")
        return
    if not isinstance(content, dict):
        yield Finding(
            shown,
            "error",
            f"holds a {type(content).__name__}, where keys and values are expected",
            "correct it",
        )


def _leftovers(root: Path, folder: Path) -> Iterator[Finding]:
    for path in sorted(folder.glob(f"{TEMPORARY_PREFIX}*")):
        shown = path.relative_to(root).as_posix()
        yield Finding(
            shown,
            "error",
            "left by a run that was cut off",
            "run the same command again, or delete it",
        )
