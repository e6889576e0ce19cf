"""The pool: whatever happens to a worker costs one task and is told."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import psutil
import pytest

from neuroaug.errors import ResourceError
from neuroaug.system.interruption import interruptible
from neuroaug.system.memory import available_memory, resident_mb
from neuroaug.system.pool import Pool, PoolTask

STAND_IN = """
import os, signal, sys, time

def work(payload):
    kind = payload.get("kind", "fine")
    if kind == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if kind == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "exit":
        print("last words", flush=True)
        os._exit(3)
    if kind == "hang":
        time.sleep(600)
    if kind == "error":
        error = ValueError("two\\nlines")
        error.stage = "read"
        raise error
    if kind == "full":
        from neuroaug.errors import ResourceError
        raise ResourceError("the disk is full")
    if kind == "hungry":
        block = bytearray(payload["mb"] * 10**6)
        time.sleep(payload.get("seconds", 600))
    if kind == "litter":
        import tempfile
        open("here", "w").close()
        tempfile.mkdtemp()
    if kind == "sleep":
        time.sleep(payload["seconds"])
    if kind == "noise":
        print("x" * 10**6)
        print("y" * 10**6, file=sys.stderr)
    threads = os.environ["OMP_NUM_THREADS"]
    return {"double": 2 * payload.get("x", 0), "pid": os.getpid(), "threads": threads}
