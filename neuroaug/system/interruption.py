"""What Ctrl-C and SIGTERM mean to long work.

Training (`stop_requests`) finishes its step, keeps a checkpoint and leaves. A pool of processes
(`interruptible`) finishes what is in hand, and gives it up when it is asked twice.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

from neuroaug.errors import NeuroaugError

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class TrainingInterrupted(NeuroaugError):
    """Training was asked to stop; a checkpoint holds all of it."""

    exit_code = 130


class StopRequest:
    """Whether somebody has asked the process to stop."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def __bool__(self) -> bool:
        return self.signal is not None


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Collect SIGINT and SIGTERM while the block runs; a second SIGINT stops at once.

    Outside the main thread, where Python allows no handlers, nothing is collected.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if request and number == signal.SIGINT:
            raise KeyboardInterrupt
        request.signal = signal.Signals(number)

    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Interruptible(Protocol):
    """What `interruptible` asks of a pool."""

    @property
    def in_hand(self) -> int:
        """Tasks being worked on."""

    def stop(self) -> None:
        """Take no further task."""

    def kill(self) -> None:
        """End at once."""


@contextmanager
def interruptible(pool: Interruptible) -> Iterator[None]:
    """Let an interrupt finish what is in hand, a second one give it up; SIGTERM (a cluster's
    warning) gives it up.

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
            message = (
                f"interrupted: finishing {pool.in_hand} in hand; interrupt again to give them up"
            )
            os.write(2, f"\n{message}\n".encode())
            pool.stop()
        else:
            pool.kill()

    previous = {
        number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if signal.SIGTERM in received:
        raise SystemExit(128 + signal.SIGTERM)
    if received:
        raise KeyboardInterrupt
