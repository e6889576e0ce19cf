"""``prior``: N(0, I)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator as TorchGenerator

from neuroaug.samplers.registry import register_sampler
from neuroaug.samplers.sampler import LatentBlock, LatentSpace, Sampler


@register_sampler("prior")
class PriorSampler(Sampler):
    """Standard normal latents, whatever the model has learned."""

    needs = "codes whose prior is standard normal"

    @classmethod
    def suits(cls, space: LatentSpace) -> bool:
        """Whether the family's prior is N(0, I)."""
        return space.standard_prior

    def choose_settings(self) -> dict[str, Any]:
        """The dimension is all there is."""
        return {"latent_dim": self.space.dimension}

    def draw(self, generator: TorchGenerator, block: int) -> LatentBlock:
        """Draw a block."""
        return LatentBlock(torch.randn(block, self.space.dimension, generator=generator))
