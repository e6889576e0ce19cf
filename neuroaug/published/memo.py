"""Results of costly steps, kept by a hash of all that they depend on: made once for all tables.

What enters a hash is settings, seeds and checksums of images, never a name of the code. A name in
a key, or a default that is spelled out in one, is part of the format: change it and every kept
result is made again. A test states the hashes of the shipped tables.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuroaug.errors import InputError
from neuroaug.system.files import read_json, sha256_json, write_text
from neuroaug.system.locks import exclusive

PROTOCOL = 1
"""Raised when the meaning of a key changes; older results are then made anew."""


def digest(content: Any) -> str:
    """Short hash of settings."""
    return sha256_json([PROTOCOL, content])[:16]


@dataclass(frozen=True)
class Memo:
    """A folder of results.

    Parameters
    ----------
    folder : Path
        Holds ``values/<hash>.json``, ``models/<hash>/`` and ``locks/``.
    """

    folder: Path

    def value(self, key: dict[str, Any], compute: Callable[[], Any]) -> Any:
        """Return the JSON value of `key`, computed if absent; a damaged file is computed again."""
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
        """Keep other processes from making `path` too; the lock of a killed process is free."""
        with exclusive(self.folder / "locks" / f"{path.stem}.lock"):
            yield

    def model_folder(self, key: dict[str, Any]) -> Path:
        """Where the generator of these settings is kept, whether it is trained yet or not."""
        return self.folder / "models" / digest(key)
