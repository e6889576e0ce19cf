"""Copies that a checksum does not recognise: saved again with fewer bits, rescaled, or mirrored.

Fingerprints of registered images at 1 mm correlated by .68 to .82 between people (six head
anatomies), by .78 to .89 between phantoms, by .89 and .92 between two scans of one head, by .79 to
.95 between a head and its own mirror image, and by more than .9999 between an image and its copy in
8 bits. Only made-up cohorts whose images are all alike come nearer; so a copy must also be far
nearer than the image's other neighbours are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

VisitKey = tuple[str, str]  # participant_id, session_id

POINTS = 10  # of a fingerprint, along each axis
DISTANCE = 0.01  # most of a copy, 1 - correlation; copies in 8 bits: 1e-5
NEARER = 0.1  # most of a copy, as a fraction of the distance to the nearest quarter of all images


def image_fingerprint(data: NDArray[np.floating]) -> str:
    """About a thousand voxels on a lattice, in 8 bits between the 1st and the 99th percentile.

    Parameters
    ----------
    data : ndarray (X, Y, Z)
        Voxels as stored.

    Returns
    -------
    str
        Hexadecimal; two digits per voxel, along z first. The lattice is symmetric in x.
    """
    where = []
    for size in data.shape:
        n = min(POINTS, size)
        half = ((np.arange((n + 1) // 2) + 0.5) * size / n).astype(int)
        where.append(np.concatenate([half, size - 1 - half[: n // 2][::-1]]))
    points = data[np.ix_(*where)].astype(np.float64).ravel()
    low, high = np.percentile(points, [1, 99])
    scaled = (points - low) / (high - low) if high > low else np.zeros_like(points)
    return np.rint(np.clip(scaled, 0, 1) * 255).astype(np.uint8).tobytes().hex()


def near_copies(
    own: Sequence[VisitKey], others: Sequence[VisitKey], fingerprints: Mapping[VisitKey, str]
) -> list[tuple[VisitKey, VisitKey]]:
    """Pairs of images of two sets that are the same up to rounding, scale or side.

    Parameters
    ----------
    own, others : sequence of (participant_id, session_id)
        Two sets.
    fingerprints : mapping of (participant_id, session_id) to str
        `image_fingerprint` of both sets; images of grids so small that their fingerprints differ in
        length are never alike.

    Returns
    -------
    list of (visit, visit)
        In the order of `own`.
    """
    pairs = []
    for n in sorted({len(fingerprints[visit]) for visit in own}):
        first = [visit for visit in own if len(fingerprints[visit]) == n]
        second = [visit for visit in others if len(fingerprints[visit]) == n]
        everyone = list(dict.fromkeys([*first, *second]))
        if not first or not second:
            continue
        vectors = np.stack([_vector(fingerprints[visit]) for visit in everyone])
        mirrored = np.stack([_vector(fingerprints[visit], mirror=True) for visit in everyone])
        place = {visit: i for i, visit in enumerate(everyone)}
        rows = [place[visit] for visit in first]
        distance = 1 - np.maximum(vectors[rows] @ vectors.T, vectors[rows] @ mirrored.T)
        # The nearest neighbour is the image itself, the next one the copy.
        at = min(len(everyone) - 1, max(2, 1 + len(everyone) // 4))
        quarter = np.sort(distance, axis=1)[:, at]
        limit = np.minimum(DISTANCE, NEARER * quarter)
        columns = [place[visit] for visit in second]
        alike = distance[:, columns] < limit[:, None]
        pairs += [(first[i], second[j]) for i, j in zip(*np.nonzero(alike), strict=True)]
    return pairs


def _vector(fingerprint: str, *, mirror: bool = False) -> NDArray[np.float64]:
    """Centred and of length 1, so that products are correlations; zero without contrast."""
    values = np.frombuffer(bytes.fromhex(fingerprint), dtype=np.uint8).astype(np.float64)
    if mirror and len(values) == POINTS**3:
        values = values.reshape(POINTS, -1)[::-1].ravel()
    values -= values.mean()
    length = np.linalg.norm(values)
    return values / length if length > 0 else values
