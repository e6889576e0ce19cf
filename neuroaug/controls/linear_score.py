"""A number per image, linear in its voxels: what every linear classifier comes down to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from neuroaug.models.principal_components import (
    Components,
    Reader,
    mean_image,
    principal_components,
)

Values = NDArray[np.float64]

MOST_COMPONENTS = 300
"""More teach a linear classifier of a few hundred people nothing, and cost memory."""

AT_ONCE = 16


@dataclass(frozen=True)
class LinearScore:
    """Score = <weights, image> + intercept.

    Attributes
    ----------
    weights : ndarray, shape (X, Y, Z)
        One per voxel; float32.
    intercept : float
        Added to it.
    """

    weights: NDArray[np.float32]
    intercept: float

    def of(self, read: Reader, n_images: int) -> Values:
        """Scores of images 0..n-1, (n,)."""
        flat = torch.from_numpy(self.weights).flatten().double()
        parts = [
            read(start, min(start + AT_ONCE, n_images)).flatten(1).double() @ flat
            for start in range(0, n_images, AT_ONCE)
        ]
        return torch.cat(parts).numpy() + self.intercept


@dataclass(frozen=True)
class ImageComponents:
    """Images as scores on their principal components, and the way back to voxels.

    Attributes
    ----------
    mean : Tensor, shape (X, Y, Z)
        Mean image.
    components : Components
        Of the images.
    scores : ndarray, shape (N, K)
        Of the images, divided by `scale`.
    scale : float
        Standard deviation of the images along their first component.
    """

    mean: torch.Tensor
    components: Components
    scores: Values
    scale: float

    @classmethod
    def of(cls, read: Reader, n_images: int) -> ImageComponents:
        """Find the components of images 0..n-1; at most `MOST_COMPONENTS`."""
        mean = mean_image(read, n_images)
        n_kept = max(1, min(n_images - 1, MOST_COMPONENTS))
        components = principal_components(read, mean, n_images, n_kept)
        scale = max(float(components.variances[0].sqrt()), 1e-12)
        flat = mean.flatten()
        scores = torch.cat(
            [
                (read(i, min(i + AT_ONCE, n_images)).flatten(1).float() - flat)
                @ components.directions
                for i in range(0, n_images, AT_ONCE)
            ]
        )
        return cls(mean, components, scores.double().numpy() / scale, scale)

    def in_voxels(self, weights: Values, intercept: float) -> LinearScore:
        """Give a score that is linear in `scores` as one that is linear in voxels."""
        direction = self.components.directions.double() @ torch.from_numpy(weights / self.scale)
        offset = float(direction @ self.mean.flatten().double())
        return LinearScore(
            direction.float().reshape(self.mean.shape).numpy(), float(intercept) - offset
        )
