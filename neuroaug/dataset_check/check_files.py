"""Every file and table problem of a BIDS or CAPS folder, or of a study, in one go. Reads only."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal

from neuroaug.dataset_check.check_images import ImageNames, check_images
from neuroaug.dataset_check.check_tables import check_participants, check_sessions
from neuroaug.dataset_check.finding import Finding, unreadable
from neuroaug.errors import InputError
from neuroaug.imaging import caps as caps_names
from neuroaug.imaging.bids import PARTICIPANTS, Visit, t1w_images
from neuroaug.preprocessing.records import (
    DECISIONS,
    FAILURES,
    QC,
    read_decisions,
    read_failures,
    read_record,
)
from neuroaug.preprocessing.refusal import NO_FOLDER, named
from neuroaug.preprocessing.select import find_scans
from neuroaug.study import CONFIG_NAME, Study
from neuroaug.system.files import (
    TEMPORARY_PREFIX,
    cell_text,
    list_folder,
    read_json,
    read_tsv,
    reading,
)

_KEYS = ("Name", "BIDSVersion", "DatasetType", "CAPSVersion")
_PREPROCESS_AGAIN = "preprocess the visit again"
_ASK = "ask for the right to read it"
_TOLD_BELOW = ("not readable", "cannot be read", "no permission")


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
        Processes that read images.

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
        images: ImageNames = []
        kind: Literal["bids", "caps"]
        if (folder / "subjects").is_dir() or caps_names.is_caps(folder):
            own = list(_check_caps(folder, images))
            kind = "caps"
        elif any(folder.glob("sub-*")):
            own = list(_check_bids(folder, images))
            kind = "bids"
        elif folder != root:
            continue
        else:
            raise InputError(
                f"{root}: neither BIDS (no sub-* folder) nor CAPS (no subjects folder) nor a study"
            )
        own += check_images(folder, kind, images, n_procs)
        found += [
            Finding(cell_text(f"{prefix}{f.path}"), f.severity, cell_text(f.message), f.fix)
            for f in own
        ]
    return sorted(set(found))


def _datasets(root: Path) -> list[Path]:
    """List the folder itself, or the data sets of a study."""
    if not (root / CONFIG_NAME).is_file():
        return [root]
    study = Study.open(root)
    folders = [study.bids, study.caps, *sorted((study.root / "synthetic").glob("*/*"))]
    return [folder for folder in folders if folder is not None and folder.is_dir()]


# BIDS


def _check_bids(root: Path, images: ImageNames) -> Iterator[Finding]:
    """Yield what is wrong, and add to `images` those that are to be read."""
    yield from _description(root, ("Name", "BIDSVersion"))
    try:
        _, refusals = find_scans(root)
    except InputError as error:
        yield unreadable(root, ".", error, "see the BIDS specification")
        refusals = []
    lost = [row.participant_id for row in refusals if row.reason == NO_FOLDER]
    if lost:
        yield _without_folder(PARTICIPANTS, lost)
    for row in refusals:
        if row.reason == NO_FOLDER:
            continue
        file, _, why = row.reason.partition(":")
        if file.endswith((".json", ".tsv")) and any(told in why for told in _TOLD_BELOW):
            continue
        names = [name for name in (row.participant_id, row.session_id) if name != "n/a"]
        fix = "correct it, or leave the visit out"
        yield Finding("/".join(names) or file, "error", row.reason, fix)
    yield from check_participants(root)
    for participant in sorted(path for path in root.glob("sub-*") if path.is_dir()):
        # Of folders that cannot be read, find_scans has told.
        with suppress(OSError):
            yield from check_sessions(root, participant)
        for folder in sorted(path for path in participant.glob("**/anat") if path.is_dir()):
            with suppress(OSError, InputError):
                names = sorted(path.name for path in t1w_images(folder))
                yield from _leftovers(root, folder)
                if names:
                    images.append((folder.relative_to(root).as_posix(), names))
                for sidecar in sorted(folder.glob("*_T1w.json")):
                    if not sidecar.name.startswith("."):
                        yield from _json(root, sidecar, "warning")  # nothing of it is used


# CAPS


def _check_caps(root: Path, images: ImageNames) -> Iterator[Finding]:
    """Yield what is wrong, and add to `images` those that are to be read."""
    yield from _description(root, _KEYS)
    if (root / PARTICIPANTS).exists():
        yield from check_participants(root)
    kept = (caps_names.hidden(root) / "visits").is_dir()
    known: set[Visit] = set()
    for participant in caps_names.participant_folders(root):
        try:
            sessions = [path for path in list_folder(participant) if path.is_dir()]
        except InputError as error:
            place = participant.relative_to(root).as_posix()
            yield unreadable(participant, place, error, _ASK)
            continue
        for session in sessions:
            place = session.relative_to(root).as_posix()
            try:
                visit = Visit(participant.name, session.name)
            except InputError as error:
                yield Finding(place, "error", str(error), "rename the folder and its files")
                continue
            folder = caps_names.t1_linear_folder(root, visit)
            try:
                with reading(folder):
                    if not folder.is_dir():
                        continue
                    known.add(visit)
                    names = yield from _check_visit(root, visit, folder, kept)
            except InputError as error:
                yield unreadable(folder, place, error, _ASK)
                continue
            if names:
                images.append((folder.relative_to(root).as_posix(), names))
    try:
        caps_names.list_visits(root)
    except InputError as error:
        message = str(error).removeprefix(f"{root}: ")
        yield Finding("subjects", "error", message, "every stage would refuse it")
    yield from _tables(root, known)
    yield from _distances(root, known)
    yield from _leftovers(root, root)


def _check_visit(
    root: Path, visit: Visit, folder: Path, kept: bool
) -> Generator[Finding, None, list[str]]:
    place = folder.relative_to(root).as_posix()
    yield from _leftovers(root, folder)
    # macOS writes ._X beside X; our own temporary files have been told.
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    affine = caps_names.find_t1_linear_affine(root, visit).name
    # Nobody registered it: a synthetic image, or a phantom made on the grid, which has a sidecar
    # beside its 4 mm image.
    on_grid = caps_names.t1_linear_image(root, visit, "4mm").name.removesuffix(".nii.gz") + ".json"
    made = visit.participant_id.startswith("sub-syn") or on_grid in names
    expected = {
        caps_names.t1_linear_image(root, visit, r).name for r in caps_names.RESOLUTION_ENTITY
    }
    expected.add(caps_names.t1_linear_image(root, visit, cropped=False).name)
    expected |= {name.removesuffix(".gz") for name in expected}
    with suppress(InputError):  # two files for one image: `list_visits` names them
        expected |= {path.name for path in caps_names.t1_linear_files(root, visit).values()}
    images = sorted(names & expected)
    for name in sorted(
        n for n in names - expected if ".nii" in n and not n.startswith(TEMPORARY_PREFIX)
    ):
        shown = f"{place}/{name}"
        if name.startswith(f"{visit.stem}_"):
            message = "not a name that t1-linear gives"
            yield Finding(shown, "warning", message, "no stage reads it")
        else:
            message = "the name belongs to another visit"
            yield Finding(shown, "error", message, "move it where it belongs")
    if not images:
        yield Finding(place, "error", "no t1-linear image", _PREPROCESS_AGAIN)
    elif affine not in names and not made:
        message = "no affine beside the image: Clinica would do the visit again"
        yield Finding(place, "warning", message, "none needed")
    for name in sorted(n for n in names if n.endswith(".json")):
        yield from _json(root, folder / name)
    record = read_record(root, visit)
    if record is None:
        if kept and not made:
            fix = "neuroaug preprocess completes the visit"
            yield Finding(place, "warning", "no completion record", fix)
        return images
    if record.status != "ok":
        message = "files of a visit that was not finished"
        yield Finding(place, "error", message, "run neuroaug preprocess again")
    for name, size in sorted(record.files.items()):
        shown = f"{place}/{name}"
        if name not in names:
            message = "missing, though the visit was finished"
            yield Finding(shown, "error", message, "preprocess it again")
        elif (found := (folder / name).stat().st_size) != size:
            message = f"{found} bytes where {size} were written"
            yield Finding(shown, "error", message, _PREPROCESS_AGAIN)
    return images


def _without_folder(place: str, people: list[str]) -> Finding:
    message = f"{len(people)} people have no folder: {named(people)}"
    return Finding(place, "warning", message, "add their scans; they are left out")


def _tables(root: Path, known: set[Visit]) -> Iterator[Finding]:
    try:
        failures = read_failures(root)
        lost = [row.participant_id for row in failures if row.reason == NO_FOLDER]
        if lost:
            yield _without_folder(FAILURES, lost)
        for row in failures:
            if row.reason == NO_FOLDER:
                continue
            message = f"{row.participant_id} {row.session_id} failed: {row.reason}"
            fix = "correct the scan, then neuroaug preprocess --rerun-failed"
            yield Finding(FAILURES, "warning", message, fix)
    except InputError as error:
        yield unreadable(root / FAILURES, FAILURES, error, "run preprocess again")
    try:
        read_decisions(root)
    except InputError as error:
        yield unreadable(root / DECISIONS, DECISIONS, error, "correct the table")
    if not (root / QC).exists():
        return
    try:
        table = read_tsv(root / QC, required=("participant_id", "session_id", "pass"))
    except InputError as error:
        yield unreadable(root / QC, QC, error, "run preprocess again")
        return
    pairs = list(zip(table["participant_id"], table["session_id"], strict=True))
    for participant, session in sorted({pair for pair in pairs if pairs.count(pair) > 1}, key=str):
        yield Finding(QC, "error", f"{participant} {session} has several rows", "keep one")
    there = {(visit.participant_id, visit.session_id) for visit in known}
    for participant, session in sorted(set(pairs) - there, key=str):
        message = f"{participant} {session} has no images"
        yield Finding(QC, "error", message, "preprocess it, or remove the row")


def _distances(root: Path, known: Iterable[Visit]) -> Iterator[Finding]:
    by_distance: dict[int, Visit] = {}
    for visit in sorted(known):
        record = read_record(root, visit)
        if record is not None and "n4_distance" in record.parameters:
            by_distance.setdefault(record.parameters["n4_distance"], visit)
    if len(by_distance) > 1:
        shown = (f"{distance} mm ({visit})" for distance, visit in sorted(by_distance.items()))
        message = f"two N4 distances: {', '.join(shown)}"
        yield Finding("subjects", "error", message, "preprocess all visits with one")


# Both


def _description(root: Path, keys: Iterable[str]) -> Iterator[Finding]:
    name = caps_names.DESCRIPTION
    try:
        content = read_json(root / name)
    except InputError as error:
        fix = f"write one with {', '.join(keys)}"
        if (root / name).exists():
            yield unreadable(root / name, name, error, fix)
        else:
            yield Finding(name, "error", "missing", fix)
        return
    lacking = [key for key in keys if not isinstance(content, dict) or key not in content]
    if lacking:
        yield Finding(name, "error", f"lacks {', '.join(lacking)}", "add what is missing")


def _json(
    root: Path, path: Path, severity: Literal["error", "warning"] = "error"
) -> Iterator[Finding]:
    shown = path.relative_to(root).as_posix()
    try:
        content = read_json(path)
    except InputError as error:
        found = unreadable(path, shown, error, "write the file again")
        yield replace(found, severity=severity)
        return
    if not isinstance(content, dict):
        message = f"holds a {type(content).__name__}, where keys and values are expected"
        yield Finding(shown, severity, message, "correct it")


def _leftovers(root: Path, folder: Path) -> Iterator[Finding]:
    for path in sorted(folder.glob(f"{TEMPORARY_PREFIX}*")):
        shown, message = path.relative_to(root).as_posix(), "left by a run that was cut off"
        yield Finding(shown, "error", message, "run the same command again, or delete it")
