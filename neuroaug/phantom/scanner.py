"""One phantom participant's raw scan: anatomy, pose, contrast, grid, bias field, noise."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import nibabel as nib
import numpy as np
from nibabel import orientations
from numpy.typing import NDArray
from scipy import ndimage

from neuroaug.imaging.grid import GRIDS, block_mean
from neuroaug.phantom.anatomy import (
    COARSE_MM,
    Anatomy,
    Array,
    average_anatomy,
    compose,
    exponential,
)
from neuroaug.phantom.phantom_tables import Person

FIELD_OF_VIEW_MM = (208.0, 248.0, 216.0)


@dataclass(frozen=True)
class Site:
    """How one site scans.

    Attributes
    ----------
    voxel_mm : tuple
        Voxel size along the left-right, back-front and foot-head axes of the scan.
    orientations : tuple of str
        Axis codes of the stored arrays; participants get one of them.
    gamma, grey, white : float
        Contrast: the template to the power `gamma`, times ``1 + grey * p(grey) + white *
        p(white)``.
    bias : float
        Standard deviation of the log of the bias field.
    noise : float
        Standard deviation of the noise of each channel, white matter being 1.
    slope : float
        Stored integers times `slope` are intensities.
    """

    voxel_mm: tuple[float, float, float]
    orientations: tuple[str, ...]
    gamma: float
    grey: float
    white: float
    bias: float
    noise: float
    slope: float


SITES = {
    "901": Site((2.0, 2.0, 2.0), ("RAS", "LAS"), 1.0, 0.00, 0.05, 0.12, 0.020, 0.25),
    "902": Site((2.6, 2.0, 2.0), ("PSR", "PIR"), 1.2, -0.04, 0.00, 0.18, 0.030, 1.0),
    "903": Site((2.2, 2.2, 3.0), ("LAS", "LIA"), 0.9, 0.03, -0.05, 0.08, 0.025, 0.5),
}


@dataclass(frozen=True)
class PhantomScan:
    """A raw scan.

    Attributes
    ----------
    stored : array (X, Y, Z), int16
        Stored integers.
    slope : float
        Stored integers times `slope` are intensities.
    affine : array (4, 4)
        Voxel indices to world (RAS+, mm).
    truth : dict of str to float
        Volumes of structures in ml.
    """

    stored: NDArray[np.int16]
    slope: float
    affine: NDArray[np.float64]
    truth: dict[str, float]


def rotation(angles: NDArray) -> NDArray[np.float64]:
    """Rotation about x, then y, then z, (3, 3); angles in radians."""
    (a, b, c), (d, e, f) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, a, -d], [0, d, a]])
    about_y = np.array([[b, 0, e], [0, 1, 0], [-e, 0, b]])
    about_z = np.array([[c, -f, 0], [f, c, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def random_velocity(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Smooth random velocity (3, x, y, z), mm: 3 mm rms at a width of 24 mm and 1.2 mm at 11 mm."""
    velocity = np.zeros((3, *shape), np.float32)
    for width_mm, rms_mm in ((24, 3.0), (11, 1.2)):
        for part in velocity:
            noise = ndimage.gaussian_filter(
                rng.standard_normal(shape, np.float32), width_mm / COARSE_MM, mode="wrap"
            )
            part += noise * np.float32(rms_mm / noise.std())
    return velocity


@lru_cache(maxsize=len(SITES))
def _contrast(site_name: str) -> Array:
    """The average head with a site's contrast, blurred a little towards its voxel size, at 1 mm."""
    anatomy, site = average_anatomy(), SITES[site_name]
    seen = anatomy.head**site.gamma * (1 + site.grey * anatomy.grey + site.white * anatomy.white)
    blur = [0.3 * size for size in site.voxel_mm]
    return ndimage.gaussian_filter(seen.astype(np.float32), blur, truncate=3)


def reorient(volume: NDArray, affine: NDArray, codes: str) -> tuple[NDArray, NDArray[np.float64]]:
    """Store the same scan with other axes: every voxel keeps its place in the world.

    Parameters
    ----------
    volume : ndarray (X, Y, Z)
        Voxels.
    affine : ndarray (4, 4)
        Voxel indices to world (RAS+, mm).
    codes : str
        Where each array axis points, e.g. ``"PSR"``.

    Returns
    -------
    volume, affine
        The same scan, axes along `codes`.
    """
    change = orientations.ornt_transform(
        orientations.io_orientation(affine), orientations.axcodes2ornt(tuple(codes))
    )
    turned = orientations.apply_orientation(volume, change)
    return np.ascontiguousarray(turned), affine @ orientations.inv_ornt_aff(change, volume.shape)


