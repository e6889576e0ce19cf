"""The grids of registered images: template, crop, and the copies at 2 and 4 mm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuroaug.errors import InputError

CROP = (slice(12, 181), slice(13, 221), slice(0, 179))


@dataclass(frozen=True, eq=False)
class Grid:
    """A regular grid of voxels in millimetres.

    Attributes
    ----------
    shape : tuple of int
        Voxels along x, y, z.
    affine : array (4, 4)
        Voxel indices to world (RAS+, mm), at voxel centres.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]

    def __post_init__(self) -> None:
        self.affine.setflags(write=False)

    @property
    def voxel_mm(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxels along each axis."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    @property
    def origin(self) -> tuple[float, float, float]:
        """World coordinates of the centre of the first voxel."""
        x, y, z = self.affine[:3, 3]
        return float(x), float(y), float(z)

    def matches(
        self, shape: tuple[int, ...], affine: NDArray[np.floating], tolerance_mm: float = 1e-3
    ) -> bool:
        """Whether an image of this shape and affine lies on the grid."""
        return tuple(shape) == self.shape and bool(
            np.allclose(affine, self.affine, rtol=0, atol=tolerance_mm)
        )

    def halved(self) -> Grid:
        """Return the grid of `block_mean`: voxels twice as wide, origin half a voxel inwards."""
        x, y, z = (n // 2 for n in self.shape)
        affine = self.affine @ np.diag([2.0, 2.0, 2.0, 1.0])
        affine[:3, 3] = self.affine[:3, 3] + self.affine[:3, :3] @ np.full(3, 0.5)
        return Grid((x, y, z), affine)


def _at(shape: tuple[int, int, int], origin: tuple[float, float, float]) -> Grid:
    affine = np.eye(4)
    affine[:3, 3] = origin
    return Grid(shape, affine)


UNCROPPED = _at((193, 229, 193), (-96.0, -132.0, -78.0))
_CROPPED = _at((169, 208, 179), (-84.0, -119.0, -78.0))
GRIDS: dict[str, Grid] = {
    "1mm": _CROPPED,
    "2mm": _CROPPED.halved(),
    "4mm": _CROPPED.halved().halved(),
}


def crop(volume: NDArray[np.generic]) -> NDArray[np.generic]:
    """Cut the cropped grid out of an image on the template's grid, as a copy.

    Parameters
    ----------
    volume : array (193, 229, 193)
        On the template's grid.

    Returns
    -------
    array (169, 208, 179)

    Raises
    ------
    InputError
        If the image is not on the template's grid.
    """
    if volume.shape != UNCROPPED.shape:
        raise InputError(
            f"image of shape {volume.shape}: not on the template's grid {UNCROPPED.shape}"
        )
    return np.ascontiguousarray(volume[CROP])


def block_mean(volume: NDArray[np.floating]) -> NDArray[np.float32]:
    """Mean of each 2x2x2 block, odd last voxels left out: (X, Y, Z) -> (X // 2, Y // 2, Z // 2).

    Equals trilinear interpolation by one half without aligned corners: METHOD 6.
    """
    x, y, z = (n // 2 for n in volume.shape)
    blocks = volume[: 2 * x, : 2 * y, : 2 * z].reshape(x, 2, y, 2, z, 2)
    return blocks.mean(axis=(1, 3, 5), dtype=np.float64).astype(np.float32)
