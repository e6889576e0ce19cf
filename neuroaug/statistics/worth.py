"""Learning curves, and what an arm is worth in patients: how many more people would do the same.

An arm's area under the ROC curve at n people per label is looked up on the curve of real images
with the best control: the number of people at which that curve reaches it, less n. Splits of one
cohort share people, so intervals resample the cohort's participants, and the splits; a participant
keeps the same weight in every split and arm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuroaug.statistics.bootstrap import interval
from neuroaug.system.randomness import RESAMPLING

Values = NDArray[np.float64]

N_REPLICATES = 2000


@dataclass(frozen=True)
class SplitScores:
    """What an arm, trained on n people per label of one split, says of its test set.

    Attributes
    ----------
    arm : str
        Its name.
    n : int
        Real people per label.
    split : int
        Number of the split.
    participants : tuple of str
        Who was tested, one image each.
    positive : ndarray of bool, shape (m,)
        Who is of the positive class.
    score : ndarray, shape (runs, m)
        Scores of the positive class.
    """

    arm: str
    n: int
    split: int
    participants: tuple[str, ...]
    positive: NDArray[np.bool_]
    score: Values


@dataclass(frozen=True)
class Curves:
    """AUC of every arm over the numbers of people, and its bootstrap replicates.

    Attributes
    ----------
    ns : tuple of int
        People per label.
    auc : dict of str to ndarray, shape (len(ns),)
        Mean over splits and runs; NaN where the arm was not trained.
    replicates : dict of str to ndarray, shape (B, len(ns))
        Of the same.
    n_people : int
        Participants of the smaller class, over all test sets.
    """

    ns: tuple[int, ...]
    auc: dict[str, Values]
    replicates: dict[str, Values]
    n_people: int

    def interval(self, arm: str, place: int) -> tuple[float, float]:
        """95 % interval of an arm's AUC at the place of an n."""
        return interval(self.replicates[arm][:, place], float(self.auc[arm][place]), self.n_people)

    def difference(self, arm: str, other: str, place: int) -> tuple[float, float, float]:
        """Difference of two arms' AUC at the place of an n, with its 95 % interval."""
        found = float(self.auc[arm][place] - self.auc[other][place])
        drawn = self.replicates[arm][:, place] - self.replicates[other][:, place]
        return (found, *interval(drawn, found, self.n_people))


def learning_curves(
    scores: Sequence[SplitScores], *, n_replicates: int = N_REPLICATES, seed: int = 0
) -> Curves:
    """Curves of all arms, resampled over participants and splits together.

    Parameters
    ----------
    scores : sequence of SplitScores
        Of all arms; an arm has each (n, split) once.
    n_replicates : int
        B.
    seed : int
        Of the bootstrap.
    """
    people = _weights(scores, n_replicates, seed)
    splits = sorted({found.split for found in scores})
    drawn = RESAMPLING.numpy(seed, "splits").multinomial(
        len(splits), np.full(len(splits), 1 / len(splits)), size=n_replicates
    )
    ns = tuple(sorted({found.n for found in scores}))
    arms = list(dict.fromkeys(found.arm for found in scores))
    auc = {arm: np.full(len(ns), np.nan) for arm in arms}
    replicates = {arm: np.full((n_replicates, len(ns)), np.nan) for arm in arms}
    for arm in arms:
        for place, n in enumerate(ns):
            found = [s for s in scores if s.arm == arm and s.n == n]
            if not found:
                continue
            each = [_auc(s, people) for s in found]
            auc[arm][place] = np.mean([own for own, _ in each])
            weights = np.stack([drawn[:, splits.index(s.split)] for s in found], axis=1)
            values = np.stack([resampled for _, resampled in each], axis=1)
            weights = np.where(np.isnan(values), 0, weights).astype(float)
            # A replicate without any of the arm's splits says nothing: the mean stands for it.
            total = weights.sum(1)
            mean = (np.nan_to_num(values) * weights).sum(1) / np.maximum(total, 1)
            replicates[arm][:, place] = np.where(total > 0, mean, auc[arm][place])
    label_of = {p: bool(y) for s in scores for p, y in zip(s.participants, s.positive, strict=True)}
    n_positive = sum(label_of.values())
    return Curves(ns, auc, replicates, min(n_positive, len(label_of) - n_positive))


