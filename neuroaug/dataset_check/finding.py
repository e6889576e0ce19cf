"""One problem of a data set, as `check` tells it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from neuroaug.errors import InputError

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True, order=True)
class Finding:
    """One problem.

    Attributes
    ----------
    path : str
        File or folder, relative to the folder that was checked.
    severity : {"error", "warning", "note"}
        An error stops or spoils a visit; a warning should be known; a note counts.
    message : str
        What is wrong.
    fix : str
        What to do about it.
    """

    path: str
    severity: Severity
    message: str
    fix: str

    def as_dict(self) -> dict[str, str]:
        """As JSON holds it."""
        return asdict(self)


def unreadable(path: Path, shown: str, error: InputError, fix: str) -> Finding:
    """Make an error of what a reader said about `path`, which the finding calls `shown`."""
    return Finding(shown, "error", str(error).removeprefix(f"{path}: "), fix)
