"""The Riemannian Hamiltonian flow behind the bound on log p(x) (METHOD 3; TPAMI Alg. 1, App. B).

The metric's part of the Hamiltonian is in closed form (`neuroaug.geometry.leapfrog`), so that
automatic differentiation is only asked for the decoder's input gradient, once at each of the K + 1
positions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from neuroaug.geometry import leapfrog
from neuroaug.geometry.leapfrog import LeapfrogState
from neuroaug.geometry.metrics.functional import LocalMetric, MetricTensors, kinetic_energy
from neuroaug.models.likelihood import LOG_2PI, Likelihood


class Noise(NamedTuple):
    """The standard normal numbers behind one pass: of z_0 and of the velocity, each (B, d)."""

    eps: Tensor
    gamma: Tensor

    def to(self, *args: Any) -> Noise:
        """Both tensors moved or cast."""
        return Noise(self.eps.to(*args), self.gamma.to(*args))


@dataclass(frozen=True)
class LossOutput:
    """One pass of the training objective.

    Attributes
    ----------
    loss : Tensor, shape ()
        Minus the objective in nats, averaged over the batch; the one to differentiate.
    elbo : Tensor, shape (B,)
        A single-sample bound on log p(x) with this pass's noise and metric; detached.
    reconstruction : Tensor, shape (B,)
        log p(x|z) at the latent that was decoded; detached.
    n_halvings : Tensor, shape (B,)
        Halvings of the leapfrog's step that the guard of its fixed points asked for.
    """

    loss: Tensor
    elbo: Tensor
    reconstruction: Tensor
    n_halvings: Tensor


def draw_noise(n: int, latent_dim: int, generator: torch.Generator | None = None) -> Noise:
    """Draw the noise of `n` images, on the generator's device (the CPU without one)."""
    device = generator.device if generator is not None else torch.device("cpu")
    eps, gamma = torch.randn(2, n, latent_dim, generator=generator, device=device)
    return Noise(eps, gamma)


def log_standard_normal(x: Tensor) -> Tensor:
    """Log N(x; 0, I), summed over the last axis."""
    return -0.5 * (x.square() + LOG_2PI).sum(-1)


def log_velocity(local: LocalMetric, v: Tensor) -> Tensor:
    """Log N(v; 0, G(z)), (B,)."""
    return -kinetic_energy(local, v)


def velocity_of_metric(local: LocalMetric, gamma: Tensor) -> Tensor:
    """Turn a standard normal draw into one of N(0, G(z)): C^-T gamma with G^-1 = C C^T, (B, d)."""
    factor, _ = torch.linalg.cholesky_ex(local.cometric)
    return torch.linalg.solve_triangular(factor.mT, gamma[..., None], upper=True)[..., 0]


class FlowPosition(NamedTuple):
    """log p(x|z) and its gradient at one position of the flow."""

    total: Tensor
    """Sum over the batch; the one to differentiate in training."""
    values: Tensor
    """For each image, (B,)."""
    gradient: Tensor
    """grad_z log p(x|z), (B, d)."""


