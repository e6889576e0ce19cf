"""Probes of a generator's codes on validation people, beside principal components of as many.

Codes that tell less of a person than components do have lost it in training: their images, however
many, cannot give it back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from neuroaug.law.covariates import covariate_values
from neuroaug.law.label_law import fit_law
from neuroaug.models.generative_model import GenerativeModel
from neuroaug.models.principal_components import Reader, mean_image, principal_components
from neuroaug.statistics.scores import auc
from neuroaug.training.held_out.probe_record import ProbedCodes, Probes
from neuroaug.training.stored_images import image_reader

if TYPE_CHECKING:
    import pandas as pd

    from neuroaug.config import LawConfig
    from neuroaug.imaging.cache import CohortCache

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]

AT_ONCE = 8
PENALTIES = np.logspace(-3, 4, 15)
"""Of the ridge regression of age on codes; folds of the training people choose."""

LEAST = 5
"""Training, or validation, people with a known age below which age is not probed."""


@dataclass(frozen=True)
class ProbedPeople:
    """Images, and what is known of their people.

    Attributes
    ----------
    read : callable
        Gives images first..last.
    ages : ndarray, shape (N,)
        NaN where unknown.
    diagnoses : list of str
        Labels.
    covariates : ndarray, shape (N, q)
        As the law has them; (N, 0) without.
    """

    read: Reader
    ages: Values
    diagnoses: list[str]
    covariates: Values

    def __len__(self) -> int:
        return len(self.diagnoses)

    @classmethod
    def of(cls, cache: CohortCache, table: pd.DataFrame, law: LawConfig | None) -> ProbedPeople:
        """People of a table, in the order of the images of a cache."""
        return cls(
            image_reader(cache.images),
            covariate_values(table, ("age",))[:, 0],
            table["diagnosis"].astype(str).tolist(),
            covariate_values(table, law.covariates if law else ()),
        )


def probe(
    model: GenerativeModel,
    train: ProbedPeople,
    validation: ProbedPeople,
    classes: tuple[str, str] | None,
    law: LawConfig | None,
    device: torch.device,
) -> ProbedCodes:
    """Probe a generator on people it has not seen.

    Parameters
    ----------
    model : GenerativeModel
        Trained.
    train, validation : ProbedPeople
        Whom it learned from, and others.
    classes : (str, str), optional
        Negative and positive class, for the law's rule.
    law : LawConfig, optional
        Of the model's law.
    device : torch.device
        Where images are encoded.
    """
    d = model.latent_dim
    model.to(device)
    codes = [model.mean_codes(some.read, len(some)).numpy() for some in (train, validation)]
    squares = _squared_error(model, validation, device)
    model.cpu()
    mean = mean_image(train.read, len(train))
    found = principal_components(train.read, mean, len(train), min(d, len(train) - 1))
    scores, rests = zip(
        *(_scores(people, mean, found.directions) for people in (train, validation)), strict=True
    )
    own = Probes(
        math.sqrt(squares),
        age_r2(codes[0], train.ages, codes[1], validation.ages),
        _rule(model, codes[1], validation, classes),
    )
    beside = Probes(
        math.sqrt(float(np.mean(rests[1]))),
        age_r2(scores[0], train.ages, scores[1], validation.ages),
        _rule_on(model, law, scores[0], train, scores[1], validation, classes),
    )
    return ProbedCodes(own, beside, d, len(validation))


def _squared_error(model: GenerativeModel, people: ProbedPeople, device: torch.device) -> float:
    """Mean squared error of a voxel."""
    total, n = 0.0, 0
    for i in range(0, len(people), AT_ONCE):
        x = people.read(i, min(i + AT_ONCE, len(people))).to(device)
        total += float((model.reconstruct(x) - x).double().square().sum())
        n += x.numel()
    return total / n


def _scores(
    people: ProbedPeople, mean: torch.Tensor, directions: torch.Tensor
) -> tuple[Values, Values]:
    """Scores of images, (N, d), and the mean square of what they leave, (N,)."""
    scores, rests = [], []
    for i in range(0, len(people), AT_ONCE):
        centred = people.read(i, min(i + AT_ONCE, len(people))).flatten(1).float() - mean.flatten()
        found = centred @ directions
        whole = centred.double().square().sum(1) - found.double().square().sum(1)
        scores.append(found.double().numpy())
        rests.append((whole / centred.shape[1]).numpy())
    return np.concatenate(scores), np.concatenate(rests)


def age_r2(codes: Values, ages: Values, new_codes: Values, new_ages: Values) -> float:
    """Share of the variance of new people's ages that a ridge regression on codes explains."""
    from sklearn.linear_model import RidgeCV

    known, told = np.isfinite(ages), np.isfinite(new_ages)
    if known.sum() < LEAST or told.sum() < LEAST or np.ptp(new_ages[told]) == 0:
        return math.nan
    scale = codes[known].std(0)
    scale = np.where(scale > 0, scale, 1.0)
    model = RidgeCV(alphas=PENALTIES).fit(codes[known] / scale, ages[known])
    truth = new_ages[told]
    rest = truth - model.predict(new_codes[told] / scale)
    return float(1 - np.sum(rest**2) / np.sum((truth - truth.mean()) ** 2))


def _truth(people: ProbedPeople, classes: tuple[str, str]) -> tuple[Flags, Flags]:
    """Whom the classes hold, and who is of the positive one."""
    names = np.array(people.diagnoses)
    return np.isin(names, classes), np.asarray(names == classes[1], dtype=bool)


def _rule(
    model: GenerativeModel, codes: Values, people: ProbedPeople, classes: tuple[str, str] | None
) -> float:
    if model.law is None or classes is None:
        return math.nan
    used, positive = _truth(people, classes)
    scores = model.law.scores(codes, classes[1], classes[0])
    return auc(scores[used & positive], scores[used & ~positive])


def _rule_on(
    model: GenerativeModel,
    config: LawConfig | None,
    codes: Values,
    train: ProbedPeople,
    new_codes: Values,
    validation: ProbedPeople,
    classes: tuple[str, str] | None,
) -> float:
    """AUC of the rule of the same law on other codes."""
    law = model.law
    if law is None or classes is None or config is None:
        return math.nan
    known: Flags = np.asarray(~np.isnan(train.covariates).any(axis=1))
    fitted = fit_law(
        codes[known],
        train.covariates[known],
        [d for d, k in zip(train.diagnoses, known.tolist(), strict=True) if k],
        law.labels,
        config,
    )
    used, positive = _truth(validation, classes)
    scores = fitted.of(law.label).scores(new_codes, classes[1], classes[0])
    return auc(scores[used & positive], scores[used & ~positive])
