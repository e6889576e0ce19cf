"""Run one job of the workflow: its command, a line on the terminal, a log, a completion record.

The record is written last, atomically, and only if the command ended well. The job ends with the
workflow that started it, so that a killed run leaves nobody behind writing into the study.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from neuroaug.system.files import write_json
from neuroaug.system.parent_death import die_with_parent
from neuroaug.system.provenance import versions
from neuroaug.workflow.protocol import Protocol


def clock(seconds: float) -> str:
    """``75`` -> ``1:15``."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def last_line(log: Path) -> str:
    """The last line of a log that says something."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("next: ")]  # for people at a terminal
    return lines[-1] if lines else "no message"


def main() -> int:
    """Run the job whose record is named."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--study", type=Path, required=True)
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument("--threads", default="1")
    arguments = parser.parse_args()
    die_with_parent()
    study = arguments.study
    job = Protocol.open(study).jobs[arguments.record.stem]
    failed = study / ".neuroaug" / "failed" / f"{job.name}.json"
    failed.unlink(missing_ok=True)
    log = study / "logs" / "jobs" / f"{job.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [word.replace("{threads}", arguments.threads) for word in job.command]
    print(f"{job.name:<56} started", flush=True)
    start = time.monotonic()
    with open(log, "w", encoding="utf-8") as stream:
        code = subprocess.call(
            [sys.executable, "-m", "neuroaug", *command],
            cwd=study,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
            preexec_fn=die_with_parent,
        )
    seconds = time.monotonic() - start
    message = last_line(log)
    ended = {"job": job.name, "exit": code}
    if code not in job.exit_codes:
        print(f"{job.name:<56} FAILED after {clock(seconds)}: {message}", flush=True)
        write_json(failed, {**ended, "message": message, "log": f"logs/jobs/{job.name}.log"})
        return code if code > 0 else 1
    print(f"{job.name:<56} done in {clock(seconds)}  {message}", flush=True)
    write_json(
        arguments.record,
        {**ended, "key": job.key, "seconds": round(seconds, 1), "versions": versions()},
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
