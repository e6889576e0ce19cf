"""Who works on what in a CAPS: one claim a visit and one lock for the root tables.

They live in the hidden folder `HIDDEN` of the CAPS, which BIDS and CAPS readers pass over.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from neuroaug.imaging.caps import Visit
from neuroaug.system.locks import Claim, exclusive

HIDDEN = ".neuroaug"


def hidden(caps: Path) -> Path:
    """Return the folder of a CAPS where `neuroaug` keeps its own books."""
    return Path(caps) / HIDDEN


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