def _bias_field(shape: tuple[int, ...], strength: float, rng: np.random.Generator) -> Array:
    coarse = ndimage.gaussian_filter(
        rng.standard_normal((10, 12, 10), np.float32), 2.5, mode="wrap"
    )
    coarse *= strength / coarse.std()
    zoom = [n / m for n, m in zip(shape, coarse.shape, strict=True)]
    return np.exp(ndimage.zoom(coarse, zoom, order=1, grid_mode=True, mode="nearest"))


def scan(person: Person, seed: int, voxel_mm: float | None = None) -> PhantomScan:
    """Scan a phantom participant: a function of (person, seed, voxel_mm) alone.

    Parameters
    ----------
    person : Person
        Gives the site, the sex and the volume ratios.
    seed : int
        Seed of the cohort.
    voxel_mm : float, optional
        Isotropic voxel size; by default the site's own.
    """
    rng = np.random.default_rng([seed, person.number, 1])
    anatomy, site = average_anatomy(), SITES[person.site]
    displacement = _displacement(person, rng)

    # Pose: head to scanner world. Women's heads are a little smaller.
    scale = (0.99 if person.sex == "M" else 0.95) * np.exp(0.03 * rng.standard_normal())
    angles = np.clip(rng.normal(0, [0.09, 0.05, 0.06]), -0.26, 0.26)
    shift = np.clip(rng.normal(0, 9, 3), -25, 25)
    pose = np.eye(4)
    pose[:3, :3] = rotation(angles) * scale
    pose[:3, 3] = shift

    # Grid: oblique by some degrees, about where the operator thought the head's middle was.
    size = np.array(site.voxel_mm if voxel_mm is None else (voxel_mm,) * 3)
    shape = tuple(int(n) for n in np.rint(np.array(FIELD_OF_VIEW_MM) / size))
    grid = np.eye(4)
    grid[:3, :3] = rotation(np.clip(rng.normal(0, 0.05, 3), -0.15, 0.15)) * size
    middle = (pose @ [0, -18, 12, 1])[:3] + rng.normal(0, 3, 3)
    grid[:3, 3] = middle - grid[:3, :3] @ ((np.array(shape) - 1) / 2)

    to_coarse = np.linalg.inv(pose @ anatomy.coarse_affine) @ grid
    signal = _signal(person, displacement, _apply(to_coarse, shape))
    signal **= np.float32(np.exp(0.05 * rng.standard_normal()))
    signal *= _bias_field(shape, site.bias, rng)
    magnitude = _magnitude(signal, site, rng)
    stored = np.clip(np.rint(magnitude / np.float32(site.slope)), 0, 32767).astype(np.int16)

    codes = site.orientations[person.number % len(site.orientations)]
    stored, affine = reorient(stored, grid, codes)
    return PhantomScan(stored, site.slope, affine, _truth(anatomy, displacement, scale))


@dataclass(frozen=True)
class RegisteredPhantom:
    """A phantom's image as if preprocessing had ended perfectly.

    Attributes
    ----------
    image : array (42, 52, 44), float32
        On the cropped 4 mm grid.
    truth : dict of str to float
        Volumes of structures in ml, those of the scan of the same person.
    """

    image: Array
    truth: dict[str, float]


def registered(person: Person, seed: int) -> RegisteredPhantom:
    """Image of a phantom directly on the cropped 4 mm grid: a function of (person, seed) alone.

    Head, size, contrast and scanner are those of `scan`. In place of the pose and its undoing by
    registration stands the affine map that brings the head nearest to the template (least squares
    over the brain), in place of the bias field and its undoing by N4 nothing; noise is drawn on
    2 mm voxels, whose block means are taken as preprocessing takes them.

    Parameters
    ----------
    person : Person
        Gives the site, the sex and the volume ratios.
    seed : int
        Seed of the cohort.
    """
    rng = np.random.default_rng([seed, person.number, 1])
    anatomy, site = average_anatomy(), SITES[person.site]
    displacement = _displacement(person, rng)
    scale = (0.99 if person.sex == "M" else 0.95) * np.exp(0.03 * rng.standard_normal())

    grid = GRIDS["2mm"]
    fitted = _nearest_affine(displacement, anatomy.intracranial > 0.5)
    to_coarse = fitted @ np.linalg.inv(anatomy.coarse_affine) @ grid.affine
    signal = _signal(person, displacement, _apply(to_coarse, grid.shape))
    signal **= np.float32(np.exp(0.05 * rng.standard_normal()))
    image = block_mean(_magnitude(signal, site, rng))
    return RegisteredPhantom(image, _truth(anatomy, displacement, scale))


