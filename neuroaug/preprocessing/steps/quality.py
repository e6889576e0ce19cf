"""Is a registered head where the template is? A score calibrated on deliberately wrong poses.

Four figures are measured at 4 mm, on the cropped image alone, so that images that Clinica wrote are
judged alike: the normalised mutual information with the template over the brain and a rim of 8 mm;
how far the head moves, and how much is gained, when the pose is refined by a second, independent
search; and the Dice of the head's outline with the template's, leaving out the face, which many
data sets have removed. A product of logistic factors, one per figure, turns them into a
probability; docs/registration-quality.md tells how they were fitted.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from neuroaug.imaging.grid import GRIDS, block_mean, crop
from neuroaug.imaging.template import load_regions, load_template
from neuroaug.preprocessing.steps.head_kind import Kind, kind_of_head
from neuroaug.preprocessing.steps.pose_search import (
    about,
    climb,
    motion,
    normalized_mutual_information,
    to_bins,
)
from neuroaug.system.files import sha256_json

RIM_VOXELS = 2
STEPS_MM = (8.0, 4.0, 2.0)
# In MNI space the face lies in front of and below the line z = FACE_MM[0] + FACE_MM[1] y, and off
# the brain.
FACE_MM = (-65.0, 1.067)
THRESHOLD = 0.5

# Of `features`, fitted by scripts/calibrate_quality.py: where each criterion is at one half, and
# how steep it is.
LIMITS = (-3.5932, -2.5045, -0.8258, 0.9378)
SLOPES = (7.02, 5.85, 18.063, 128.607)

# Of the four figures: raised when they are measured in another way.
MEASURE_VERSION = 1

Array = NDArray[np.float64]


def calibration() -> str:
    """Name how verdicts are reached now; a verdict under another name is to be reached again."""
    return sha256_json([MEASURE_VERSION, LIMITS, SLOPES, THRESHOLD])[:8]


@dataclass(frozen=True)
class Quality:
    """The verdict on one registration.

    Attributes
    ----------
    score : float
        Normalised mutual information with the template (1 = independent images; the larger, the
        better).
    pass_probability : float
        In [0, 1].
    passed : bool
        Whether the probability reaches the threshold.
    moved_mm, gain, dice : float
        How far a second search moved the head, how much it gained (in the log of the score over
        1), and the overlap of the outlines.
    calibration : str
        From `calibration`.
    kind : {"head", "brain"}
        What was compared: the head, or a brain whose skull was removed with the template's brain.
    """

    score: float
    pass_probability: float
    passed: bool
    moved_mm: float
    gain: float
    dice: float
    calibration: str
    kind: Kind = "head"


@dataclass(frozen=True, eq=False)
class _Reference:
    """The template as the score sees it."""

    points: Array  # (n, 3) voxel indices at 4 mm, within the brain and its rim
    bins: NDArray[np.int64]  # (n,) bin of the template's intensity at the points
    centre: Array  # (3,) of the brain, voxel indices
    head: NDArray[np.bool_]
    not_face: NDArray[np.bool_]  # where outlines are compared


@lru_cache(maxsize=2)
def _reference(kind: Kind = "head") -> _Reference:
    from scipy import ndimage

    def coarse(volume: NDArray[np.floating]) -> NDArray[np.float32]:
        return block_mean(block_mean(crop(volume).astype(np.float32)))

    data = load_template().data
    if kind == "brain":
        data = np.where(load_regions()[1], data, np.float32(0))
    template = coarse(data)
    brain = coarse(load_regions()[1].astype(np.float32)) >= 0.5
    region = ndimage.binary_dilation(brain, iterations=RIM_VOXELS)
    # Every second voxel, as on a chessboard: half the time, and the figures hardly change.
    region &= np.indices(region.shape).sum(axis=0) % 2 == 0
    points = np.argwhere(region).astype(np.float64)
    grid = GRIDS["4mm"].affine
    _, y, z = (grid[i, i] * axis + grid[i, 3] for i, axis in enumerate(np.indices(brain.shape)))
    near_brain = ndimage.binary_dilation(brain, iterations=RIM_VOXELS)
    not_face = (z >= FACE_MM[0] + FACE_MM[1] * y) | near_brain
    return _Reference(
        points,
        to_bins(template[region]),
        np.argwhere(brain).mean(axis=0),
        _head(template),
        not_face,
    )


def _head(volume: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Outline of the head: the largest part above a share of Otsu's threshold, filled."""
    from scipy import ndimage

    # The square root evens out fat and muscle; half the threshold takes in the dim scalp.
    root = np.sqrt(np.maximum(volume, 0))
    mask = ndimage.binary_closing(root > 0.75 * _otsu(root), iterations=1)
    parts, n = ndimage.label(mask)
    if n > 1:
        sizes = np.bincount(parts.ravel())
        sizes[0] = 0
        mask = parts == sizes.argmax()
    return ndimage.binary_fill_holes(mask)  # type: ignore[no-any-return]


