"""Who works on what in a CAPS: one claim per visit and one lock for the root tables.

They are files in the hidden folder of the CAPS.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from neuroaug.imaging.bids import Visit
from neuroaug.imaging.caps import hidden
from neuroaug.system.locks import Claim, exclusive


def claim_visit(caps: Path, visit: Visit) -> Claim | None:
    """Claim one visit of a CAPS; None where another process is at work on it."""
    return Claim.take(hidden(caps) / "locks" / f"{visit.stem}.lock")


def sweep_claims(caps: Path) -> None:
    """Remove the files of claims whose holders were killed; nobody loses one that is held."""
    for path in (hidden(caps) / "locks").glob("*.lock"):
        if (claim := Claim.take(path)) is not None:
            claim.release()


def tables_lock(caps: Path) -> AbstractContextManager[int]:
    """Hold the root tables of a CAPS for one read-modify-write."""
    return exclusive(hidden(caps) / "tables.lock")
