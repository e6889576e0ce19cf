"""Results of costly steps, kept by a hash of everything that they depend on: done once, shared by
all tables.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from neuroaug.errors import InputError
from neuroaug.system.files import read_json, sha256_json, write_text

PROTOCOL = 1
"""Raised when the meaning of a key changes; older results are then done anew."""


def digest(content: Any) -> str:
    """Short hash of settings."""
    return sha256_json([PROTOCOL, content])[:16]


@dataclass(frozen=True)
class Memo:
    """A folder of results.

    Parameters
    ----------
    folder : Path
        ``values/<hash>.json`` and ``models/<hash>`` below it.
    """

    folder: Path

    def value(self, key: dict[str, Any], compute: Callable[[], Any]) -> Any:
        """The JSON value of `key`, computed if it is not there; a damaged file is computed again."""
        path = self.folder / "values" / f"{digest(key)}.json"
        with self.alone(path):
            if path.is_file():
                try:
                    found = read_json(path)
                    if found["key"] == digest(key):
                        return found["value"]
                except (InputError, KeyError, TypeError):
                    path.unlink(missing_ok=True)
            value = compute()
            # In the value's own order (keys are not sorted), so that a result read back gives the
            # same table.
            content = {"key": digest(key), "settings": key, "value": value}
            write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")
            return value

    @contextmanager
    def alone(self, path: Path) -> Iterator[None]:
        """Keep other processes from making the same thing at the same time; a process that dies
        lets go.
        """
        locks = self.folder / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        with FileLock(locks / f"{path.stem}.lock"):
            yield

    def model_folder(self, key: dict[str, Any]) -> Path:
        """Where the generator of these settings lies, or will."""
        return self.folder / "models" / digest(key)
