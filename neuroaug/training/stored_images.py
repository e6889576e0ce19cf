"""Training images as stored: opened, checked, and what a model may know before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from neuroaug.errors import InputError
from neuroaug.imaging.intensity import from_stored
from neuroaug.models.autoencoder import TrainingStart
from neuroaug.models.principal_components import Reader
from neuroaug.training.random_order import Rows

if TYPE_CHECKING:
    from neuroaug.imaging.cache import CohortCache


def stored_array(images: CohortCache | NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any] | Path]:
    """The stored array, and how another process gets at it."""
    from neuroaug.imaging.cache import CohortCache

    if isinstance(images, CohortCache):
        return images.images, images.folder
    array = np.asarray(images)
    if array.dtype not in (np.uint8, np.float16):
        array = array.astype(np.float32)
    if array.ndim == 5 and array.shape[1] == 1:
        array = array[:, 0]
    return array, array


def open_stored(source: NDArray[Any] | Path) -> NDArray[Any]:
    """Open what `stored_array` said of the source."""
    from neuroaug.imaging.cache import CohortCache

    # The checksum was verified when the cache was opened; once is enough.
    return CohortCache.open(source, verify=False).images if isinstance(source, Path) else source


def check_images(images: NDArray[Any], names: Sequence[str]) -> None:
    """Refuse images that no generator can learn from, naming the first bad one.

    Raises
    ------
    InputError
        Wrong dimensions, NaN, infinite, or intensities outside [0, 1].
    """
    if images.ndim != 4:
        raise InputError(f"images of shape {images.shape}: expected (N, X, Y, Z)")
    if images.dtype == np.uint8:
        return
    for name, image in zip(names, images, strict=True):
        # The sum is finite only if every voxel is: one pass, without a mask in memory.
        if not np.isfinite(image.sum(dtype=np.float64)):
            n_bad = int(image.size - np.count_nonzero(np.isfinite(image)))
            raise InputError(
                f"image of {name}: {n_bad} voxels are NaN or infinite; "
                "repair it or leave the visit out"
            )
        low, high = float(image.min()), float(image.max())
        if low < -1e-3 or high > 1 + 1e-3:
            raise InputError(
                f"image of {name}: intensities from {low:g} to {high:g}, expected [0, 1]; "
                "rescale it"
            )


def mean_and_deviation(stored: NDArray[Any], rows: Rows) -> tuple[NDArray[np.float32], float]:
    """Mean (X, Y, Z) of stored images and standard deviation around it; read one at a time."""
    total = np.zeros(stored.shape[1:], dtype=np.float64)
    squares = np.zeros_like(total)
    for row in rows:
        image = from_stored(stored[row], "float64")
        total += image
        squares += image**2
    mean = total / len(rows)
    return mean.astype(np.float32), float(
        np.sqrt(np.mean(np.maximum(squares / len(rows) - mean**2, 0.0)))
    )


def image_reader(stored: NDArray[Any], rows: Rows | None = None) -> Reader:
    """Give some stored images, by default all, by first and one past the last of them."""
    chosen = np.arange(len(stored)) if rows is None else rows

    def read(first: int, last: int) -> torch.Tensor:
        return torch.from_numpy(from_stored(stored[chosen[first:last]]))[:, None]

    return read


def training_start(stored: NDArray[Any], rows: Rows) -> TrainingStart:
    """What a model may know of some stored images before its first step."""

    def spread(n: int) -> torch.Tensor:
        chosen = rows[np.linspace(0, len(rows) - 1, n).round().astype(int)]
        return torch.from_numpy(from_stored(stored[chosen]))[:, None]

    mean, deviation = mean_and_deviation(stored, rows)

    read = image_reader(stored, rows)
    return TrainingStart(torch.from_numpy(mean), deviation, spread, len(rows), read)
