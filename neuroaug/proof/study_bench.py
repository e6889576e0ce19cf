"""What the arms of one split and number of people share: images, labels, generators, a CNN."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neuroaug.config import LawConfig
from neuroaug.proof.anatomies import (
    LawfulGenerator,
    LearnedAnatomy,
    linear_anatomy,
    network_anatomy,
)
from neuroaug.proof.people import Task, Values
from neuroaug.proof.strided_cnn import CnnSettings, Examples, TrainedCnn, train_cnn
from neuroaug.proof.study_splits import Draw, Rows
from neuroaug.system.randomness import KEYED

Scores = dict[str, Values]
"""Log-odds of the positive class by set: validation, test."""


@dataclass(frozen=True)
class StudySettings:
    """What is the same in every arm and split.

    Attributes
    ----------
    cnn : CnnSettings
        Of every CNN.
    n_draws : int
        Synthetic images per label.
    n_components : int
        Of the linear anatomy.
    strength, ridge : float
        Of the prior, in people; of the spread.
    recipe : dict
        Settings of the papers' generators.
    network : dict
        Settings of the network whose codes the law is put on.
    """

    cnn: CnnSettings = field(default_factory=CnnSettings)
    n_draws: int = 300
    n_components: int = 40
    strength: float = 30.0
    ridge: float = 1.0
    recipe: dict[str, Any] = field(default_factory=dict)
    network: dict[str, Any] = field(default_factory=dict)


@dataclass
class Bench:
    """One split and n: everything that its arms share is made once.

    Attributes
    ----------
    draw : Draw
        The split.
    task : Task
        What is told apart.
    n : int
        Labelled people per class.
    settings : StudySettings
        Settings.
    folder : Path
        Where trained generators are kept.
    null : str
        ``none``, ``labels`` (of the training people) or ``ages`` shuffled.
    """

    draw: Draw
    task: Task
    n: int
    settings: StudySettings
    folder: Path
    null: str = "none"
    anatomies: dict[str, LearnedAnatomy] = field(default_factory=dict)

    @cached_property
    def train(self) -> Rows:
        """Rows of the labelled people."""
        return self.draw.train(self.n)

    @cached_property
    def train_labels(self) -> Values:
        """Their labels, shuffled for a null."""
        own = self.draw.labels[self.train]
        return self._rng("labels").permutation(own) if self.null == "labels" else own

    @cached_property
    def ages(self) -> Values:
        """Of everyone, shuffled for a null."""
        own = self.draw.people.ages
        return self._rng("ages").permutation(own) if self.null == "ages" else own

    def _rng(self, what: str) -> np.random.Generator:
        return KEYED.numpy("proof", "null", what, self.draw.seed)

    @property
    def seed(self) -> int:
        """Of this split's classifiers."""
        return self.draw.seed

    def images(self, rows: Rows) -> Tensor:
        """Images of some people, (n, 1, X, Y, Z)."""
        return torch.from_numpy(self.draw.people.images[rows])[:, None]

    def examples(self, rows: Rows, labels: Values | None = None) -> Examples:
        """Images of some people with hard labels."""
        own = self.draw.labels[rows] if labels is None else labels
        return Examples(self.images(rows), torch.from_numpy(own).float())

    @cached_property
    def real(self) -> Examples:
        """The labelled people."""
        return self.examples(self.train, self.train_labels)

    @cached_property
    def validation(self) -> Examples:
        """People who choose."""
        return self.examples(self.draw.validation)

    def scored(self, score: Callable[[Rows], Values]) -> Scores:
        """Scores of both sets."""
        return {"validation": score(self.draw.validation), "test": score(self.draw.test)}

    def of_cnn(self, trained: TrainedCnn) -> Scores:
        """Scores of a CNN."""
        return self.scored(lambda rows: trained.log_odds(self.images(rows)))

    def cnn(self, train: Examples, **options: Any) -> TrainedCnn:
        """Train the study's CNN."""
        seed = options.pop("seed", self.seed)
        return train_cnn(train, self.validation, self.settings.cnn, seed, **options)

    # -- generators -------------------------------------------------------------------------

    def linear(self, rows: Rows) -> LearnedAnatomy:
        """The linear anatomy of some people, made once for all n that share them."""
        key = f"linear-{KEYED.seed(*map(int, rows))}"
        if key not in self.anatomies:
            self.anatomies[key] = linear_anatomy(self.draw, rows, self.settings.n_components)
        return self.anatomies[key]

    def network(self) -> LearnedAnatomy:
        """The trained network of everyone outside validation and test."""
        if "network" not in self.anatomies:
            where = self.folder / "network"
            rows = self.draw.everyone
            self.anatomies["network"] = network_anatomy(
                self.draw, rows, self.settings.network, where
            )
        return self.anatomies["network"]

    def lawful(self, anatomy: LearnedAnatomy, *, prior: bool) -> LawfulGenerator:
        """An anatomy under the law of the labelled people."""
        years = {"positive": self.task.years}
        believed = prior and self.task.years != 0
        config = LawConfig(
            covariates=self.task.covariates,
            prior="age" if believed else "none",
            years=years if believed else {},
            strength=(self.settings.strength,),
            ridge=(self.settings.ridge,),
        )
        draw = self.draw
        if self.null == "labels":
            labels = draw.labels.copy()
            labels[self.train] = self.train_labels
            draw = Draw(
                draw.people, labels, draw.test, draw.validation, draw.pool, draw.neither, draw.seed
            )
        return LawfulGenerator(anatomy, draw, self.train, config, self.ages)

    @cached_property
    def prior_law(self) -> LawfulGenerator:
        """The linear law with its prior, on everyone."""
        return self.lawful(self.linear(self.draw.everyone), prior=True)

    def drawn(self, generator: LawfulGenerator, *, soft: bool, texture: bool = True) -> Examples:
        """Synthetic examples of both labels."""
        images, probabilities, labels = generator.draws(
            self.settings.n_draws, self.seed, texture=texture
        )
        return Examples(images, probabilities if soft else labels)
