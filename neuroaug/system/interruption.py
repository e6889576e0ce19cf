"""What Ctrl-C and SIGTERM mean to long work.

Training (`stop_requests`) finishes its step, keeps a checkpoint and leaves. A pool of processes
(`interruptible`) finishes the tasks in hand; a second Ctrl-C, or SIGTERM, gives them up.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Protocol

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def handled_by(handler: Callable[[int, FrameType | None], Any]) -> Iterator[None]:
    """Let `handler` answer SIGINT and SIGTERM while the block runs.

    Outside the main thread, where Python allows no handlers, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in SIGNALS}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


class StopRequest:
    """Whether the process was asked to stop; true once it was."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def __bool__(self) -> bool:
        return self.signal is not None


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Collect SIGINT and SIGTERM while the block runs; a second SIGINT stops at once."""
    request = StopRequest()

    def on_signal(number: int, _: FrameType | None) -> None:
        if request and number == signal.SIGINT:
            raise KeyboardInterrupt
        request.signal = signal.Signals(number)

    with handled_by(on_signal):
        yield request


class Interruptible(Protocol):
    """What `interruptible` asks of a pool."""

    @property
    def in_hand(self) -> int:
        """Number of tasks being worked on."""

    def stop(self) -> None:
        """Take no further task."""

    def kill(self) -> None:
        """End at once."""


@contextmanager
def interruptible(pool: Interruptible) -> Iterator[None]:
    """Let SIGINT finish the tasks in hand; a second one, or SIGTERM, gives them up.

    Raises
    ------
    KeyboardInterrupt
        At the end of the block, after SIGINT.
    SystemExit
        At the end of the block, after SIGTERM, a cluster's warning (status 143).
    """
    received: list[int] = []

    def on_signal(number: int, _: FrameType | None) -> None:
        received.append(number)
        if number == signal.SIGINT and len(received) == 1:
            message = (
                f"interrupted: finishing {pool.in_hand} in hand; interrupt again to give them up"
            )
            os.write(2, f"\n{message}\n".encode())
            pool.stop()
        else:
            pool.kill()

    with handled_by(on_signal):
        yield
    if signal.SIGTERM in received:
        raise SystemExit(128 + signal.SIGTERM)
    if received:
        raise KeyboardInterrupt
