"""What is asked of `preprocess`: folders checked against each other, one N4 distance per cohort."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neuroaug.config import PreprocessingConfig
from neuroaug.errors import InputError
from neuroaug.imaging import caps as caps_names
from neuroaug.imaging.template import load_template
from neuroaug.preprocessing.records import sidecar_record
from neuroaug.preprocessing.select import Selection
from neuroaug.system.files import read_json

_FIRST_CLINICA_AT_200 = (0, 12)


@dataclass(frozen=True)
class Request:
    """What was asked of `preprocess`, resolved: absolute paths, checked against each other.

    Attributes
    ----------
    caps : Path
        CAPS that holds the images, or will.
    target : Path
        CAPS that files are written to: `caps`, or the folder of ``--out``.
    bids : Path or None
        Folder of raw scans.
    config : PreprocessingConfig
        Profile, N4 distance, template, resolutions, time limit per visit.
    selection : Selection
        Visits and images asked for.
    rerun_failed : bool
        Whether to try failed visits again.
    """

    caps: Path
    target: Path
    bids: Path | None
    config: PreprocessingConfig
    selection: Selection = field(default_factory=Selection)
    rerun_failed: bool = False

    @property
    def parameters(self) -> dict[str, Any]:
        """What a finished visit must have been made with, to count as done."""
        return {
            "profile": self.config.profile,
            "n4_distance": self.config.n4_distance,
            "template_sha256": load_template(self.config.template).sha256,
        }


def resolve(
    caps: str | Path,
    *,
    bids: str | Path | None,
    out: str | Path | None,
    config: PreprocessingConfig,
    selection: Selection,
    rerun_failed: bool = False,
) -> Request:
    """Check the folders of a request against each other. Writes nothing.

    Parameters
    ----------
    caps, bids, out : path-like
        As typed; `bids` and `out` may be None.
    config : PreprocessingConfig
        Profile, N4 distance, template, resolutions, time limit per visit.
    selection : Selection
        Visits and images asked for.
    rerun_failed : bool
        Whether to try failed visits again.

    Raises
    ------
    InputError
        Naming the folder and what is wrong with it.
    """
    root = Path(caps).expanduser().absolute()
    source = None if bids is None else Path(bids).expanduser().absolute()
    target = root if out is None else Path(out).expanduser().absolute()
    if source is None:
        caps_names.require_caps(root)
    else:
        if not source.is_dir():
            raise InputError(
                f"{source}: {'not a folder' if source.exists() else 'no such folder'}; check --bids"
            )
        for folder in {root, target}:
            _require_apart(folder, source)
    for folder in {root, target}:
        _require_usable(folder)
        _require_not_inside_a_caps(folder)
    if target != root and (
        target.resolve().is_relative_to(root.resolve())
        or root.resolve().is_relative_to(target.resolve())
    ):
        raise InputError(
            f"{target}: --out and the CAPS {root} lie in each other; choose a folder apart"
        )
    if target.exists() and not os.access(target, os.W_OK):
        raise InputError(f"{target}: read-only; give --out DIR for what is to be added")
    if config.template is not None:
        config = config.model_copy(
            update={"template": str(Path(config.template).expanduser().absolute())}
        )
    request = Request(root, target, source, config, selection, rerun_failed)
    if source is not None:
        load_template(config.template)  # refuse it now rather than for every visit
    require_one_distance(request)
    return request


def _require_usable(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: not a folder")
    # Another process may be making this very CAPS: its hidden folder and temporary names come
    # before the description.
    if folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir()):
        caps_names.require_caps(folder)


def _require_apart(caps: Path, bids: Path) -> None:
    inner, outer = caps.resolve(), bids.resolve()
    if inner == outer:
        raise InputError(
            f"{caps}: the CAPS and the BIDS folder are one; give the CAPS a folder of its own"
        )
    if outer.is_relative_to(inner):
        raise InputError(f"{bids}: the BIDS folder lies inside the CAPS {caps}; keep them apart")
    if inner.is_relative_to(outer) and inner.relative_to(outer).parts[0].startswith("sub-"):
        raise InputError(
            f"{caps}: inside a participant's folder of {bids}; give the CAPS a folder of its own"
        )


def _require_not_inside_a_caps(folder: Path) -> None:
    for parent in folder.resolve().parents:
        if (parent / caps_names.DESCRIPTION).is_file() and caps_names.is_caps(parent):
            raise InputError(
                f"{folder}: lies inside another CAPS, {parent}; give it a folder apart"
            )


def require_one_distance(request: Request, *, sidecars: bool = True) -> None:
    """Refuse to mix two N4 distances in one CAPS; `sidecars` as of `known_distance`.

    Raises
    ------
    InputError
        Naming both.
    """
    for folder in {request.caps, request.target}:
        distance = known_distance(folder, sidecars=sidecars)
        if request.bids is not None and distance not in (None, request.config.n4_distance):
            raise InputError(
                f"{folder}: its visits had N4 with a distance of {distance} mm, asked for is "
                f"{request.config.n4_distance} mm; a cohort has one: "
                f"pass --n4-distance {distance}, or another CAPS"
            )


def known_distance(caps: Path, *, sidecars: bool = True) -> int | None:
    """N4 spline distance of the visits in a CAPS, ours or Clinica's; None where none tells.

    Clinica used 600 mm up to 0.11.3 and 200 mm from 0.12.0; which version wrote a CAPS is in its
    ``dataset_description.json``. Without `sidecars`, a quicker look at our own records only.
    """
    for path in caps_names.hidden(caps).glob("visits/*.json"):
        try:
            record = read_json(path)
        except InputError:
            continue
        if record.get("status") == "ok" and "n4_distance" in record.get("parameters", {}):
            return int(record["parameters"]["n4_distance"])
    for visit in caps_names.list_visits(caps) if sidecars else ():
        if (record := sidecar_record(caps, visit)) is not None:
            return int(record.parameters["n4_distance"])
    try:
        processing = read_json(caps / caps_names.DESCRIPTION).get("Processing", [])
    except (InputError, AttributeError):
        return None
    for step in processing if isinstance(processing, list) else []:
        if isinstance(step, Mapping) and step.get("Name") == "t1-linear":
            numbers = str(step.get("ClinicaVersion", "")).split(".")
            if len(numbers) >= 2 and all(part.isdigit() for part in numbers[:2]):
                return 200 if (int(numbers[0]), int(numbers[1])) >= _FIRST_CLINICA_AT_200 else 600
    return None
