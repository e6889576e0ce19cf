"""One visit through t1-linear: N4, affine to MNI, crop, smaller copies, sidecar."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroaug.config import PreprocessingConfig
from neuroaug.errors import InputError, NeuroaugError
from neuroaug.imaging import caps
from neuroaug.imaging.bids import Visit
from neuroaug.imaging.grid import GRIDS, UNCROPPED, block_mean, crop
from neuroaug.imaging.nifti import Volume, read_volume, write_volume
from neuroaug.imaging.template import Template, load_template, template_brain
from neuroaug.preprocessing.steps import bias, registration
from neuroaug.preprocessing.steps.bias import Profile
from neuroaug.preprocessing.steps.head_kind import kind_of_head
from neuroaug.preprocessing.steps.pose_search import find_start
from neuroaug.preprocessing.steps.quality import Quality, assess
from neuroaug.preprocessing.steps.registration import Alignment
from neuroaug.preprocessing.steps.sidecar import describe, parameters
from neuroaug.system.files import read_json, remove_leftovers, sha256_file, write_bytes, write_json
from neuroaug.system.provenance import versions

PACKAGES = ("antspyx", "nibabel", "numpy", "scipy")
_COPIES = ("2mm", "4mm")  # from the finer to the coarser: each is the block mean of the one before


@dataclass(frozen=True)
class VisitResult:
    """What became of one visit.

    Attributes
    ----------
    visit : Visit
        Participant and session.
    quality : Quality
        The registration's score and verdict.
    written : tuple of Path
        Files written, the sidecar last.
    notes : tuple of str
        What the user should know of the scan.
    seconds : float
        Wall-clock time taken.
    """

    visit: Visit
    quality: Quality
    written: tuple[Path, ...]
    notes: tuple[str, ...]
    seconds: float


@contextmanager
def _stage(name: str) -> Iterator[None]:
    """Note on an error, for ``failures.tsv``, in which stage it arose."""
    try:
        yield
    except NeuroaugError as error:
        if not hasattr(error, "stage"):
            error.stage = name  # type: ignore[attr-defined]
        raise


@contextmanager
def _all_or_none() -> Iterator[list[Path]]:
    """Collect the files that the block writes; they are removed if it fails."""
    written: list[Path] = []
    try:
        yield written
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise


def process_visit(
    scan: str | Path,
    caps_folder: str | Path,
    visit: Visit,
    config: PreprocessingConfig | None = None,
    *,
    work_dir: str | Path | None = None,
    choice: str = "",
) -> VisitResult:
    """Take one raw scan through t1-linear and write it as Clinica would, with the copies asked for.

    The cropped and uncropped 1 mm images and the affine are always written. Each file appears whole
    or not at all; the sidecar is the last, so that a visit with a sidecar is complete. On failure
    nothing of the visit stays. Equal arguments give equal bytes, but for ``seconds`` in the
    sidecar.

    Parameters
    ----------
    scan : path-like
        A raw T1w, ``.nii`` or ``.nii.gz``.
    caps_folder : path-like
        The CAPS to write to; it must have its ``dataset_description.json`` already.
    visit : Visit
        Participant and session of the scan.
    config : PreprocessingConfig, optional
        Profile (accuracy against time: docs/preprocessing.md), spline distance of N4, template,
        resolutions wanted beside the 1 mm image.
    work_dir : path-like, optional
        Folder for ANTs' transform, for a moment; the system's temporary folder by default.
    choice : str
        By which rule the scan was chosen among several, for the sidecar.

    Raises
    ------
    InputError
        If the scan or the template is refused.
    StageError
        If ANTs fails.
    """
    started = time.monotonic()
    config = config or PreprocessingConfig()
    folder = caps.t1_linear_folder(caps_folder, visit)
    if folder.is_dir():
        remove_leftovers(folder)
    with _stage("template"):
        reference = load_template(config.template)
    with _stage("read"):
        volume = read_volume(scan)
        if volume.data.max() <= 0:  # N4 works on logarithms
            raise InputError(
                f"{scan}: no positive intensity (at most {volume.data.max():g}); "
                "not a magnitude image"
            )
    with _stage("n4"):
        is_brain = kind_of_head(volume.data, volume.voxel_mm) == "brain"
        if reference.kind == "brain" and not is_brain:
            raise InputError(
                f"{scan}: a head with its skull, where the template {config.template} is a brain; "
                "give a template of the whole head, or none"
            )
        corrected = bias.correct_bias(
            volume.data,
            volume.affine,
            profile=config.profile,
            n4_distance=config.n4_distance,
            mask=volume.data > 0 if is_brain else None,
        )
        _require_contrast(corrected, f"{scan}: nothing is left of it after bias correction")
        if is_brain:
            corrected = np.where(volume.data > 0, corrected, np.float32(0))
    target = template_brain(reference) if is_brain else reference
    landed = _register(corrected, volume, target, scan, config.profile, work_dir)
    with _all_or_none() as written, _stage("write"):
        written.append(caps.t1_linear_image(caps_folder, visit, cropped=False))
        write_volume(written[-1], landed.uncropped, UNCROPPED.affine)
        written.append(caps.t1_linear_affine(caps_folder, visit))
        write_bytes(written[-1], landed.alignment.mat)
        written.append(caps.t1_linear_image(caps_folder, visit))
        write_volume(written[-1], landed.cropped, GRIDS["1mm"].affine)
        _write_copies(caps_folder, visit, landed.cropped, config.resolutions, written)
        sidecar = {
            "pipeline": "t1-linear",
            "parameters": parameters(config, volume, landed.start, is_brain=is_brain),
            "template": {"name": reference.name, "sha256": reference.sha256},
            "input": describe(scan, volume, choice),
            "template_to_scan": np.round(landed.alignment.template_to_scan, 9).tolist(),
            "registration_score": landed.quality.score,
            "quality": asdict(landed.quality),
            "files": {path.name: sha256_file(path) for path in written},
            "versions": versions(*PACKAGES),
            "seconds": round(time.monotonic() - started, 1),
        }
        written.append(caps.t1_linear_sidecar(caps_folder, visit))
        write_json(written[-1], sidecar)
    return VisitResult(
        visit,
        landed.quality,
        tuple(written),
        (*volume.notes, *landed.notes),
        time.monotonic() - started,
    )


@dataclass(frozen=True, eq=False)
class _Landed:
    """A registered scan."""

    alignment: Alignment
    uncropped: NDArray[np.float32]
    cropped: NDArray[np.float32]
    quality: Quality
    start: NDArray[np.float64] | None

    @property
    def notes(self) -> tuple[str, ...]:
        if self.start is None:
            return ()
        return (
            "registered from a second start: "
            "from the centres of mass it did not pass the quality check",
        )


def _register(
    corrected: NDArray[np.float32],
    volume: Volume,
    template: Template,
    scan: str | Path,
    profile: Profile,
    work_dir: str | Path | None,
) -> _Landed:
    """Register as Clinica does; if that fails the check, again from a searched start."""

    def land(start: NDArray[np.float64] | None) -> _Landed:
        with _stage("registration"):
            alignment = registration.align(
                corrected, volume.affine, template, profile=profile, start=start, work_dir=work_dir
            )
        with _stage("resample"):
            uncropped = registration.warp(corrected, volume.affine, alignment.template_to_scan)
            cropped = crop(uncropped).astype(np.float32, copy=False)
            _require_contrast(
                cropped, f"{scan}: no part of it lies on the template after registration"
            )
            return _Landed(alignment, uncropped, cropped, assess(cropped), start)

    failure: NeuroaugError | None = None
    first: _Landed | None = None
    try:
        first = land(None)
    except NeuroaugError as error:
        failure = error
    if first is not None and first.quality.passed:
        return first
    try:
        second = land(find_start(corrected, volume.affine, template))
    except NeuroaugError:
        if failure is not None:
            raise failure from None
        assert first is not None
        return first
    if first is None or second.quality.pass_probability > first.quality.pass_probability:
        return second
    return first


def complete_visit(
    caps_folder: str | Path,
    visit: Visit,
    config: PreprocessingConfig | None = None,
    *,
    out: str | Path | None = None,
) -> VisitResult:
    """Add the copies and the sidecar that a registered visit lacks, and judge it.

    No image that is there is redone.

    Parameters
    ----------
    caps_folder : path-like
        A CAPS with the visit's 1 mm image, cropped or not, from Clinica or from us.
    visit : Visit
        Participant and session of the image.
    config : PreprocessingConfig, optional
        Its resolutions are the copies wanted.
    out : path-like, optional
        Another CAPS to write to, where the first is read-only: it receives what the first lacks.

    Raises
    ------
    InputError
        If there is no 1 mm image, or it is not on Clinica's grid.
    """
    started = time.monotonic()
    resolutions = (config or PreprocessingConfig()).resolutions
    target = Path(out) if out is not None else Path(caps_folder)
    places = {Path(caps_folder), target}
    with _stage("read"):
        source, cropped, notes = registered_image(caps_folder, visit)
    with _stage("resample"):
        quality = assess(cropped)
    with _all_or_none() as written, _stage("write"):
        absent = [
            r
            for r in resolutions
            if not any(caps.find_t1_linear_image(f, visit, r).exists() for f in places)
        ]
        if "1mm" in absent:
            written.append(caps.t1_linear_image(target, visit))
            write_volume(written[-1], cropped, GRIDS["1mm"].affine)
        _write_copies(target, visit, cropped, absent, written)
        path = caps.t1_linear_sidecar(target, visit)
        known = (
            _known_sidecar(path)
            or _known_sidecar(caps.t1_linear_sidecar(caps_folder, visit))
            or {
                "pipeline": "t1-linear, not by neuroaug",
                "input": {"sha256": sha256_file(source)},
                "versions": versions(*PACKAGES),
            }
        )
        files = {**known.get("files", {}), **{path.name: sha256_file(path) for path in written}}
        judged = {"registration_score": quality.score, "quality": asdict(quality)}
        if written or not path.exists() or {**known, **judged} != known:
            seconds = known.get("seconds", _since(started))
            write_json(path, {**known, **judged, "files": files, "seconds": seconds})
            written.append(path)
    return VisitResult(visit, quality, tuple(written), notes, time.monotonic() - started)


def _since(started: float) -> float:
    return round(time.monotonic() - started, 1)


def _known_sidecar(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    content = read_json(path)
    return content if isinstance(content, dict) else {}


def registered_image(
    caps_folder: str | Path, visit: Visit
) -> tuple[Path, NDArray[np.float32], tuple[str, ...]]:
    """Read a visit's 1 mm image on the cropped grid.

    Returns
    -------
    path : Path
        The file read: the cropped image, or the uncropped one where there is no other.
    data : array (169, 208, 179)
        Intensities.
    notes : tuple of str
        What the user should know of the image.

    Raises
    ------
    InputError
        If there is no 1 mm image, or it is not on Clinica's grid.
    """
    for cropped, grid in ((True, GRIDS["1mm"]), (False, UNCROPPED)):
        path = caps.find_t1_linear_image(caps_folder, visit, cropped=cropped)
        if path.is_file():
            volume = read_volume(path)
            if not grid.matches(volume.data.shape, volume.affine):
                origin = tuple(volume.affine[:3, 3].tolist())
                raise InputError(
                    f"{path}: shape {volume.data.shape}, origin {origin}; "
                    f"t1-linear has {grid.shape} from {grid.origin}"
                )
            data = volume.data if cropped else crop(volume.data).astype(np.float32, copy=False)
            return path, data, volume.notes
    path = caps.t1_linear_image(caps_folder, visit)
    raise InputError(f"{path}: no such file; preprocess the visit from --bids")


def _write_copies(
    caps_folder: str | Path,
    visit: Visit,
    cropped: NDArray[np.float32],
    resolutions: Collection[str],
    written: list[Path],
) -> None:
    copy = cropped
    for resolution in _COPIES:
        copy = block_mean(copy)
        if resolution in resolutions:
            written.append(caps.t1_linear_image(caps_folder, visit, resolution))
            write_volume(written[-1], copy, GRIDS[resolution].affine)


def _require_contrast(data: NDArray[np.float32], message: str) -> None:
    if not np.isfinite(data).all() or data.min() == data.max():
        raise InputError(message)
