"""What every family of generative models answers, with defaults: coding, training, sampling, files.

A family is a subclass in a file of its own, registered by `neuroaug.models.registry`. It must
answer `loss`, and either `log_weights` (then the bound chooses the best epoch) or `criterion`.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from pydantic import ValidationError
from torch import Tensor

from neuroaug.config import GeneratorConfig
from neuroaug.errors import InputError
from neuroaug.models.autoencoder import DECODED_VOXELS
from neuroaug.models.flow import LossOutput, Noise, draw_noise
from neuroaug.models.latent_model import LatentModel
from neuroaug.models.storage import (
    CONFIG,
    COPY_AGAIN,
    METRIC,
    WEIGHTS,
    StoredModel,
    read_model,
    require_same_tensors,
    write_model,
)
from neuroaug.models.texture import Texture
from neuroaug.registries import FAMILIES

Gather = Callable[[Tensor], Tensor]
"""From this process's rows of a batch to the rows of all processes."""


def own_rows(rows: Tensor) -> Tensor:
    """Give the rows back: one process has them all."""
    return rows


class GenerativeModel(LatentModel):
    """A generative model of the images of one diagnosis; parameters as those of `Autoencoder`."""

    tempering_settings: ClassVar[tuple[str, ...]] = ("learning_rate",)
    """Settings to lower where training diverges."""
    in_closed_form: ClassVar[bool] = False
    """Whether `start_from` has found the best weights already, so that nothing is trained."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.training_record: dict[str, Any] = {}
        """Seed, epochs, hash of the split and more; stored with the model."""

    @classmethod
    def decoder_passes(cls, settings: GeneratorConfig) -> int:
        """Passes of the decoder whose activations a training step keeps at once, per image."""
        return 1

    @classmethod
    def encoded_beside(cls, settings: GeneratorConfig) -> int:
        """Images that a training step encodes beside its batch (pseudo-inputs)."""
        return 0

    # -- objective --------------------------------------------------------------------------

    def draw_noise(self, n: int, generator: torch.Generator | None = None) -> Noise:
        """Noise for `n` images; the same noise gives the same loss."""
        return draw_noise(n, self.latent_dim, generator)

    def _noise_for(
        self, x: Tensor, noise: Noise | None, generator: torch.Generator | None
    ) -> Noise:
        return (noise or self.draw_noise(len(x), generator)).to(x.device)

    @abstractmethod
    def loss(
        self,
        x: Tensor,
        noise: Noise | None = None,
        generator: torch.Generator | None = None,
        gather: Gather = own_rows,
    ) -> LossOutput:
        """Training objective on a batch of images (B, 1, X, Y, Z) in [0, 1].

        `gather` completes this process's rows of a batch where several processes share it.
        """

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups of trained values for Adam, each with the settings that differ."""
        return [{"params": [p for p in self.parameters() if p.requires_grad]}]

    def log_weights(self, x: Tensor, code: tuple[Tensor, Tensor], noise: Noise) -> Tensor | None:
        """Logarithm of the unbiased estimate of p(x) with the given noise (METHOD 3).

        None for a family without a likelihood.

        Parameters
        ----------
        x : Tensor, shape (B, 1, X, Y, Z)
            Images in [0, 1].
        code : tuple of Tensor, shape (B, d)
            Mean and log-variance of q(z|x).
        noise : Noise
            Standard normal numbers.

        Returns
        -------
        Tensor, shape (B,)
        """
        return None

    @property
    def has_bound(self) -> bool:
        """Whether the family bounds log p(x), so that there is an ELBO."""
        return type(self).log_weights is not GenerativeModel.log_weights

    @torch.no_grad()
    def criterion(self, x: Tensor, noise: Noise | None = None) -> Tensor:
        """What the best epoch has least of, (B,): minus the ELBO, by default.

        Parameters
        ----------
        x : Tensor, shape (B, 1, X, Y, Z)
            Images in [0, 1].
        noise : Noise, optional
            Fixed numbers, the same at every epoch.
        """
        return -self.elbo(x, noise)

    @torch.no_grad()
    def elbo(
        self, x: Tensor, noise: Noise | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Bound on log p(x), one sample per image, with the stored metric (METHOD 3), nats.

        Parameters
        ----------
        x : Tensor, shape (B, 1, X, Y, Z)
            Images in [0, 1].
        noise : Noise, optional
            Fixed numbers; drawn from `generator` when not given.

        Returns
        -------
        Tensor, shape (B,)
        """
        x = x.to(self.device)
        return self._weights(x, self.encode(x), self._noise_for(x, noise, generator))

    def _weights(self, x: Tensor, code: tuple[Tensor, Tensor], noise: Noise) -> Tensor:
        weights = self.log_weights(x, code, noise)
        if weights is None:
            raise InputError(f"a {self.name} has no bound on log p(x)")
        return weights

    @torch.no_grad()
    def log_likelihood(
        self, x: Tensor, n_samples: int = 100, generator: torch.Generator | None = None
    ) -> Tensor:
        """Estimate log p(x) by importance sampling: log-mean-exp of the bound's integrand.

        Parameters
        ----------
        x : Tensor, shape (B, 1, X, Y, Z)
            Images in [0, 1].
        n_samples : int
            Samples per image (the papers use 100).
        generator : torch.Generator, optional
            Source of the noise.

        Returns
        -------
        Tensor, shape (B,)
            A lower bound in expectation that tightens with `n_samples`.
        """
        x = x.to(self.device)
        code = self.encode(x)
        at_once = max(1, min(n_samples, DECODED_VOXELS // max(x.numel(), 1)))
        draws = []
        for start in range(0, n_samples, at_once):
            n = min(at_once, n_samples - start)
            repeated = x.repeat(n, 1, 1, 1, 1)
            mean, log_variance = (part.repeat(n, 1) for part in code)
            noise = self._noise_for(repeated, None, generator)
            draws.append(
                self._weights(repeated, (mean, log_variance), noise).unflatten(0, (n, len(x)))
            )
        return torch.logsumexp(torch.cat(draws), 0) - math.log(n_samples)

    # -- files ------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> None:
        """Write the model folder (see `neuroaug.models.storage`)."""
        stored = StoredModel(
            family=self.name,
            config=self.config.model_dump(mode="json"),
            shape=self.shape,
            grid=self.grid,
            label=self.label,
            sampler=self.sampler_settings,
            training=self.training_record,
            weights=dict(self.state_dict()),
            metric=self.metric_tensors(),
            fitted=self.sampler_tensors,
            law=self.law,
            texture=None if self.texture is None else self.texture.fields,
        )
        write_model(Path(folder), stored)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a model folder, on the CPU, in evaluation mode.

        Raises
        ------
        InputError
            If it holds another family, or one of its files was changed; one line names the file.
        """
        folder = Path(folder)
        stored = read_model(folder)
        where = folder / CONFIG
        if stored.family not in FAMILIES.names:
            known = ", ".join(FAMILIES.names)
            raise InputError(f"{where}: unknown model '{stored.family}' (known: {known})")
        family = FAMILIES.get(stored.family)
        if not issubclass(family, cls):
            raise InputError(
                f"{folder}: holds a {family.name}, not a {cls.name}; load it with load_model"
            )
        try:
            config = family.Settings.model_validate(stored.config)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(map(str, first["loc"]))
            raise InputError(
                f"{where}: config.{name}: {first['msg']}; the model is of another version"
            ) from None
        model = family(config, stored.shape, stored.label, stored.grid)
        require_same_tensors(stored.weights, model.state_dict(), folder / WEIGHTS)
        model.load_state_dict(stored.weights)
        if stored.metric:
            try:
                model.set_metric_tensors(stored.metric)
            except KeyError as error:
                raise InputError(
                    f"{folder / METRIC}: no tensor {error} in it; {COPY_AGAIN}"
                ) from None
        model.sampler_settings = stored.sampler
        model.sampler_tensors = stored.fitted
        model.law = stored.law
        model.texture = None if stored.texture is None else Texture(stored.texture)
        model.training_record = stored.training
        return model.eval()  # type: ignore[no-any-return]


load_model = GenerativeModel.load
"""Load the model in a folder, of whatever family."""
