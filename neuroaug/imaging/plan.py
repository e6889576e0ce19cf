"""What is to be done for each visit, found out before anything is written."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from neuroaug.config import PreprocessingConfig
from neuroaug.errors import InputError
from neuroaug.files import read_json, sha256_file
from neuroaug.imaging import bids as raw
from neuroaug.imaging import caps as layout
from neuroaug.imaging.bids import Refusal, Selection
from neuroaug.imaging.caps import Visit
from neuroaug.imaging.claims import hidden
from neuroaug.imaging.records import Record, read_record
from neuroaug.imaging.template import load_template

SECONDS = {"exact": 115.0, "default": 65.0, "fast": 40.0}  # a visit, one thread of a 2-core machine
COMPLETE_SECONDS = 4.0
MEMORY_MB = {"exact": 2500.0, "default": 2200.0, "fast": 1500.0}  # peak of a worker
CLINICAS = {"made_by": "clinica"}  # the parameters of a visit that was only completed
_FIRST_CLINICA_AT_200 = (0, 12)


@dataclass(frozen=True)
class Job:
    """Work on one visit.

    Attributes
    ----------
    visit : Visit
        Which.
    kind : {"process", "complete"}
        From the raw scan; or the copies that an image in a CAPS lacks.
    source : Path
        The raw scan, or the image in the CAPS.
    note : str
        What the user should know of the choice of the scan.
    """

    visit: Visit
    kind: Literal["process", "complete"]
    source: Path
    note: str = ""


@dataclass(frozen=True)
class Plan:
    """Everything that `preprocess` will do.

    Attributes
    ----------
    jobs : tuple of Job
        Sorted by visit.
    done : mapping of Visit to Record
        Finished before.
    failed : mapping of Visit to Record
        Failed before, and neither their scan nor the request has changed.
    refusals : tuple of Refusal
        What cannot be planned.
    notes : tuple of str
        Lines for the user.
    concerns : callable
        Whether a row of ``failures.tsv`` is about what this plan covers.
    """

    jobs: tuple[Job, ...]
    done: Mapping[Visit, Record]
    failed: Mapping[Visit, Record]
    refusals: tuple[Refusal, ...]
    notes: tuple[str, ...]
    concerns: Callable[[Refusal], bool]

    def hours(self, profile: str, n_workers: int) -> float:
        """Estimate the time that the jobs take."""
        seconds = sum(SECONDS[profile] if job.kind == "process" else COMPLETE_SECONDS for job in self.jobs)
        return seconds / max(1, n_workers) / 3600


@dataclass(frozen=True)
class Request:
    """What was asked of `preprocess`, resolved: absolute paths, checked against each other.

    Attributes
    ----------
    caps : Path
        Where images are, or will be.
    target : Path
        Where files are written: `caps`, or the folder of ``--out``.
    bids : Path or None
        Raw scans.
    config : PreprocessingConfig
        How.
    rerun_failed : bool
        Whether to try failed visits again.
    """

    caps: Path
    target: Path
    bids: Path | None
    config: PreprocessingConfig
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
    rerun_failed: bool = False,
) -> Request:
    """Check the folders of a request against each other. Writes nothing.

    Raises
    ------
    InputError
        Naming the folder and what is wrong with it.
    """
    root = Path(caps).expanduser().absolute()
    source = None if bids is None else Path(bids).expanduser().absolute()
    target = root if out is None else Path(out).expanduser().absolute()
    if source is None:
        layout.require_caps(root)
    else:
        if not source.is_dir():
            raise InputError(f"{source}: {'not a folder' if source.exists() else 'no such folder'}; check --bids")
        for folder in {root, target}:
            _require_apart(folder, source)
    for folder in {root, target}:
        _require_usable(folder)
        _require_not_inside_a_caps(folder)
    if target != root and (
        target.resolve().is_relative_to(root.resolve()) or root.resolve().is_relative_to(target.resolve())
    ):
        raise InputError(f"{target}: --out and the CAPS {root} lie in each other; choose a folder apart")
    if source is None and target == root and not os.access(root, os.W_OK):
        raise InputError(f"{root}: read-only; give --out DIR for the copies to be added")
    if config.template is not None:
        config = config.model_copy(update={"template": str(Path(config.template).expanduser().absolute())})
    request = Request(root, target, source, config, rerun_failed)
    if source is not None:
        load_template(config.template)  # refuse it now rather than for every visit
    require_one_distance(request)
    return request


def _require_usable(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: not a folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / layout.DESCRIPTION).exists():
        if {path.name for path in folder.iterdir()} != {hidden(folder).name}:
            layout.require_caps(folder)
    elif (folder / layout.DESCRIPTION).exists():
        layout.require_caps(folder)


def _require_apart(caps: Path, bids: Path) -> None:
    inner, outer = caps.resolve(), bids.resolve()
    if inner == outer:
        raise InputError(f"{caps}: the CAPS and the BIDS folder are one; give the CAPS a folder of its own")
    if outer.is_relative_to(inner):
        raise InputError(f"{bids}: the BIDS folder lies inside the CAPS {caps}; keep them apart")
    if inner.is_relative_to(outer) and inner.relative_to(outer).parts[0].startswith("sub-"):
        raise InputError(f"{caps}: inside a participant's folder of {bids}; give the CAPS a folder of its own")


def _require_not_inside_a_caps(folder: Path) -> None:
    for parent in folder.resolve().parents:
        if (parent / layout.DESCRIPTION).is_file() and layout.is_caps(parent):
            raise InputError(f"{folder}: lies inside another CAPS, {parent}; give it a folder apart")


def require_one_distance(request: Request, *, sidecars: bool = True) -> None:
    """Refuse to mix two N4 distances in one CAPS.

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
                f"{request.config.n4_distance} mm; a cohort has one: pass --n4-distance {distance}, or another CAPS"
            )


