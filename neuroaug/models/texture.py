"""Texture: what latents cannot explain of the training images, drawn anew for every image.

A decoder gives the mean of all images that share a code; what is missing is sharp, and belongs to a
person. The residuals r_j = x_j - decode(encode(x_j)) of N training images have the covariance
R R^T / N. It is kept as K random mixtures of them, F_k = sum_j a_kj r_j with a_kj ~ N(0, 1/N), and
a drawn field is sum_k b_k F_k with b_k ~ N(0, 1/K): over all draws its expected covariance is that
of the residuals, and no field is anybody's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from neuroaug.system.randomness import KEYED

AT_ONCE = 8


class Texture:
    """Mixtures of residuals, and fields drawn from them.

    Parameters
    ----------
    fields : Tensor, shape (K, X, Y, Z)
        F_k; float16 is enough.
    """

    def __init__(self, fields: Tensor) -> None:
        self.fields = fields

    def __len__(self) -> int:
        return len(self.fields)

    def draw(self, indices: Sequence[int], seed: int, label: str) -> Tensor:
        """Draw fields (n, X, Y, Z): each a function of (seed, label, index of the image) alone."""
        k = len(self.fields)
        drawn = []
        for index in indices:
            generator = torch.Generator().manual_seed(KEYED.seed(seed, "texture", label, index))
            weights = torch.randn(k, generator=generator) / k**0.5
            total = torch.zeros(self.fields.shape[1:])
            for weight, field in zip(weights, self.fields, strict=True):
                total += weight * field.float()
            drawn.append(total)
        return torch.stack(drawn)


@torch.no_grad()
def fit_texture(
    read: Callable[[int, int], Tensor],
    reconstruct: Callable[[Tensor], Tensor],
    n_images: int,
    n_fields: int,
    seed: int,
) -> Texture:
    """Mix the residuals of training images; they are read once, and none is kept.

    Parameters
    ----------
    read : callable
        Gives images first..last, (B, 1, X, Y, Z).
    reconstruct : callable
        From images to what the model makes of them.
    n_images : int
        N.
    n_fields : int
        K.
    seed : int
        Of the mixture.
    """
    generator = torch.Generator().manual_seed(KEYED.seed(seed, "texture", "mixture"))
    mixture = torch.randn(n_fields, n_images, generator=generator) / n_images**0.5
    fields: Tensor | None = None
    for first in range(0, n_images, AT_ONCE):
        x = read(first, min(first + AT_ONCE, n_images))
        rest = (x - reconstruct(x).to(x)).float()[:, 0]
        if fields is None:
            fields = torch.zeros(n_fields, *rest.shape[1:])
        for image, weights in zip(rest, mixture[:, first : first + AT_ONCE].T, strict=True):
            for k, weight in enumerate(weights):
                fields[k] += weight * image
    assert fields is not None, "no image"
    return Texture(fields.half())
