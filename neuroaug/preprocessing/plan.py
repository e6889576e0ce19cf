"""What is to be done for each visit, found out before anything is written."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from neuroaug.errors import InputError
from neuroaug.imaging import caps as layout
from neuroaug.imaging.caps import Visit
from neuroaug.preprocessing import select as raw
from neuroaug.preprocessing.records import Record, read_record, sidecar_record
from neuroaug.preprocessing.request import Request
from neuroaug.preprocessing.select import Refusal, Selection
from neuroaug.preprocessing.steps.quality import calibration
from neuroaug.system.files import read_json, sha256_file
from neuroaug.system.memory import available_memory
from neuroaug.system.threads import n_cores

log = logging.getLogger("neuroaug")

# CPU seconds of a visit of .9 to 1.2 mm, all included: between the runs in docs/preprocessing.md.
SECONDS = {"exact": 140.0, "default": 100.0, "fast": 70.0}
COMPLETE_SECONDS = 2.0
MEMORY_MB = {
    "exact": 2500.0,
    "default": 2200.0,
    "fast": 2000.0,
}  # peak of a worker; 1.9 GB at 0.9 mm was the most
CLINICAS = {"made_by": "clinica"}  # the parameters of a visit that was only completed


@dataclass(frozen=True)
class VisitJob:
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
class PreprocessingPlan:
    """Everything that `preprocess` will do.

    Attributes
    ----------
    jobs : tuple of VisitJob
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

    jobs: tuple[VisitJob, ...]
    done: Mapping[Visit, Record]
    failed: Mapping[Visit, Record]
    refusals: tuple[Refusal, ...]
    notes: tuple[str, ...]
    concerns: Callable[[Refusal], bool]

    def hours(self, profile: str, n_workers: int) -> float:
        """Estimate the time that the jobs take on this machine: more visits at a time than cores
        gain nothing.
        """
        seconds = sum(
            SECONDS[profile] if job.kind == "process" else COMPLETE_SECONDS for job in self.jobs
        )
        return seconds / max(1, min(n_workers, n_cores())) / 3600

    def width(self, profile: str, n_procs: int, room: float) -> int:
        """How many visits to do at a time within the memory (MB)."""
        need = MEMORY_MB[profile]
        width = max(1, min(n_procs, int(room // need), len(self.jobs)))
        if width < min(n_procs, len(self.jobs)):
            log.info(
                "%d visits at a time instead of %d: %.0f MB for about %.0f MB each",
                width,
                n_procs,
                room,
                need,
            )
        return width

    def refused(self, at_most: int = 100) -> list[str]:
        """Tell of each refused visit or row in one line; of many, the first, and where the others
        stand.
        """
        lines = [
            f"{row.participant_id} {row.session_id}: {row.stage}: {row.reason}"
            for row in self.refusals
        ]
        more = len(lines) - at_most
        return [
            *lines[:at_most],
            *([f"and {more} more refused: see failures.tsv"] if more > 0 else []),
        ]

    def lines(self, request: Request, n_workers: int) -> list[str]:
        """Tell what would be done, for a dry run."""
        config, new = request.config, sum(job.kind == "process" for job in self.jobs)
        hours = self.hours(config.profile, n_workers)
        shown = f"{hours:.{1 if hours >= 1 else 2}f}"
        return [
            f"{request.target}: {new} visits to preprocess, {len(self.jobs) - new} to complete, {len(self.done)} done, "
            f"{len(self.failed)} failed before (--rerun-failed tries again), {len(self.refusals)} refused",
            f"profile {config.profile}, N4 distance {config.n4_distance} mm, "
            f"resolutions {' '.join(config.resolutions)}",
            f"about {shown} hours for scans of 1 mm, {n_workers} at a time on {n_cores()} cores",
            *(
                f"  {job.visit}: {job.kind}" + (f" ({job.note})" if job.note else "")
                for job in self.jobs
            ),
            *(f"  {line}" for line in self.refused(len(self.refusals))),
            "dry run: nothing was written",
        ]


def memory_room(profile: str, mem_mb: float | None) -> float:
    """Memory for all visits together, in MB: what was typed, or what the machine has, but enough to
    try one.
    """
    return max(0.9 * available_memory() / 1e6, MEMORY_MB[profile]) if mem_mb is None else mem_mb


def make_plan(
    request: Request,
    selection: Selection,
    query: Mapping[str, Any],
    part: tuple[int, int] = (1, 1),
    refused: Collection[Refusal] = (),
) -> PreprocessingPlan:
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
        wanted = [VisitJob(scan.visit, "process", scan.path, scan.note) for scan in scans]
    else:
        wanted, refusals = _images(request, selection)
    refusals = sorted({*refusals, *refused})
    names = sorted(
        {job.visit.participant_id for job in wanted} | {row.participant_id for row in refusals}
    )
    mine = {name for position, name in enumerate(names) if position % part[1] == part[0] - 1}

    def concerns(row: Refusal) -> bool:
        own = row.participant_id in mine if row.participant_id in names else part[0] == 1
        return own and selection.concerns(row)

    jobs: list[VisitJob] = []
    done: dict[Visit, Record] = {}
    failed: dict[Visit, Record] = {}
    for job in wanted:
        if job.visit.participant_id in mine:
            state = judge(request, job)
            if isinstance(state, VisitJob):
                jobs.append(state)
            elif state.status == "failed":
                failed[job.visit] = state
            else:
                done[job.visit] = state
    notes = tuple(f"{job.visit}: {job.note}" for job in jobs if job.note)
    kept = tuple(row for row in refusals if row.participant_id in mine)
    return PreprocessingPlan(tuple(jobs), done, failed, kept, notes, concerns)


def judge(request: Request, job: VisitJob) -> VisitJob | Record:
    """Compare a visit's record with the request.

    Returns
    -------
    VisitJob or Record
        What is to be done; or the record of a visit that is done or failed and stays so. Where the
        registration stands but its verdict was reached under another calibration, the visit is only
        judged again.
    """
    state = _state(request, job)
    if (
        isinstance(state, Record)
        and state.status == "ok"
        and state.quality.get("calibration") != calibration()
    ):
        return replace(job, kind="complete", source=_image_of(request.caps, job.visit))
    return state


def _state(request: Request, job: VisitJob) -> VisitJob | Record:
    record = read_record(request.target, job.visit)
    if record is not None and record.status == "failed":
        same = record.parameters == request.parameters and same_input(job.source, record.input)
        return record if same and not request.rerun_failed else job
    if job.kind == "complete":
        return record if record is not None and not missing(request, job.visit) else job
    if record is None and job.kind == "process":
        record = _from_sidecar(request, job)
        if record is not None:
            return replace(job, kind="complete", source=_image_of(request.caps, job.visit))
        if not _from_clinica(request.caps, job.visit):
            return job
    if record is None or record.parameters == CLINICAS:
        complete = VisitJob(job.visit, "complete", _image_of(request.caps, job.visit))
        return record if record is not None and not missing(request, job.visit) else complete
    if (
        record.status != "ok"
        or record.parameters != request.parameters
        or not same_input(job.source, record.input)
    ):
        return job
    folder = layout.t1_linear_folder(request.target, job.visit)
    for name, size in record.files.items():
        if not (folder / name).is_file() or (folder / name).stat().st_size != size:
            return job
    if missing(request, job.visit):
        return replace(job, kind="complete", source=layout.t1_linear_image(request.caps, job.visit))
    return record


def _from_sidecar(request: Request, job: VisitJob) -> Record | None:
    record = sidecar_record(request.caps, job.visit)
    if (
        record is None
        or record.parameters != request.parameters
        or not same_input(job.source, record.input)
    ):
        return None
    return record if _image_of(request.caps, job.visit).is_file() else None


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
    """Whether a file is the one that a record was made from; it is read only if its size or time
    differ.
    """
    try:
        status = path.stat()
    except OSError:
        return not known
    if not known or status.st_size != known.get("size", status.st_size):
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
    return any(
        isinstance(tool, Mapping) and tool.get("Name") == "neuroaug" for tool in made_by or []
    )


def visit_folders(caps: Path) -> tuple[list[Path], list[Refusal]]:
    """List ``subjects/*/*``, and the participants whose folder cannot be read."""
    folders: list[Path] = []
    refusals: list[Refusal] = []
    for participant in sorted(path for path in caps.glob("subjects/*") if path.is_dir()):
        try:
            folders += sorted(path for path in participant.iterdir() if path.is_dir())
        except OSError as error:
            reason = f"{participant.name}: cannot be read ({error.strerror})"
            refusals.append(Refusal(raw.plain(participant.name), "n/a", "select", reason))
    return folders, refusals


def _images(request: Request, selection: Selection) -> tuple[list[VisitJob], list[Refusal]]:
    """Find the visits of a CAPS that have an image."""
    jobs, known = [], set()
    folders, refusals = visit_folders(request.caps)
    for folder in folders:
        participant, session = folder.parts[-2:]
        try:
            if not (folder / "t1_linear").is_dir():
                continue
            visit = Visit(participant, session)
            if not (folder / "t1_linear").resolve().is_relative_to(request.caps.resolve()):
                raise InputError(f"{participant}/{session}: a link that leads out of the CAPS")
            known.add(visit)
            if visit not in selection:
                continue
            record = read_record(request.target, visit)
            if (
                record is not None
                and record.status == "started"
                and written_by_neuroaug(request.caps)
            ):
                raise InputError(
                    "left unfinished by a run that was cut off; give --bids to do it again"
                )
            image = _image_of(request.caps, visit)
            if not image.is_file():
                raise InputError("no t1-linear image of 1 mm in its folder")
            jobs.append(VisitJob(visit, "complete", image))
        except InputError as error:
            refusals.append(
                Refusal(raw.plain(participant), raw.plain(session), "select", str(error))
            )
        except OSError as error:
            reason = f"{participant}/{session}: cannot be read ({error.strerror})"
            refusals.append(Refusal(raw.plain(participant), raw.plain(session), "select", reason))
    selection.require_known(known, (), request.caps)
    for visit in sorted((selection.visits or frozenset()) - known):
        refusals.append(
            Refusal(visit.participant_id, visit.session_id, "select", "no such visit in the CAPS")
        )
    if not known:
        raise InputError(
            f"{request.caps}: no preprocessed visit in it; give --bids to preprocess raw scans"
        )
    return jobs, [row for row in refusals if selection.concerns(row)]
