"""Tell a head from a brain whose skull was removed.

A stripped brain lies in exact zeros, is no larger than a brain can be, and is bright up to its
edge: a head, even one whose background was set to zero or whose face was removed, is larger, and
under its scalp lies the dark skull. docs/preprocessing.md has the figures of real ones.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["head", "brain"]

MIN_ZEROS = 0.3  # share of voxels
LITRES = (0.4, 2.4)  # of what is not zero, holes filled; in MNI space a brain has 1.9
STEP_MM = 3.0
EDGE_MM = (6.0, 12.0)  # depth at which a head has its skull
DEEP_MM = 20.0
MIN_EDGE = 0.6  # brightness there, of that deep inside


def kind_of_head(data: NDArray[np.floating], voxel_mm: tuple[float, float, float]) -> Kind:
    """Tell a skull-stripped brain from a head.

    Parameters
    ----------
    data : array (X, Y, Z)
        Intensities.
    voxel_mm : tuple of float
        Distance between neighbouring voxels along each axis.
    """
    from scipy import ndimage

    if float((data == 0).mean()) < MIN_ZEROS:
        return "head"
    steps = [max(1, round(STEP_MM / size)) for size in voxel_mm]
    coarse = data[:: steps[0], :: steps[1], :: steps[2]]
    spacing = [step * size for step, size in zip(steps, voxel_mm, strict=True)]
    mask = ndimage.binary_fill_holes(coarse > 0)
    parts, n = ndimage.label(mask)
    if n == 0:
        return "head"
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    mask = parts == sizes.argmax()
    litres = float(mask.sum()) * float(np.prod(spacing)) / 1e6
    if not LITRES[0] <= litres <= LITRES[1]:
        return "head"
    depth = ndimage.distance_transform_edt(mask, sampling=spacing)
    deep, edge = coarse[depth > DEEP_MM], coarse[(depth > EDGE_MM[0]) & (depth <= EDGE_MM[1])]
    if not deep.size or not edge.size or np.median(deep) <= 0:
        return "head"
    return "brain" if float(np.median(edge) / np.median(deep)) >= MIN_EDGE else "head"
