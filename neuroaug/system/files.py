"""Reading and writing files so that a killed process never leaves half of one.

Every file is written to a temporary name in its own folder, flushed to disk and renamed.
"""

from __future__ import annotations

import csv
import errno
import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuroaug.errors import InputError, ResourceError
from neuroaug.system.tsv import parse_table

if TYPE_CHECKING:
    import pandas as pd

TEMPORARY_PREFIX = ".tmp-"


def fsync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path that becomes `path` when the block ends without an error.

    The temporary name keeps the suffixes of `path` (writers choose a format by them).

    Raises
    ------
    ResourceError
        If the disk is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f"{TEMPORARY_PREFIX}{os.getpid()}-{path.name}"
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        fsync_folder(path.parent)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ResourceError(
                f"{path}: the disk is full; free some space and start again"
            ) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write `content` to `path` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | os.PathLike[str], content: str) -> None:
    """Write UTF-8 text to `path` atomically."""
    write_bytes(path, content.encode("utf-8"))


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write JSON with sorted keys to `path` atomically; equal content gives equal bytes."""
    write_text(path, json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n")


@contextmanager
def reading(
    path: str | os.PathLike[str],
    expected: str = "a file",
    advice: str = "",
    malformed: tuple[type[Exception], ...] = (),
) -> Iterator[None]:
    """Turn every way in which a file cannot be read into one line.

    Parameters
    ----------
    path : path-like
        What the block reads.
    expected : str
        What it should be, e.g. ``"a NIfTI file"``.
    advice : str
        What to do, said at the end of the line.
    malformed : tuple of type
        Errors of the reader that mean that the file holds something else.

    Raises
    ------
    InputError
        If it is absent, a folder, forbidden, or else refused by the system, malformed, or if its
        gzip is truncated or corrupt.
    """
    path = Path(path)
    try:
        yield
    except malformed as error:
        nested = isinstance(error, RecursionError)
        reason = "too deeply nested" if nested else " ".join(str(error).split())
        why = f"not readable as {expected} ({reason})"
    except FileNotFoundError:
        broken = path.is_symlink()
        why = "link to a file that is not there" if broken else "no such file"
    except IsADirectoryError:
        why = f"a folder, where {expected} is expected"
    except PermissionError:
        why = "no permission to read it"
    except EOFError:
        why, advice = "truncated gzip, the file ends too early", advice or "copy it again"
    except (gzip.BadGzipFile, zlib.error) as error:
        why, advice = f"corrupt gzip ({error})", advice or "copy it again"
    except OSError as error:
        why = f"cannot be read ({error.strerror or error})"
    else:
        return
    raise InputError(f"{path}: {why}{'; ' if advice else ''}{advice}")


def list_folder(folder: str | os.PathLike[str]) -> list[Path]:
    """List what lies in a folder, sorted.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    with reading(folder, "a folder"):
        return sorted(Path(folder).iterdir())


def visible(folder: str | os.PathLike[str], pattern: str = "*") -> list[Path]:
    """Paths that match, sorted, without hidden ones: macOS writes ``._X`` beside X."""
    folder = Path(folder)
    found = folder.glob(pattern)
    return sorted(p for p in found if not any(x[0] == "." for x in p.relative_to(folder).parts))


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file.

    Raises
    ------
    InputError
        If the file is absent, not JSON, or not to be read.
    """
    malformed = (json.JSONDecodeError, UnicodeDecodeError, RecursionError)
    with reading(path, "JSON", malformed=malformed):
        return json.loads(Path(path).read_text(encoding="utf-8"))


def cell_text(value: object) -> str:
    """Make text fit for a cell of a table: no tabs or line ends, UTF-8, ``n/a`` for missing."""
    text = "n/a" if value is None or value != value else " ".join(str(value).split())
    return text.encode(errors="surrogateescape").decode(errors="replace") or "n/a"


def write_tsv(path: str | os.PathLike[str], table: pd.DataFrame) -> None:
    """Write a table as tab-separated text atomically.

    Missing values become ``n/a``; tabs and line ends in a cell become blanks.
    """
    # Without quoting, as it is read: a quote character is one of its cell.
    if any(map(_breaks_row, table.select_dtypes("object").to_numpy().ravel())):
        table = table.map(lambda value: cell_text(value) if _breaks_row(value) else value)
    write_text(
        path,
        table.to_csv(
            sep="\t", index=False, na_rep="n/a", lineterminator="\n", quoting=csv.QUOTE_NONE
        ),
    )


def _breaks_row(value: object) -> bool:
    return isinstance(value, str) and any(end in value for end in "\t\r\n")


def read_tsv(
    path: str | os.PathLike[str],
    required: Iterable[str] = (),
    *,
    any_case: bool = False,
    lines: bool = False,
) -> pd.DataFrame:
    """Read a tab-separated table, all columns as strings, ``n/a`` and empty as missing.

    Parameters
    ----------
    path : path-like
        File of the table; see `neuroaug.system.tsv.parse_table` for what is understood.
    required : iterable of str
        Columns that must be present.
    any_case : bool
        Whether a column that differs from a required one by case or blanks only is that one.
    lines : bool
        Whether to keep the line of each row, as ``table.attrs["lines"]``, for messages.

    Raises
    ------
    InputError
        If the file is absent, not a table, or lacks a column (the columns found are named).
    """
    with reading(path, "a tab-separated table"):
        content = Path(path).read_bytes()
    return parse_table(content, Path(path), required, any_case=any_case, lines=lines)


def sha256_bytes(content: bytes) -> str:
    """Hex sha256 of bytes."""
    return hashlib.sha256(content).hexdigest()


def sha256_file(path: str | os.PathLike[str]) -> str:
    """Hex sha256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_json(content: Any) -> str:
    """Hex sha256 of a JSON-like value, independent of the order of its keys.

    Examples
    --------
    >>> sha256_json({"a": 1, "b": 2}) == sha256_json({"b": 2, "a": 1})
    True
    """
    return sha256_bytes(json.dumps(content, sort_keys=True, allow_nan=False, default=str).encode())


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files that a killed process left directly in `folder`."""
    for path in folder.glob(f"{TEMPORARY_PREFIX}*"):
        path.unlink(missing_ok=True)


def free_bytes(folder: Path) -> int:
    """Free bytes on the disk that holds `folder` (or its nearest existing parent)."""
    folder = Path(folder).absolute()
    while not folder.exists():
        folder = folder.parent
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def human_bytes(n: float) -> str:
    """Size in decimal units.

    Examples
    --------
    >>> human_bytes(999), human_bytes(1_536_000)
    ('999 B', '1.5 MB')
    """
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(n) < 1000 or unit == "TB":
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1000
    raise AssertionError("unreachable")
