"""Intensities in [0, 1], and how they are stored: uint8 counts 255ths, floats are intensities.

`from_stored` works on arrays and on tensors alike, without importing torch.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from neuroaug.errors import InputError

Scaling = Literal["min-max", "percentile"]
PERCENTILES = (0.5, 99.5)

Voxels = TypeVar("Voxels", bound=Any)


def from_stored(stored: Voxels, dtype: Literal["float32", "float64"] = "float32") -> Voxels:
    """Turn stored voxels into intensities in [0, 1]: uint8 means x / 255, floats are kept.

    Parameters
    ----------
    stored : array or Tensor, any shape
        As `to_stored` gives them: uint8, float16 or float32.
    dtype : {"float32", "float64"}
        Precision of the result.

    Returns
    -------
    array or Tensor
        Of the shape, and on the device, of `stored`.
    """
    if isinstance(stored, np.ndarray):
        image: Any = stored.astype(dtype)
    else:
        image = stored.float() if dtype == "float32" else stored.double()
    if str(stored.dtype) in ("uint8", "torch.uint8"):
        image /= 255  # in place: it is a copy, as the type has changed
    return image


def to_stored(image: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Round intensities in [0, 1] to the type that they are stored in; `from_stored` undoes it.

    Parameters
    ----------
    image : array (X, Y, Z)
        Intensities in [0, 1].
    dtype : dtype
        uint8, which holds round(255 x), or a floating type.
    """
    return np.rint(image * 255).astype(np.uint8) if dtype == np.uint8 else image.astype(dtype)


def rescale(
    volume: NDArray[np.floating] | NDArray[np.integer], method: Scaling = "min-max"
) -> NDArray[np.float32]:
    """Map intensities to [0, 1], per image (METHOD 6).

    Parameters
    ----------
    volume : array (X, Y, Z)
        Finite intensities.
    method : {"min-max", "percentile"}
        By the extremes (the papers' way), or by the 0.5th and 99.5th percentiles, beyond which
        values are clipped.

    Raises
    ------
    InputError
        If the image is constant (or, by percentiles, nearly so) or the method unknown.
    """
    if method == "min-max":
        low, high = float(volume.min()), float(volume.max())
    elif method == "percentile":
        low, high = (float(p) for p in np.percentile(volume, PERCENTILES))
    else:
        raise InputError(f"scaling '{method}': unknown; choose min-max or percentile")
    if not high > low:
        raise InputError(
            f"image with intensities from {low:g} to {high:g}: constant, cannot be scaled to [0, 1]"
        )
    scaled = (volume.astype(np.float32) - np.float32(low)) / np.float32(high - low)
    return np.clip(scaled, 0.0, 1.0, out=scaled)
