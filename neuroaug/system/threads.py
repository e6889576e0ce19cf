"""What this process may use of the machine."""

from __future__ import annotations

import os


def n_cores() -> int:
    """Processor cores that this process may run on.

    Fewer than the machine has where a scheduler or `taskset` restricts the process and the system
    tells.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
