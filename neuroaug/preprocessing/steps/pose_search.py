"""A coarse search for a head's pose, by moving it and comparing: no gradients, and no ANTs.

The quality score asks with it whether a registered head would lie better elsewhere; a registration
that went wrong is given another start by it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from neuroaug.imaging.grid import UNCROPPED, Grid, block_mean
from neuroaug.imaging.template import Template, load_regions, load_template

Array = NDArray[np.float64]

BINS = 24
RADIUS_MM = 60.0  # of the ball that stands for the brain where a motion is turned into one distance
COARSE_MM = 8.0
CLIMB_MM = (16.0, 8.0, 4.0)
N_CLIMBS = 8  # starts that are led to their optimum


def to_bins(values: NDArray[np.floating], bins: int = BINS) -> NDArray[np.int64]:
    """Spread intensities over equal bins between the 0.5th and 99.5th percentiles."""
    low, high = np.percentile(values, [0.5, 99.5])
    scaled = (values - low) / max(float(high - low), 1e-12)
    return np.clip((scaled * bins).astype(np.int64), 0, bins - 1)


def normalized_mutual_information(
    first: NDArray[np.int64], second: NDArray[np.int64], bins: int = BINS
) -> float:
    """(H(a) + H(b)) / H(a, b) of two binned images: 1 if independent, 2 if one tells the other.

    Parameters
    ----------
    first, second : arrays (n,)
        Bin of each voxel, in 0 .. bins - 1.
    bins : int
        Number of bins.
    """
    joint = (
        np.bincount(first * bins + second, minlength=bins * bins).reshape(bins, bins) / first.size
    )

    def entropy(p: Array) -> float:
        p = p[p > 0]
        return float(-(p * np.log(p)).sum())

    both = entropy(joint)
    return (entropy(joint.sum(axis=1)) + entropy(joint.sum(axis=0))) / both if both > 0 else 1.0


def motion(parameters: Array) -> Array:
    """Rotation and common scale of a pose, as a matrix (3, 3).

    Parameters
    ----------
    parameters : array (7,)
        Shift, rotation vector and log scale, all as mm at `RADIUS_MM`.
    """
    from scipy.spatial.transform import Rotation

    angles = parameters[3:6] / RADIUS_MM
    return np.asarray(Rotation.from_rotvec(angles).as_matrix() * np.exp(parameters[6] / RADIUS_MM))


def about(centre: Array, parameters: Array) -> Array:
    """Spell `motion` and its shift as (4, 4), world (mm) to world, turning about `centre` (3,)."""
    matrix = np.eye(4)
    matrix[:3, :3] = motion(parameters)
    matrix[:3, 3] = centre + parameters[:3] - matrix[:3, :3] @ centre
    return matrix


def climb(
    score: Callable[[Array], float], steps_mm: Sequence[float], rounds: int
) -> tuple[Array, float, float]:
    """Climb to a better pose by a pattern search of shrinking steps.

    Parameters
    ----------
    score : callable
        Of 7 parameters (see `motion`); more is better.
    steps_mm : sequence of float
        Sizes of the moves tried, one after the other.
    rounds : int
        Moves of each size at most.

    Returns
    -------
    parameters : array (7,)
        The best pose found.
    before, after : float
        Score at zero and there.
    """
    parameters = np.zeros(7)
    start = best = score(parameters)
    for step in steps_mm:
        for _ in range(rounds):
            trials = [
                parameters + sign * step * np.eye(7)[axis] for axis in range(7) for sign in (-1, 1)
            ]
            scores = [score(trial) for trial in trials]
            if max(scores) <= best:
                break
            best, parameters = max(scores), trials[int(np.argmax(scores))]
    return parameters, start, best


def rotations() -> list[Array]:
    """Rotations (3, 3) to start from.

    The 24 of a cube (for headers that name the axes wrongly), and heads tilted by much.
    """
    from scipy.spatial.transform import Rotation

    cube = Rotation.create_group("O").as_matrix()
    # The identity first, so that it wins where two starts are equal.
    order = np.argsort([-np.trace(matrix) for matrix in cube], kind="stable")
    tilts = [(axis, angle) for axis in "xyz" for angle in (-50, -25, 25, 50)]
    tilted = [Rotation.from_euler(axis, angle, degrees=True).as_matrix() for axis, angle in tilts]
    return [np.round(cube[i]) for i in order] + tilted


def find_start(data: NDArray[np.float32], affine: Array, template: Template | None = None) -> Array:
    """Look over all orientations for the pose that lays a scan on the template, to about 10 mm.

    The head's centre of mass is laid on the template's, shifted along the body's axis (necks
    differ), in each of `rotations`; the best few are led to their optimum of mutual information at
    8 mm.

    Parameters
    ----------
    data : array (X, Y, Z)
        Intensities.
    affine : array (4, 4)
        Voxel indices to world.
    template : Template, optional
        The packaged one by default.

    Returns
    -------
    array (4, 4)
        Rigid, world to world, template to scan: a start for
        `neuroaug.preprocessing.steps.registration.align`.
    """
    from scipy import ndimage

    template = template or load_template()
    points, expected = _template_points(template)
    centre = np.average(points, axis=0, weights=expected + 1e-6)
    image, grid = _coarse(data, affine)
    to_index = np.linalg.inv(grid)
    target = _centre_of_mass(image, grid)
    bins = to_bins(expected)

    def matrix_of(rotation: Array, shift: Array) -> Array:
        matrix = np.eye(4)
        matrix[:3, :3] = rotation
        matrix[:3, 3] = target - rotation @ (centre + shift)
        return matrix

    def information(matrix: Array) -> float:
        to_image = to_index @ matrix
        index = points @ to_image[:3, :3].T + to_image[:3, 3]
        values = ndimage.map_coordinates(image, index.T, order=1, mode="constant")
        return normalized_mutual_information(bins, to_bins(values))

    starts = [
        matrix_of(r, np.array([0.0, 0.0, z]))
        for r in rotations()
        for z in (0.0, -25.0, 25.0, -50.0, 50.0)
    ]
    first = np.array([information(start) for start in starts])
    best, found = -np.inf, starts[0]
    for start in (starts[i] for i in np.argsort(-first, kind="stable")[:N_CLIMBS]):

        def score(parameters: Array, start: Array = start) -> float:
            return information(start @ about(centre, parameters))

        parameters, _, value = climb(score, CLIMB_MM, rounds=8)
        if value > best:
            best, found = value, start @ about(centre, np.append(parameters[:6], 0.0))
    return found


def _template_points(template: Template) -> tuple[Array, Array]:
    """World coordinates (n, 3) in and around the template's head at 8 mm, and intensities (n,)."""
    from scipy import ndimage

    data, grid = template.data, Grid(template.data.shape, np.array(template.affine))  # type: ignore[arg-type]
    while grid.voxel_mm[0] < COARSE_MM:
        data, grid = block_mean(data), grid.halved()
    head, whole = load_regions()[0].astype(np.float32), UNCROPPED
    while whole.voxel_mm[0] < COARSE_MM:
        head, whole = block_mean(head), whole.halved()
    around = ndimage.binary_dilation(head > 0.5, iterations=2).astype(np.float32)
    index = np.indices(data.shape).reshape(3, -1).T
    points = index @ grid.affine[:3, :3].T + grid.affine[:3, 3]
    in_head = (points - whole.affine[:3, 3]) / np.array(whole.voxel_mm)
    inside = ndimage.map_coordinates(around, in_head.T, order=0, mode="constant") > 0.5
    return points[inside], data.reshape(-1)[inside].astype(np.float64)


