"""Codes as m + A x + the label's shift + the person's rest; shifts by empirical Bayes.

Everyone outside validation and test teaches the covariates' effect A and the spread S of the rest;
only the labelled teach the shifts, which are drawn towards a prior: what so many years of ageing
would do. With few people a label, their raw difference is mostly random (docs/law.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

UNLABELLED = -1
"""In place of a label's number: a person without a diagnosis."""


def rule_probabilities(logits: Values) -> Values:
    """Probability of each label, (N, K), from logits (N, K), where all labels are as frequent."""
    from scipy.special import softmax

    return np.asarray(softmax(logits, axis=1))


@dataclass(frozen=True)
class Prior:
    """What is believed of the labels' shifts before their people are looked at.

    Attributes
    ----------
    shifts : ndarray, shape (K, d)
        Expected shift of each label, from the labels' common middle.
    strength : float
        What it is worth in people of a label; 0 leaves the data alone.
    """

    shifts: Values
    strength: float


@dataclass(frozen=True)
class AnatomyLaw:
    """The law of codes: z = m + A (x - x0) + u_k + e, with e ~ N(0, S).

    Attributes
    ----------
    centre : ndarray, shape (d,)
        m, the middle of the labels at the mean covariates.
    effects : ndarray, shape (d, q)
        A, change of the code for one unit of each covariate.
    mean_covariates : ndarray, shape (q,)
        x0.
    covariate_spread : ndarray, shape (q, q)
        Covariance of the covariates over everyone.
    shifts : ndarray, shape (K, d)
        u_k, which sum to nought.
    spread : ndarray, shape (d, d)
        S, ridge included.
    """

    centre: Values
    effects: Values
    mean_covariates: Values
    covariate_spread: Values
    shifts: Values
    spread: Values

    def mean(self, label: int, covariates: Values) -> Values:
        """Mean codes (N, d) of people of a label with covariates (N, q)."""
        moved = (covariates - self.mean_covariates) @ self.effects.T
        return self.centre + moved + self.shifts[label]

    def logits(self, codes: Values, covariates: Values | None = None) -> Values:
        """Bayes rule of the law: log p(z | label), up to a constant of the row.

        Parameters
        ----------
        codes : ndarray, shape (N, d)
            Codes of images.
        covariates : ndarray, shape (N, q), optional
            Of these people. Without them they are marginalised: they are as everyone's, whatever
            the label.

        Returns
        -------
        ndarray, shape (N, K)
            Linear in the codes, since all labels have the same spread.
        """
        spread, seen = self.spread, codes - self.centre
        if covariates is None:
            spread = spread + self.effects @ self.covariate_spread @ self.effects.T
        else:
            seen = seen - (covariates - self.mean_covariates) @ self.effects.T
        weights = np.linalg.solve(spread, self.shifts.T)  # (d, K)
        return seen @ weights - 0.5 * np.einsum("kd,dk->k", self.shifts, weights)

    def probabilities(self, codes: Values, covariates: Values | None = None) -> Values:
        """Probability of each label, (N, K), where all are as frequent; see `logits`."""
        return rule_probabilities(self.logits(codes, covariates))


@dataclass(frozen=True)
class Effects:
    """What least squares tell of the codes, before any prior.

    Attributes
    ----------
    centre, mean_covariates, covariate_spread, effects
        As of `AnatomyLaw`; the middle is that of the labels.
    shifts : ndarray, shape (K, d)
        Raw shifts of the labels from their middle.
    counts : ndarray of int, shape (K,)
        People of each label.
    rests : ndarray, shape (N, d)
        e_i, what neither covariates nor the person's group explain.
    covariance : ndarray, shape (d, d)
        Of the rests, by their degrees of freedom.
    """

    centre: Values
    mean_covariates: Values
    covariate_spread: Values
    effects: Values
    shifts: Values
    counts: NDArray[np.int64]
    rests: Values
    covariance: Values


def estimate_effects(
    codes: Values, covariates: Values, labels: NDArray[np.int64], n_labels: int
) -> Effects:
    """Least squares of codes on covariates and groups: the labels, and the unlabelled as one more.

    A group of its own keeps people without a diagnosis, who may be of either label, from telling
    anything about the labels' difference; within it they teach ageing and spread.

    Parameters
    ----------
    codes : ndarray, shape (N, d)
        Codes of everyone's image.
    covariates : ndarray, shape (N, q)
        Complete.
    labels : ndarray of int, shape (N,)
        Number of each person's label, or `UNLABELLED`.
    n_labels : int
        K; every label has a person.
    """
    n, d = codes.shape
    q = covariates.shape[1]
    groups = list(range(n_labels))
    if (labels == UNLABELLED).any():
        groups.append(UNLABELLED)
    member = np.stack([(labels == k).astype(float) for k in groups], axis=1)
    mean_covariates = covariates.mean(axis=0) if q else np.empty(0)
    design = np.concatenate([member, covariates - mean_covariates], axis=1)
    coefficients, *_ = np.linalg.lstsq(design, codes, rcond=None)
    group_means = coefficients[:n_labels]
    rests = codes - design @ coefficients
    free = max(n - np.linalg.matrix_rank(design), 1)
    centre = group_means.mean(axis=0)
    centred = covariates - mean_covariates
    return Effects(
        centre=centre,
        mean_covariates=mean_covariates,
        covariate_spread=centred.T @ centred / max(n - 1, 1),
        effects=coefficients[len(groups) :].T.reshape(d, q),
        shifts=group_means - centre,
        counts=np.array([int((labels == k).sum()) for k in range(n_labels)]),
        rests=rests,
        covariance=rests.T @ rests / free,
    )


def ridged(covariance: Values, ridge: float) -> Values:
    """Add to a covariance `ridge` times its mean variance on the diagonal."""
    d = len(covariance)
    return covariance + ridge * np.trace(covariance) / d * np.eye(d)


def ageing_prior(effects: Effects, column: int, years: Sequence[float], strength: float) -> Prior:
    """Expect each label to look as many years older as `years` says, and nothing else.

    Parameters
    ----------
    effects : Effects
        Its `effects` have ageing in column `column`.
    years : sequence of float
        One per label; only their differences count.
    strength : float
        What this is worth in people of a label.
    """
    older = np.asarray(years, dtype=float)
    shifts = np.outer(older - older.mean(), effects.effects[:, column])
    return Prior(shifts, strength)


def no_prior(effects: Effects) -> Prior:
    """Believe nothing: the shifts are those of the data."""
    return Prior(np.zeros_like(effects.shifts), 0.0)


def make_law(effects: Effects, prior: Prior, ridge: float) -> AnatomyLaw:
    """Join data and prior: u_k = (n_k raw_k + n0 prior_k) / (n_k + n0)."""
    counts = effects.counts[:, None].astype(float)
    shifts = (counts * effects.shifts + prior.strength * prior.shifts) / (counts + prior.strength)
    middle = shifts.mean(axis=0)
    return AnatomyLaw(
        centre=effects.centre + middle,
        effects=effects.effects,
        mean_covariates=effects.mean_covariates,
        covariate_spread=effects.covariate_spread,
        shifts=shifts - middle,
        spread=ridged(effects.covariance, ridge),
    )
