"""Names and paths of a CAPS folder: the only place that spells them.

A CAPS is laid out as Clinica 0.12 writes it; ours adds ``res-2x2x2`` and ``res-4x4x4`` copies
beside the 1 mm image, one JSON sidecar per visit, and a hidden folder for our own records.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuroaug.errors import InputError
from neuroaug.imaging.bids import (
    BIDS_VERSION,
    DESCRIPTION,
    Visit,
    by_session,
    is_participant,
    is_session,
)
from neuroaug.system.files import read_json, visible, write_json
from neuroaug.system.provenance import generated_by

if TYPE_CHECKING:
    import pandas as pd

SPACE = "MNI152NLin2009cSym"
CAPS_VERSION = "1.0.0"
_LEAST_DESCRIPTION = {
    "Name": "...",
    "BIDSVersion": BIDS_VERSION,
    "DatasetType": "derivative",
    "CAPSVersion": CAPS_VERSION,
}
"""Keys without which ClinicaDL reads no CAPS, and what to write where one is missing."""
RESOLUTION_ENTITY = {"1mm": "1x1x1", "2mm": "2x2x2", "4mm": "4x4x4"}
_RESOLUTION = {entity: name for name, entity in RESOLUTION_ENTITY.items()}
_ENDINGS = (".nii", ".nii.gz")
HIDDEN = ".neuroaug"


def hidden(caps: str | Path) -> Path:
    """Return the folder of a CAPS that is ours, which BIDS and CAPS readers pass over."""
    return Path(caps) / HIDDEN


def visit_folder(caps: str | Path, visit: Visit) -> Path:
    """``<caps>/subjects/sub-X/ses-Y``."""
    return Path(caps) / "subjects" / visit.participant_id / visit.session_id


def t1_linear_folder(caps: str | Path, visit: Visit) -> Path:
    """``<caps>/subjects/sub-X/ses-Y/t1_linear``."""
    return visit_folder(caps, visit) / "t1_linear"


def _entities(resolution: str, cropped: bool) -> str:
    if resolution not in RESOLUTION_ENTITY:
        raise InputError(
            f"resolution '{resolution}': unknown; choose one of {', '.join(RESOLUTION_ENTITY)}"
        )
    if not cropped and resolution != "1mm":
        raise InputError(f"resolution '{resolution}': the uncropped image exists at 1mm only")
    return f"space-{SPACE}{'_desc-Crop' if cropped else ''}_res-{RESOLUTION_ENTITY[resolution]}"


def t1_linear_image(
    caps: str | Path, visit: Visit, resolution: str = "1mm", cropped: bool = True
) -> Path:
    """Path of a visit's registered image.

    Parameters
    ----------
    caps : path-like
        The CAPS.
    visit : Visit
        Participant and session.
    resolution : {"1mm", "2mm", "4mm"}
        Voxel size.
    cropped : bool
        The cropped image (the one networks read) or the whole template grid, which exists at 1 mm
        only.

    Raises
    ------
    InputError
        If there is no such resolution.
    """
    return (
        t1_linear_folder(caps, visit) / f"{visit.stem}_{_entities(resolution, cropped)}_T1w.nii.gz"
    )


def t1_linear_affine(caps: str | Path, visit: Visit) -> Path:
    """Path of the transform that ANTs found (template to scan, as ANTs writes it)."""
    return t1_linear_folder(caps, visit) / f"{visit.stem}_space-{SPACE}_res-1x1x1_affine.mat"


def t1_linear_sidecar(caps: str | Path, visit: Visit) -> Path:
    """Path of the JSON beside the cropped 1 mm image, written last: a visit with it is complete."""
    return t1_linear_folder(caps, visit) / f"{visit.stem}_{_entities('1mm', True)}_T1w.json"


def t1_linear_files(caps: str | Path, visit: Visit) -> dict[tuple[str, bool], Path]:
    """List the registered images of a visit, by (resolution, cropped).

    Clinica has named them in several ways: with the name of the raw scan before ``space-``
    (``sub-X_ses-Y_T1w_space-...``, ``sub-X_ses-Y_acq-Z_run-1_space-...``), and with its entities in
    another order. All are read; ours are written with the names of Clinica 0.12.

    Raises
    ------
    InputError
        If two files are one image by their names.
    """
    found: dict[tuple[str, bool], Path] = {}
    folder = t1_linear_folder(caps, visit)
    if not folder.is_dir():
        return found
    for path in sorted(folder.iterdir()):
        kind = _kind_of_image(path.name, visit)
        if kind is None or not path.is_file():
            continue
        other = found.setdefault(kind, path)
        if other != path:
            place = folder.relative_to(caps)
            raise InputError(
                f"{caps}: {other.name} and {path.name} in {place} are one image by their names; "
                "keep one of them"
            )
    return found


def _kind_of_image(name: str, visit: Visit) -> tuple[str, bool] | None:
    """Resolution, and whether cropped; None where `name` is no registered image of the visit."""
    if name.startswith(".") or not name.endswith(_ENDINGS):
        return None
    *parts, suffix = name[: name.index(".nii")].split("_")
    entities = dict(part.split("-", 1) for part in parts if "-" in part)
    bare = [part for part in parts if "-" not in part]
    own = (entities.get("sub"), entities.get("ses"))
    resolution = _RESOLUTION.get(entities.get("res", ""))
    if (
        suffix != "T1w"
        or bare not in ([], ["T1w"])
        or own != (visit.participant_id[4:], visit.session_id[4:])
        or entities.get("space") != SPACE
        or entities.get("desc", "Crop") != "Crop"
        or resolution is None
    ):
        return None
    cropped = "desc" in entities
    return (resolution, cropped) if cropped or resolution == "1mm" else None


def find_t1_linear_image(
    caps: str | Path, visit: Visit, resolution: str = "1mm", cropped: bool = True
) -> Path:
    """Path of a visit's registered image, however Clinica named it.

    Returns
    -------
    Path
        Where there is none, the path that it would have (`t1_linear_image`).

    Raises
    ------
    InputError
        If two files are that image by their names, or there is no such resolution.
    """
    usual = t1_linear_image(caps, visit, resolution, cropped)
    return t1_linear_files(caps, visit).get((resolution, cropped), usual)


def find_t1_linear_affine(caps: str | Path, visit: Visit) -> Path:
    """Path of the transform, however Clinica named it; where there is none, its usual path."""
    usual = t1_linear_affine(caps, visit)
    if usual.is_file():
        return usual
    others = sorted(usual.parent.glob(f"{visit.stem}_*_affine.mat"))
    return next((path for path in others if f"space-{SPACE}" in path.name), usual)


def first_t1_linear_image(caps: str | Path, visit: Visit) -> Path:
    """Path of a visit's 1 mm image: the cropped one where it is there, else the uncropped one."""
    cropped = find_t1_linear_image(caps, visit)
    return cropped if cropped.is_file() else find_t1_linear_image(caps, visit, cropped=False)


