"""Who works on what in a CAPS: one claim a visit and one lock for the root tables.

Locks are the kernel's (``flock``), so a killed process holds none. They live in the hidden folder
`HIDDEN` of the CAPS, which BIDS and CAPS readers pass over.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from neuroaug.errors import ResourceError
from neuroaug.imaging.caps import Visit

HIDDEN = ".neuroaug"
_UNSUPPORTED = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)


def hidden(caps: Path) -> Path:
    """Return the folder of a CAPS where `neuroaug` keeps its own books."""
    return Path(caps) / HIDDEN


def _lock(descriptor: int, *, wait: bool, path: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            raise ResourceError(
                f"{path}: this file system knows no locks; mount it with locking, or preprocess on another disk"
            ) from None
        raise
    return True


class Claim:
    """The exclusive right to write one visit, held until `release` or the end of the process."""

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


def claim_visit(caps: Path, visit: Visit) -> Claim | None:
    """Claim one visit of a CAPS; None where another process is at work on it."""
    return Claim.take(hidden(caps) / "locks" / f"{visit.stem}.lock")


def sweep_claims(caps: Path) -> None:
    """Remove the files of claims whose holders were killed; nobody loses one that is held."""
    for path in (hidden(caps) / "locks").glob("*.lock"):
        if (claim := Claim.take(path)) is not None:
            claim.release()


def claim_when_free(caps: Path, visit: Visit, poll_s: float = 0.5) -> Claim:
    """Claim one visit, waiting for the process that holds it."""
    while (claim := claim_visit(caps, visit)) is None:
        time.sleep(poll_s)
    return claim


@contextmanager
def tables_lock(caps: Path) -> Iterator[None]:
    """Hold the root tables of a CAPS for one read-modify-write."""
    path = hidden(caps) / "tables.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        _lock(descriptor, wait=True, path=path)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """Make a scratch folder for this process and remove it at the end; those of killed processes go at the start.

    Parameters
    ----------
    parent : Path
        Where the scratch folders of all processes lie.
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
