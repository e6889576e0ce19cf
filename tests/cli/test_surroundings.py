"""One line, or it works: terminals of any encoding, closed pipes, folders that are gone."""

import os
import signal
import subprocess
import sys

import pytest

NEUROAUG = [sys.executable, "-m", "neuroaug"]


def neuroaug(*words, cwd=None, **environment):
    return subprocess.run(
        [*NEUROAUG, *words],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        check=False,
    )


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_a_terminal_that_lacks_the_letters_of_a_path(tmp_path, encoding):
    folder = tmp_path / "Größe 日本"
    folder.mkdir()
    result = neuroaug("check", str(folder), PYTHONIOENCODING=encoding)
    assert result.returncode == 2
    assert b"Traceback" not in result.stderr
    assert result.stderr.count(b"\n") == 1
    if encoding != "ascii":  # click takes ASCII for a mistake, and writes UTF-8
        assert "Größe \\u65e5" in result.stderr.decode(encoding)


def test_a_path_that_is_no_text(tmp_path):
    folder = os.fsencode(tmp_path) + b"/\xff\xfe"
    os.mkdir(folder)
    result = subprocess.run([*NEUROAUG, "check", folder], capture_output=True, check=False)
    assert result.returncode == 2
    assert b"Traceback" not in result.stderr
    assert result.stderr.count(b"\n") == 1


def test_a_reader_that_goes_away_is_no_error_of_ours(tmp_path):
    """``neuroaug ... | head -1``"""
    (tmp_path / "neuroaug.yaml").write_text("phantom: {n_participants: 20}\nbids: bids\n")
    read, write = os.pipe()
    os.close(read)
    command = [*NEUROAUG, "run", ".", "--dry-run"]
    result = subprocess.run(
        command, cwd=tmp_path, stdout=write, stderr=subprocess.PIPE, check=False
    )
    os.close(write)
    assert result.returncode == 128 + signal.SIGPIPE
    assert result.stderr == b""


@pytest.mark.parametrize("words", [("check", "."), ("split",), ("init", ".")])
def test_the_current_folder_was_deleted(tmp_path, words):
    gone = tmp_path / "gone"
    gone.mkdir()
    script = (
        f"import os, sys; os.rmdir(os.getcwd()); os.execv(sys.executable, {[*NEUROAUG, *words]!r})"
    )
    command = [sys.executable, "-c", script]
    result = subprocess.run(command, cwd=gone, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr == (
        "neuroaug: the current folder does not exist any more; go to another one\n"
    )


def test_a_name_that_is_too_long(tmp_path):
    result = neuroaug("check", "x" * 300, cwd=tmp_path)
    assert result.returncode == 2
    assert b"too long" in result.stderr
    assert result.stderr.count(b"\n") == 1


def test_without_shared_memory_one_process_does_the_work(monkeypatch, caplog):
    """As in a container without ``/dev/shm``: semaphores are refused."""
    from neuroaug.system import threads

    class Refuses:
        def Lock(self):
            raise OSError(30, "Read-only file system")

    monkeypatch.setattr(threads.multiprocessing, "get_context", lambda _: Refuses())
    monkeypatch.setattr(threads.log, "propagate", True)
    with threads.processes(4) as pool:
        assert list(pool.map(abs, [-1, 2])) == [1, 2]
    assert "/dev/shm" in caplog.text
