"""Exclusive rights between processes, by the kernel's file locks (``flock``).

A killed process holds none: the kernel drops a lock with the last process that has it. Where the
file system knows no such locks (NFS, Lustre), a file that only one process can make stands for
them. The kernel does not remove that one: it names its maker, so that it is taken over from a
process of this machine that has ended; of another machine's nothing can be known, and it is named.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from neuroaug.errors import InputError

# 524 is the kernel's own ENOTSUPP, which NFS and Lustre let through and no table names.
_UNSUPPORTED = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, 524)
_OWNER = ".owner"
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_POLL_S = 0.2
_TELL_AFTER_S = 30.0

log = logging.getLogger("neuroaug")


class _Lock:
    """An open lock file, locked by the kernel or, where that cannot be, by its owner's file."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self._owner: Path | None = None

    def acquire(self, *, wait: bool) -> bool:
        """Lock it; False where another process has it and `wait` is not set."""
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            return self._acquire_by_file(wait=wait)
        return True

    def _acquire_by_file(self, *, wait: bool) -> bool:
        begun, said = time.monotonic(), False
        while (owner := _take_owner(self.path)) is None:
            if not wait:
                return False
            if not said and time.monotonic() - begun > _TELL_AFTER_S:
                log.warning("waiting for %s: %s", self.path, _told(self.path))
                said = True
            time.sleep(_POLL_S)
        self._owner = owner
        return True

    def close(self) -> None:
        """Unlock it."""
        if self.descriptor >= 0:
            if self._owner is not None:
                _release_owner(self._owner)
            os.close(self.descriptor)
            self.descriptor = -1


class Claim:
    """An exclusive right that a file stands for, held until `release` or the end of the process."""

    def __init__(self, lock: _Lock) -> None:
        self._lock = lock

    @classmethod
    def take(cls, path: Path) -> Claim | None:
        """Take the claim that `path` stands for, or return None where another process holds it."""
        while True:
            lock = _Lock(path)
            try:
                if not lock.acquire(wait=False):
                    lock.close()
                    return None
                # The holder before us may have removed the file between our opening and locking it.
                if _same_file(path, lock.descriptor):
                    return cls(lock)
            except BaseException:
                lock.close()
                raise
            lock.close()

    def release(self) -> None:
        """Give the claim up and remove its file; harmless when done twice."""
        if self._lock.descriptor >= 0:
            self._lock.path.unlink(missing_ok=True)
            self._lock.close()

    def __enter__(self) -> Claim:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _same_file(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


@contextmanager
def exclusive(path: Path, busy: str | None = None) -> Iterator[int]:
    """Hold the lock file at `path` while the block runs; its descriptor may be handed to children.

    Parameters
    ----------
    path : Path
        Lock file; made where it is absent, never removed.
    busy : str, optional
        Message of the error where another process holds the lock; None: wait for it.

    Yields
    ------
    int
        Descriptor of the locked file.

    Raises
    ------
    InputError
        With `busy`, if another process holds the lock.
    """
    lock = _Lock(path)
    try:
        if not lock.acquire(wait=busy is None):
            held = f" ({_told(path)})" if _owner_path(path).exists() else ""
            raise InputError(f"{busy}{held}")
        yield lock.descriptor
    finally:
        lock.close()


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """Make a scratch folder for this process and remove it at the end.

    The folders of processes that were killed are removed at the start.

    Parameters
    ----------
    parent : Path
        Folder that holds the scratch folders of all processes.
    """
    parent.mkdir(parents=True, exist_ok=True)
    for lock in parent.glob("run-*.lock"):
        if (claim := Claim.take(lock)) is not None:
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            claim.release()
    own = parent / f"run-{os.getpid()}-{secrets.token_hex(4)}"
    claim = Claim.take(own.with_suffix(".lock"))
    assert claim is not None, "the name is random"
    with claim:
        own.mkdir()
        try:
            yield own
        finally:
            shutil.rmtree(own, ignore_errors=True)


# Without the kernel's locks


def _owner_path(path: Path) -> Path:
    """Where the file of a lock's owner lies."""
    return path.with_name(path.name + _OWNER)


def _take_owner(path: Path) -> Path | None:
    """Make the owner's file of the lock at `path`; None where a process that may live has it."""
    owner = _owner_path(path)
    content = json.dumps(_identity(os.getpid())).encode()
    while True:
        try:
            # Exclusive creation is atomic on NFS too, from version 3.
            descriptor = os.open(owner, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except FileExistsError:
            if not _remove_ended(owner):
                return None
            continue
        try:
            os.write(descriptor, content)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return owner


def _release_owner(owner: Path) -> None:
    """Remove an owner's file that this process made."""
    if _read(owner) == _identity(os.getpid()):
        owner.unlink(missing_ok=True)


def _told(path: Path) -> str:
    """Say who has the lock at `path`, and what to do if that has ended."""
    maker = _read(_owner_path(path))
    who = f"process {maker.get('pid', '?')} of {maker.get('host', 'another machine')}"
    return f"{who} has it; if it has ended, remove {_owner_path(path)}"


def _identity(pid: int) -> dict[str, Any]:
    """Machine and process; a later process of the same number began at another time."""
    boot = _BOOT.read_text().strip() if _BOOT.exists() else ""
    return {**_machine(), "boot": boot, "pid": pid, "started": _started(pid)}


def _machine() -> dict[str, str]:
    """Whose process numbers these are; two containers of one name have their own."""
    namespace = ""
    with suppress(OSError):
        namespace = os.readlink("/proc/self/ns/pid")
    return {"host": socket.gethostname(), "namespace": namespace}


def _started(pid: int) -> int | None:
    """Clock ticks after boot at which a process began; None where it has ended."""
    try:
        # The name, in parentheses, may hold blanks; the start is the 22nd field.
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return None


def _read(owner: Path) -> dict[str, Any]:
    try:
        found = json.loads(owner.read_text())
    except (OSError, ValueError):
        return {}  # gone again, or its maker is writing it
    return found if isinstance(found, dict) else {}


def _remove_ended(owner: Path) -> bool:
    """Remove the file of a process of this machine that has ended; whether it is gone."""
    maker = _read(owner)
    if not maker:
        return not owner.exists()
    pid = maker.get("pid")
    here = all(maker.get(key) == value for key, value in _machine().items())
    if not here or not isinstance(pid, int):
        return False
    if maker == _identity(pid):
        return False
    # Two may find that it has ended: only one rename of this very file succeeds.
    aside = owner.with_name(f"{owner.name}-{secrets.token_hex(4)}")
    try:
        os.rename(owner, aside)
    except FileNotFoundError:
        return True
    if _read(aside) != maker:  # another process was quicker and has it: give it back
        with suppress(FileExistsError):
            os.link(aside, owner)
    aside.unlink(missing_ok=True)
    return True
