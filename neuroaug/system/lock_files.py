"""A lock for file systems without ``flock`` (NFS, Lustre): a file that only one process can make.

The kernel does not remove it with a killed process. It names its maker, so that one made by a dead
process of this machine is taken over; of another machine's nothing can be known, and it is named.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
from pathlib import Path
from typing import Any

SUFFIX = ".owner"
_BOOT = Path("/proc/sys/kernel/random/boot_id")


def owner_path(path: Path) -> Path:
    """Where the file of a lock's owner lies."""
    return path.with_name(path.name + SUFFIX)


def take_owner(path: Path) -> Path | None:
    """Make the owner's file of the lock at `path`; None where a process that may live has it."""
    owner = owner_path(path)
    content = json.dumps(_identity(os.getpid())).encode()
    while True:
        try:
            # Exclusive creation is atomic on NFS too, from version 3.
            descriptor = os.open(owner, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except FileExistsError:
            if not _remove_dead(owner):
                return None
            continue
        try:
            os.write(descriptor, content)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return owner


def release_owner(owner: Path) -> None:
    """Remove an owner's file that this process made."""
    if _read(owner) == _identity(os.getpid()):
        owner.unlink(missing_ok=True)


def told(path: Path) -> str:
    """Say who has the lock at `path`, and what to do if it is dead."""
    maker = _read(owner_path(path))
    who = f"process {maker.get('pid', '?')} of {maker.get('host', 'another machine')}"
    return f"{who} has it; if that is dead, remove {owner_path(path)}"


def _identity(pid: int) -> dict[str, Any]:
    """Machine and process; a later process of the same number began at another time."""
    boot = _BOOT.read_text().strip() if _BOOT.exists() else ""
    return {**_machine(), "boot": boot, "pid": pid, "started": _started(pid)}


def _machine() -> dict[str, str]:
    """Whose process numbers these are; two containers of one name have their own."""
    namespace = ""
    with contextlib.suppress(OSError):
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


def _remove_dead(owner: Path) -> bool:
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
    # Two may find it dead: only one rename of this very file succeeds.
    aside = owner.with_name(f"{owner.name}-{secrets.token_hex(4)}")
    try:
        os.rename(owner, aside)
    except FileNotFoundError:
        return True
    if _read(aside) != maker:  # another process was quicker and has it: give it back
        with contextlib.suppress(FileExistsError):
            os.link(aside, owner)
    aside.unlink(missing_ok=True)
    return True
