"""What is to be done for each visit, found out before anything is written."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from neuroaug.errors import InputError
from neuroaug.imaging import caps as caps_names
from neuroaug.imaging.bids import Visit
from neuroaug.imaging.nifti import count_voxels
from neuroaug.preprocessing.memory_plan import MEMORY_MB, expected_mb, refuse_size
from neuroaug.preprocessing.records import FAILURES, Record, read_record, sidecar_record
from neuroaug.preprocessing.refusal import Refusal, refuse, tell_each
from neuroaug.preprocessing.request import Request
from neuroaug.preprocessing.select import find_scans
from neuroaug.preprocessing.spellings import two_spellings
from neuroaug.preprocessing.steps.quality import calibration
from neuroaug.system.files import list_folder, read_json, reading, sha256_file
from neuroaug.system.threads import n_cores

log = logging.getLogger("neuroaug")

# CPU seconds per visit of .9 to 1.2 mm, all included: between the runs in docs/preprocessing.md.
SECONDS = {"exact": 140.0, "default": 100.0, "fast": 70.0}
COMPLETE_SECONDS = 2.0
CLINICAS = {"made_by": "clinica"}  # the parameters of a visit that was only completed


@dataclass(frozen=True)
class VisitJob:
    """Work on one visit.

    Attributes
    ----------
    visit : Visit
        Participant and session.
    kind : {"process", "complete"}
        From the raw scan; or the copies that an image in a CAPS lacks.
    source : Path
        The raw scan, or the image in the CAPS.
    note : str
        What the user should know of the choice of the scan.
    others : tuple of Path
        Scans of the visit that were not chosen; a visit made from one of them earlier stays.
    voxels : int
        Of the raw scan, by its header; 0 where it is not to be read, or cannot be.
    """

    visit: Visit
    kind: Literal["process", "complete"]
    source: Path
    note: str = ""
    others: tuple[Path, ...] = ()
    voxels: int = 0

    def memory_mb(self, profile: str) -> float:
        """Memory (MB) that the visit will take at most."""
        return expected_mb(profile, self.voxels)


@dataclass(frozen=True)
class PreprocessingPlan:
    """Everything that `preprocess` will do.

    Attributes
    ----------
    request : Request
        Folders, configuration and selection asked for.
    jobs : tuple of VisitJob
        Work to do, sorted by visit.
    done : mapping of Visit to Record
        Visits finished before.
    failed : mapping of Visit to Record
        Visits that failed before, while neither their scan nor the request has changed.
    refusals : tuple of Refusal
        Visits and rows that cannot be planned.
    notes : tuple of str
        Lines for the user.
    concerns : callable
        Whether a row of ``failures.tsv`` is about what this plan covers.
    """

    request: Request
    jobs: tuple[VisitJob, ...]
    done: Mapping[Visit, Record]
    failed: Mapping[Visit, Record]
    refusals: tuple[Refusal, ...]
    notes: tuple[str, ...]
    concerns: Callable[[Refusal], bool]

    def hours(self, n_workers: int) -> float:
        """Estimate the time that the jobs take, `n_workers` at a time, on this machine's cores."""
        process = SECONDS[self.request.config.profile]
        seconds = sum(process if job.kind == "process" else COMPLETE_SECONDS for job in self.jobs)
        # More visits at a time than cores gain nothing.
        return seconds / max(1, min(n_workers, n_cores())) / 3600

    def within(self, memory_mb: float) -> PreprocessingPlan:
        """Refuse the visits that alone need more than the memory (MB) there is."""
        profile = self.request.config.profile
        jobs, refusals = [], list(self.refusals)
        for job in self.jobs:
            if too_large := refuse_size(job.source, job.voxels, profile, memory_mb):
                names = (job.visit.participant_id, job.visit.session_id)
                refusals.append(refuse(too_large, *names, "memory"))
            else:
                jobs.append(job)
        return replace(self, jobs=tuple(jobs), refusals=tuple(sorted(refusals)))

    def width(self, n_procs: int, memory_mb: float) -> int:
        """How many visits to do at a time within the memory (MB)."""
        need = MEMORY_MB[self.request.config.profile]
        width = max(1, min(n_procs, int(memory_mb // need), len(self.jobs)))
        if width < min(n_procs, len(self.jobs)):
            log.info(
                "%d visits at a time instead of %d: %.0f MB for about %.0f MB each",
                width,
                n_procs,
                memory_mb,
                need,
            )
        return width

    def refused(self, at_most: int = 100) -> list[str]:
        """Tell of refused visits and rows, one line each; of many, only the first."""
        lines = tell_each(self.refusals)
        more = len(lines) - at_most
        told = [f"and {more} more refused: see {FAILURES}"] if more > 0 else []
        return lines[:at_most] + told

    def lines(self, n_workers: int) -> list[str]:
        """Tell what would be done, for a dry run."""
        config, new = self.request.config, sum(job.kind == "process" for job in self.jobs)
        hours = self.hours(n_workers)
        shown = f"{hours:.{1 if hours >= 1 else 2}f}"
        notes = [f" ({job.note})" if job.note else "" for job in self.jobs]
        return [
            f"{self.request.target}: {new} visits to preprocess, "
            f"{len(self.jobs) - new} to complete, {len(self.done)} done, "
            f"{len(self.failed)} failed before (--rerun-failed tries again), "
            f"{len(self.refusals)} refused",
            f"profile {config.profile}, N4 distance {config.n4_distance} mm, "
            f"resolutions {' '.join(config.resolutions)}",
            f"about {shown} hours for scans of 1 mm, {n_workers} at a time on {n_cores()} cores",
            *(
                f"  {job.visit}: {job.kind}{note}"
                for job, note in zip(self.jobs, notes, strict=True)
            ),
            *(f"  {line}" for line in self.refused(len(self.refusals))),
            "dry run: nothing was written",
        ]


def make_plan(request: Request) -> PreprocessingPlan:
    """Find the visits of a request and what each needs. Writes nothing.

    Raises
    ------
    InputError
        If the folders hold nothing to work on, or lack what was typed.
    """
    selection = request.selection
    kept_as_they_are: list[Visit] = []
    if request.bids is not None:
        scans, refusals = find_scans(request.bids, selection)
        wanted = [VisitJob(s.visit, "process", s.path, s.note, s.others) for s in scans]
    else:
        wanted, refusals, kept_as_they_are = _registered(request)
    doubled = two_spellings(request, [job.visit for job in wanted])
    wanted = [job for job in wanted if job.visit not in doubled]
    refusals = sorted({*refusals, *selection.refusals, *doubled.values()})
    names = sorted(
        {job.visit.participant_id for job in wanted} | {row.participant_id for row in refusals}
    )
    part, n_parts = selection.part
    mine = {name for position, name in enumerate(names) if position % n_parts == part - 1}

    def concerns(row: Refusal) -> bool:
        own = row.participant_id in mine if row.participant_id in names else part == 1
        return own and selection.concerns(row)

    jobs: list[VisitJob] = []
    done: dict[Visit, Record] = {}
    failed: dict[Visit, Record] = {}
    for job in wanted:
        if job.visit.participant_id in mine:
            state = judge(request, job)
            if isinstance(state, VisitJob):
                if state.kind == "process":
                    state = replace(state, voxels=count_voxels(state.source) or 0)
                jobs.append(state)
            elif state.status == "failed":
                failed[job.visit] = state
            else:
                done[job.visit] = state
    notes = tuple(f"{job.visit}: {job.note}" for job in jobs if job.note)
    if kept_as_they_are:
        n, first = len(kept_as_they_are), kept_as_they_are[0]
        notes += (f"{n} visits have no image of 1 mm and are left as they are (first: {first})",)
    kept = tuple(row for row in refusals if row.participant_id in mine)
    return PreprocessingPlan(request, tuple(jobs), done, failed, kept, notes, concerns)


def judge(request: Request, job: VisitJob) -> VisitJob | Record:
    """Compare a visit's record with the request.

    Returns
    -------
    VisitJob or Record
        What is to be done, or the record of a visit that is done or failed and stays so. Where a
        registration stands but its verdict was reached under another calibration, only the verdict
        is to be reached again.
    """
    state = _state(request, job)
    if (
        isinstance(state, Record)
        and state.status == "ok"
        and state.quality.get("calibration") != calibration()
    ):
        return replace(
            job, kind="complete", source=caps_names.first_t1_linear_image(request.caps, job.visit)
        )
    return state


def _state(request: Request, job: VisitJob) -> VisitJob | Record:
    record = read_record(request.target, job.visit)
    if record is not None and record.status == "failed":
        same = record.parameters == request.parameters and _same_scan(job, record)
        return record if same and not request.rerun_failed else job
    if job.kind == "complete":
        return record if record is not None and not missing(request, job.visit) else job
    if record is None and job.kind == "process":
        record = _from_sidecar(request, job)
        if record is not None:
            return replace(
                job,
                kind="complete",
                source=caps_names.first_t1_linear_image(request.caps, job.visit),
            )
        if not _from_clinica(request.caps, job.visit):
            return job
    if record is None or record.parameters == CLINICAS:
        complete = VisitJob(
            job.visit, "complete", caps_names.first_t1_linear_image(request.caps, job.visit)
        )
        return record if record is not None and not missing(request, job.visit) else complete
    if (
        record.status != "ok"
        or record.parameters != request.parameters
        or not _same_scan(job, record)
    ):
        return job
    folder = caps_names.t1_linear_folder(request.target, job.visit)
    for name, size in record.files.items():
        if not (folder / name).is_file() or (folder / name).stat().st_size != size:
            return job
    if missing(request, job.visit):
        return replace(
            job, kind="complete", source=caps_names.first_t1_linear_image(request.caps, job.visit)
        )
    return record


def _from_sidecar(request: Request, job: VisitJob) -> Record | None:
    record = sidecar_record(request.caps, job.visit)
    if record is None or record.parameters != request.parameters or not _same_scan(job, record):
        return None
    return record if caps_names.first_t1_linear_image(request.caps, job.visit).is_file() else None


def missing(request: Request, visit: Visit) -> list[str]:
    """List the resolutions that a visit lacks, in the CAPS and in the folder of ``--out``."""
    places = {request.caps, request.target}
    return [
        resolution
        for resolution in request.config.resolutions
        if not any(
            caps_names.find_t1_linear_image(place, visit, resolution).is_file() for place in places
        )
    ]


def same_input(path: Path, known: Mapping[str, Any]) -> bool:
    """Whether a file is the one of a record; it is read only if its time differs."""
    try:
        status = path.stat()
    except OSError:
        return not known
    if not known or status.st_size != known.get("size", status.st_size):
        return False
    return status.st_mtime_ns == known.get("mtime_ns") or sha256_file(path) == known.get("sha256")


def _same_scan(job: VisitJob, record: Record) -> bool:
    """Whether a visit was made from the chosen scan, or from one that an earlier rule chose."""
    return any(same_input(path, record.input) for path in (job.source, *job.others))


def file_identity(path: Path) -> dict[str, Any]:
    """Describe a file for `same_input`; empty where it cannot be read."""
    try:
        status = path.stat()
        return {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "sha256": sha256_file(path)}
    except OSError:
        return {}


def _from_clinica(caps: Path, visit: Visit) -> bool:
    """Whether a visit without a record is finished as Clinica judges it: image and affine exist."""
    if not caps_names.find_t1_linear_affine(caps, visit).is_file() or written_by_neuroaug(caps):
        return False
    return caps_names.first_t1_linear_image(caps, visit).is_file()


def written_by_neuroaug(caps: Path) -> bool:
    """Whether `neuroaug` made this CAPS: a visit without a record is then one that was cut off."""
    try:
        made_by = read_json(caps / caps_names.DESCRIPTION).get("GeneratedBy", [])
    except (InputError, AttributeError):
        return False
    return any(
        isinstance(tool, Mapping) and tool.get("Name") == "neuroaug" for tool in made_by or []
    )


def _registered(request: Request) -> tuple[list[VisitJob], list[Refusal], list[Visit]]:
    """Find the visits of a CAPS that have an image; last, those of which nothing can be made."""
    selection = request.selection
    coarse_alone: list[Visit] = []
    jobs: list[VisitJob] = []
    refusals: list[Refusal] = []
    known: set[Visit] = set()
    for participant in caps_names.participant_folders(request.caps):
        try:
            sessions = [path for path in list_folder(participant) if path.is_dir()]
        except InputError as error:
            refusals.append(refuse(error, participant.name))
            continue
        for session in sessions:
            try:
                with reading(session, "a folder"):
                    if (visit := _registered_visit(request.caps, session)) is None:
                        continue
                    known.add(visit)
                    if visit in selection and _coarse_alone(request.caps, visit):
                        coarse_alone.append(visit)
                    elif visit in selection:
                        jobs.append(_completion(request, visit))
            except InputError as error:
                refusals.append(refuse(error, participant.name, session.name))
    selection.require_known(known, (), request.caps)
    refusals += selection.absent(known, "CAPS")
    if not known:
        raise InputError(
            f"{request.caps}: no preprocessed visit in it; give --bids to preprocess raw scans"
        )
    # The rows go into the CAPS, which names no folder of this machine.
    kept = (
        replace(row, reason=row.reason.replace(f"{request.caps}/", ""))
        for row in refusals
        if selection.concerns(row)
    )
    return jobs, list(kept), coarse_alone


def _coarse_alone(caps: Path, visit: Visit) -> bool:
    """Whether a visit has images, but none of 1 mm that others could be made of."""
    resolutions = {resolution for resolution, _ in caps_names.t1_linear_files(caps, visit)}
    return bool(resolutions) and "1mm" not in resolutions


def _registered_visit(caps: Path, session: Path) -> Visit | None:
    """Name the visit of a folder; None where it holds nothing of t1-linear."""
    folder = session / "t1_linear"
    if not folder.is_dir():
        return None
    visit = Visit(session.parent.name, session.name)
    if not folder.resolve().is_relative_to(caps.resolve()):
        place = f"{visit.participant_id}/{visit.session_id}"
        raise InputError(f"{place}: a link that leads out of the CAPS")
    return visit


def _completion(request: Request, visit: Visit) -> VisitJob:
    """Plan to complete a registered visit."""
    record = read_record(request.target, visit)
    if record is not None and record.status == "started" and written_by_neuroaug(request.caps):
        raise InputError("left unfinished by a run that was cut off; give --bids to do it again")
    image = caps_names.first_t1_linear_image(request.caps, visit)
    if not image.is_file():
        raise InputError("no t1-linear image of 1 mm in its folder")
    return VisitJob(visit, "complete", image)
