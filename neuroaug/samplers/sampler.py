"""What a sampler is, and what it sees of a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from torch import Generator as TorchGenerator
from torch import Tensor

from neuroaug.errors import InputError
from neuroaug.geometry import LearnedMetric, PosteriorMetric
from neuroaug.geometry.mcmc.chains import ChainInfo
from neuroaug.registries import SAMPLERS

PROFILES = ("tuned", "paper")
"""Settings found at the end of training, or the papers'."""

BLOCK = 1024
"""Latents of a block: two chunks of chains, one per core of the smallest machine. One image costs a
block (seconds)."""

SAMPLING_THREADS = 2
"""Threads while sampling and decoding, whatever the machine has: rounding may depend on them."""


@dataclass(frozen=True)
class Codes:
    """Posteriors of the training images.

    Attributes
    ----------
    means : Tensor, shape (N, d)
        Means of q(z|x).
    variances : Tensor, shape (N, d), or None
        Its variances, where the model keeps them.
    spread : Tensor, shape (d, d), or None
        Covariance that a law of anatomy gives the codes around nought (`neuroaug.law`).
    """

    means: Tensor
    variances: Tensor | None = None
    spread: Tensor | None = None

    def on_cpu(self) -> Codes:
        """The same on the CPU in single precision."""
        variances = None if self.variances is None else self.variances.float().cpu()
        return Codes(self.means.float().cpu(), variances, self.spread)


@dataclass(frozen=True)
class LatentSpace:
    """All that a sampler sees of a model, on the CPU in single precision.

    Attributes
    ----------
    family : str
        Name of the model's family, for messages.
    dimension : int
        d.
    codes : Codes or None
        Of the training images; None before training.
    metric : LearnedMetric, PosteriorMetric or None
        The metric over all training images, where the family has one.
    tuned : dict
        By sampler, what `Sampler.tune` found; filled where a sampler is tuned late.
    fitted : dict
        By sampler, the tensors that `Sampler.fit` gave.
    standard_prior : bool
        Whether the prior of codes is N(0, I).
    """

    family: str
    dimension: int
    codes: Codes | None = None
    metric: LearnedMetric | PosteriorMetric | None = None
    tuned: dict[str, dict[str, Any]] = field(default_factory=dict)
    fitted: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    standard_prior: bool = True

    def require_codes(self) -> Codes:
        """The codes of the training images.

        Raises
        ------
        InputError
            If the model is not trained.
        """
        if self.codes is None:
            raise InputError("this model has no codes of training images yet; train it first")
        return self.codes

    def samplers(self) -> tuple[str, ...]:
        """Names of the registered samplers that can be used here."""
        return tuple(name for name in SAMPLERS.names if SAMPLERS.get(name).suits(self))


@dataclass(frozen=True)
class LatentBlock:
    """A full block of latents.

    Attributes
    ----------
    z : Tensor, shape (block, d)
        The latents, float32 on the CPU.
    info : ChainInfo or None
        Of the chains, if there were any.
    r_hat, ess : float
        Split R-hat and effective sample size per chain, NaN without.
    """

    z: Tensor
    info: ChainInfo | None = None
    r_hat: float = float("nan")
    ess: float = float("nan")


class Sampler(ABC):
    """A way to draw latents; the settings of one space and profile.

    Parameters
    ----------
    space : LatentSpace
        Of a trained model.
    profile : {"tuned", "paper"}
        Which settings.

    Raises
    ------
    InputError
        If it is no sampler for this space.
    """

    name: ClassVar[str]

    def __init__(self, space: LatentSpace, profile: str = "tuned") -> None:
        self.check(space)
        self.space, self.profile = space, profile
        self.settings = self.choose_settings()

    needs: ClassVar[str] = "a trained model"
    """What it needs of a space, in words, for messages."""

    @classmethod
    def suits(cls, space: LatentSpace) -> bool:
        """Whether the space has what this sampler needs; by default it needs nothing."""
        return True

    @classmethod
    def check(cls, space: LatentSpace) -> None:
        """Refuse a space that lacks what this sampler needs.

        Raises
        ------
        InputError
            Saying what is missing, and which samplers can be used.
        """
        if cls.suits(space):
            return
        if space.codes is None:
            raise InputError(
                f"sampler {cls.name}: the model has no metric or codes; train it first"
            )
        raise InputError(
            f"sampler {cls.name}: it needs {cls.needs}, and this model is a {space.family}; "
            f"use --sampler {' or '.join(space.samplers())}, or train another generator.model"
        )

    @classmethod
    def fit(cls, codes: Codes) -> dict[str, Tensor]:
        """Tensors learned from the codes of the training images, stored with the model.

        By default none.
        """
        return {}

    @classmethod
    def tune(cls, space: LatentSpace) -> dict[str, Any]:
        """Settings found by pilot runs after training, stored with the model; by default none."""
        return {}

    @abstractmethod
    def choose_settings(self) -> dict[str, Any]:
        """Everything that a latent depends on beside model, seed, label and index."""

    @abstractmethod
    def draw(self, generator: TorchGenerator, block: int) -> LatentBlock:
        """Draw a full block of latents.

        Parameters
        ----------
        generator : torch.Generator
            Keyed by everything that names the block.
        block : int
            Latents to draw.
        """

    def verdict(
        self, acceptance: np.ndarray, displacement: np.ndarray, r_hat: np.ndarray
    ) -> tuple[bool, str | None]:
        """Whether the latents are stuck at training codes, and what to tell the user; (n,) each."""
        return False, None


class CodesSampler(Sampler):
    """A sampler that is fitted to the codes of the training images."""

    needs = "codes of training images"

    @classmethod
    def suits(cls, space: LatentSpace) -> bool:
        """Whether there are codes."""
        return space.codes is not None


def fit_samplers(space: LatentSpace) -> dict[str, dict[str, Tensor]]:
    """Fit every sampler that the space offers; by sampler, where there is something to store."""
    codes = space.require_codes()
    found = {name: SAMPLERS.get(name).fit(codes) for name in space.samplers()}
    return {name: tensors for name, tensors in found.items() if tensors}


def tune_samplers(space: LatentSpace) -> dict[str, dict[str, Any]]:
    """Tune every sampler that the space offers; by sampler, where there was something to tune."""
    found = {name: SAMPLERS.get(name).tune(space) for name in space.samplers()}
    return {name: settings for name, settings in found.items() if settings}
