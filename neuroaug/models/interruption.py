"""Ctrl-C and SIGTERM during training: finish the step, keep a checkpoint, leave."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

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
