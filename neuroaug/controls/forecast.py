"""What images of a law can teach at most: its own Bayes rule on people it has not seen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neuroaug.statistics.scores import auc
from neuroaug.system.files import read_json

Values = NDArray[np.float64]

FILE_NAME = "forecast.json"
N_REPLICATES = 2000


@dataclass(frozen=True)
class Forecast:
    """Areas under the ROC curve on validation people, with 95 % intervals over them.

    Attributes
    ----------
    rule, control, difference : (float, float, float)
        Estimate, lower and upper end: of the law's Bayes rule, of the linear classifier on the
        real scans, and of their difference.
    n : (int, int)
        Validation people of the negative and the positive class.
    """

    rule: tuple[float, float, float]
    control: tuple[float, float, float]
    difference: tuple[float, float, float]
    n: tuple[int, int]

    def line(self) -> str:
        """Give it in one sentence."""
        rule, control, difference = (
            f"{a:.3f} [{low:.3f}, {high:.3f}]"
            for a, low, high in (self.rule, self.control, self.difference)
        )
        return (
            f"these images cannot teach more than AUC {rule} (the law's own rule on "
            f"{sum(self.n)} validation people); linear on the real scans: {control}; "
            f"difference {difference}"
        )


def _certain(estimate: float, n: int) -> Values:
    """Ends where no pair is out of order, which resampling cannot vary: a Jeffreys interval."""
    from scipy.stats import beta

    low = float(beta.ppf(0.025, n + 0.5, 0.5))
    return np.array([low, 1.0]) if estimate > 0 else np.array([-1.0, -low])


def forecast(rule: Values, control: Values, positive: np.ndarray, seed: int = 0) -> Forecast:
    """Compare two scores of the same people.

    Parameters
    ----------
    rule, control : ndarray, shape (N,)
        Scores of validation people.
    positive : ndarray of bool, shape (N,)
        Who is of the positive class; both classes occur.
    seed : int
        Of the bootstrap, which resamples people within their class.
    """
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(positive), np.flatnonzero(~positive)]

    def both(chosen: list[np.ndarray]) -> tuple[float, float]:
        first, second = chosen
        return auc(rule[first], rule[second]), auc(control[first], control[second])

    drawn = np.array([both([rng.choice(m, len(m)) for m in members]) for _ in range(N_REPLICATES)])
    found = both(members)
    columns = [drawn[:, 0], drawn[:, 1], drawn[:, 0] - drawn[:, 1]]
    estimates = [*found, found[0] - found[1]]
    fewest = min(len(m) for m in members)
    ends = [
        _certain(e, fewest) if abs(e) == 1 else np.quantile(column, (0.025, 0.975))
        for e, column in zip(estimates, columns, strict=True)
    ]
    three = [(float(e), float(a), float(b)) for e, (a, b) in zip(estimates, ends, strict=True)]
    return Forecast(three[0], three[1], three[2], (int((~positive).sum()), int(positive.sum())))


def read_forecast(model_folder: Path) -> Forecast | None:
    """Read the forecast that lies beside a model; None where there is none."""
    path = model_folder / FILE_NAME
    if not path.is_file():
        return None
    content = read_json(path)
    triples = (tuple(content[name]) for name in ("rule", "control", "difference"))
    rule, control, difference = triples
    return Forecast(rule, control, difference, tuple(content["n"]))
