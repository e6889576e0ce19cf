"""What the benchmarks share: rows of figures, a temporary folder, a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

THREADS = 2
"""Threads of each side of a comparison."""

N_SAMPLES = 5000
"""Synthetic images per label in the papers' largest common set (METHOD 7)."""


def row(
    name: str,
    value: float,
    unit: str,
    note: str = "",
    *,
    reference: float | None = None,
    ratio: float | None = None,
) -> dict[str, Any]:
    """One measured figure, beside its reference where there is one.

    Examples
    --------
    >>> row("step", 2.0, "s", "one thread", reference=3.0, ratio=1.5)["reference_value"]
    3.0
    """
    measured = {"name": name, "value": value, "unit": unit}
    return {**measured, "reference_value": reference, "ratio": ratio, "note": note}


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make a folder that is removed when the block ends."""
    with tempfile.TemporaryDirectory(prefix="neuroaug-bench-") as folder:
        yield Path(folder)


def in_process(
    module: str, *arguments: str, environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Run a module in a process of its own and read the JSON of its last line of output.

    Raises
    ------
    RuntimeError
        If it fails; the last line of its errors is given.
    """
    command = [sys.executable, "-m", module, *arguments]
    variables = {**os.environ, **(environment or {})}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{module} failed: {done.stderr.strip().splitlines()[-1:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))
