"""What this process may use of the machine."""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager

log = logging.getLogger("neuroaug")


def n_cores() -> int:
    """Processor cores that this process may run on.

    Fewer than the machine has where a scheduler or `taskset` restricts the process and the system
    tells.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def torch_threads(n: int | None) -> Iterator[int]:
    """Give torch `n` threads while the block runs (None: its own number), and back what it had."""
    import torch

    before = torch.get_num_threads()
    if n is not None:
        torch.set_num_threads(n)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


def processes(n: int) -> Executor:
    """Start an executor of `n` processes.

    They are spawned: forking a process in which torch or ANTs runs threads can hang. Python's pools
    need semaphores, which live in ``/dev/shm``; containers without it get one thread, and are told.
    """
    context = multiprocessing.get_context("spawn")
    try:
        context.Lock()
    except OSError as error:
        log.warning(
            "one process instead of %d: the system refuses semaphores (%s); is /dev/shm mounted "
            "and writable?",
            n,
            error.strerror,
        )
        return ThreadPoolExecutor(1)
    return ProcessPoolExecutor(n, mp_context=context)
