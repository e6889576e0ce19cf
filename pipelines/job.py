"""Run one verb as a job of the workflow: a line on the terminal, a log, and a completion record.

The record is written last, atomically, and only if the verb ended well. The job dies with the
workflow that started it, so that a killed run leaves nobody behind writing into the study.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from protocol import Protocol

from neuroaug.system.files import write_json
from neuroaug.system.parent_death import die_with_parent
from neuroaug.system.provenance import versions

# A visit that failed is listed in failures.tsv and left out by later stages; it does not stop them.
ALLOWED = {"preprocess": (0, 1)}


def clock(seconds: float) -> str:
    """``75`` -> ``1:15``."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def last_line(log: Path) -> str:
    """The last line of a log that says something."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "no message"


def main() -> int:
    """Run the verb after ``--``."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--study", type=Path, required=True)
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument("--part", type=int)
    parser.add_argument("verb", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    die_with_parent()
    verb = (
        [a for a in arguments.verb if a != "--"] if arguments.verb[:1] == ["--"] else arguments.verb
    )
    job = arguments.record.stem
    protocol = Protocol.open(str(arguments.study))
    key = protocol.keys()[job]
    failed = arguments.study / ".neuroaug" / "failed" / f"{job}.json"
    failed.unlink(missing_ok=True)
    log = arguments.study / "logs" / "jobs" / f"{job}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    if arguments.part is not None and protocol.n_preprocess_jobs > 1:
        verb += ["--part", f"{arguments.part}/{protocol.n_preprocess_jobs}"]
    print(f"{job:<56} started", flush=True)
    start = time.monotonic()
    with open(log, "w", encoding="utf-8") as stream:
        code = subprocess.call(
            [sys.executable, "-m", "neuroaug", *verb],
            cwd=arguments.study,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=environment,
            preexec_fn=die_with_parent,
        )
    seconds = time.monotonic() - start
    if code not in ALLOWED.get(verb[0], (0,)):
        print(f"{job:<56} FAILED after {clock(seconds)}: {last_line(log)}", flush=True)
        write_json(
            failed,
            {"job": job, "exit": code, "message": last_line(log), "log": f"logs/jobs/{job}.log"},
        )
        return code if code > 0 else 1
    print(f"{job:<56} done in {clock(seconds)}  {last_line(log)}", flush=True)
    write_json(
        arguments.record,
        {
            "job": job,
            "key": key,
            "exit": code,
            "seconds": round(seconds, 1),
            "versions": versions(),
        },
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