def known_distance(caps: Path, *, sidecars: bool = True) -> int | None:
    """N4 spline distance of the visits in a CAPS, ours or Clinica's; None where none tells.

    Clinica used 600 mm up to 0.11.3 and 200 mm from 0.12.0; which version wrote a CAPS is in its
    ``dataset_description.json``. Without `sidecars`, a quicker look at our own records only.
    """
    for path in hidden(caps).glob("visits/*.json"):
        try:
            record = read_json(path)
        except InputError:
            continue
        if record.get("status") == "ok" and "n4_distance" in record.get("parameters", {}):
            return int(record["parameters"]["n4_distance"])
    for visit in layout.list_visits(caps) if sidecars else ():
        with suppress(InputError, KeyError, TypeError, ValueError):
            sidecar = read_json(layout.t1_linear_sidecar(caps, visit))
            return int(sidecar["parameters"]["n4"]["spline_distance_mm"])
    try:
        processing = read_json(caps / layout.DESCRIPTION).get("Processing", [])
    except (InputError, AttributeError):
        return None
    for step in processing if isinstance(processing, list) else []:
        if isinstance(step, Mapping) and step.get("Name") == "t1-linear":
            numbers = str(step.get("ClinicaVersion", "")).split(".")
            if len(numbers) >= 2 and all(part.isdigit() for part in numbers[:2]):
                return 200 if (int(numbers[0]), int(numbers[1])) >= _FIRST_CLINICA_AT_200 else 600
    return None


def make_plan(
    request: Request,
    selection: Selection,
    query: Mapping[str, Any],
    part: tuple[int, int] = (1, 1),
    refused: Collection[Refusal] = (),
) -> Plan:
    """Find the visits of a request and what each needs. Writes nothing.

    Parameters
    ----------
    request : Request
        From `resolve`.
    selection : Selection
        Which visits.
    query : mapping
        BIDS filter.
    part : (i, n)
        Of n parts that the participants are dealt into, the i-th.
    refused : collection of Refusal
        Rows that were refused before.

    Raises
    ------
    InputError
        If the folders hold nothing to work on, or lack what was typed.
    """
    if request.bids is not None:
        scans, refusals = raw.find_scans(request.bids, selection, query)
        wanted = [Job(scan.visit, "process", scan.path, scan.note) for scan in scans]
    else:
        wanted, refusals = _images(request, selection)
    refusals = sorted({*refusals, *refused})
    names = sorted({job.visit.participant_id for job in wanted} | {row.participant_id for row in refusals})
    mine = {name for position, name in enumerate(names) if position % part[1] == part[0] - 1}

    def concerns(row: Refusal) -> bool:
        own = row.participant_id in mine if row.participant_id in names else part[0] == 1
        return own and selection.concerns(row)

    jobs: list[Job] = []
    done: dict[Visit, Record] = {}
    failed: dict[Visit, Record] = {}
    for job in wanted:
        if job.visit.participant_id in mine:
            state = judge(request, job)
            if isinstance(state, Job):
                jobs.append(state)
            elif state.status == "failed":
                failed[job.visit] = state
            else:
                done[job.visit] = state
    notes = tuple(f"{job.visit}: {job.note}" for job in jobs if job.note)
    kept = tuple(row for row in refusals if row.participant_id in mine)
    return Plan(tuple(jobs), done, failed, kept, notes, concerns)


