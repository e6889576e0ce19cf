"""What is wrong with the images of a BIDS folder or a CAPS: each is decompressed to its end."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from neuroaug.dataset_check.finding import Finding, unreadable
from neuroaug.errors import InputError
from neuroaug.imaging import caps as caps_names
from neuroaug.imaging.bids import Visit
from neuroaug.imaging.grid import GRIDS, UNCROPPED, Grid
from neuroaug.imaging.nifti import inspect_volume
from neuroaug.system.files import read_json, reading, sha256_file
from neuroaug.system.pool import Pool, PoolTask

_BATCH = 4  # folders per task
_COPY_AGAIN = "copy the scan again or leave the visit out"
_PREPROCESS_AGAIN = "preprocess the visit again"
_CHANGED = "not the file that was written (its checksum is not the sidecar's)"

ImageNames = list[tuple[str, list[str]]]
"""Folders, relative to the data set, and the names of the images in each."""


def check_images(
    folder: Path, kind: Literal["bids", "caps"], images: ImageNames, n_procs: int
) -> list[Finding]:
    """Read images in processes of their own: one that crashes its reader is a finding like others.

    Parameters
    ----------
    folder : Path
        The data set.
    kind : {"bids", "caps"}
        Layout of the data set; images of a CAPS must be on its grids.
    images : list of (str, list of str)
        Images to read: folder, names.
    n_procs : int
        Processes that read.
    """
    batches = [images[start : start + _BATCH] for start in range(0, len(images), _BATCH)]
    found: list[Finding] = []
    if not batches:
        return found
    with tempfile.TemporaryDirectory(prefix="neuroaug-check-") as scratch:
        pool = Pool(
            "neuroaug.dataset_check.check_images:look",
            n_workers=min(n_procs, len(batches)),
            scratch=Path(scratch),
        )
        tasks = (
            PoolTask(i, {"root": str(folder), "kind": kind, "images": batch})
            for i, batch in enumerate(batches)
        )
        for outcome in pool.run(tasks):
            if outcome.result is not None:
                found += [Finding(**finding) for finding in outcome.result["found"]]
                continue
            message = (
                f"an image here, or in the {_BATCH - 1} places after it, crashes its reader: "
                f"{outcome.reason}"
            )
            place = batches[outcome.key][0][0]
            found.append(Finding(place, "error", message, "look at these files one by one"))
    return found


def look(payload: dict[str, Any]) -> dict[str, Any]:
    """Look at the images of some folders (in a worker).

    Parameters
    ----------
    payload : dict
        Of a task of `check_images`: ``root``, ``kind``, ``images``.

    Returns
    -------
    dict
        ``found``, the findings as dictionaries.
    """
    root = Path(payload["root"])
    found: list[Finding] = []
    for place, files in payload["images"]:
        if payload["kind"] == "caps":
            found += _look_at_visit(root, place, files)
        else:
            for name in files:
                found += _look_at(root / place / name, f"{place}/{name}", _COPY_AGAIN)
    return {"found": [finding.as_dict() for finding in found]}


def _look_at_visit(root: Path, place: str, files: list[str]) -> Iterator[Finding]:
    """Look at the images of one visit of a CAPS."""
    folder = root / place
    checksums = _checksums(caps_names.t1_linear_sidecar(root, Visit(*folder.parts[-3:-1])))
    some_cropped = any(_grid_of(name)[1] == GRIDS["1mm"] for name in files)
    for name in files:
        shown, path = f"{place}/{name}", folder / name
        resolution, grid = _grid_of(name)
        try:
            with reading(path):
                same = name not in checksums or sha256_file(path) == checksums[name]
                beside = resolution is None and some_cropped
                torn = beside and name not in checksums and _end_is_missing(path)
        except InputError as error:
            yield unreadable(path, shown, error, _PREPROCESS_AGAIN)
            continue
        if torn:
            message = "truncated, or not on the template's grid"
            yield Finding(shown, "error", message, _PREPROCESS_AGAIN)
        elif beside:
            if not same:
                yield Finding(shown, "error", _CHANGED, _PREPROCESS_AGAIN)
        else:
            findings = list(
                _look_at(path, shown, _PREPROCESS_AGAIN, resolution or "template's", grid)
            )
            if not same and not findings:
                fix = f"{_PREPROCESS_AGAIN}, unless you changed it"
                findings.append(Finding(shown, "warning", _CHANGED, fix))
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
            f"{tuple(round(float(o), 3) for o in volume.affine[:3, 3])}, "
            f"expected {grid.shape} and {grid.origin}"
        )
        yield Finding(shown, "error", message, fix)


def _checksums(sidecar: Path) -> dict[str, str]:
    """What our sidecar says of the files beside it; nothing where there is none to be read."""
    try:
        content = read_json(sidecar)
    except InputError:
        return {}
    files = content.get("files") if isinstance(content, dict) else None
    return (
        {str(name): str(sha256) for name, sha256 in files.items()}
        if isinstance(files, dict)
        else {}
    )


def _grid_of(name: str) -> tuple[str | None, Grid]:
    """Resolution of a cropped image by its name (None: uncropped), and the grid it must have."""
    if "_desc-Crop_" not in name:
        return None, UNCROPPED
    resolution = next(
        r for r, entity in caps_names.RESOLUTION_ENTITY.items() if f"_res-{entity}_" in name
    )
    return resolution, GRIDS[resolution]


def _end_is_missing(path: Path) -> bool:
    """Look at the last bytes of a compressed image, which hold its size."""
    n_voxels = int(np.prod(UNCROPPED.shape))
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(-4, 2)
        stored = int.from_bytes(file.read(4), "little") if packed else path.stat().st_size
    # Voxels of another type take a whole multiple or fraction.
    return stored - 352 not in {n_voxels * width for width in (1, 2, 4, 8)}
