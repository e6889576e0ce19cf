"""Classical augmentation of real images: the control that generative augmentation has to beat.

MONAI's transforms: left-right flip, a small affine and a smooth elastic deformation in one
resampling, a polynomial bias field, Gaussian noise. Strengths are in millimetres and do not depend
on the grid. How an image is moved is a function of (seed, epoch, image) alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from neuroaug.system.randomness import CLASSIFIER

ROTATION_RAD = float(np.deg2rad(5))
TRANSLATION_MM = 4.0
SCALE = 0.05
ELASTIC_SMOOTHNESS_MM = (12.0, 20.0)  # deviation of the Gaussian that smooths displacements
ELASTIC_DISPLACEMENT_MM = 2.5  # two standard deviations, at the least smoothness
BIAS = (0.0, 0.15)  # coefficients of the polynomial field, log intensity
NOISE = 0.02  # standard deviation, images being in [0, 1]
PROBABILITY = 0.5


def _elastic_magnitude(smoothness_voxels: float, displacement_voxels: float) -> float:
    """Magnitude that MONAI must be given for a displacement after its smoothing.

    Smoothing uniform noise on [-1, 1] (variance 1/3) with a normalised Gaussian of standard
    deviation s leaves a variance of 1/3 / (2 sqrt(pi) s)^3; twice the resulting deviation is set to
    the displacement.
    """
    deviation = np.sqrt(1 / 3 / (2 * np.sqrt(np.pi) * smoothness_voxels) ** 3)
    return float(displacement_voxels / (2 * deviation))


def transform(
    shape: Sequence[int], voxel_mm: float, device: torch.device
) -> Callable[[torch.Tensor, int], torch.Tensor]:
    """The augmentation of one image on a grid.

    Parameters
    ----------
    shape : (X, Y, Z)
        Grid of the image.
    voxel_mm : float
        Voxel size, mm.
    device : torch.device
        Device that resamples.

    Returns
    -------
    callable
        (image (1, X, Y, Z), seed) -> augmented image, same shape, in [0, 1].
    """
    from monai.transforms import Compose, Rand3DElastic, RandBiasField, RandFlip, RandGaussianNoise

    smoothness = (ELASTIC_SMOOTHNESS_MM[0] / voxel_mm, ELASTIC_SMOOTHNESS_MM[1] / voxel_mm)
    x, y, z = shape
    magnitude = _elastic_magnitude(smoothness[0], ELASTIC_DISPLACEMENT_MM / voxel_mm)
    steps = Compose(
        [
            RandFlip(prob=PROBABILITY, spatial_axis=0),
            Rand3DElastic(
                sigma_range=smoothness,
                magnitude_range=(0.0, magnitude),
                prob=1.0,
                rotate_range=[ROTATION_RAD] * 3,
                translate_range=[TRANSLATION_MM / voxel_mm] * 3,
                scale_range=[SCALE] * 3,
                spatial_size=(x, y, z),
                mode="bilinear",
                padding_mode="border",
                device=device,
            ),
            RandBiasField(degree=3, coeff_range=BIAS, prob=PROBABILITY),
            RandGaussianNoise(prob=PROBABILITY, std=NOISE),
        ]
    )

    def augment(image: torch.Tensor, seed: int) -> torch.Tensor:
        steps.set_random_state(seed=seed)
        out = steps(image)
        out = out.as_tensor() if hasattr(out, "as_tensor") else torch.as_tensor(out)
        return out.to(image.device, torch.float32).clamp_(0, 1)

    return augment


N_VERSIONS = 8
"""Augmented versions of an image that is tested, beside the image itself."""


class TestTimeAugmentation:
    """Several augmented versions of tested images, by the transforms of the training.

    Parameters
    ----------
    shape, voxel_mm, seed, device
        As of `ClassicalAugmentation`.
    """

    __test__ = False  # no test, whatever its name

    def __init__(
        self, shape: Sequence[int], voxel_mm: float, seed: int, device: torch.device
    ) -> None:
        self.seed = seed
        self._augment = transform(shape, voxel_mm, device)

    def __call__(self, images: torch.Tensor, batch: Sequence[dict]) -> Iterator[torch.Tensor]:
        """Yield versions of (B, 1, X, Y, Z) images, each a function of (seed, visit, number)."""
        for version in range(N_VERSIONS):
            out = torch.empty_like(images)
            for i, item in enumerate(batch):
                visit = (item["participant_id"], item["session_id"])
                seed = CLASSIFIER.seed(self.seed, "test-time", *visit, version)
                out[i] = self._augment(images[i].contiguous(), seed)
            yield out


class ClassicalAugmentation:
    """Augments the real images of a training batch; synthetic ones are left as they are.

    Parameters
    ----------
    shape : (X, Y, Z)
        Grid of the images.
    voxel_mm : float
        Voxel size, mm.
    seed : int
        The run's seed.
    device : torch.device
        Device that resamples.
    """

    def __init__(
        self, shape: Sequence[int], voxel_mm: float, seed: int, device: torch.device
    ) -> None:
        self.seed = seed
        self._augment = transform(shape, voxel_mm, device)

    def __call__(self, images: torch.Tensor, batch: Sequence[dict]) -> torch.Tensor:
        """Augment (B, 1, X, Y, Z) images; `batch` holds their ``epoch place synthetic``."""
        out = images.clone()
        for i, item in enumerate(batch):
            if not item["synthetic"]:
                seed = CLASSIFIER.seed(self.seed, "classical", item["epoch"], item["place"])
                out[i] = self._augment(images[i].contiguous(), seed)
        return out
