"""Classical augmentation of small grey images: moved, turned, scaled and noisy copies.

TPAMI sec. 4.2.2 compares with such copies and does not give its transforms.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import affine_transform

from neuroaug.published.digits.digit_images import LabelledImages

ROTATION_RAD = np.deg2rad(15)
SHIFT_PIXELS = 2.0
SCALE = 0.1
NOISE = 0.05


def enlarged(images: LabelledImages, factor: int, seed: int) -> LabelledImages:
    """The images and `factor` - 1 altered copies of each; no flips, a mirrored digit being none.

    Parameters
    ----------
    images : LabelledImages
        The originals.
    factor : int
        How many times as many images there are afterwards.
    seed : int
        Seed of the copies' transforms and noise.
    """
    rng = np.random.default_rng(seed)
    copies = [images.images]
    for _ in range(factor - 1):
        altered = np.stack([_altered(image[..., 0], rng) for image in images.images])
        copies.append(altered[..., None])
    return LabelledImages(np.concatenate(copies), np.tile(images.labels, factor))


def _altered(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    angle, scale = rng.uniform(-ROTATION_RAD, ROTATION_RAD), rng.uniform(1 - SCALE, 1 + SCALE)
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / scale
    centre = (np.array(image.shape) - 1) / 2
    offset = centre - matrix @ (centre + rng.uniform(-SHIFT_PIXELS, SHIFT_PIXELS, 2))
    moved = affine_transform(image.astype(np.float64) / 255, matrix, offset, order=1)
    noisy = moved + NOISE * rng.standard_normal(image.shape)
    return np.rint(255 * np.clip(noisy, 0, 1)).astype(np.uint8)