class _LikelihoodOnce(torch.autograd.Function):
    """log p(x|z) summed; one backward pass gives the flow's input gradient and training's own.

    The sum enters the loss with a constant factor, so the gradients of the decoder's weights can be
    taken together with the input gradient that the last half step needs anyway; the decoder's
    activations are then freed before the rest of the graph is differentiated.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, z: Tensor, log_prob: Callable[[Tensor], Tensor], *parameters: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        with torch.enable_grad():
            position = z.detach().requires_grad_()
            values = log_prob(position)
            gradients = torch.autograd.grad(values.sum(), (position, *parameters))
        ctx.save_for_backward(*gradients)
        values = values.detach()
        ctx.mark_non_differentiable(values, gradients[0])
        return values.sum(), values, gradients[0]

    @staticmethod
    def backward(ctx: Any, grad_total: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        gradient, *parameters = ctx.saved_tensors
        return grad_total * gradient, None, *(grad_total * p for p in parameters)


@dataclass(frozen=True)
class DecoderLikelihood:
    """log p(x|z) of one batch of images and its input gradient, computed once a position.

    Parameters
    ----------
    decoder : nn.Module
        Latents to outputs.
    likelihood : Likelihood
        Outputs to log p(x|z).
    images : Tensor, shape (B, 1, X, Y, Z)
        x.
    second_order : bool
        Whether the training gradient goes through the input gradient. Without it, on the
        convolutional networks at 42x52x44, the training gradient changes by .1 % at a step size of
        1e-3 and .8 % at 1e-2 (cosine .99997), and a step costs a fifth of the time and an eleventh
        of the memory.
    """

    decoder: nn.Module
    likelihood: Likelihood
    images: Tensor
    second_order: bool = False
    precision: torch.dtype | None = None
    """Format of the decoder's convolutions; None for that of its weights. The flow itself stays in
    full precision.
    """

    def _log_prob(self, z: Tensor, decoder: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        lower = self.precision is not None
        with torch.autocast(z.device.type, dtype=self.precision, enabled=lower):
            output = (decoder or self.decoder)(z)
        return self.likelihood.log_prob(self.images, output)

    def passing(self, z: Tensor) -> FlowPosition:
        """At a position that the flow passes through: only the gradient counts."""
        if self.second_order and torch.is_grad_enabled():
            return self._twice_differentiable(z)
        frozen = {name: p.detach() for name, p in self.decoder.named_parameters()}
        with torch.enable_grad():
            position = z.detach().requires_grad_()
            values = self._log_prob(position, lambda z: functional_call(self.decoder, frozen, (z,)))
            gradient = torch.autograd.grad(values.sum(), position)[0]
        values = values.detach()
        return FlowPosition(values.sum(), values, gradient)

    def final(self, z: Tensor) -> FlowPosition:
        """At the last position: the value counts too, and in training the decoder's weights."""
        if not torch.is_grad_enabled():
            return self.passing(z)
        if self.second_order:
            return self._twice_differentiable(z)
        parameters = [p for p in self.decoder.parameters() if p.requires_grad]
        return FlowPosition(*_LikelihoodOnce.apply(z, self._log_prob, *parameters))

    def _twice_differentiable(self, z: Tensor) -> FlowPosition:
        z = z if z.requires_grad else z.requires_grad_()
        values = self._log_prob(z)
        # Differentiated at the node z: the partial derivative, whatever earlier positions z came
        # from.
        gradient = torch.autograd.grad(values.sum(), z, create_graph=True)[0]
        return FlowPosition(values.sum(), values, gradient)


class FlowEnd(NamedTuple):
    """Where the flow ended, and how its fixed points went."""

    state: LeapfrogState
    likelihood: FlowPosition
    residual: Tensor
    """Largest of the steps' residuals, (B,)."""
    n_halvings: Tensor
    """Halvings of the step size, all steps together, (B,)."""


def flow(
    tensors: MetricTensors,
    likelihood: DecoderLikelihood,
    z: Tensor,
    v: Tensor,
    *,
    n_steps: int,
    step_size: float,
    beta_zero_sqrt: float,
    n_iterations: int,
) -> FlowEnd:
    """K tempered generalised leapfrog steps of H(z, v) (METHOD 3; TPAMI eq. 5, 6).

    Parameters
    ----------
    tensors : MetricTensors
        The metric.
    likelihood : DecoderLikelihood
        log p(x|z).
    z, v : Tensor, shape (B, d)
        Start; v is already divided by sqrt(beta_0).
    n_steps : int
        K.
    step_size : float
        Of a leapfrog step.
    beta_zero_sqrt : float
        sqrt(beta_0).
    n_iterations : int
        Of each fixed point.
    """
    latest = likelihood.passing(z)
    # U(z) = -log p(x|z) + |z|^2 / 2
    state = leapfrog.init(z, v, z - latest.gradient, tensors)
    residual = torch.zeros_like(z[:, 0])
    n_halvings = torch.zeros(len(z), dtype=torch.int64, device=z.device)
    for k in range(1, n_steps + 1):
        evaluate = likelihood.final if k == n_steps else likelihood.passing
        reached: list[FlowPosition] = []

        def gradient(
            z: Tensor, evaluate: Any = evaluate, reached: list[FlowPosition] = reached
        ) -> Tensor:
            reached.append(evaluate(z))
            return z - reached[-1].gradient

        state, info = leapfrog.leapfrog_step(
            state, tensors, gradient, step_size, n_iterations=n_iterations
        )
        latest = reached[-1]
        state = state._replace(v=state.v * leapfrog.tempering_factor(k, n_steps, beta_zero_sqrt))
        residual = torch.maximum(residual, info.residual.detach())
        n_halvings = n_halvings + info.n_halvings
    return FlowEnd(state, latest, residual, n_halvings)
