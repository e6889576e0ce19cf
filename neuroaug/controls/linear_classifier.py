"""``linear``: logistic regression on principal components, its strength found on other people."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from neuroaug.controls.linear_score import ImageComponents, LinearScore, Values

STRENGTHS = tuple(float(c) for c in np.logspace(-3, 2, 11))
"""Inverse penalties that are tried, the strongest penalty first."""

N_FOLDS = 5

Chosen = Callable[[LinearScore], float]
"""From a classifier to its loss on other people."""


def fit_linear(
    images: ImageComponents, targets: Values, loss: Chosen | None = None
) -> tuple[LinearScore, float]:
    """Fit the classifier, its penalty chosen on validation people or by folds of the images.

    Parameters
    ----------
    images : ImageComponents
        Training images.
    targets : ndarray, shape (N,)
        Probability of the positive class of each: 0 and 1 for labels, between them for soft ones.
    loss : callable, optional
        Loss of a classifier on validation people; by default five folds of the images choose.

    Returns
    -------
    LinearScore
        Log-odds of the positive class.
    float
        The inverse penalty chosen.
    """
    if loss is None:
        chosen = _by_folds(images.scores, targets)
        return _fit(images, targets, chosen), chosen
    tried = [(loss(found := _fit(images, targets, c)), c, found) for c in STRENGTHS]
    _, chosen, best = min(tried, key=lambda one: (one[0], one[1]))
    return best, chosen


def _fit(images: ImageComponents, targets: Values, strength: float) -> LinearScore:
    weights, intercept = logistic(images.scores, targets, strength)
    return images.in_voxels(weights, intercept)


def logistic(scores: Values, targets: Values, strength: float) -> tuple[Values, float]:
    """Weights (K,) and intercept of a penalised logistic regression on soft targets."""
    from sklearn.linear_model import LogisticRegression

    n = len(targets)
    doubled = np.concatenate([scores, scores])
    label = np.repeat([1, 0], n)
    weight = np.concatenate([targets, 1 - targets])
    counted = weight > 0
    model = LogisticRegression(C=strength, max_iter=5000).fit(
        doubled[counted], label[counted], sample_weight=weight[counted]
    )
    return model.coef_[0], float(model.intercept_[0])


def _by_folds(scores: Values, targets: Values) -> float:
    """Inverse penalty of least cross-validated log-loss."""
    from sklearn.model_selection import StratifiedKFold

    labels = (targets > 0.5).astype(int)
    n_folds = max(2, min(N_FOLDS, int(np.bincount(labels, minlength=2).min())))
    folds = list(StratifiedKFold(n_folds, shuffle=True, random_state=0).split(scores, labels))

    def loss(strength: float) -> float:
        total = 0.0
        for train, held in folds:
            weights, intercept = logistic(scores[train], targets[train], strength)
            total += log_loss(scores[held] @ weights + intercept, targets[held]) * len(held)
        return total

    return min(STRENGTHS, key=lambda c: (loss(c), c))


def log_loss(log_odds: Values, targets: NDArray[np.floating]) -> float:
    """Mean cross-entropy of targets in [0, 1] and log-odds."""
    positive, negative = np.logaddexp(0, -log_odds), np.logaddexp(0, log_odds)
    return float(np.mean(targets * positive + (1 - targets) * negative))
