"""Between NIfTI's coordinates (RAS+) and those of ITK, which ANTs is built on (LPS+)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from neuroaug.errors import InputError

if TYPE_CHECKING:
    import ants

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
SEED = 1


def single_thread() -> None:
    """Hold ANTs to one thread, so that equal scans give equal bytes.

    ITK reads this once, at its first use: call it before anything else has used ANTs in the
    process.
    """
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"


def to_ants(
    data: NDArray[Any], affine: NDArray[np.float64], *, double: bool = False
) -> ants.ANTsImage:
    """Make an ANTs image in memory: no file stands between nibabel's affine and ITK's.

    Parameters
    ----------
    data : array (X, Y, Z)
        Intensities.
    affine : array (4, 4)
        Voxel indices to world (RAS+, mm); any order and sign of axes.
    double : bool
        Voxels as float64 instead of float32.
    """
    import ants

    lps = RAS_TO_LPS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    axes = lps[:3, :3] / spacing
    # Nearest rotation (polar decomposition): headers store axes in float32, and ITK knows no
    # shears.
    u, _, vt = np.linalg.svd(axes)
    image = ants.from_numpy(
        np.asarray(data, dtype=np.float32),
        origin=tuple(lps[:3, 3].tolist()),
        spacing=tuple(spacing.tolist()),
        direction=u @ vt,
    )
    # from_numpy turns float64 into float32, and ANTs reads whatever it is pointed at: clone, never
    # cast.
    return image.clone("double") if double else image


def read_affine(path: str | Path) -> NDArray[np.float64]:
    """Read an affine transform that ANTs wrote.

    What ANTs writes maps points of the fixed image (the template) to the moving one (the scan).

    Returns
    -------
    array (4, 4)
        World (RAS+, mm) to world.

    Raises
    ------
    InputError
        If the file holds anything but one affine.
    """
    import ants

    try:
        transform = ants.read_transform(str(path))
    except (RuntimeError, ValueError, OSError) as error:
        raise InputError(
            f"{path}: not a transform that ANTs can read ({' '.join(str(error).split())})"
        ) from None
    parameters = np.asarray(transform.parameters, dtype=np.float64)
    centre = np.asarray(transform.fixed_parameters, dtype=np.float64)
    if (
        "Affine" not in transform.transform_type
        or parameters.shape != (12,)
        or centre.shape != (3,)
    ):
        raise InputError(f"{path}: a {transform.transform_type}, where one affine is expected")
    matrix = np.eye(4)
    matrix[:3, :3] = parameters[:9].reshape(3, 3)
    matrix[:3, 3] = parameters[9:] + centre - matrix[:3, :3] @ centre
    return RAS_TO_LPS @ matrix @ RAS_TO_LPS


def affine_text(matrix: NDArray[np.float64]) -> str:
    """Spell an affine as a text file that ITK reads; `read_affine` undoes it.

    Parameters
    ----------
    matrix : array (4, 4)
        World (RAS+, mm) to world.
    """
    lps = RAS_TO_LPS @ matrix @ RAS_TO_LPS
    numbers = " ".join(repr(float(x)) for x in (*lps[:3, :3].ravel(), *lps[:3, 3]))
    lines = (
        "#Insight Transform File V1.0",
        "#Transform 0",
        "Transform: AffineTransform_double_3_3",
    )
    return "\n".join((*lines, f"Parameters: {numbers}", "FixedParameters: 0 0 0", ""))
