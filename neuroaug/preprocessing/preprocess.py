"""A cohort's raw scans, or a CAPS of Clinica's, made into a CAPS that networks read."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from neuroaug.config import PreprocessingConfig
from neuroaug.errors import InputError, ResourceError
from neuroaug.imaging import caps as layout
from neuroaug.imaging.caps import Visit
from neuroaug.preprocessing import plan as planning
from neuroaug.preprocessing.bids_filter import read_filter
from neuroaug.preprocessing.claims import (
    Claim,
    claim_visit,
    hidden,
    sweep_claims,
    tables_lock,
)
from neuroaug.preprocessing.plan import PreprocessingPlan, VisitJob
from neuroaug.preprocessing.records import (
    Record,
    prepare_caps,
    read_record,
    remove_record,
    sidecar_record,
    update_tables,
    write_record,
)
from neuroaug.preprocessing.request import Request, require_one_distance, resolve
from neuroaug.preprocessing.select import Refusal, select
from neuroaug.system.files import read_json, remove_leftovers
from neuroaug.system.interruption import interruptible
from neuroaug.system.locks import scratch_folder
from neuroaug.system.pool import Pool, PoolTask, TaskOutcome
from neuroaug.system.progress import Progress, progress

log = logging.getLogger("neuroaug")

TARGET = "neuroaug.preprocessing.visit_task:work"
_TABLES_EVERY_S = 10.0


@dataclass(frozen=True)
class PreprocessSummary:
    """What `preprocess` did.

    Attributes
    ----------
    n_ok : int
        Visits finished now.
    n_failed : int
        Rows of ``failures.tsv`` about what was asked for, those of earlier runs included.
    n_skipped : int
        Visits finished before.
    n_rejected : int
        Finished visits whose registration did not pass the quality check.
    failures : tuple of Refusal
        The rows counted by `n_failed`.
    hours : float
        The estimate, of a dry run.
    """

    n_ok: int
    n_failed: int
    n_skipped: int
    n_rejected: int = 0
    failures: tuple[Refusal, ...] = ()
    hours: float = 0.0


def preprocess(
    caps: str | Path,
    *,
    bids: str | Path | None = None,
    participants: Iterable[str] | None = None,
    sessions: Iterable[str] | None = None,
    visits_tsv: str | Path | None = None,
    bids_filter: str | Path | None = None,
    config: PreprocessingConfig | None = None,
    n_procs: int = 1,
    omp_nthreads: int = 1,
    mem_mb: float | None = None,
    work_dir: str | Path | None = None,
    out: str | Path | None = None,
    rerun_failed: bool = False,
    dry_run: bool = False,
    part: tuple[int, int] = (1, 1),
    target: str = TARGET,
) -> PreprocessSummary:
    """Preprocess every visit that is not preprocessed yet.

    A visit that cannot be done becomes a row of ``failures.tsv`` at the root of the CAPS and the
    others go on. The files of a visit depend on its scan and the request alone. May be killed at
    any moment and started again, and any number of processes may share a CAPS.

    Parameters
    ----------
    caps : path-like
        The CAPS: made if absent and `bids` is given; Clinica's is completed, never changed.
    bids : path-like, optional
        Raw scans. Without it, what images in the CAPS lack is added.
    participants, sessions : iterable of str, optional
        Labels, prefix optional.
    visits_tsv, bids_filter : path-like, optional
        Table of visits (participant_id, session_id); JSON that chooses among several T1w of a
        visit.
    config : PreprocessingConfig, optional
        Profile, N4 distance, template, resolutions, time limit a visit.
    n_procs, omp_nthreads : int
        Visits at a time; threads of numerical libraries for each.
    mem_mb : float, optional
        Memory for all visits together; by default what the machine has.
    work_dir : path-like, optional
        Scratch folder; by default in the CAPS.
    out : path-like, optional
        CAPS that receives the added files instead of `caps`.
    rerun_failed : bool
        Try visits again that failed before and have not changed.
    dry_run : bool
        Print the plan and the estimated hours; write nothing.
    part : (i, n)
        Deal the participants into n parts and do the i-th.
    target : str
        ``module:function`` that does one visit.

    Raises
    ------
    InputError
        For folders, labels or tables that cannot be used as asked; nothing is written then.
    ResourceError
        If the disk is full or workers cannot be started.
    KeyboardInterrupt
        After an interrupt; visits in hand are finished first, or undone at a second interrupt.
    """
    config = config or PreprocessingConfig()
    request = resolve(caps, bids=bids, out=out, config=config, rerun_failed=rerun_failed)
    selection, refusals = select(participants, sessions, visits_tsv)
    plan = planning.make_plan(
        request, selection, read_filter(bids_filter) if bids_filter else {}, part, refusals
    )
    room = planning.memory_room(config.profile, mem_mb)
    n_workers = plan.width(config.profile, n_procs, room)
    if dry_run:
        return _tell(request, plan, n_workers)
    run = _Run(request, plan)
    _require_writable(request.target)
    with scratch_folder(_scratch_parent(request, work_dir)) as scratch:
        prepare_caps(request.target, **_description(request))
        sweep_claims(request.target)
        pool = Pool(
            target,
            n_workers=n_workers,
            scratch=scratch,
            n_threads=omp_nthreads,
            timeout_s=config.timeout_s,
            memory_mb=room,
        )
        with interruptible(pool):
            run.go(pool)
    return run.summary()


class _Run:
    """One execution of a plan: hands out claimed visits, keeps the books."""

    def __init__(self, request: Request, plan: PreprocessingPlan) -> None:
        self._request, self._plan = request, plan
        self._claims: dict[Visit, tuple[Claim, VisitJob]] = {}
        self._now: dict[Visit, Record] = {}  # decided in this run
        self._unwritten: dict[Visit, Record] = {}
        self._written = time.monotonic()
        self._skipped = set(plan.done)

    def go(self, pool: Pool) -> None:
        for level, lines in (
            (logging.INFO, self._plan.notes),
            (logging.WARNING, self._plan.refused()),
        ):
            for line in lines:
                log.log(level, "%s", line)
        target = self._request.target
        update_tables(
            target,
            {**self._plan.done, **self._plan.failed},
            self._plan.refusals,
            planned=self._plan.concerns,
        )
        done = len(self._plan.done) + len(self._plan.failed)
        with progress(done + len(self._plan.jobs), "preprocess", "visits", done=done) as shown:
            try:
                # Closing kills the workers, so that what follows finds nobody at work on the files.
                with closing(pool.run(self._tasks(shown))) as outcomes:
                    for outcome in outcomes:
                        if outcome.fatal:
                            raise ResourceError(f"{target}: {outcome.reason}")
                        self._settle(outcome)
                        self._show(shown)
            finally:
                for visit in list(self._claims):
                    self._undo(visit)
                self._write_tables()
        self._write_pages()

    def summary(self) -> PreprocessSummary:
        """Count."""
        failures = set(self._plan.refusals)
        known = {**self._plan.done, **self._plan.failed, **self._now}
        for visit, record in known.items():
            if record.status == "failed":
                failures.add(
                    Refusal(visit.participant_id, visit.session_id, record.stage, record.reason)
                )
        finished = [record for record in known.values() if record.status == "ok"]
        return PreprocessSummary(
            n_ok=sum(
                record.status == "ok" and visit not in self._skipped
                for visit, record in self._now.items()
            ),
            n_failed=len(failures),
            n_skipped=len(self._skipped),
            n_rejected=sum(not record.quality.get("pass", True) for record in finished),
            failures=tuple(sorted(failures)),
        )

    def _tasks(self, shown: Progress) -> Iterator[PoolTask | None]:
        """Claim visits one by one; those that another process works on come last."""
        waiting = deque(self._plan.jobs)
        while waiting:
            for _ in range(len(waiting)):
                job = waiting.popleft()
                claim = claim_visit(self._request.target, job.visit)
                if claim is None:
                    waiting.append(job)
                    continue
                # Another process may have finished it since the plan was made.
                state = planning.judge(self._request, job)
                if isinstance(state, Record):
                    claim.release()
                    self._now[job.visit] = self._unwritten[job.visit] = state
                    if state.status == "ok":
                        self._skipped.add(job.visit)
                    self._show(shown)
                    continue
                self._claims[job.visit] = (claim, state)
                require_one_distance(self._request, sidecars=False)
                self._begin(state)
                yield PoolTask(job.visit, payload(self._request, state))
                break
            else:
                if waiting:
                    yield None

    def _begin(self, job: VisitJob) -> None:
        books = hidden(self._request.target)
        for torn in (
            *books.glob(f"*/.tmp-*-{job.visit.stem}.json"),
            *books.glob(f"*/.tmp-*-{job.visit.stem}.webp"),
        ):
            torn.unlink(missing_ok=True)
        folder = layout.t1_linear_folder(self._request.target, job.visit)
        if folder.is_dir():
            remove_leftovers(folder)
        if job.kind == "process":
            write_record(self._request.target, job.visit, Record("started"))

    def _settle(self, outcome: TaskOutcome) -> None:
        claim, job = self._claims.pop(outcome.key)
        if outcome.result is not None:
            record = self._success(job, outcome.result)
        else:
            record = self._failure(job, outcome)
            log.warning("%s: %s: %s", job.visit, record.stage, record.reason)
        write_record(self._request.target, job.visit, record)
        claim.release()
        self._now[job.visit] = self._unwritten[job.visit] = record
        if time.monotonic() - self._written > _TABLES_EVERY_S:
            self._write_tables()

    def _success(self, job: VisitJob, result: dict[str, Any]) -> Record:
        folder = layout.t1_linear_folder(self._request.target, job.visit)
        # The sidecar is left out: it holds the time taken, and equal scans shall give equal
        # records.
        files = {
            path.name: path.stat().st_size
            for path in sorted(folder.iterdir())
            if path.suffix != ".json"
        }
        before = read_record(self._request.target, job.visit)
        if job.kind == "complete" and before is not None and before.status == "ok":
            return replace(before, files=files, quality=result.get("quality", {}))
        if (
            job.kind == "complete"
            and (ours := sidecar_record(self._request.caps, job.visit)) is not None
        ):
            return replace(ours, files=files, quality=result.get("quality", {}))
        parameters = self._request.parameters if job.kind == "process" else planning.CLINICAS
        return Record(
            "ok",
            input=planning.fingerprint(job.source),
            parameters=parameters,
            files=files,
            quality=result.get("quality", {}),
            note="; ".join(filter(None, [job.note, *result.get("notes", ())])),
        )

    def _failure(self, job: VisitJob, outcome: TaskOutcome) -> Record:
        self._remove_files(job)
        return Record(
            "failed",
            input=planning.fingerprint(job.source),
            parameters=self._request.parameters,
            stage=outcome.stage or "preprocess",
            reason=self._without_paths(outcome.reason),
        )

    def _undo(self, visit: Visit) -> None:
        claim, job = self._claims.pop(visit)
        self._remove_files(job)
        if job.kind == "process":
            remove_record(self._request.target, visit)
        claim.release()

    def _remove_files(self, job: VisitJob) -> None:
        """Leave nothing of a visit that is not finished; of Clinica's, only what was in the middle
        of being written.
        """
        target = self._request.target
        folder = layout.t1_linear_folder(target, job.visit)
        if not folder.is_dir():
            return
        remove_leftovers(folder)
        if job.kind == "process":
            for path in folder.glob(f"{job.visit.stem}_space-{layout.SPACE}_*"):
                path.unlink(missing_ok=True)
        with suppress(OSError):  # other files are there
            for empty in (folder, folder.parent, folder.parent.parent):
                empty.rmdir()

    def _without_paths(self, reason: str) -> str:
        """Take the machine's paths out of what is written into the CAPS."""
        for folder in filter(None, (self._request.bids, self._request.target, self._request.caps)):
            for spelled in {str(folder), str(folder.resolve())}:
                reason = reason.replace(f"{spelled}/", "")
        return " ".join(reason.split())

    def _show(self, shown: Progress) -> None:
        failed = sum(
            record.status == "failed"
            for record in (*self._plan.failed.values(), *self._now.values())
        )
        shown.advance(1, **({"failed": failed} if failed else {}))

    def _write_tables(self) -> None:
        if self._unwritten:
            update_tables(self._request.target, self._unwritten)
            self._unwritten.clear()
        self._written = time.monotonic()

    def _write_pages(self) -> None:
        from neuroaug.preprocessing.steps.qc_pages import PAGES, write_pages

        target = self._request.target
        if self._now or not (target / PAGES).exists():
            with tables_lock(target):
                write_pages(target)


