"""The law of one label, as a generator keeps it: it places draws, and judges codes.

Samplers draw the rest e of a person; `LabelLaw.place` gives it covariates and the shift of its
label, and says how probable each label is, given the code alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from neuroaug.errors import InputError
from neuroaug.law.anatomy_law import (
    UNLABELLED,
    AnatomyLaw,
    Effects,
    Values,
    ageing_prior,
    estimate_effects,
    make_law,
    no_prior,
    rule_probabilities,
)
from neuroaug.law.covariates import CovariateLaw
from neuroaug.system.randomness import KEYED

if TYPE_CHECKING:
    from neuroaug.config import LawConfig


@dataclass(frozen=True)
class PlacedDraws:
    """Codes of synthetic people, and what is known of them.

    Attributes
    ----------
    codes : ndarray, shape (n, d)
        Their codes.
    covariates : ndarray, shape (n, q)
        Their covariates.
    probabilities : ndarray, shape (n, K)
        Probability of each label under the law, given the code alone.
    """

    codes: Values
    covariates: Values
    probabilities: Values


@dataclass(frozen=True)
class LabelLaw:
    """Laws of anatomy with all labels, one a setting, and the label that is drawn from them.

    Attributes
    ----------
    labels : tuple of str
        All labels, in the order of the laws' shifts.
    label : str
        The one that is drawn.
    settings : tuple of AnatomyLaw
        One for every pair of strength and ridge; scores are averaged over them.
    covariates : CovariateLaw
        Whose covariates synthetic people have.
    """

    labels: tuple[str, ...]
    label: str
    settings: tuple[AnatomyLaw, ...]
    covariates: CovariateLaw

    @property
    def drawn_from(self) -> AnatomyLaw:
        """The law that is drawn from: the mean of all settings."""
        parts = {
            part.name: np.mean([getattr(law, part.name) for law in self.settings], axis=0)
            for part in fields(AnatomyLaw)
        }
        return AnatomyLaw(**parts)

    def logits(self, codes: Values, covariates: Values | None = None) -> Values:
        """Bayes rule, (N, K): `AnatomyLaw.logits`, averaged over the settings."""
        return np.mean([law.logits(codes, covariates) for law in self.settings], axis=0)

    def probabilities(self, codes: Values, covariates: Values | None = None) -> Values:
        """Probability of each label, (N, K), where all are as frequent."""
        return rule_probabilities(self.logits(codes, covariates))

    def scores(self, codes: Values, positive: str, negative: str) -> Values:
        """Log p(z | positive) - log p(z | negative), (N,)."""
        logits = self.logits(codes)
        return logits[:, self.labels.index(positive)] - logits[:, self.labels.index(negative)]

    def place(
        self,
        rests: Values,
        indices: Sequence[int] | NDArray[np.integer],
        seed: int,
        ranges: Mapping[str, tuple[float, float]] | None = None,
    ) -> PlacedDraws:
        """Make people of drawn rests: person i is a function of (rest, seed, label, i) alone.

        Parameters
        ----------
        rests : ndarray, shape (n, d)
            Drawn by a sampler.
        indices : sequence of int
            Numbers of the images, from 1.
        seed : int
            Of the set.
        ranges : mapping of str to (float, float), optional
            Least and largest value asked of a covariate.
        """
        covariates = np.concatenate(
            [
                self.covariates.draw(1, _person(seed, self.label, int(index)), ranges)
                for index in indices
            ]
        )
        law = self.drawn_from
        codes = law.mean(self.labels.index(self.label), covariates) + rests
        return PlacedDraws(codes, covariates, self.probabilities(codes))


def _person(seed: int, label: str, index: int) -> np.random.Generator:
    return KEYED.numpy(seed, "covariates", label, index)


@dataclass(frozen=True)
class FittedLaw:
    """A law of all labels, before one is drawn from it.

    Attributes
    ----------
    labels, settings, covariates
        As of `LabelLaw`.
    effects : Effects
        What least squares gave, its `rests` in the order of the people.
    """

    labels: tuple[str, ...]
    settings: tuple[AnatomyLaw, ...]
    covariates: CovariateLaw
    effects: Effects

    def of(self, label: str) -> LabelLaw:
        """The law of one label."""
        return LabelLaw(self.labels, label, self.settings, self.covariates)


def fit_law(
    codes: Values,
    covariates: Values,
    diagnoses: Sequence[str],
    labels: Sequence[str],
    config: LawConfig,
) -> FittedLaw:
    """Estimate the law of some people's codes.

    Parameters
    ----------
    codes : ndarray, shape (N, d)
        Codes of their images.
    covariates : ndarray, shape (N, q)
        Complete; in the order of ``config.covariates``.
    diagnoses : sequence of str
        Label of each person; any other word is no label.
    labels : sequence of str
        All labels; each needs a person.
    config : LawConfig
        Prior, strength, ridge.

    Raises
    ------
    InputError
        A label without a person, or a covariate that is the same for everyone.
    """
    numbers = np.array([labels.index(d) if d in labels else UNLABELLED for d in diagnoses])
    for k, label in enumerate(labels):
        if not (numbers == k).any():
            raise InputError(f"law: nobody of label {label} has all of its covariates")
    for name, column in zip(config.covariates, covariates.T, strict=True):
        if np.ptp(column) == 0:
            raise InputError(
                f"law: {name} is {column[0]:g} for everyone; take it out of law.covariates"
            )
    effects = estimate_effects(codes, covariates, numbers, len(labels))
    settings = []
    for strength in config.strength:
        prior = no_prior(effects)
        if config.prior == "age":
            years = [config.years.get(label, 0.0) for label in labels]
            prior = ageing_prior(effects, config.covariates.index("age"), years, strength)
        settings += [make_law(effects, prior, ridge) for ridge in config.ridge]
    # Sorted: whose covariates they are does not matter for draws, and cannot be read off a model.
    order = np.lexsort(covariates.T[::-1]) if covariates.shape[1] else slice(None)
    people = CovariateLaw(tuple(config.covariates), covariates[order])
    return FittedLaw(tuple(labels), tuple(settings), people, effects)
