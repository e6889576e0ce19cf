"""What this process may use of the machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


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