def payload(request: Request, job: VisitJob) -> dict[str, Any]:
    """Spell a job for a worker."""
    return {
        "participant_id": job.visit.participant_id,
        "session_id": job.visit.session_id,
        "kind": job.kind,
        "source": str(job.source),
        "caps": str(request.caps),
        "target": str(request.target),
        "profile": request.config.profile,
        "n4_distance": request.config.n4_distance,
        "template": request.config.template,
        "resolutions": list(request.config.resolutions),
    }


def _require_writable(target: Path) -> None:
    try:
        hidden(target).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{target}: cannot be written to ({error.strerror}); choose another folder"
        ) from None


def _scratch_parent(request: Request, work_dir: str | Path | None) -> Path:
    if work_dir is None:
        return hidden(request.target) / "work"
    return Path(work_dir).expanduser().absolute() / "neuroaug-preprocess"


def _description(request: Request) -> dict[str, Any]:
    """Name and sources of a new CAPS, from the data set that it is made of."""
    content: Any = {}
    with suppress(InputError):
        content = read_json((request.bids or request.caps) / layout.DESCRIPTION)
    content = content if isinstance(content, dict) else {}
    name = content.get("Name")
    sources = [{"DOI": content["DatasetDOI"]}] if isinstance(content.get("DatasetDOI"), str) else []
    return {
        "name": f"t1-linear of {name}" if isinstance(name, str) and name else "t1-linear",
        "source_datasets": sources,
    }


def _tell(request: Request, plan: PreprocessingPlan, n_workers: int) -> PreprocessSummary:
    """Print what would be done."""
    print("\n".join(plan.lines(request, n_workers)), flush=True)
    return PreprocessSummary(
        n_ok=0,
        n_failed=0,
        n_skipped=len(plan.done),
        failures=tuple(sorted(set(plan.refusals))),
        hours=plan.hours(request.config.profile, n_workers),
    )
