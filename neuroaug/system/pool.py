"""A pool of processes: one that crashes, hangs or outgrows the memory costs one task.

Each worker is an interpreter of its own that serves many tasks (importing ANTs takes seconds) and
is replaced when it ends. Tasks and answers are lines of JSON. The pool imposes no order on its
answers.
"""

from __future__ import annotations

import itertools
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import neuroaug
from neuroaug.errors import ResourceError
from neuroaug.system.memory import resident_mb

_POLL_S = 0.25
_START_S = 180.0  # an interpreter on a network disk may take long to import its modules
_MAX_FAILED_STARTS = 3
_THREAD_VARIABLES = (
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


@dataclass(frozen=True)
class PoolTask:
    """A key of the caller's, a payload that JSON can hold, and the memory that it will take."""

    key: Any
    payload: dict[str, Any]
    memory_mb: float = 0.0


@dataclass(frozen=True)
class TaskOutcome:
    """What became of a task.

    Attributes
    ----------
    key : Any
        Key of the task.
    result : dict or None
        Value that the function returned; None where it failed.
    stage, reason : str
        Stage that failed (may be empty), and why, in one line.
    seconds : float
        Wall-clock time in seconds.
    fatal : bool
        Whether the reason will strike every other task too (a full disk).
    """

    key: Any
    result: dict[str, Any] | None
    stage: str = ""
    reason: str = ""
    seconds: float = 0.0
    fatal: bool = False


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    results: int
    scratch: Path
    log: Path
    started: float
    ready: bool = False
    task: PoolTask | None = None
    since: float = 0.0
    unread: bytearray = field(default_factory=bytearray)


_END: Any = object()


class Pool:
    """Runs one function on many tasks, in processes of their own.

    Parameters
    ----------
    target : str
        Function as ``module:function``; it takes the payload (dict) and returns a dict.
    n_workers : int
        Number of tasks at a time.
    scratch : Path
        Existing folder for temporary files and logs. Each worker's current and temporary folder is
        in it, and is emptied after every task.
    n_threads : int
        Threads that each worker may use (ITK, OpenMP, BLAS).
    timeout_s : float or None
        Time limit of a task in seconds.
    memory_mb : float or None
        Memory of all workers together, in MB. Beyond it the youngest task is put back
        and the pool narrowed; a task that alone needs more fails.
    """

    def __init__(
        self,
        target: str,
        *,
        n_workers: int,
        scratch: Path,
        n_threads: int = 1,
        timeout_s: float | None = None,
        memory_mb: float | None = None,
    ) -> None:
        self._target, self._width, self._scratch = target, max(1, n_workers), scratch.absolute()
        self._timeout_s, self._memory_mb = timeout_s, memory_mb
        self._environment = _environment(n_threads)
        self._workers: list[_Worker] = []
        self._selector = selectors.DefaultSelector()
        self._returned: list[PoolTask] = []
        self._numbers = itertools.count()
        self._failed_starts = 0
        self._stopping = self._killed = False

    @property
    def in_hand(self) -> int:
        """Number of tasks being worked on."""
        return sum(worker.task is not None for worker in self._workers)

    def stop(self) -> None:
        """Take no further task; those in hand are finished."""
        self._stopping = True

    def kill(self) -> None:
        """End at once; tasks in hand are given up without an outcome."""
        self._stopping = self._killed = True

    def run(self, tasks: Iterable[PoolTask | None]) -> Generator[TaskOutcome, None, None]:
        """Do every task and yield outcomes as they come.

        Parameters
        ----------
        tasks : iterable of PoolTask or None
            Tasks, taken only when a worker is free. None means "none that can be started now, ask
            again later".

        Yields
        ------
        TaskOutcome
            Outcome of one task, in any order.

        Raises
        ------
        ResourceError
            If workers cannot be started at all.
        """
        source = iter(tasks)
        exhausted = False
        try:
            while not self._killed:
                while not self._stopping and self.in_hand < self._width:
                    if not self._returned and exhausted:
                        break
                    task = self._returned.pop() if self._returned else next(source, _END)
                    if task is _END:
                        exhausted = True
                    elif task is None:
                        break
                    elif self._fits(task):
                        self._give(task)
                    else:
                        self._returned.append(task)
                        break
                if not self.in_hand and (self._stopping or (exhausted and not self._returned)):
                    return
                yield from self._collect()
        finally:
            self.close()

    def close(self) -> None:
        """End every worker and remove its scratch folder."""
        for worker in list(self._workers):
            self._remove(worker)
        self._selector.close()

    # Workers

    def _fits(self, task: PoolTask) -> bool:
        """Whether a task's memory is there beside what those in hand will take."""
        limit = self._memory_mb if self.in_hand else None
        taken = sum(worker.task.memory_mb for worker in self._workers if worker.task is not None)
        return limit is None or taken + task.memory_mb <= limit

    def _start(self) -> _Worker:
        (scratch := self._scratch / f"worker-{next(self._numbers)}").mkdir()
        log = scratch.with_suffix(".log")
        read, write = os.pipe()  # -P: nothing is imported from the current folder, the scratch
        command = [
            sys.executable,
            "-P",
            "-m",
            "neuroaug.system.worker",
            self._target,
            str(write),
            str(os.getpid()),
        ]
        with open(log, "ab") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=(write,),
                cwd=scratch,
                # ANTs loads matplotlib, which wants a folder for its configuration.
                env={**self._environment, "TMPDIR": str(scratch), "MPLCONFIGDIR": str(scratch)},
                start_new_session=True,  # an interrupt at the keyboard reaches the pool alone
            )
        os.close(write)
        os.set_blocking(read, False)
        worker = _Worker(process, read, scratch, log, time.monotonic())
        self._workers.append(worker)
        self._selector.register(read, selectors.EVENT_READ, worker)
        return worker

    def _give(self, task: PoolTask) -> None:
        """Hand a task to an idle worker, or to a new one, which gets it once it is up."""
        worker = next((w for w in self._workers if w.task is None), None) or self._start()
        worker.task = task
        if worker.ready:
            self._send(worker)

    def _send(self, worker: _Worker) -> None:
        assert worker.process.stdin is not None
        assert worker.task is not None
        worker.since = time.monotonic()
        worker.log.write_bytes(b"")
        try:
            worker.process.stdin.write(json.dumps(worker.task.payload).encode() + b"\n")
            worker.process.stdin.flush()
        except BrokenPipeError:  # it ended while idle: the task is not to blame
            self._returned.append(worker.task)
            self._remove(worker)

    def _remove(self, worker: _Worker) -> int:
        """Kill a worker and all it started, clean up after it, and return its exit status."""
        self._workers.remove(worker)
        self._selector.unregister(worker.results)
        os.close(worker.results)
        with suppress(ProcessLookupError):
            os.killpg(worker.process.pid, signal.SIGKILL)
        status = worker.process.wait()
        if worker.process.stdin is not None:
            with suppress(BrokenPipeError):
                worker.process.stdin.close()
        shutil.rmtree(worker.scratch, ignore_errors=True)
        worker.log.unlink(missing_ok=True)
        return status

    # Answers

    def _collect(self) -> Iterator[TaskOutcome]:
        """Wait a moment for answers, ended workers and limits."""
        for key, _ in self._selector.select(_POLL_S):
            worker: _Worker = key.data
            content = os.read(worker.results, 1 << 20)
            if not content:
                yield from self._lost(worker)
                continue
            worker.unread += content
            while (end := worker.unread.find(b"\n")) >= 0:
                message = json.loads(worker.unread[:end])
                del worker.unread[: end + 1]
                if "ready" in message:
                    worker.ready, self._failed_starts = True, 0
                    if worker.task is not None:
                        self._send(worker)
                else:
                    yield self._finish(worker, message)
        now = time.monotonic()
        for worker in list(self._workers):
            if not worker.ready:
                if now - worker.started > _START_S:
                    yield from self._lost(worker)
            elif (
                worker.task is not None
                and self._timeout_s is not None
                and now - worker.since > self._timeout_s
            ):
                yield self._fail(
                    worker, "timeout", f"not done within the time limit of {self._timeout_s:g} s"
                )
        yield from self._keep_to_budget()

    def _finish(self, worker: _Worker, message: Mapping[str, Any]) -> TaskOutcome:
        task, seconds = worker.task, time.monotonic() - worker.since
        assert task is not None
        worker.task = None
        for leftover in worker.scratch.iterdir():
            if leftover.is_dir() and not leftover.is_symlink():
                shutil.rmtree(leftover)
            else:
                leftover.unlink()
        if message["ok"]:
            return TaskOutcome(task.key, message["result"], seconds=seconds)
        return TaskOutcome(
            task.key, None, message["stage"], message["reason"], seconds, message["fatal"]
        )

    def _fail(self, worker: _Worker, stage: str, reason: str) -> TaskOutcome:
        task, seconds = worker.task, time.monotonic() - worker.since
        assert task is not None
        self._remove(worker)
        return TaskOutcome(task.key, None, stage, reason, seconds)

    def _lost(self, worker: _Worker) -> Iterator[TaskOutcome]:
        """Say how a worker ended: its task failed; or, before any task, it could not start."""
        last_words = _last_line(worker.log)
        task, seconds = worker.task, time.monotonic() - worker.since
        status: int | None = None
        with suppress(subprocess.TimeoutExpired):
            status = worker.process.wait(1.0)  # the pipe closes a moment before the process ends
        self._remove(worker)
        cause = _cause(status)
        if not worker.ready:
            if task is not None:
                self._returned.append(task)
            self._failed_starts += 1
            if self._failed_starts >= _MAX_FAILED_STARTS:
                raise ResourceError(
                    f"no worker process can be started: it {cause} ({last_words or 'no message'})"
                )
        elif task is not None:
            reason = f"the process {cause}" + (f" ({last_words})" if last_words else "")
            yield TaskOutcome(task.key, None, "crash", reason, seconds)

    def _keep_to_budget(self) -> Iterator[TaskOutcome]:
        """Hold the workers' resident memory within the budget."""
        if self._memory_mb is None:
            return
        used = {id(worker): resident_mb(worker.process.pid) for worker in self._workers}
        if sum(used.values()) <= self._memory_mb:
            return
        for worker in list(self._workers):
            if worker.task is None and worker.ready:
                self._remove(worker)  # an idle worker gives its memory back first
        busy = sorted((w for w in self._workers if w.task is not None), key=lambda w: w.since)
        if sum(used[id(worker)] for worker in self._workers) <= self._memory_mb or not busy:
            return
        youngest = busy[-1]
        if len(busy) > 1:
            assert youngest.task is not None
            self._returned.append(youngest.task)
            self._width = len(busy) - 1
            self._remove(youngest)
        else:
            need = used[id(youngest)]
            reason = f"needs {need:.0f} MB where {self._memory_mb:.0f} MB are allowed (--mem-mb)"
            yield self._fail(youngest, "memory", reason)


def _environment(n_threads: int) -> dict[str, str]:
    paths = [str(Path(neuroaug.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        **dict.fromkeys(_THREAD_VARIABLES, str(n_threads)),
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "PYTHONUNBUFFERED": "1",
    }


def _last_line(log: Path) -> str:
    try:
        with open(log, "rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            lines = [line.strip() for line in file.read().decode(errors="replace").splitlines()]
    except OSError:
        return ""
    return next((" ".join(line.split())[:200] for line in reversed(lines) if line), "")


def _cause(status: int | None) -> str:
    if status is None:
        return "did not answer"
    if status >= 0:
        return f"ended with exit code {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    hint = ", probably out of memory" if -status == signal.SIGKILL else ""
    return f"was killed by {name}{hint}"
