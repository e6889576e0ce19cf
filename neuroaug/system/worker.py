"""The process at the other end of `neuroaug.system.pool`: one line per task, one per answer.

Run as ``python -m neuroaug.system.worker MODULE:FUNCTION RESULT_DESCRIPTOR PARENT_PID``.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any

from neuroaug.errors import NeuroaugError, ResourceError
from neuroaug.system.parent_death import die_with_parent


def _resolve(target: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    module, _, function = target.partition(":")
    return getattr(importlib.import_module(module), function)  # type: ignore[no-any-return]


def _one_line(error: BaseException) -> str:
    if isinstance(error, NeuroaugError):
        return " ".join(str(error).split())
    if isinstance(error, MemoryError):
        return "out of memory"
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]


def _answer(
    function: Callable[[dict[str, Any]], dict[str, Any]], payload: dict[str, Any]
) -> dict[str, Any]:
    """Do one task; whatever goes wrong becomes a stage and one line."""
    try:
        return {"ok": True, "result": function(payload)}
    except Exception as error:
        traceback.print_exc()
        return {
            "ok": False,
            "fatal": isinstance(error, ResourceError),
            "stage": str(getattr(error, "stage", "") or ""),
            "reason": _one_line(error),
        }


def main() -> None:
    """Serve tasks until standard input ends."""
    target, descriptor, parent = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    die_with_parent()
    if os.getppid() != parent:  # it ended before the kernel was asked
        sys.exit(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the pool decides what an interrupt means
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    function = _resolve(target)
    with os.fdopen(descriptor, "w", encoding="utf-8") as results:

        def tell(message: dict[str, Any]) -> None:
            results.write(json.dumps(message) + "\n")
            results.flush()

        tell({"ready": True})
        for line in sys.stdin:
            tell(_answer(function, json.loads(line)))


if __name__ == "__main__":
    main()
