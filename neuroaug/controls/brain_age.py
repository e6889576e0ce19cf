"""``brain-age``: how much older an image looks than its person is, as a score of disease.

Age is read off everyone's scans by ridge regression on principal components; the gap between the
age read and the age known is turned into a probability by a logistic regression with one weight,
on gaps of people who were left out of the fold that reads them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuroaug.controls.linear_classifier import logistic
from neuroaug.controls.linear_score import ImageComponents, LinearScore, Values
from neuroaug.errors import InputError

PENALTIES = tuple(float(a) for a in np.logspace(-3, 3, 13))
LEAST_PEOPLE = 6
N_FOLDS = 5
WEAK = 1e3
"""Inverse penalty of the one weight: as good as none."""


@dataclass(frozen=True)
class BrainAge:
    """A reader of age, and how its gap tells the positive class.

    Attributes
    ----------
    age : LinearScore
        Age in years, read off an image.
    mean_age : float
        Stands for the age of a person of whom none is known, years.
    slope, offset : float
        Log-odds of the positive class = slope * gap + offset.
    """

    age: LinearScore
    mean_age: float
    slope: float
    offset: float

    def log_odds(self, read_ages: Values, known_ages: Values) -> Values:
        """Log-odds of the positive class, (N,), from ages read off images and those known."""
        known = np.where(np.isnan(known_ages), self.mean_age, known_ages)
        return self.slope * (read_ages - known) + self.offset


def fit_brain_age(
    images: ImageComponents, ages: Values, targets: Values, labelled: NDArray[np.bool_]
) -> BrainAge:
    """Fit the reader of age on all images with an age, and the slope on those with a label.

    Parameters
    ----------
    images : ImageComponents
        Images of everyone that may be learned from.
    ages : ndarray, shape (N,)
        Years; NaN where unknown.
    targets : ndarray, shape (N,)
        1 for the positive class, 0 for the negative one.
    labelled : ndarray of bool, shape (N,)
        Whose target counts.

    Raises
    ------
    InputError
        If fewer than six people have an age, or all are of one age.
    """
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import KFold, cross_val_predict

    known = ~np.isnan(ages)
    if known.sum() < LEAST_PEOPLE or np.ptp(ages[known]) == 0:
        raise InputError(
            f"network brain-age: {int(known.sum())} training people with an age, at least "
            f"{LEAST_PEOPLE} of different ages are needed"
        )
    scores, years = images.scores[known], ages[known]
    ridge = RidgeCV(alphas=PENALTIES).fit(scores, years)
    folds = KFold(min(N_FOLDS, len(years)), shuffle=True, random_state=0)
    left_out = cross_val_predict(RidgeCV(alphas=PENALTIES), scores, years, cv=folds)
    counted = labelled[known]
    gaps = (left_out - years)[counted]
    weights, offset = logistic(gaps[:, None], targets[known][counted], WEAK)
    return BrainAge(
        images.in_voxels(ridge.coef_, float(ridge.intercept_)),
        float(years.mean()),
        float(weights[0]),
        offset,
    )