def judge(request: Request, job: Job) -> Job | Record:
    """Compare a visit's record with the request.

    Returns
    -------
    Job or Record
        What is to be done; or the record of a visit that is done or failed and stays so.
    """
    record = read_record(request.target, job.visit)
    if record is not None and record.status == "failed":
        same = record.parameters == request.parameters and same_input(job.source, record.input)
        return record if same and not request.rerun_failed else job
    if job.kind == "complete":
        return record if record is not None and not missing(request, job.visit) else job
    if record is None and not _from_clinica(request.caps, job.visit):
        return job
    if record is None or record.parameters == CLINICAS:
        complete = Job(job.visit, "complete", _image_of(request.caps, job.visit))
        return record if record is not None and not missing(request, job.visit) else complete
    if record.status != "ok" or record.parameters != request.parameters or not same_input(job.source, record.input):
        return job
    folder = layout.t1_linear_folder(request.target, job.visit)
    for name, size in record.files.items():
        if not (folder / name).is_file() or (folder / name).stat().st_size != size:
            return job
    if missing(request, job.visit):
        return replace(job, kind="complete", source=layout.t1_linear_image(request.caps, job.visit))
    return record


def _image_of(caps: Path, visit: Visit) -> Path:
    """Find a visit's 1 mm image, the cropped one first."""
    cropped = layout.t1_linear_image(caps, visit)
    return cropped if cropped.is_file() else layout.t1_linear_image(caps, visit, cropped=False)


def missing(request: Request, visit: Visit) -> list[str]:
    """List the resolutions that a visit lacks, in the CAPS and in the folder of ``--out``."""
    places = {request.caps, request.target}
    return [
        resolution
        for resolution in request.config.resolutions
        if not any(layout.t1_linear_image(place, visit, resolution).is_file() for place in places)
    ]


def same_input(path: Path, known: Mapping[str, Any]) -> bool:
    """Whether a file is the one that a record was made from; it is read only if its size or time differ."""
    try:
        status = path.stat()
    except OSError:
        return not known
    if not known or status.st_size != known.get("size"):
        return False
    return status.st_mtime_ns == known.get("mtime_ns") or sha256_file(path) == known.get("sha256")


def fingerprint(path: Path) -> dict[str, Any]:
    """Describe a file for `same_input`; empty where it cannot be read."""
    try:
        status = path.stat()
        return {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "sha256": sha256_file(path)}
    except OSError:
        return {}


def _from_clinica(caps: Path, visit: Visit) -> bool:
    """Whether a visit without a record is finished as Clinica judges it: image and affine exist."""
    if not layout.t1_linear_affine(caps, visit).is_file() or written_by_neuroaug(caps):
        return False
    return _image_of(caps, visit).is_file()


def written_by_neuroaug(caps: Path) -> bool:
    """Whether `neuroaug` made this CAPS, so that a visit without a record is one that was cut off."""
    try:
        made_by = read_json(caps / layout.DESCRIPTION).get("GeneratedBy", [])
    except (InputError, AttributeError):
        return False
    return any(isinstance(tool, Mapping) and tool.get("Name") == "neuroaug" for tool in made_by or [])


def _images(request: Request, selection: Selection) -> tuple[list[Job], list[Refusal]]:
    """Find the visits of a CAPS that have an image."""
    jobs, refusals, known = [], [], set()
    for folder in sorted(request.caps.glob("subjects/*/*/t1_linear")):
        participant, session = folder.parts[-3:-1]
        try:
            visit = Visit(participant, session)
            if not folder.resolve().is_relative_to(request.caps.resolve()):
                raise InputError(f"{participant}/{session}: a link that leads out of the CAPS")
        except InputError as error:
            refusals.append(Refusal(participant, session, "select", str(error)))
            continue
        known.add(visit)
        if visit not in selection:
            continue
        record = read_record(request.target, visit)
        if record is not None and record.status == "started" and written_by_neuroaug(request.caps):
            reason = "left unfinished by a run that was cut off; give --bids to do it again"
            refusals.append(Refusal(participant, session, "select", reason))
            continue
        image = _image_of(request.caps, visit)
        if image.is_file():
            jobs.append(Job(visit, "complete", image))
        else:
            refusals.append(Refusal(participant, session, "select", "no t1-linear image of 1 mm in its folder"))
    selection.require_known(known, (), request.caps)
    for visit in sorted((selection.visits or frozenset()) - known):
        refusals.append(Refusal(visit.participant_id, visit.session_id, "select", "no such visit in the CAPS"))
    if not known:
        raise InputError(f"{request.caps}: no preprocessed visit in it; give --bids to preprocess raw scans")
    return jobs, [row for row in refusals if selection.concerns(row)]
