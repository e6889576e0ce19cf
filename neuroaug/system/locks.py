"""Exclusive rights between processes, by the kernel's file locks (``flock``).

A killed process holds none: the kernel drops a lock with the last process that has it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from neuroaug.errors import InputError, ResourceError

_UNSUPPORTED = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)


def _lock(descriptor: int, *, wait: bool, path: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            raise ResourceError(
                f"{path}: this file system knows no locks; mount it with locking, or work on "
                "another disk"
            ) from None
        raise
    return True


class Claim:
    """An exclusive right that a file stands for, held until `release` or the end of the process."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path, self._descriptor = path, descriptor

    @classmethod
    def take(cls, path: Path) -> Claim | None:
        """Take the claim that `path` stands for, or return None where another process holds it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                if not _lock(descriptor, wait=False, path=path):
                    os.close(descriptor)
                    return None
                # The holder before us may have removed the file between our opening and locking it.
                if _same_file(path, descriptor):
                    return cls(path, descriptor)
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def release(self) -> None:
        """Give the claim up and remove its file; harmless when done twice."""
        if self._descriptor >= 0:
            self._path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = -1

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
    ResourceError
        If the file system knows no locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        if not _lock(descriptor, wait=busy is None, path=path):
            raise InputError(busy)
        yield descriptor
    finally:
        os.close(descriptor)


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