def _nearest_affine(displacement: Array, inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Map of template to head, in coarse voxels, nearest to the inverse of the displacement."""
    head = np.indices(inside.shape, dtype=np.float64)[:, inside].T
    average = head + displacement[:, inside].T / COARSE_MM
    design = np.column_stack([average, np.ones(len(average))])
    # Normal equations: twelve unknowns, well conditioned, and no routine that depends on threads.
    solved = np.linalg.solve(design.T @ design, design.T @ head)
    affine = np.eye(4)
    affine[:3] = solved.T
    return affine


def _displacement(person: Person, rng: np.random.Generator) -> Array:
    """Displacement that leads from a person's head to the average one, (3, x, y, z) in mm."""
    anatomy = average_anatomy()
    own_shape = exponential(random_velocity(anatomy.intracranial.shape, rng), COARSE_MM)
    return compose(own_shape, anatomy.atrophy(person.ratios), COARSE_MM)


def _signal(person: Person, displacement: Array, points: Array) -> Array:
    """Noiseless signal of a head at `points` (3, X, Y, Z) in coarse voxels, changed in place."""
    anatomy = average_anatomy()
    moved = [
        ndimage.map_coordinates(part, points, order=1, mode="nearest") for part in displacement
    ]
    coarse_to_fine = np.linalg.inv(anatomy.affine) @ anatomy.coarse_affine
    for axis in range(3):  # both grids have the same axes: scale, shift, move
        points[axis] = points[axis] * np.float32(coarse_to_fine[axis, axis]) + np.float32(
            coarse_to_fine[axis, 3]
        )
        points[axis] += moved[axis] / np.float32(abs(anatomy.affine[axis, axis]))
    signal: Array = ndimage.map_coordinates(_contrast(person.site), points, order=1)
    return signal


def _magnitude(signal: Array, site: Site, rng: np.random.Generator) -> Array:
    """Add the noise of both channels, and the scanner's gain."""
    sigma = np.float32(site.noise * np.exp(0.2 * rng.standard_normal()))
    real = signal + sigma * rng.standard_normal(signal.shape, np.float32)
    imaginary = sigma * rng.standard_normal(signal.shape, np.float32)
    magnitude: Array = np.hypot(real, imaginary) * np.float32(rng.uniform(500, 900))
    return magnitude


def _truth(anatomy: Anatomy, displacement: Array, scale: float) -> dict[str, float]:
    """Volumes of the structures of a head of a given size, ml."""
    truth = {
        f"{name}_ml": round(anatomy.volume(name, displacement) * scale**3, 3)
        for name in anatomy.structures
    }
    truth["intracranial_ml"] = round(anatomy.intracranial_volume(displacement) * scale**3, 1)
    return truth


def _apply(affine: NDArray, shape: tuple[int, ...]) -> Array:
    """Image of every voxel index under an affine, (3, *shape), built by broadcasting."""
    x, y, z = np.ogrid[: shape[0], : shape[1], : shape[2]]
    rows = np.asarray(affine, np.float32)[:3]
    return np.stack(
        [
            row[0] * x.astype("f4") + row[1] * y.astype("f4") + row[2] * z.astype("f4") + row[3]
            for row in rows
        ]
    )


def nifti_bytes(scan: PhantomScan) -> bytes:
    """Encode as an uncompressed NIfTI-1 file: int16 with a slope, scanner sform and qform."""
    image = nib.Nifti1Image(scan.stored, scan.affine)
    image.header.set_slope_inter(scan.slope, 0)
    image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"] = b"phantom, not a patient"
    image.set_qform(scan.affine, code=1)
    image.set_sform(scan.affine, code=1)
    return image.to_bytes()