def _weights(scores: Sequence[SplitScores], n: int, seed: int) -> dict[str, Values]:
    """Resampled weights (B,) of every participant, within their class."""
    label_of: dict[str, bool] = {}
    for found in scores:
        for name, positive in zip(found.participants, found.positive, strict=True):
            label_of[name] = bool(positive)
    weights: dict[str, Values] = {}
    for label in (True, False):
        names = sorted(name for name, own in label_of.items() if own == label)
        rng = RESAMPLING.numpy(seed, "cohort", label)
        drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=n)
        weights |= {name: drawn[:, i].astype(float) for i, name in enumerate(names)}
    return weights


def _auc(found: SplitScores, weights: Mapping[str, Values]) -> tuple[float, Values]:
    """AUC of one arm, n and split, mean over its runs, and under resampled weights, (B,)."""
    y = found.positive
    first, second = found.score[:, y], found.score[:, ~y]
    wins = ((np.sign(first[:, :, None] - second[:, None, :]) + 1) / 2).mean(0)
    drawn = np.stack([weights[name] for name in found.participants], axis=1)
    p, q = drawn[:, y], drawn[:, ~y]
    total = p.sum(1) * q.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        resampled = np.einsum("bi,ij,bj->b", p, wins, q, optimize=True) / total
    return float(wins.mean()), np.where(total > 0, resampled, np.nan)


@dataclass(frozen=True)
class Worth:
    """What an arm is worth in people per label.

    Attributes
    ----------
    arm : str
        The arm.
    n : int
        Real people per label that it had.
    patients : float
        People at which the controls' curve reaches its AUC, less n; bounded by the curve's ends.
    low, high : float
        Ends of the 95 % interval.
    at_least, at_most : bool
        The curve ends below its AUC, or begins above it: the truth may lie beyond.
    """

    arm: str
    n: int
    patients: float
    low: float
    high: float
    at_least: bool
    at_most: bool


def worth(curves: Curves, arm: str, controls: Mapping[int, str], place: int) -> Worth:
    """Look an arm up on the curve of the best controls.

    Parameters
    ----------
    curves : Curves
        Of all arms.
    arm : str
        The arm.
    controls : mapping of int to str
        Best control by n, chosen on validation people; it stands fast in the bootstrap.
    place : int
        Place of the arm's n among the curves'.
    """
    places = [i for i, n in enumerate(curves.ns) if n in controls]
    ns = np.array([curves.ns[i] for i in places], dtype=float)
    best = [controls[int(n)] for n in ns]
    own = np.array([curves.auc[c][i] for c, i in zip(best, places, strict=True)])
    drawn = np.stack(
        [curves.replicates[c][:, i] for c, i in zip(best, places, strict=True)], axis=1
    )
    target = float(curves.auc[arm][place])
    n = curves.ns[place]
    found, below, above = people_for(ns, own, target)
    spread = np.array(
        [
            people_for(ns, curve, t)[0]
            for curve, t in zip(drawn, curves.replicates[arm][:, place], strict=True)
        ]
    )
    low, high = interval(spread - n, found - n, curves.n_people)
    return Worth(arm, n, found - n, low, high, above, below)


def people_for(ns: Values, auc: Values, target: float) -> tuple[float, bool, bool]:
    """The number of people at which a curve reaches an AUC, by straight lines in log n.

    The curve is made to rise first (isotonic regression): more people are never worth less.

    Returns
    -------
    n : float
        Within the ends of `ns`.
    below, above : bool
        Whether the target lies at or below the curve's lowest point, or above its highest.
    """
    curve = isotonic(auc)
    if target <= curve[0]:
        return float(ns[0]), True, bool(target > curve[-1])
    if target > curve[-1]:
        return float(ns[-1]), False, True
    k = int(np.argmax(curve >= target))
    share = (target - curve[k - 1]) / (curve[k] - curve[k - 1])
    log = np.log(ns[k - 1]) + share * (np.log(ns[k]) - np.log(ns[k - 1]))
    return float(np.exp(log)), False, False


def isotonic(values: Values) -> Values:
    """Nearest rising sequence in least squares (pool adjacent violators)."""
    from scipy.optimize import isotonic_regression

    return np.asarray(isotonic_regression(values).x, dtype=np.float64)