def _otsu(values: NDArray[np.floating]) -> float:
    """Threshold that splits a histogram into the two classes furthest apart."""
    counts, edges = np.histogram(values, 128)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    total = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (total / below - (total[-1] - total) / above) ** 2
    return float(centres[int(np.nanargmax(between[:-1]))])


def _similarity(image: NDArray[np.float32], parameters: Array, kind: Kind) -> float:
    """NMI with the template after a motion of the image."""
    from scipy import ndimage

    reference = _reference(kind)
    moved = (
        (reference.points - reference.centre) @ motion(parameters).T
        + reference.centre
        + parameters[:3] / 4.0
    )
    values = ndimage.map_coordinates(image, moved.T, order=1, mode="constant")
    return normalized_mutual_information(reference.bins, to_bins(values))


def refine(
    image: NDArray[np.float32], rounds: int = 6, kind: Kind = "head"
) -> tuple[Array, float, float]:
    """Look for a better pose of a registered image.

    Parameters
    ----------
    image : array (42, 52, 44)
        A registered image at 4 mm.
    rounds : int
        Moves of each size at most.
    kind : {"head", "brain"}
        What the image shows.

    Returns
    -------
    parameters : array (7,)
        Shift, rotation and scale, all as mm at `RADIUS_MM` from the centre of the brain.
    before, after : float
        Normalised mutual information with the template.
    """
    return climb(lambda parameters: _similarity(image, parameters, kind), STEPS_MM, rounds)


def motion_matrix(parameters: Array) -> Array:
    """The motion of `refine` as (4, 4), world (mm) to world: where to look at the image instead."""
    grid = GRIDS["4mm"].affine
    centre = grid[:3, :3] @ _reference().centre + grid[:3, 3]
    return about(centre, parameters)


def measure(cropped: NDArray[np.floating]) -> dict[str, float]:
    """Measure the figures that the verdict rests on.

    Parameters
    ----------
    cropped : array (169, 208, 179)
        A registered image on the cropped 1 mm grid.

    Returns
    -------
    dict
        ``nmi``, ``moved_mm``, ``gain``, ``dice`` (see `Quality`).
    """
    if cropped.shape != GRIDS["1mm"].shape:
        raise ValueError(
            f"image of shape {cropped.shape}: not on the cropped grid {GRIDS['1mm'].shape}"
        )
    kind = kind_of_head(cropped, GRIDS["1mm"].voxel_mm)
    return measure_coarse(block_mean(block_mean(cropped)), kind)


def measure_coarse(image: NDArray[np.float32], kind: Kind = "head") -> dict[str, float]:
    """Do `measure` from the 4 mm copy (42, 52, 44), which is all that it looks at."""
    parameters, start, best = refine(image, kind=kind)
    reference = _reference(kind)
    head, expected = _head(image) & reference.not_face, reference.head & reference.not_face
    dice = 2 * float((head & expected).sum()) / max(float(head.sum() + expected.sum()), 1.0)
    return {
        "nmi": start,
        "moved_mm": float(np.linalg.norm(parameters)),
        "gain": float(np.log(max(best - 1.0, 1e-6) / max(start - 1.0, 1e-6))),
        "dice": dice,
    }


def features(figures: dict[str, float]) -> Array:
    """Spell the figures so that more is better, (4,): information, nearness, no gain, outline."""
    information = np.log(max(figures["nmi"] - 1.0, 1e-6))
    return np.array(
        [information, -np.log1p(figures["moved_mm"]), -figures["gain"], figures["dice"]]
    )


def probability(figures: dict[str, float]) -> float:
    """Turn the figures of `measure` into the probability of a good registration.

    A product of one logistic factor per criterion: a head must satisfy all of them. A pose that is
    wrong by little shows in the refined pose, one that is stuck far away in the information and the
    outline.
    """
    logits = np.array(SLOPES) * (features(figures) - np.array(LIMITS))
    return float(np.prod(1 / (1 + np.exp(-np.clip(logits, -50, 50)))))


def assess(cropped: NDArray[np.floating]) -> Quality:
    """Judge one registration.

    Parameters
    ----------
    cropped : array (169, 208, 179)
        A registered image on the cropped 1 mm grid.
    """
    figures = measure(cropped)
    p = probability(figures)
    return Quality(
        figures["nmi"],
        p,
        p >= THRESHOLD,
        figures["moved_mm"],
        figures["gain"],
        figures["dice"],
        calibration(),
        kind_of_head(cropped, GRIDS["1mm"].voxel_mm),
    )
