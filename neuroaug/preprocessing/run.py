"""The execution of a plan: visits claimed, done in a pool, recorded; what was cut off is undone."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from typing import Any

from neuroaug.errors import ResourceError
from neuroaug.imaging import caps as caps_names
from neuroaug.imaging.bids import Visit
from neuroaug.preprocessing.claims import claim_visit, tables_lock
from neuroaug.preprocessing.plan import CLINICAS, PreprocessingPlan, VisitJob, file_identity, judge
from neuroaug.preprocessing.records import (
    Record,
    read_record,
    remove_record,
    sidecar_record,
    update_tables,
    write_record,
)
from neuroaug.preprocessing.refusal import Refusal
from neuroaug.preprocessing.request import Request, require_one_distance
from neuroaug.preprocessing.steps.qc_pages import PAGES, write_pages
from neuroaug.system.files import TEMPORARY_PREFIX, remove_leftovers, visible
from neuroaug.system.locks import Claim
from neuroaug.system.pool import Pool, PoolTask, TaskOutcome
from neuroaug.system.progress import Progress, progress

log = logging.getLogger("neuroaug")

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


class PreprocessingRun:
    """One execution of a plan: hands out claimed visits, records what becomes of them."""

    def __init__(self, plan: PreprocessingPlan) -> None:
        self._request, self._plan = plan.request, plan
        self._claims: dict[Visit, tuple[Claim, VisitJob]] = {}
        self._now: dict[Visit, Record] = {}  # decided in this run
        self._unwritten: dict[Visit, Record] = {}
        self._written = time.monotonic()
        self._skipped = set(plan.done)

    def go(self, pool: Pool) -> None:
        """Do the plan's jobs in a pool, keeping the tables of the CAPS up to date.

        Raises
        ------
        ResourceError
            If the pool cannot go on.
        """
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
        """Count what is done, was done before, and failed."""
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
                state = judge(self._request, job)
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
                need = state.memory_mb(self._request.config.profile)
                yield PoolTask(job.visit, payload(self._request, state), need)
                break
            else:
                if waiting:
                    yield None

    def _begin(self, job: VisitJob) -> None:
        for suffix in ("json", "webp"):
            torn = f"*/{TEMPORARY_PREFIX}*-{job.visit.stem}.{suffix}"
            for path in caps_names.hidden(self._request.target).glob(torn):
                path.unlink(missing_ok=True)
        folder = caps_names.t1_linear_folder(self._request.target, job.visit)
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
        folder = caps_names.t1_linear_folder(self._request.target, job.visit)
        # The sidecar is left out: it holds the time taken, and equal scans shall give equal
        # records.
        files = {
            path.name: path.stat().st_size for path in visible(folder) if path.suffix != ".json"
        }
        before = read_record(self._request.target, job.visit)
        if job.kind == "complete" and before is not None and before.status == "ok":
            return replace(before, files=files, quality=result.get("quality", {}))
        if (
            job.kind == "complete"
            and (ours := sidecar_record(self._request.caps, job.visit)) is not None
        ):
            return replace(ours, files=files, quality=result.get("quality", {}))
        parameters = self._request.parameters if job.kind == "process" else CLINICAS
        return Record(
            "ok",
            input=file_identity(job.source),
            parameters=parameters,
            files=files,
            quality=result.get("quality", {}),
            note="; ".join(filter(None, [job.note, *result.get("notes", ())])),
        )

    def _failure(self, job: VisitJob, outcome: TaskOutcome) -> Record:
        self._remove_files(job)
        return Record(
            "failed",
            input=file_identity(job.source),
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
        """Remove what there is of a visit that is not finished.

        Of Clinica's visits, only what was in the middle of being written.
        """
        target = self._request.target
        folder = caps_names.t1_linear_folder(target, job.visit)
        if not folder.is_dir():
            return
        remove_leftovers(folder)
        if job.kind == "process":
            for path in folder.glob(f"{job.visit.stem}_space-{caps_names.SPACE}_*"):
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
        "choice": job.note,
        "caps": str(request.caps),
        "target": str(request.target),
        "config": request.config.model_dump(mode="json"),
    }