def _coarse(data: NDArray[np.float32], affine: Array) -> tuple[NDArray[np.float32], Array]:
    """A scan averaged over blocks of about 8 mm, and its affine."""
    factors = np.maximum(
        1, np.round(COARSE_MM / np.linalg.norm(affine[:3, :3], axis=0)).astype(int)
    )
    factors = np.minimum(factors, np.array(data.shape) // 4)
    shape = np.array(data.shape) // factors
    trimmed = data[tuple(slice(n) for n in shape * factors)]
    blocks = trimmed.reshape(shape[0], factors[0], shape[1], factors[1], shape[2], factors[2])
    grid = affine @ np.diag([*factors, 1.0])
    grid[:3, 3] = affine[:3, 3] + affine[:3, :3] @ ((factors - 1) / 2)
    return blocks.mean(axis=(1, 3, 5), dtype=np.float64).astype(np.float32), grid


def _centre_of_mass(image: NDArray[np.float32], grid: Array) -> Array:
    from scipy import ndimage

    bright = np.maximum(image - 0.2 * np.percentile(image, 98), 0)
    centre = (
        np.array(ndimage.center_of_mass(bright))
        if bright.any()
        else (np.array(image.shape) - 1) / 2
    )
    return np.asarray(grid[:3, :3] @ centre + grid[:3, 3])
