"""Memory of processes, and what a signal means to a pool of them."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Protocol


class Interruptible(Protocol):
    """What `interruptible` asks of a pool."""

    @property
    def in_hand(self) -> int:
        """Tasks being worked on."""

    def stop(self) -> None:
        """Take no further task."""

    def kill(self) -> None:
        """End at once."""


def resident_mb(pid: int) -> float:
    """Resident memory of a process in MB; 0 when it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def available_mb() -> float:
    """Memory that new processes may use, in MB: the machine's, or the container's or job's where that is less."""
    import psutil

    limits = [psutil.virtual_memory().available / 1e6]
    for limit, usage in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        try:
            limits.append((int(Path(limit).read_text()) - int(Path(usage).read_text())) / 1e6)
        except (OSError, ValueError):  # no such group, or "max"
            continue
    return max(min(limits), 0.0)


@contextmanager
def interruptible(pool: Interruptible) -> Iterator[None]:
    """Let an interrupt finish what is in hand, a second one give it up; SIGTERM (a cluster's warning) gives it up.

    Raises
    ------
    KeyboardInterrupt
        At the end of the block, after an interrupt.
    SystemExit
        At the end of the block, after SIGTERM (status 143).
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []

    def on_signal(number: int, _: FrameType | None) -> None:
        received.append(number)
        if number == signal.SIGINT and len(received) == 1:
            message = f"interrupted: finishing {pool.in_hand} in hand; interrupt again to give them up"
            os.write(2, f"\n{message}\n".encode())
            pool.stop()
        else:
            pool.kill()

    previous = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if signal.SIGTERM in received:
        raise SystemExit(128 + signal.SIGTERM)
    if received:
        raise KeyboardInterrupt
