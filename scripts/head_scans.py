"""T1w-like scans of known anatomy in known poses, made from label maps of real heads.

A label map has FreeSurfer's numbers, and 5xx for skull and soft tissue. Used by the other scripts;
nothing in the package reads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel import orientations
from scipy import ndimage
from scipy.spatial.transform import Rotation

# Level of each label in a T1-weighted image, white matter being 110.
# fmt: off
T1W = {
    2: 110, 3: 78, 4: 32, 5: 32, 7: 106, 8: 78, 10: 92, 11: 82, 12: 90, 13: 100, 14: 32, 15: 32,
    16: 104, 17: 78, 18: 78, 24: 28, 26: 78, 28: 95, 41: 110, 42: 78, 43: 32, 44: 32, 46: 106,
    47: 78, 49: 92, 50: 82, 51: 90, 52: 100, 53: 78, 54: 78, 58: 78, 60: 95, 85: 95, 502: 40,
    506: 30, 507: 85, 508: 60, 509: 65, 511: 75, 512: 95, 514: 45, 515: 18, 516: 95, 530: 85,
}
# fmt: on
SOFT_TISSUE = 507


@dataclass(frozen=True)
class Pose:
    """How a head is scanned.

    Attributes
    ----------
    degrees, shift_mm : tuple of float
        Motion of the head in the scanner: Euler angles about x, y, z through its centre, then a
        shift.
    tilt : tuple of float
        Euler angles of the slab against the scanner's axes (an oblique header), in degrees.
    voxel_mm : tuple of float
        Voxel size along x, y, z of the slab.
    axes : str
        Order and sign in which the voxels are stored.
    bias : float
        Strength of the coil's field: standard deviation of the coefficients of a quadratic in the
        logarithm.
    noise : float
        Standard deviation of the Rician noise, where white matter is 110.
    top_mm, bottom_mm : float
        Field of view cut off above and below the head's own extent.
    """

    degrees: tuple[float, float, float] = (0, 0, 0)
    shift_mm: tuple[float, float, float] = (0, 0, 0)
    tilt: tuple[float, float, float] = (0, 0, 0)
    voxel_mm: tuple[float, float, float] = (1, 1, 1)
    axes: str = "RAS"
    bias: float = 0.15
    noise: float = 4.0
    top_mm: float = 0.0
    bottom_mm: float = 0.0


def read_labels(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Read a label map: labels (X, Y, Z), affine (4, 4)."""
    image = nib.Nifti1Image.from_filename(path)
    return np.asarray(image.dataobj).astype(np.int32), np.asarray(image.affine)


def draw(labels: np.ndarray, rng: np.random.Generator, bias: float) -> np.ndarray:
    """Draw intensities, (X, Y, Z): contrast by label, texture in fat and muscle, a smooth field."""
    table = np.zeros(int(labels.max()) + 1, np.float32)
    gamma = rng.uniform(0.75, 1.3)
    for label in np.unique(labels[labels > 0]):
        table[label] = 110 * (T1W.get(int(label), 60) / 110) ** gamma * (1 + 0.08 * rng.normal())
    image = table[labels]
    coarse = ndimage.gaussian_filter(rng.normal(size=tuple(n // 4 + 1 for n in labels.shape)), 1.0)
    texture = ndimage.zoom(coarse / coarse.std(), 4, order=1)[tuple(slice(n) for n in labels.shape)]
    soft = labels == SOFT_TISSUE
    image[soft] *= 1 + 0.35 * texture[soft].astype(np.float32)
    image = ndimage.gaussian_filter(image, 0.6)
    x, y, z = np.meshgrid(
        *(np.linspace(-1, 1, n, dtype=np.float32) for n in labels.shape), indexing="ij", sparse=True
    )
    c = rng.normal(0, bias, 9).astype(np.float32)
    field = c[0] * x + c[1] * y + c[2] * z + c[3] * x * x + c[4] * y * y + c[5] * z * z
    field = field + c[6] * x * y + c[7] * x * z + c[8] * y * z
    return np.asarray(image * np.exp(field), np.float32)


def rotation(degrees: tuple[float, float, float]) -> np.ndarray:
    """Rotation matrix, (3, 3), of Euler angles about x, y, z in degrees."""
    return np.asarray(Rotation.from_euler("xyz", degrees, degrees=True).as_matrix())


def scan(
    labels: np.ndarray, affine: np.ndarray, pose: Pose, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scan a head.

    Returns
    -------
    data : array (X, Y, Z), float32
        Intensities, axes as stored.
    affine : array (4, 4)
        Voxel indices to world.
    motion : array (4, 4)
        World to world: where the anatomy of the label map went.
    """
    rng = np.random.default_rng(seed)
    image = draw(labels, rng, pose.bias)
    points = np.argwhere(labels > 0)[::97] @ affine[:3, :3].T + affine[:3, 3]
    centre = points.mean(axis=0)
    motion = np.eye(4)
    motion[:3, :3] = rotation(pose.degrees)
    motion[:3, 3] = centre + pose.shift_mm - motion[:3, :3] @ centre
    slab = rotation(pose.tilt)
    inside = (points @ motion[:3, :3].T + motion[:3, 3]) @ slab  # in the slab's own axes
    low, high = inside.min(axis=0) - 8, inside.max(axis=0) + 8
    low[2], high[2] = low[2] + pose.bottom_mm, high[2] - pose.top_mm
    voxel = np.array(pose.voxel_mm, float)
    grid = np.eye(4)
    grid[:3, :3] = slab @ np.diag(voxel)
    grid[:3, 3] = slab @ (low + voxel / 2)
    shape = np.floor((high - low) / voxel).astype(int)
    blurred = ndimage.gaussian_filter(image, np.where(voxel > 1, 0.4 * voxel, 0).max())
    to_labels = np.linalg.inv(affine) @ np.linalg.inv(motion) @ grid
    data = ndimage.affine_transform(
        blurred,
        to_labels[:3, :3],
        to_labels[:3, 3],
        output_shape=tuple(shape),
        order=1,
        output=np.float32,
    )
    noise = rng.normal(0, pose.noise, (2, *data.shape)).astype(np.float32)
    data = np.hypot(data + noise[0], noise[1])
    turn = orientations.ornt_transform(
        orientations.io_orientation(grid), orientations.axcodes2ornt(tuple(pose.axes))
    )
    turned = np.ascontiguousarray(orientations.apply_orientation(data, turn), np.float32)
    return turned, grid @ orientations.inv_ornt_aff(turn, data.shape), motion
