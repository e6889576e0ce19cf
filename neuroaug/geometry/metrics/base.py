"""What every metric answers, to callers (`Metric`) and to the samplers (`Evaluator`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

# Positions are taken so many at a time that no temporary has more elements than this (128 MB of
# doubles).
MAX_ELEMENTS = 1 << 24
# Exponents below this count as it. The weights stay normal numbers (arithmetic on subnormal ones is
# a hundred times slower); what they add, below 1e-33 of a factor, is beyond the precision of any
# sum that they enter.
MIN_EXPONENT = {torch.float32: -78.0, torch.float64: -690.0}


class Evaluator(Protocol):
    """A metric at many positions at once, laid out for the samplers.

    Chains lie on the last axis, so that every elementary operation is one long contiguous loop.
    Positions have shape (d, n); a result is overwritten by the next call.
    """

    def gradient(self, z: Tensor) -> Tensor:
        """Gradient of the log-density at z, shape (d, n)."""
        ...

    def log_density(self) -> Tensor:
        """Log-density where `gradient` was last called, shape (n,)."""
        ...

    @property
    def cometric_power(self) -> int:
        """1 where the density is sqrt(det G^-1), -1 where it is sqrt(det G)."""
        ...

    def lower(self, z: Tensor, v: Tensor) -> Tensor:
        """Momentum G(z) v of a velocity, shape (d, n); `log_density` then answers for z."""
        ...

    def flow(self, p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
        """``(dH/dq, -dH/dp)`` of H(p, q) = 1/2 q^T G^-1(p) q, each of shape (d, n)."""
        ...


class Metric(Protocol):
    """What a sampler or a geodesic asks of a metric; positions have shape (..., d)."""

    @property
    def dim(self) -> int:
        """Latent dimension d."""
        ...

    @property
    def length_scale(self) -> float:
        """Distance over which the metric changes."""
        ...

    def log_density(self, z: Tensor) -> Tensor:
        """Logarithm of the density to sample from, shape (...)."""
        ...

    def grad_log_density(self, z: Tensor) -> Tensor:
        """Gradient of the log-density, shape (..., d)."""
        ...

    def metric_matrix(self, z: Tensor) -> Tensor:
        """G(z), shape (..., d, d)."""
        ...

    def squared_norm(self, v: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``v^T G(z) v`` of (n, d) velocities, with its derivatives in z and in v."""
        ...

    def evaluator(self, n_chains: int, dtype: torch.dtype | None = None) -> Evaluator:
        """Log-density, gradient and geodesic flow of `n_chains` positions at a time."""
        ...


def in_chunks(
    function: Callable[..., tuple[Tensor, ...]], elements_each: int, *inputs: Tensor
) -> tuple[Tensor, ...]:
    """Apply `function` to a part of the rows at a time, in double precision, with bounded memory.

    Parameters
    ----------
    function : callable
        (n, d) inputs -> results whose first axis has n entries.
    elements_each : int
        Elements of the largest temporary that a row needs.
    *inputs : Tensor, shape (..., d)
        Inputs of one shape.

    Returns
    -------
    tuple of Tensor, shape (..., *)
        Results, in the type of the first input.
    """
    size = max(1, MAX_ELEMENTS // elements_each)
    flat = (x.reshape(-1, x.shape[-1]).to(torch.float64).split(size) for x in inputs)
    parts = [function(*part) for part in zip(*flat, strict=True)]
    axes, dtype = inputs[0].shape[:-1], inputs[0].dtype
    joined = (torch.cat(results).to(dtype) for results in zip(*parts, strict=True))
    return tuple(result.reshape((*axes, *result.shape[1:])) for result in joined)
