"""Memory: what a process takes, and what new work may still take."""

from __future__ import annotations

import os
from pathlib import Path

# A container's limit and what it uses of it: control groups of version 2, then of version 1.
_CGROUP_FILES = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ),
)


def resident_mb(pid: int) -> float:
    """Resident memory of a process in MB; 0 when it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def available_memory() -> int:
    """Bytes that new work may take: the machine's, or a container's or job's where that is less."""
    import psutil

    free = [psutil.virtual_memory().available]
    for limit, usage in _CGROUP_FILES:
        try:
            free.append(int(Path(limit).read_text()) - int(Path(usage).read_text()))
        except (OSError, ValueError):  # no such group, or "max"
            continue
    return max(min(free), 0)
