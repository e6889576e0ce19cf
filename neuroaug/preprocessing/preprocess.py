"""A cohort's raw scans, or a CAPS of Clinica's, made into a CAPS that networks read."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from neuroaug.config import PreprocessingConfig
from neuroaug.errors import InputError
from neuroaug.imaging import caps as caps_names
from neuroaug.preprocessing.claims import sweep_claims
from neuroaug.preprocessing.memory_plan import memory_for_all
from neuroaug.preprocessing.plan import PreprocessingPlan, make_plan
from neuroaug.preprocessing.records import prepare_caps
from neuroaug.preprocessing.request import Request, resolve
from neuroaug.preprocessing.run import PreprocessingRun, PreprocessSummary
from neuroaug.preprocessing.select import select
from neuroaug.system.files import read_json
from neuroaug.system.interruption import interruptible
from neuroaug.system.locks import scratch_folder
from neuroaug.system.pool import Pool

TARGET = "neuroaug.preprocessing.visit_task:work"


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
        Table of visits (participant_id, session_id); JSON that chooses among several T1w images
        per visit.
    config : PreprocessingConfig, optional
        Profile, N4 distance, template, resolutions, time limit per visit.
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
    selection = select(participants, sessions, visits_tsv, bids_filter, part)
    request = resolve(
        caps, bids=bids, out=out, config=config, selection=selection, rerun_failed=rerun_failed
    )
    memory = memory_for_all(config.profile, mem_mb)
    plan = make_plan(request).within(memory)
    n_workers = plan.width(n_procs, memory)
    if dry_run:
        return _tell(plan, n_workers)
    run = PreprocessingRun(plan)
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
            memory_mb=memory,
        )
        with interruptible(pool):
            run.go(pool)
    return run.summary()


def _require_writable(target: Path) -> None:
    try:
        caps_names.hidden(target).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{target}: cannot be written to ({error.strerror}); choose another folder"
        ) from None


def _scratch_parent(request: Request, work_dir: str | Path | None) -> Path:
    if work_dir is None:
        return caps_names.hidden(request.target) / "work"
    return Path(work_dir).expanduser().absolute() / "neuroaug-preprocess"


def _description(request: Request) -> dict[str, Any]:
    """Name and sources of a new CAPS, from the data set that it is made of."""
    content: Any = {}
    with suppress(InputError):
        content = read_json((request.bids or request.caps) / caps_names.DESCRIPTION)
    content = content if isinstance(content, dict) else {}
    name = content.get("Name")
    sources = [{"DOI": content["DatasetDOI"]}] if isinstance(content.get("DatasetDOI"), str) else []
    return {
        "name": f"t1-linear of {name}" if isinstance(name, str) and name else "t1-linear",
        "source_datasets": sources,
    }


def _tell(plan: PreprocessingPlan, n_workers: int) -> PreprocessSummary:
    """Print what would be done."""
    print("\n".join(plan.lines(n_workers)), flush=True)
    return PreprocessSummary(
        n_ok=0,
        n_failed=0,
        n_skipped=len(plan.done),
        failures=tuple(sorted(set(plan.refusals))),
        hours=plan.hours(n_workers),
    )
