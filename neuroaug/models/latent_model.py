"""Codes and metric of a generative model over all its training images, and samples from them."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any, ClassVar

import torch
from torch import Tensor

from neuroaug.errors import InputError
from neuroaug.law.label_law import LabelLaw, PlacedDraws
from neuroaug.models.autoencoder import Autoencoder
from neuroaug.models.metric_contrast import MetricContrast, metric_contrast
from neuroaug.models.texture import Texture
from neuroaug.samplers.latents import sample_latents
from neuroaug.samplers.sampler import Codes, LatentSpace

MoveCodes = Callable[[Tensor], Tensor]


class LatentModel(Autoencoder):
    """An autoencoder with the codes of its training images; parameters as of `Autoencoder`."""

    default_sampler: ClassVar[str]
    metric_type: ClassVar[type | None] = None
    """Class of the metric over all training images, a dataclass; None for a family without one."""
    codes_have_standard_prior: ClassVar[bool] = True
    """Whether the family's prior of codes is N(0, I)."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.sampler_settings: dict[str, Any] = {}
        """By sampler, what `Sampler.tune` found; stored with the model."""
        self.sampler_tensors: dict[str, dict[str, Tensor]] = {}
        """By sampler, what `Sampler.fit` gave; stored with the model."""
        self.law: LabelLaw | None = None
        self.texture: Texture | None = None
        """Where there is one, codes and metric are of the people's rests (`neuroaug.law`)."""
        self._metric: Any = None

    @property
    def metric(self) -> Any:
        """The metric that samples are drawn from, computed over all training images.

        Raises
        ------
        InputError
            If it has not been computed yet.
        """
        if self._metric is None:
            raise InputError(
                "this model has no metric yet; train it, or call update_metric with its training "
                "images"
            )
        return self._metric

    @metric.setter
    def metric(self, metric: Any) -> None:
        self._metric = metric

    @property
    def has_metric(self) -> bool:
        """Whether `metric` has been computed."""
        return self._metric is not None

    @property
    def codes(self) -> Codes | None:
        """Posteriors of the training images; None before they are known."""
        return None

    @property
    def centroids(self) -> Tensor:
        """c_i, the mean codes of the training images (N, d)."""
        return self.latent_space().require_codes().means

    @property
    def radius(self) -> float:
        """Radius of the set S that is sampled in: 2 max_i |c_i| (METHOD 2)."""
        return 2 * float(self.centroids.norm(dim=-1).max())

    def latent_space(self) -> LatentSpace:
        """What samplers see of this model."""
        codes, metric = self.codes, self._metric
        if codes is not None and self.law is not None:
            spread = torch.from_numpy(self.law.drawn_from.spread)
            codes = Codes(codes.means, codes.variances, spread)
        return LatentSpace(
            family=self.name,
            dimension=self.latent_dim,
            codes=None if codes is None else codes.on_cpu(),
            metric=None if metric is None else metric.to("cpu", torch.float32),
            tuned=self.sampler_settings,
            fitted=self.sampler_tensors,
            standard_prior=self.codes_have_standard_prior and self.law is None,
        )

    @property
    def samplers(self) -> tuple[str, ...]:
        """Names of the samplers that this trained model offers."""
        return self.latent_space().samplers()

    @abstractmethod
    def update_metric(self, batches: Iterable[Tensor], moved: MoveCodes | None = None) -> None:
        """Compute the metric anew over all training images, in evaluation mode.

        Parameters
        ----------
        batches : iterable of Tensor, shape (B, 1, X, Y, Z)
            The training images, each once, in any batches.
        moved : callable, optional
            From the codes of all images, in their order, to where they count instead.
        """

    def metric_contrast(self) -> MetricContrast | None:
        """Compare the density that is sampled at the centroids and at typical points of the prior.

        None for a family without a metric.
        """
        return metric_contrast(self.metric, self.metric.centroids) if self.has_metric else None

    def diagnostics(self) -> dict[str, float]:
        """What a row of ``history.csv`` tells beside losses: by column, after `update_metric`."""
        contrast = self.metric_contrast()
        return {"metric_contrast": math.nan if contrast is None else contrast.contrast}

    def metric_tensors(self) -> dict[str, Tensor]:
        """Give the metric as named tensors; none without it."""
        if self.metric_type is None or not self.has_metric:
            return {}
        return {
            name: torch.as_tensor(value, dtype=None if isinstance(value, Tensor) else torch.float64)
            for name in _metric_fields(self.metric_type)
            for value in [getattr(self.metric, name)]
        }

    def set_metric_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Rebuild the metric from named tensors.

        Raises
        ------
        KeyError
            If one is missing.
        """
        assert self.metric_type is not None
        values = [tensors[name] for name in _metric_fields(self.metric_type)]
        self.metric = self.metric_type(*(v if v.ndim else float(v) for v in values))

    # -- drawing ----------------------------------------------------------------------------

    def sample_latents(
        self, n: int, sampler: str | None = None, seed: int = 0, profile: str = "tuned"
    ) -> tuple[Tensor, Any]:
        """Draw latents 1..n (see `neuroaug.samplers.latents`).

        Returns
        -------
        z : Tensor, shape (n, d)
            On the CPU; under a law, of people with covariates and the label.
        info : SamplingInfo
            Acceptance, displacement and diagnostics of every latent.
        """
        z, info = sample_latents(
            self.latent_space(),
            (1, n),
            sampler=sampler or self.default_sampler,
            profile=profile,
            seed=seed,
            label=self.label,
        )
        return self.place(z, range(1, n + 1), seed)[0], info

    def place(
        self,
        z: Tensor,
        indices: Sequence[int],
        seed: int,
        ranges: Mapping[str, tuple[float, float]] | None = None,
    ) -> tuple[Tensor, PlacedDraws | None]:
        """Give drawn rests (n, d) covariates and the label; latents as they are without a law.

        See `neuroaug.law.label_law.LabelLaw.place`.
        """
        if self.law is None:
            return z, None
        placed = self.law.place(z.double().numpy(), indices, seed, ranges)
        return torch.from_numpy(placed.codes).float(), placed

    def sample(
        self, n: int, sampler: str | None = None, seed: int = 0, profile: str = "tuned"
    ) -> Tensor:
        """Draw images 1..n: image i is a function of (model, seed, label, i) alone.

        Parameters
        ----------
        n : int
            How many.
        sampler : str, optional
            Name of a registered sampler (`samplers`); default: the family's.
        seed : int
            Of the set.
        profile : {"tuned", "paper"}
            The sampler's settings.

        Returns
        -------
        Tensor, shape (n, 1, X, Y, Z)
            In [0, 1], on the CPU.
        """
        z, _ = self.sample_latents(n, sampler=sampler, seed=seed, profile=profile)
        block = self.decode_block
        return torch.cat([self.decode(part).cpu() for part in z.split(block)])


def _metric_fields(metric_type: type) -> list[str]:
    return [field.name for field in fields(metric_type) if field.init]
