"""Randomness that is a function of names and numbers alone: a hash of them becomes a seed.

Nothing here has a state, so neither order, batches, processes nor interruptions change the random
numbers. How the parts are spelled and which bytes of the hash count is a *scheme*; a scheme is
never altered, because published results and half-finished studies depend on it. New code takes
`KEYED`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Scheme:
    """How parts become a seed.

    Attributes
    ----------
    separator : str or None
        Separator of the parts, each as `str`; None: the `repr` of all of them as one tuple.
    n_bytes : int
        Number of first bytes of the sha256 that count.
    byteorder : {"little", "big"}
        Order in which these bytes make a number.
    shift : int
        Bits dropped from that number at the low end; torch takes seeds of 63 bits.

    Examples
    --------
    >>> CLASSIFIER.seed("cell", 1)
    1796287004
    """

    separator: str | None
    n_bytes: int
    byteorder: Literal["little", "big"]
    shift: int = 0

    def seed(self, *parts: object) -> int:
        """Give the seed of some names and numbers.

        Examples
        --------
        >>> KEYED.seed(0, "weights") == KEYED.seed("0", "weights") != KEYED.seed(1, "weights")
        True
        """
        text = repr(parts) if self.separator is None else self.separator.join(map(str, parts))
        digest = hashlib.sha256(text.encode()).digest()
        return int.from_bytes(digest[: self.n_bytes], self.byteorder) >> self.shift

    def numpy(self, *parts: object) -> np.random.Generator:
        """NumPy's generator for some names and numbers."""
        import numpy as np

        return np.random.default_rng(self.seed(*parts))


KEYED = Scheme("/", 8, "little", shift=1)
"""Scheme of weights, order and noise of a generator's training; for new code."""

SAMPLES = Scheme("|", 8, "big", shift=1)
"""Scheme of the blocks of synthetic images."""

CLASSIFIER = Scheme(None, 4, "little")
"""Scheme of classifiers' runs and their search; seeds of 32 bits, as ClinicaDL takes them."""

RESAMPLING = Scheme("/", 16, "big")
"""Scheme of the splits of a cohort and of bootstrap replicates."""
