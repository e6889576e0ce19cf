"""``prior``: N(0, I)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator as TorchGenerator

from neuroaug.samplers.registry import register_sampler
from neuroaug.samplers.sampler import LatentBlock, Sampler


@register_sampler("prior")
class PriorSampler(Sampler):
    """Standard normal latents, whatever the model has learned."""

    def choose_settings(self) -> dict[str, Any]:
        """The dimension is all there is."""
        return {"latent_dim": self.space.dimension}

    def draw(self, generator: TorchGenerator, block: int) -> LatentBlock:
        """Draw a block."""
        return LatentBlock(torch.randn(block, self.space.dimension, generator=generator))
