"""N4: removal of the slow change of brightness that a coil leaves across a scan."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from neuroaug.preprocessing.steps.itk import single_thread, to_ants

Profile = Literal["exact", "default", "fast"]
ITERATIONS = [50, 50, 50, 50]
EXACT_SHRINK = 4  # voxels, Clinica's
SHRINK_MM = {"default": 6.0, "fast": 8.0}


def shrink_factor(profile: Profile, voxel_mm: tuple[float, float, float]) -> int:
    """Voxels that one node of N4's working grid stands for, along each axis.

    ``exact`` is ANTs' own 4 whatever the voxel; the others aim at a spacing in mm, since a bias
    field is as smooth in a scan of 3 mm as in one of 1 mm.
    """
    if profile == "exact":
        return EXACT_SHRINK
    mean = float(np.prod(voxel_mm)) ** (1 / 3)
    return max(1, round(SHRINK_MM[profile] / mean))


def correct_bias(
    data: NDArray[np.float32],
    affine: NDArray[np.float64],
    *,
    profile: Profile = "default",
    n4_distance: int = 200,
    mask: NDArray[np.bool_] | None = None,
) -> NDArray[np.float32]:
    """Divide a scan by its estimated bias field.

    As Clinica runs ``N4BiasFieldCorrection``: no mask unless one is given, four levels of 50
    iterations.

    Parameters
    ----------
    data : array (X, Y, Z)
        Raw intensities.
    affine : array (4, 4)
        Voxel indices to world (RAS+, mm).
    profile : {"exact", "default", "fast"}
        How coarsely the field is estimated (`shrink_factor`).
    n4_distance : {200, 600}
        Distance between the spline's knots in mm: 200 in Clinica 0.12.0, 600 up to 0.11.3.
    mask : array (X, Y, Z) of bool, optional
        Where the field is estimated: the brain, where a scan has nothing else.

    Returns
    -------
    array (X, Y, Z), float32
        Corrected intensities.
    """
    single_thread()
    import ants

    image = to_ants(data, affine)
    corrected = ants.n4_bias_field_correction(
        image,
        shrink_factor=shrink_factor(profile, image.spacing),
        convergence={"iters": ITERATIONS, "tol": 0.0},
        spline_param=n4_distance,
        mask=None if mask is None else to_ants(mask.astype(np.float32), affine),
    )
    return np.ascontiguousarray(corrected.numpy(), dtype=np.float32)
