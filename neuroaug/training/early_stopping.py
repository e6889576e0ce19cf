"""When to stop: a given number of epochs without a better ELBO (TPAMI Table 12)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class EarlyStopping:
    """The best ELBO so far, and when it was reached.

    Attributes
    ----------
    patience : int
        Epochs without a better ELBO after which training stops.
    best : float or None
        Highest ELBO so far, nats per image.
    best_epoch : int
        The epoch (from 1) that reached it; 0 before the first.
    """

    patience: int
    best: float | None = None
    best_epoch: int = 0

    def improves(self, elbo: float) -> bool:
        """Whether `elbo` is better than all before; NaN never is."""
        return math.isfinite(elbo) and (self.best is None or elbo > self.best)

    def update(self, epoch: int, elbo: float, whatever: bool = False) -> EarlyStopping:
        """Return the record after `epoch`, which counts as the best `whatever` its ELBO, if so."""
        if whatever or self.improves(elbo):
            return replace(self, best=elbo, best_epoch=epoch)
        return self

    def exhausted(self, epoch: int) -> bool:
        """Whether training should stop after `epoch`."""
        return self.best is not None and epoch - self.best_epoch >= self.patience

    def state(self) -> dict[str, Any]:
        """Give what a checkpoint has to keep, as JSON."""
        return {"best": self.best, "best_epoch": self.best_epoch}
