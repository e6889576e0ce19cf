"""p(x|z): how far an image is from what the decoder says, in nats."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

LOG_2PI = math.log(2 * math.pi)


def at_least_float32(tensor: Tensor) -> Tensor:
    """Cast a tensor up where its format is a half-precision one."""
    return tensor if tensor.dtype.itemsize >= 4 else tensor.float()


@dataclass(frozen=True)
class Bernoulli:
    """Cross-entropy on intensities in [0, 1], from logits, so that it never overflows."""

    def mean(self, output: Tensor) -> Tensor:
        """Turn decoder outputs into mean images."""
        return output.sigmoid()

    def log_prob(self, x: Tensor, output: Tensor) -> Tensor:
        """Log p(x|z) (B,), for images x and decoder outputs (B, 1, X, Y, Z)."""
        output = at_least_float32(output)
        cross_entropy = F.binary_cross_entropy_with_logits(
            output, x.to(output.dtype), reduction="none"
        )
        return -cross_entropy.flatten(1).sum(1)


@dataclass(frozen=True)
class Gaussian:
    """Independent voxels of one variance around the mean image, constants included.

    Parameters
    ----------
    variance : float
        Of a voxel; the papers' is 1.
    link : {"sigmoid", "identity", "clamp"}
        From the decoder's output to the mean image. The papers' decoders end with a sigmoid; a
        linear one's output is cut off at 0 and 1.
    """

    variance: float = 1.0
    link: Literal["sigmoid", "identity", "clamp"] = "sigmoid"

    def mean(self, output: Tensor) -> Tensor:
        """Turn decoder outputs into mean images."""
        if self.link == "sigmoid":
            return output.sigmoid()
        return output if self.link == "identity" else output.clamp(0, 1)

    def log_prob(self, x: Tensor, output: Tensor) -> Tensor:
        """Log p(x|z) (B,), for images x and decoder outputs (B, 1, X, Y, Z)."""
        output = at_least_float32(output)
        error = (x - self.mean(output)).square().flatten(1)
        n_voxels = error.shape[1]
        return -0.5 * (
            error.sum(1) / self.variance + n_voxels * (LOG_2PI + math.log(self.variance))
        )


Likelihood = Bernoulli | Gaussian


def likelihood(name: str) -> Likelihood:
    """Make the likelihood that a configuration names: ``bernoulli`` or ``gaussian``."""
    return Bernoulli() if name == "bernoulli" else Gaussian()
