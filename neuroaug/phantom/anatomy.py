"""The anatomy behind the phantom cohort: tissue maps in MNI space and flows that change it.

No patient's image is in it. The base is the average head that the package ships and the average
grey and white matter maps that nilearn ships, both in MNI space at 1 mm.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse import linalg
from threadpoolctl import threadpool_limits

from neuroaug.imaging.nifti import read_volume
from neuroaug.imaging.template import load_template

Array = NDArray[np.float32]

COARSE_MM = 3  # the flows are smooth: 3 mm still resolves a ventricle's horn
N_SQUARINGS = 5
STRUCTURES = ("ventricles", "hippocampus", "cortex")
# What a flow run with some strength does to its structure's volume: strengths, ratios; interpolated
# between. A table, since measuring it would cost each process four seconds; a test measures it.
GROWTH = {
    "ventricles": ((-0.4, 0.0, 0.5, 1.5, 3.0, 5.0), (0.80, 1.0, 1.34, 2.00, 3.11, 4.65)),
    "hippocampus": ((-0.8, -0.4, 0.0, 0.2), (0.61, 0.79, 1.0, 1.14)),
    "cortex": ((-0.4, -0.2, 0.0, 0.1), (0.83, 0.905, 1.0, 1.04)),
}


@dataclass(frozen=True)
class Anatomy:
    """Maps of the average head on a 1 mm grid, and flows on a 3 mm grid of the same extent.

    Attributes
    ----------
    head : ndarray (X, Y, Z)
        T1-weighted average with skull and scalp, in [0, 1].
    grey, white : ndarray (X, Y, Z)
        Tissue probabilities.
    affine : ndarray (4, 4)
        Voxel to world (mm) of the 1 mm maps.
    coarse_affine : ndarray (4, 4)
        Voxel to world (mm) of the 3 mm maps.
    structures : dict of str to ndarray (x, y, z)
        Fraction of each 3 mm cell that belongs to the structure.
    intracranial : ndarray (x, y, z)
        Fraction of each 3 mm cell inside the skull.
    flows : dict of str to ndarray (3, x, y, z)
        Velocity in mm per unit time whose divergence is 1 inside the structure (see
        `balanced_flow`).
    """

    head: Array
    grey: Array
    white: Array
    affine: NDArray[np.float64]
    coarse_affine: NDArray[np.float64]
    structures: dict[str, Array]
    intracranial: Array
    flows: dict[str, Array]

    def atrophy(self, ratios: dict[str, float]) -> Array:
        """Displacement (3, x, y, z), mm, that reads the atrophied head from the average one.

        Parameters
        ----------
        ratios : dict of str to float
            Volume of each structure over its volume in the average head, such as
            ``{"ventricles": 1.8}``.
        """
        velocity = np.zeros_like(self.flows["cortex"])
        for name, ratio in ratios.items():
            strength, measured = GROWTH[name]
            velocity += np.float32(np.interp(ratio, measured, strength)) * self.flows[name]
        return exponential(-velocity, COARSE_MM)  # pull-back: the inverse of the flow

    def volume(self, name: str, displacement: Array) -> float:
        """Millilitres of a structure in the head read through `displacement` (3, x, y, z), mm."""
        return _volume(self.structures[name], displacement)

    def intracranial_volume(self, displacement: Array) -> float:
        """Millilitres inside the skull of the head read through `displacement` (3, x, y, z), mm."""
        return _volume(self.intracranial, displacement)


def _volume(structure: Array, displacement: Array) -> float:
    points = np.indices(structure.shape, dtype=np.float32) + displacement / np.float32(COARSE_MM)
    cells = float(ndimage.map_coordinates(structure, points, order=1).sum(dtype=np.float64))
    return cells * COARSE_MM**3 / 1000


def balanced_flow(
    source: NDArray, sink: NDArray, domain: NDArray, spacing: float
) -> NDArray[np.float32]:
    r"""Irrotational flow of divergence 1 in `source`, made up for in `sink`, still at the wall.

    Solves :math:`\nabla \cdot v = s - k\,t`, :math:`v = \nabla\varphi`, :math:`v \cdot n = 0` on
    the edge of the domain, with `s` the source, `t` the sink and `k` such that the total is zero
    (cell-centred finite volumes).

    Parameters
    ----------
    source, sink : ndarray (x, y, z)
        Non-negative weights; both are cut to the domain.
    domain : bool ndarray (x, y, z)
        One connected region, large enough for both.
    spacing : float
        Size of a cell in mm.

    Returns
    -------
    ndarray (3, x, y, z), float32
        Velocity in mm per unit time, zero outside the domain.
    """
    source, sink = np.where(domain, source, 0.0), np.where(domain, sink, 0.0)
    divergence = source - sink * (source.sum() / sink.sum())
    number = np.full(domain.shape, -1)
    number[domain] = np.arange(domain.sum())
    laplacian = sparse.coo_matrix((domain.sum(), domain.sum()))
    faces = []
    for axis in range(3):
        low = np.moveaxis(number, axis, 0)[:-1]
        high = np.moveaxis(number, axis, 0)[1:]
        joined = (low >= 0) & (high >= 0)
        a, b = low[joined], high[joined]
        faces.append((a, b))
        ones = np.ones(a.size)
        laplacian = laplacian + sparse.coo_matrix(
            (
                np.concatenate([ones, ones, -ones, -ones]),
                (np.concatenate([a, b, a, b]), np.concatenate([a, b, b, a])),
            ),
            shape=laplacian.shape,
        )
    matrix = laplacian.tocsr()
    # The constant is free: the right-hand side sums to zero, so conjugate gradients stay in the
    # range.
    preconditioner = sparse.diags(1.0 / np.maximum(matrix.diagonal(), 1.0))
    # One thread: the order of summation, and so the last bit of every image, must not depend on the
    # machine's load.
    with threadpool_limits(1):
        potential, _ = linalg.cg(
            matrix, -divergence[domain] * spacing**2, rtol=1e-6, maxiter=3000, M=preconditioner
        )
    flow = np.zeros((3, *domain.shape), np.float32)
    for axis, (a, b) in enumerate(faces):
        through = (potential[b] - potential[a]) / spacing
        total = np.bincount(a, through, matrix.shape[0]) + np.bincount(b, through, matrix.shape[0])
        flow[axis][domain] = total / 2  # mean of the two faces; a wall's face carries nothing
    return flow


def exponential(velocity: NDArray, spacing: float) -> NDArray[np.float32]:
    """Displacement of the flow of a stationary velocity after unit time (scaling and squaring).

    Parameters
    ----------
    velocity : ndarray (3, x, y, z)
        In mm per unit time.
    spacing : float
        Size of a cell in mm.

    Returns
    -------
    ndarray (3, x, y, z), float32
        Displacement in mm; a diffeomorphism, since the velocity is smooth.
    """
    displacement = np.asarray(velocity, np.float32) / np.float32(2**N_SQUARINGS)
    for _ in range(N_SQUARINGS):
        displacement = compose(displacement, displacement, spacing)
    return displacement


def compose(first: Array, second: Array, spacing: float) -> Array:
    """Displacement of "`first`, then `second`": ``first(x) + second(x + first(x))``.

    Parameters
    ----------
    first, second : ndarray (3, x, y, z)
        Displacements in mm.
    spacing : float
        Size of a cell in mm.

    Returns
    -------
    ndarray (3, x, y, z), float32
        In mm.
    """
    points = np.indices(first.shape[1:], dtype=np.float32) + first / np.float32(spacing)
    return first + np.stack(
        [ndimage.map_coordinates(part, points, order=1, mode="nearest") for part in second]
    )


def _block_mean(volume: NDArray, factor: int) -> Array:
    shape = [n // factor for n in volume.shape]
    cut = volume[tuple(slice(0, n * factor) for n in shape)]
    split = cut.reshape(shape[0], factor, shape[1], factor, shape[2], factor)
    return split.mean(axis=(1, 3, 5), dtype=np.float32)


def _place(volume: NDArray, affine: NDArray, shape: tuple[int, ...], target: NDArray) -> Array:
    """Shift a 1 mm map onto another 1 mm grid with the same axes (whole voxels)."""
    placed = np.zeros(shape, np.float32)
    offset = np.rint(affine[:3, 3] - target[:3, 3]).astype(int)
    to = tuple(
        slice(max(0, o), min(n, o + m)) for o, m, n in zip(offset, volume.shape, shape, strict=True)
    )
    of = tuple(slice(t.start - o, t.stop - o) for t, o in zip(to, offset, strict=True))
    placed[to] = volume[of]
    return placed


def _tissue(name: str, shape: tuple[int, ...], affine: NDArray) -> Array:
    """One of nilearn's packaged tissue maps (gm, wm), in [0, 1], on another 1 mm grid.

    Read as a file: importing ``nilearn.datasets`` for it would cost each process seconds.
    """
    data = resources.files("nilearn").joinpath(
        "datasets", "data", f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz"
    )
    with resources.as_file(data) as path:
        volume = read_volume(path)
    return _place(volume.data / volume.data.max(), volume.affine, shape, affine)


def _capsule(
    points: NDArray, end_a: tuple[float, ...], end_b: tuple[float, ...], radius: float
) -> NDArray[np.bool_]:
    """Points (x, y, z, 3) nearer than `radius` to the segment between two ends (a capsule), mm."""
    a, b = np.asarray(end_a), np.asarray(end_b)
    along = np.clip((points - a) @ (b - a) / ((b - a) @ (b - a)), 0, 1)
    return np.linalg.norm(points - (a + along[..., None] * (b - a)), axis=-1) < radius


@lru_cache(maxsize=1)
def average_anatomy() -> Anatomy:
    """Build the average head, its structures and its flows (some seconds; kept in memory).

    The lateral ventricles are the dark, deep, connected regions of the template around their known
    place. The hippocampus is the grey matter within 7 mm of a segment along its known course;
    good enough for a phantom, not a segmentation.
    """
    template = load_template()
    head = np.clip(template.data / np.percentile(template.data, 99.8), 0, 1).astype(np.float32)
    affine = np.asarray(template.affine, np.float64)
    grey, white = (_tissue(name, head.shape, affine) for name in ("gm", "wm"))

    coarse_head, coarse_grey, coarse_white = (
        _block_mean(m, COARSE_MM) for m in (head, grey, white)
    )
    coarse_affine = affine @ np.diag([COARSE_MM, COARSE_MM, COARSE_MM, 1.0])
    coarse_affine[:3, 3] += (COARSE_MM - 1) / 2  # centre of the first block
    brain = ndimage.binary_closing(np.pad(coarse_grey + coarse_white > 0.3, 4), iterations=3)
    brain = ndimage.binary_fill_holes(brain)[4:-4, 4:-4, 4:-4]
    intracranial = ndimage.binary_dilation(brain)
    pieces, _ = ndimage.label(intracranial)
    intracranial = pieces == np.bincount(pieces[pieces > 0]).argmax()

    depth = ndimage.distance_transform_edt(brain) * COARSE_MM
    points = (
        np.moveaxis(np.indices(brain.shape), 0, -1) @ coarse_affine[:3, :3].T + coarse_affine[:3, 3]
    )
    side = (np.abs(points[..., 0]) < 40) & (np.abs(points[..., 0]) > 1)
    place = (
        side
        & (points[..., 1] > -62)
        & (points[..., 1] < 34)
        & (points[..., 2] > -6)
        & (points[..., 2] < 32)
    )
    fluid = np.clip((0.62 - coarse_head) / 0.22, 0, 1)  # 1 where as dark as the ventricles' core
    # Dark and deep, but outside the ventricles.
    cistern = (points[..., 1] < -25) & (np.abs(points[..., 0]) < 8)
    ventricles = np.where(place & (depth > 14) & ~cistern, fluid * (1 - coarse_white), 0).astype(
        np.float32
    )
    ventricles[ventricles < 0.2] = 0

    hippocampus = np.zeros(brain.shape, np.float32)
    for sign in (-1, 1):
        course = _capsule(points, (sign * 23, -10, -21), (sign * 29, -36, -4), 7)
        hippocampus = np.maximum(hippocampus, np.where(course, coarse_grey, 0)).astype(np.float32)
    cerebrum = (points[..., 2] > -30 - 0.25 * (points[..., 1] + 20)) & (
        (points[..., 1] > -35) | (points[..., 2] > -18)
    )
    stem = (
        (np.abs(points[..., 0]) < 22)
        & (points[..., 1] > -45)
        & (points[..., 1] < 8)
        & (points[..., 2] < 12)
    )
    cortex = np.where(cerebrum & ~stem & (depth < 24) & (hippocampus == 0), coarse_grey, 0).astype(
        np.float32
    )

    tissue = np.clip(coarse_grey + coarse_white, 0, 1)
    sulci = np.clip(1 - tissue - ventricles, 0, 1) * intracranial
    around = ndimage.binary_dilation(hippocampus > 0, iterations=3) & (hippocampus == 0)
    sinks = {
        "ventricles": np.where(ventricles > 0, 0, tissue),
        "hippocampus": np.where(around, sulci + 0.1, 0) + 0.02 * sulci,
        "cortex": np.where(cortex > 0.5, 0, sulci) + 1e-3 * intracranial,
    }
    structures = {"ventricles": ventricles, "hippocampus": hippocampus, "cortex": cortex}
    flows = {
        name: balanced_flow(structures[name], sinks[name], intracranial, COARSE_MM)
        for name in STRUCTURES
    }
    skull = intracranial.astype(np.float32)
    return Anatomy(head, grey, white, affine, coarse_affine, structures, skull, flows)
