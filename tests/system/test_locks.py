"""One process at a time, with the kernel's locks and without them, whatever happens to it."""

import errno
import fcntl
import json
import signal
import subprocess
import sys
import time

import pytest

from neuroaug.errors import InputError
from neuroaug.system import locks
from neuroaug.system.locks import Claim, exclusive, scratch_folder

REFUSALS = [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, 524]
HOLD = """
import fcntl, sys, time
from pathlib import Path
def refuse(*_): raise OSError(524, "Unknown error 524")
if sys.argv[2] == "without": fcntl.flock = refuse
from neuroaug.system.locks import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(params=[None, *REFUSALS])
def flock(request, monkeypatch):
    """The kernel's locks, and file systems that refuse them in each known way."""
    if request.param is not None:

        def refuse(*_):
            raise OSError(request.param, "refused")

        monkeypatch.setattr(fcntl, "flock", refuse)
    return request.param


def test_a_claim_is_one_processs_and_then_the_nexts(tmp_path, flock):
    path = tmp_path / "locks" / "a.lock"
    claim = Claim.take(path)
    assert claim is not None
    assert Claim.take(path) is None
    claim.release()
    claim.release()
    again = Claim.take(path)
    assert again is not None
    again.release()
    assert list(path.parent.iterdir()) == []


def test_a_busy_lock_is_one_line(tmp_path, flock):
    path = tmp_path / "run.lock"
    with exclusive(path, "busy"), pytest.raises(InputError, match="busy"), exclusive(path, "busy"):
        pass
    with exclusive(path, "busy"):
        pass


def test_scratch_folders_of_the_killed_are_removed(tmp_path, flock):
    dead = tmp_path / "run-1-dead"
    dead.mkdir()
    dead.with_name("run-1-dead.lock").touch()
    with scratch_folder(tmp_path) as own:
        assert own.is_dir()
        assert not dead.exists()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", ["with", "without"])
def test_a_killed_process_holds_nothing(tmp_path, monkeypatch, how):
    path = tmp_path / "run.lock"
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), how], stdout=subprocess.PIPE, text=True
    )
    if how == "without":

        def refuse(*_):
            raise OSError(524, "Unknown error 524")

        monkeypatch.setattr(fcntl, "flock", refuse)
    assert process.stdout.readline() == "held\n"
    with pytest.raises(InputError, match="busy"), exclusive(path, "busy"):
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    with exclusive(path, "busy"):
        pass


def test_what_another_machine_holds_is_named_with_the_file_to_remove(tmp_path, monkeypatch):
    path = tmp_path / "run.lock"
    owner = locks._owner_path(path)
    owner.write_text(json.dumps({"host": "node7", "pid": 12, "started": 1, "boot": "b"}))
    monkeypatch.setattr(fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(524, "no")))
    with (
        pytest.raises(InputError, match=r"process 12 of node7.*remove") as error,
        exclusive(path, "busy"),
    ):
        pass
    assert str(owner) in str(error.value)
    assert owner.exists()


def test_a_number_given_to_another_process_since_is_not_the_owner(tmp_path, monkeypatch):
    path = tmp_path / "run.lock"
    monkeypatch.setattr(fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(524, "no")))
    with exclusive(path):
        made = json.loads(locks._owner_path(path).read_text())
    locks._owner_path(path).write_text(json.dumps({**made, "started": made["started"] - 5}))
    with exclusive(path, "busy"):
        assert json.loads(locks._owner_path(path).read_text()) == made  # taken over


def test_waiting_ends_when_the_other_does(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "_POLL_S", 0.01)
    monkeypatch.setattr(fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(524, "no")))
    path = tmp_path / "run.lock"
    code = HOLD.replace("time.sleep(60)", "time.sleep(0.5)")
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path), "without"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    begun = time.monotonic()
    with exclusive(path):
        assert time.monotonic() - begun > 0.2
    process.wait()


def test_other_errors_are_not_taken_for_a_missing_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "io")))
    with pytest.raises(OSError, match="io"), exclusive(tmp_path / "run.lock"):
        pass