"""


@pytest.fixture
def make_pool(tmp_path, monkeypatch):
    """A pool whose function is the stand-in above."""
    (tmp_path / "pool_stand_in.py").write_text(STAND_IN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return lambda **options: Pool(
        "pool_stand_in:work", **{"n_workers": 2, "scratch": scratch, **options}
    )


def outcomes(pool, payloads):
    return {
        outcome.key: outcome for outcome in pool.run(PoolTask(i, p) for i, p in enumerate(payloads))
    }


def test_every_task_is_answered_by_few_processes(make_pool, tmp_path):
    found = outcomes(make_pool(n_threads=3), [{"x": i} for i in range(20)])
    assert [found[i].result["double"] for i in range(20)] == [2 * i for i in range(20)]
    assert len({outcome.result["pid"] for outcome in found.values()}) <= 2
    assert {outcome.result["threads"] for outcome in found.values()} == {"3"}
    assert list((tmp_path / "scratch").iterdir()) == []


def test_two_hundred_tasks_with_crashing_and_hanging_workers_are_all_accounted_for(make_pool):
    bad = {
        7: "segfault",
        31: "killed",
        64: "exit",
        90: "error",
        120: "hang",
        155: "segfault",
        199: "exit",
    }
    payloads = [{"x": i, "kind": bad.get(i, "fine")} for i in range(200)]
    found = outcomes(make_pool(n_workers=3, timeout_s=2.0), payloads)
    assert sorted(found) == list(range(200))
    assert {i for i, outcome in found.items() if outcome.result is None} == set(bad)
    assert all(found[i].result["double"] == 2 * i for i in found if i not in bad)
    assert found[7].stage == "crash"
    assert "SIGSEGV" in found[7].reason
    assert "out of memory" in found[31].reason
    assert "exit code 3" in found[64].reason
    assert "last words" in found[64].reason
    assert (found[90].stage, found[90].reason) == ("read", "ValueError: two lines")
    assert found[120].stage == "timeout"


def test_a_full_disk_is_told_as_fatal(make_pool):
    found = outcomes(make_pool(), [{"kind": "full"}])
    assert found[0].fatal
    assert found[0].reason == "the disk is full"


def test_output_of_any_size_does_not_block_a_worker(make_pool):
    found = outcomes(make_pool(n_workers=1, timeout_s=30.0), [{"kind": "noise", "x": 1}, {"x": 2}])
    assert [found[i].result["double"] for i in (0, 1)] == [2, 4]


def test_what_a_task_leaves_in_its_current_or_temporary_folder_is_removed(make_pool, tmp_path):
    pool = make_pool(n_workers=1)
    run = pool.run(PoolTask(i, {"kind": "litter"}) for i in range(2))
    next(run)
    assert [
        p
        for p in (tmp_path / "scratch").rglob("*")
        if p.suffix != ".log" and not p.name.startswith("worker-")
    ] == []
    run.close()
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_task_beyond_the_memory_budget_fails_and_the_others_are_done(make_pool):
    payloads = [{"x": 1}, {"kind": "hungry", "mb": 400}, {"x": 2}]
    found = outcomes(make_pool(memory_mb=250.0), payloads)
    assert found[0].result is not None
    assert found[2].result is not None
    assert found[1].stage == "memory"
    assert "--mem-mb" in found[1].reason


def test_tasks_that_fit_only_one_by_one_are_all_done(make_pool):
    payloads = [{"kind": "hungry", "mb": 150, "seconds": 1.0, "x": i} for i in range(3)]
    found = outcomes(make_pool(n_workers=3, memory_mb=320.0), payloads)
    assert [found[i].result["double"] for i in range(3)] == [0, 2, 4]


def test_workers_that_cannot_start_are_one_error(tmp_path):
    with pytest.raises(ResourceError, match=r"no worker process can be started.*no_such_module"):
        list(Pool("no_such_module:work", n_workers=2, scratch=tmp_path).run([PoolTask(0, {})]))


def test_nothing_to_start_now_is_asked_for_again(make_pool):
    def source():
        yield PoolTask(0, {"x": 1})
        yield None
        yield None
        yield PoolTask(1, {"x": 2})

    assert sorted(outcome.key for outcome in make_pool().run(source())) == [0, 1]


def test_an_interrupt_finishes_what_is_in_hand(make_pool):
    pool = make_pool(n_workers=1)
    before = signal.getsignal(
        signal.SIGINT
    )  # a job in the background inherits that interrupts are ignored

    found = []

    def run():
        for outcome in pool.run(
            PoolTask(i, {"kind": "sleep", "seconds": 0.5, "x": i}) for i in range(9)
        ):
            found.append(outcome)
            if len(found) == 1:
                threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()

    with pytest.raises(KeyboardInterrupt), interruptible(pool):
        run()
    assert [outcome.result["double"] for outcome in found] == [0, 2]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_interrupt_and_sigterm_give_it_up(make_pool):
    for numbers, error in (
        ((signal.SIGINT, signal.SIGINT), KeyboardInterrupt),
        ((signal.SIGTERM,), SystemExit),
    ):
        pool = make_pool(n_workers=1)

        def run(pool=pool, numbers=numbers):
            run = pool.run(iter([PoolTask(0, {"x": 1}), PoolTask(1, {"kind": "hang"})]))
            next(run)
            for number in numbers:
                os.kill(os.getpid(), number)
            return list(run)

        start = time.monotonic()
        with pytest.raises(error), interruptible(pool):
            assert run() == []
        assert time.monotonic() - start < 30


def test_workers_die_with_a_parent_that_is_killed(tmp_path):
    (tmp_path / "pool_stand_in.py").write_text(STAND_IN)
    script = tmp_path / "parent.py"
    script.write_text(
        textwrap.dedent(
            f"""
            from pathlib import Path
            from neuroaug.system.pool import Pool, PoolTask
            pool = Pool("pool_stand_in:work", n_workers=1, scratch=Path({str(tmp_path)!r}))
            run = pool.run(iter([PoolTask(0, {{"x": 1}}), PoolTask(1, {{"kind": "hang"}})]))
            print(next(run).result["pid"], flush=True)
            next(run)
            """
        )
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    parent = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, env=environment
    )
    worker = psutil.Process(int(parent.stdout.readline()))
    time.sleep(0.5)
    assert worker.is_running()
    parent.kill()
    parent.wait()
    parent.stdout.close()
    _, running = psutil.wait_procs([worker], timeout=5)
    assert not running or worker.status() == psutil.STATUS_ZOMBIE


def test_memory_is_measured():
    assert 1 < resident_mb(os.getpid()) < available_memory() / 1e6 + 1e6
    assert resident_mb(2**22 + 1) == 0.0
