"""Progress of long work: a rich bar on a terminal, plain lines in logs and Slurm jobs."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

PLAIN_INTERVAL_S = 10.0
quiet = False


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


class Progress:
    """Counts what is done of `total` and says so, with rate and time left.

    Parameters
    ----------
    total : int
        Number of units of work.
    description : str
        Name of the work, shown first.
    unit : str
        Name of a unit, e.g. ``"visits"``.
    done : int
        Units that an earlier, interrupted run had finished.
    bar : rich.progress.Progress, optional
        Bar that shows it; None: plain lines.
    """

    def __init__(
        self, total: int, description: str, unit: str = "", done: int = 0, bar: Any = None
    ) -> None:
        self.total, self.description, self.unit = total, description, unit
        self.done = self._start_done = done
        self._start = self._last = time.monotonic()
        self._bar = bar
        if bar is not None:
            self._task = bar.add_task(description, total=total, completed=done, status="")

    def resume_at(self, done: int) -> None:
        """Count from `done`, which earlier starts have done; the rate is that of this start."""
        self.done = self._start_done = done
        self.say(force=True)

    def advance(self, n: int = 1, **status: Any) -> None:
        """Count `n` more units; `status` is shown beside the count (``elbo="-1.2e4"``)."""
        self.done += n
        self.say(**status)

    def say(self, force: bool = False, **status: Any) -> None:
        """Show where the work stands (throttled on plain output)."""
        if quiet:
            return
        text = "  ".join(f"{k.replace('_', ' ')} {v}" for k, v in status.items())
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, status=text)
            return
        now = time.monotonic()
        if not force and self.done < self.total and now - self._last < PLAIN_INTERVAL_S:
            return
        self._last = now
        elapsed = max(now - self._start, 1e-9)
        rate = (self.done - self._start_done) / elapsed
        left = ""
        if rate > 0 and self.done < self.total:
            left = f", {_clock((self.total - self.done) / rate)} left"
        speed = f" ({rate:.2f}/s{left})" if rate > 0 else ""
        print(
            f"{self.description}: {self.done}/{self.total} {self.unit}{speed}  {text}".rstrip(),
            flush=True,
        )


@contextmanager
def progress(total: int, description: str, unit: str = "", done: int = 0) -> Iterator[Progress]:
    """Show a `Progress` while the block runs."""
    if quiet or not sys.stdout.isatty():
        yield Progress(total, description, unit, done)
        return
    from rich import progress as rich_progress

    with rich_progress.Progress(
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TimeRemainingColumn(),
        rich_progress.TextColumn("{task.fields[status]}"),
    ) as bar:
        yield Progress(total, description, unit, done, bar)
