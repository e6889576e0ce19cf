"""Processes for independent work, or one thread where the system gives no way to share it."""

from __future__ import annotations

import logging
import multiprocessing
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor

log = logging.getLogger("neuroaug")


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
