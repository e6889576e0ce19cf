"""Hierarchical bootstrap over participants and runs, all replicates at once.

A cell's accuracy on a label is bilinear: with C (runs, participants) telling which images were
classified right, a replicate is v^T C w, v the weights of resampled runs and w those of resampled
participants. So ten thousand replicates are two matrix products.

Participants are resampled within their label; runs within their generator, when a cell has several,
and generators too. Resampling both at once counts what is particular to one image in one run more
than once (Owen 2007), so the spread is if anything too wide where that part rules.

Percentiles of a bootstrap are too narrow with few participants: its variance is (n - 1)/n of what
it estimates and its tails are normal instead of Student's. Both are mended by reading further
percentiles (Hesterberg 2015, "expanded percentile"), n being the number of participants of the
smaller label. Where every participant of a label was classified alike in every run, resampling
shows no spread at all; that label's accuracy is then sampled from its Jeffreys posterior; so is
balanced accuracy where every run says one label throughout, and AUC where all pairs are in order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neuroaug.statistics.columns import MEASURES
from neuroaug.system.randomness import RESAMPLING

N_REPLICATES = 10_000
N_REPLICATES_AUC = 2_000  # each costs images of one label times images of the other
LEVEL = 0.95  # of every interval
POWER = 0.8  # at which a difference counts as detectable


@dataclass(frozen=True)
class RunOutcomes:
    """What a cell's runs said about the images of one test set.

    Attributes
    ----------
    participants : tuple of str
        One name per image (participant and session), the order of the columns below.
    positive : ndarray of bool, shape (n,)
        Whether each is of the positive class.
    correct : ndarray of float, shape (runs, n)
        1 where the prediction was right.
    score : ndarray of float, shape (runs, n)
        Probability of the positive class.
    generators : ndarray of int, shape (runs,)
        Number of the generator that each run's synthetic images are from.
    """

    participants: tuple[str, ...]
    positive: np.ndarray
    correct: np.ndarray
    score: np.ndarray
    generators: np.ndarray

    @property
    def n_smallest(self) -> int:
        """Participants of the smaller label."""
        return int(min(self.positive.sum(), (~self.positive).sum()))

    def take(self, images: np.ndarray) -> RunOutcomes:
        """Keep some of the images."""
        names = tuple(np.asarray(self.participants, dtype=object)[images])
        said = (self.correct[:, images], self.score[:, images])
        return RunOutcomes(names, self.positive[images], *said, self.generators)


def resampled(n: int, n_replicates: int, rng: np.random.Generator) -> np.ndarray:
    """Weights (n_replicates, n) of n items sampled n times with replacement; rows sum to 1."""
    return rng.multinomial(n, np.full(n, 1 / n), size=n_replicates) / n


def resampled_runs(
    generators: np.ndarray, n_replicates: int, rng: np.random.Generator
) -> np.ndarray:
    """Weights (n_replicates, runs): generators are resampled, and within each its runs."""
    names = np.unique(generators)
    between = resampled(len(names), n_replicates, rng)
    weights = np.zeros((n_replicates, len(generators)))
    for column, name in enumerate(names):
        runs = np.flatnonzero(generators == name)
        weights[:, runs] = between[:, [column]] * resampled(len(runs), n_replicates, rng)
    return weights


class Resampling:
    """One set of resampled participants, shared by all cells, so that differences are paired.

    Parameters
    ----------
    positive : ndarray of bool, shape (n,)
        Whether each image is of the positive class; participants are resampled within their label.
    *key : object
        Names and numbers that the random numbers are a function of.
    n_replicates : int
        Number of bootstrap replicates.
    """

    def __init__(
        self, positive: np.ndarray, *key: object, n_replicates: int = N_REPLICATES
    ) -> None:
        self.key, self.n_replicates = key, n_replicates
        self.images = {label: np.flatnonzero(positive == label) for label in (True, False)}
        self._weights: dict[bool, np.ndarray | None] = {True: None, False: None}
        for label, images in self.images.items():
            if len(images):
                rng = RESAMPLING.numpy(*key, "participants", label)
                self._weights[label] = resampled(len(images), n_replicates, rng)

    def runs(self, outcomes: RunOutcomes, name: str) -> np.ndarray:
        """Weights of the resampled runs of the cell `name`, always the same ones."""
        rng = RESAMPLING.numpy(*self.key, "runs", name)
        return resampled_runs(outcomes.generators, self.n_replicates, rng)

    def _accuracy(
        self, outcomes: RunOutcomes, name: str, label: bool, runs: np.ndarray
    ) -> np.ndarray:
        """Replicates (B,) of the accuracy on one label: sensitivity (True), specificity (False)."""
        weights = self._weights[label]
        if weights is None:
            return np.full(self.n_replicates, np.nan)
        correct = outcomes.correct[:, self.images[label]]
        if correct.min() == correct.max():
            return self._posterior(outcomes, name, label)
        return np.einsum("bn,bn->b", runs @ correct, weights)

    def _posterior(self, outcomes: RunOutcomes, name: str, label: bool) -> np.ndarray:
        """Samples (B,) of the Jeffreys posterior of the accuracy on one label, mean over runs."""
        correct = outcomes.correct[:, self.images[label]].mean(axis=0)
        n, n_right = len(correct), correct.sum()
        rng = RESAMPLING.numpy(*self.key, "posterior", name, label)
        return rng.beta(n_right + 0.5, n - n_right + 0.5, size=self.n_replicates)

    def replicates(self, outcomes: RunOutcomes, name: str) -> dict[str, np.ndarray]:
        """Replicates (B,) of balanced accuracy, sensitivity and specificity of a cell."""
        runs = self.runs(outcomes, name)
        sensitivity, specificity = (
            self._accuracy(outcomes, name, label, runs) for label in (True, False)
        )
        balanced = (sensitivity + specificity) / 2
        if self.n_replicates > 1 and np.ptp(balanced) < 1e-12:
            # Runs that say one label throughout, not all the same one: each scores 1/2 whoever is
            # tested.
            first, second = (self._posterior(outcomes, name, label) for label in (True, False))
            balanced = (first + second) / 2
        return dict(zip(MEASURES, (balanced, sensitivity, specificity), strict=True))

    def brier(self, outcomes: RunOutcomes, name: str) -> np.ndarray:
        """Replicates (B,) of the Brier score."""
        loss = (outcomes.score - outcomes.positive) ** 2
        runs = self.runs(outcomes, name)
        total = np.zeros(self.n_replicates)
        for label, images in self.images.items():
            weights = self._weights[label]
            if weights is not None:
                share = len(images) / len(outcomes.positive)
                total += share * np.einsum("bn,bn->b", runs @ loss[:, images], weights)
        return total

    def auc(
        self, outcomes: RunOutcomes, name: str, n_replicates: int = N_REPLICATES_AUC
    ) -> np.ndarray:
        """Replicates of the area under the ROC curve; ties count half.

        Shape (min(B, `n_replicates`),): the first ones, on the participants of the other measures.
        """
        n_replicates = min(n_replicates, self.n_replicates)
        positive, negative = self._weights[True], self._weights[False]
        if positive is None or negative is None:
            return np.full(n_replicates, np.nan)
        first, second = (outcomes.score[:, self.images[label]] for label in (True, False))
        wins = (np.sign(first[:, :, None] - second[:, None, :]) + 1).astype(np.float32) / 2
        if wins.min() == wins.max() != 0.5:  # no pair the other way round: resampling shows nothing
            n, right = outcomes.n_smallest, float(wins.max()) * outcomes.n_smallest
            rng = RESAMPLING.numpy(*self.key, "posterior", name, "auc")
            return rng.beta(right + 0.5, n - right + 0.5, size=n_replicates)
        shape = wins.shape[1:]
        runs = self.runs(outcomes, name).astype(np.float32)
        result = np.empty(n_replicates)
        step = max(1, 4_000_000 // wins[0].size)
        for start in range(0, n_replicates, step):
            rows = slice(start, min(start + step, n_replicates))
            mean = (runs[rows] @ wins.reshape(len(wins), -1)).reshape(-1, *shape)
            factors = (positive[rows], mean, negative[rows])
            result[rows] = np.einsum("bi,bij,bj->b", *factors, optimize=True)
        return result


def interval(
    replicates: np.ndarray, estimate: float, n: int, level: float = LEVEL
) -> tuple[float, float]:
    """Expanded percentile interval that holds the estimate.

    Parameters
    ----------
    replicates : ndarray (B,)
        Bootstrap replicates; NaN where there is nothing to estimate.
    estimate : float
        The measure on the participants themselves.
    n : int
        Participants of the smaller label. Below 2 there is no interval (NaN).
    level : float
        Coverage of the interval.
    """
    from scipy import stats

    if n < 2 or np.isnan(replicates).any() or np.isnan(estimate):
        return float("nan"), float("nan")
    tail = stats.norm.cdf(np.sqrt(n / (n - 1)) * stats.t.ppf((1 - level) / 2, n - 1))
    low, high = np.quantile(replicates, [tail, 1 - tail])
    return float(min(low, estimate)), float(max(high, estimate))


def p_value(replicates: np.ndarray, n: int) -> float:
    """Two-sided p of no difference: the level at which `interval` would begin to leave out 0.

    Parameters
    ----------
    replicates : ndarray (B,)
        Bootstrap replicates of a difference.
    n : int
        Participants of the smaller label.
    """
    from scipy import stats

    if n < 2 or np.isnan(replicates).any():
        return float("nan")
    count = len(replicates) + 1
    tail = min((1 + (replicates <= 0).sum()) / count, (1 + (replicates >= 0).sum()) / count, 0.5)
    return float(min(1.0, 2 * stats.t.cdf(stats.norm.ppf(tail) / np.sqrt(n / (n - 1)), n - 1)))


def detectable(
    replicates: np.ndarray, n: int, alpha: float = 1 - LEVEL, power: float = POWER
) -> float:
    """Smallest true difference that a study like this one would have found.

    Parameters
    ----------
    replicates : ndarray (B,)
        Bootstrap replicates of a difference; their standard deviation is the standard error.
    n : int
        Participants of the smaller label.
    alpha : float
        Two-sided level of the test.
    power : float
        Probability of finding the difference.
    """
    from scipy import stats

    if n < 2 or np.isnan(replicates).any():
        return float("nan")
    error = replicates.std(ddof=1) * np.sqrt(n / (n - 1))
    return float((stats.t.ppf(1 - alpha / 2, n - 1) + stats.t.ppf(power, n - 1)) * error)