def participant_folders(caps: str | Path) -> list[Path]:
    """List the folders ``subjects/*``, whatever their names, sorted."""
    return [path for path in visible(caps, "subjects/*") if path.is_dir()]


def is_caps(folder: str | Path) -> bool:
    """Whether `folder` holds a CAPS (see `require_caps`)."""
    try:
        require_caps(folder)
    except InputError:
        return False
    return True


def require_caps(folder: str | Path) -> Path:
    """Check that `folder` is a CAPS and return it.

    Raises
    ------
    InputError
        If it is missing, or its ``dataset_description.json`` does not say that it is one.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: {'not a folder' if folder.exists() else 'no such folder'}")
    if not (folder / DESCRIPTION).is_file():
        hint = ""
        if (folder / "subjects").is_dir():
            keys = ", ".join(f'"{key}": "{value}"' for key, value in _LEAST_DESCRIPTION.items())
            hint = f"; if Clinica wrote it, add one with {keys}"
        raise InputError(f"{folder}: not a CAPS (no {DESCRIPTION} in it){hint}")
    description = read_json(folder / DESCRIPTION)
    if not isinstance(description, dict) or "CAPSVersion" not in description:
        kind = description.get("DatasetType", "raw") if isinstance(description, dict) else "unknown"
        raise InputError(
            f"{folder}: not a CAPS ({DESCRIPTION} has no CAPSVersion; its DatasetType is {kind})"
        )
    return folder


def require_described(folder: str | Path) -> Path:
    """Check that `folder` is a CAPS that ClinicaDL opens, and return it.

    Raises
    ------
    InputError
        If it is no CAPS, or its ``dataset_description.json`` lacks a key that ClinicaDL reads.
    """
    folder = require_caps(folder)
    description = read_json(folder / DESCRIPTION)
    version = re.fullmatch(r"\d+\.\d+\.\d+", str(description.get("BIDSVersion")))
    good = {
        "Name": isinstance(description.get("Name"), str),
        "BIDSVersion": version is not None,
        "DatasetType": description.get("DatasetType") == "derivative",
    }
    wanting = [f'"{key}": "{_LEAST_DESCRIPTION[key]}"' for key, fits in good.items() if not fits]
    if wanting:
        raise InputError(
            f"{folder / DESCRIPTION}: ClinicaDL does not open this CAPS; "
            f"write {', '.join(wanting)} into it"
        )
    return folder


def list_visits(caps: str | Path, resolution: str | None = None) -> list[Visit]:
    """Visits with a cropped image, sorted.

    Parameters
    ----------
    caps : path-like
        The CAPS; folders that may not be read, or whose names are not participants or sessions, are
        passed over.
    resolution : {"1mm", "2mm", "4mm"}, optional
        Only visits with an image of this voxel size; by default any.

    Raises
    ------
    InputError
        If two files are one image by their names, or two folders one session.
    """
    found = []
    for folder in sorted(Path(caps).glob("subjects/sub-*/ses-*/t1_linear")):
        participant, session = folder.parts[-3:-1]
        if not (is_participant(participant) and is_session(session)):
            continue
        visit = Visit(participant, session)
        with suppress(PermissionError):
            kinds = {r for r, cropped in t1_linear_files(caps, visit) if cropped}
            if kinds and resolution in (None, *kinds):
                found.append(visit)
    by_session(((v.participant_id, v.session_id) for v in found), str(caps))
    return sorted(found)


def image_files(caps: str | Path, table: pd.DataFrame, resolution: str) -> list[Path]:
    """Preprocessed images of the visits in a table, in its order.

    Parameters
    ----------
    caps : path-like
        The CAPS.
    table : DataFrame
        Visits: participant_id and session_id.
    resolution : {"1mm", "2mm", "4mm"}
        Voxel size.

    Raises
    ------
    InputError
        If the CAPS or an image is missing; the first visit without one is named.
    """
    require_caps(caps)
    files = []
    for row in table.itertuples():
        visit = Visit(str(row.participant_id), str(row.session_id))
        path = find_t1_linear_image(caps, visit, resolution=resolution)
        if not path.is_file():
            raise InputError(
                f"{path}: no {resolution} image for {visit}; "
                "preprocess it, or leave the visit out of the split"
            )
        files.append(path)
    return files


def write_dataset_description(
    folder: str | Path,
    *,
    name: str,
    source_datasets: Sequence[Mapping[str, Any]] = (),
    extra: Mapping[str, Any] | None = None,
) -> Path:
    """Write ``dataset_description.json``, which makes a folder a CAPS.

    No user, host or input path goes into it.

    Parameters
    ----------
    folder : path-like
        The CAPS; made if absent.
    name : str
        Name of the data set.
    source_datasets : sequence of mappings
        BIDS ``SourceDatasets``.
    extra : mapping, optional
        Further keys.
    """
    content: dict[str, Any] = {
        "Name": name,
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "CAPSVersion": CAPS_VERSION,
        "GeneratedBy": generated_by(),
    }
    if source_datasets:
        content["SourceDatasets"] = [dict(source) for source in source_datasets]
    content.update(extra or {})
    write_json(Path(folder) / DESCRIPTION, content)
    return Path(folder) / DESCRIPTION
