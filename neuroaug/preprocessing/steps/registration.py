"""Affine alignment to the template, as ``antsRegistrationSyNQuick.sh -t a``; never deformable."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neuroaug.errors import StageError
from neuroaug.imaging.grid import UNCROPPED, Grid, block_mean
from neuroaug.imaging.template import Template
from neuroaug.preprocessing.steps.bias import Profile
from neuroaug.preprocessing.steps.itk import SEED, affine_text, read_affine, single_thread, to_ants


@dataclass(frozen=True)
class Recipe:
    """What distinguishes the profiles.

    Attributes
    ----------
    double : bool
        Double precision instead of single.
    template_mm : int
        Voxel size of the template, 1 or 2 mm.
    shrink, smoothing_vox, iterations : str
        Levels, as ANTs spells them.
    """

    double: bool
    template_mm: int
    shrink: str
    smoothing_vox: str
    iterations: str


RECIPES: dict[str, Recipe] = {
    "exact": Recipe(True, 1, "8x4x2x1", "3x2x1x0", "1000x500x250x0"),
    "default": Recipe(False, 1, "8x4x2x1", "3x2x1x0", "1000x500x250x0"),
    "fast": Recipe(False, 2, "4x2x1", "1.5x1x0.5", "1000x500x250"),
    # The fast profile of scans with voxels of about 2 mm or more: the last level would look for
    # what they do not hold.
    "fast, coarse scan": Recipe(False, 2, "4x2", "1.5x1", "1000x500"),
}
COARSE_VOXEL_MM = 1.9
CONVERGENCE = "1e-6,10"


@dataclass(frozen=True, eq=False)
class Alignment:
    """The result of `align`.

    Attributes
    ----------
    mat : bytes
        The transform's file, as ANTs wrote it.
    template_to_scan : array (4, 4)
        The same transform, world (RAS+, mm) to world.
    """

    mat: bytes
    template_to_scan: NDArray[np.float64]


def recipe_of(profile: Profile, voxel_mm: tuple[float, float, float]) -> Recipe:
    """Look up how a scan with these voxels is registered under a profile."""
    coarse = float(np.prod(voxel_mm)) ** (1 / 3) >= COARSE_VOXEL_MM
    return RECIPES["fast, coarse scan" if profile == "fast" and coarse else profile]


def arguments(
    recipe: Recipe, prefix: str, fixed: str, moving: str, start: str | None = None
) -> list[str]:
    """Spell the command line of ``antsRegistration``.

    `fixed` and `moving` are names or pointers of images, `start` is a file of a transform (the
    centres of mass by default).
    """
    stages: list[str] = []
    for kind in ("Rigid", "Affine"):
        stages += ["--transform", f"{kind}[0.1]"]
        stages += ["--metric", f"MI[{fixed},{moving},1,32,Regular,0.25]"]
        stages += ["--convergence", f"[{recipe.iterations},{CONVERGENCE}]"]
        stages += ["--shrink-factors", recipe.shrink]
        stages += ["--smoothing-sigmas", f"{recipe.smoothing_vox}vox"]
    return [
        *("--dimensionality", "3"),
        *("--float", "0" if recipe.double else "1"),
        *("--collapse-output-transforms", "1"),
        *("--output", prefix),
        *("--interpolation", "Linear"),
        *("--use-histogram-matching", "0"),
        *("--winsorize-image-intensities", "[0.005,0.995]"),
        *("--initial-moving-transform", start or f"[{fixed},{moving},1]"),
        *("--random-seed", str(SEED)),
        *stages,
    ]


def align(
    data: NDArray[np.float32],
    affine: NDArray[np.float64],
    template: Template,
    *,
    profile: Profile = "default",
    start: NDArray[np.float64] | None = None,
    work_dir: str | Path | None = None,
) -> Alignment:
    """Find the affine that lays a scan on the template.

    Centre-of-mass start (or `start`), rigid then affine, mutual information of 32 bins on a regular
    quarter of the voxels, one thread, a fixed seed: equal input gives equal bytes.

    Parameters
    ----------
    data : array (X, Y, Z)
        Intensities, bias corrected.
    affine : array (4, 4)
        Voxel indices to world (RAS+, mm).
    template : Template
        The full head to align to.
    profile : {"exact", "default", "fast"}
        Double precision at 1 mm, single precision at 1 mm, single precision at 2 mm.
    start : array (4, 4), optional
        Template to scan, world (RAS+, mm) to world, to start from
        (`neuroaug.preprocessing.steps.pose_search.find_start`).
    work_dir : path-like, optional
        Folder for ANTs' own file, for a moment; the system's temporary folder by default.

    Raises
    ------
    StageError
        If ANTs fails, or leaves anything but one affine.
    """
    single_thread()
    import ants
    from ants.internal import get_pointer_string

    x, y, z = np.linalg.norm(affine[:3, :3], axis=0)
    recipe = recipe_of(profile, (float(x), float(y), float(z)))
    grid = Grid(template.data.shape, np.array(template.affine))  # type: ignore[arg-type]
    fixed_data = template.data
    if recipe.template_mm == 2:
        fixed_data, grid = block_mean(fixed_data), grid.halved()
    fixed = to_ants(fixed_data, grid.affine, double=recipe.double)
    moving = to_ants(data, affine, double=recipe.double)
    with tempfile.TemporaryDirectory(prefix=".work-", dir=work_dir) as folder:
        pointers = get_pointer_string(fixed), get_pointer_string(moving)
        results = Path(folder) / "results"
        results.mkdir()
        first = None
        if start is not None:
            first = f"{folder}/start.txt"
            Path(first).write_text(affine_text(start), encoding="ascii")
        try:
            ants.registration(arguments(recipe, f"{results}/t_", *pointers, first), None)
        except RuntimeError as error:
            raise StageError(
                f"registration failed in ANTs ({' '.join(str(error).split())})"
            ) from None
        return read_alignment(results)


def read_alignment(folder: Path) -> Alignment:
    """Read what ANTs left in its folder, insisting on one affine and nothing else.

    Raises
    ------
    StageError
        If there is a deformation field, or the affine is not one a head can have.
    """
    left = sorted(path.name for path in folder.iterdir())
    if left != ["t_0GenericAffine.mat"]:
        raise StageError(
            f"registration left {', '.join(left) or 'nothing'}, where one affine .mat is expected"
        )
    path = folder / left[0]
    matrix = read_affine(path)
    volume = float(np.linalg.det(matrix[:3, :3]))
    if not np.isfinite(matrix).all() or not 0.2 < volume < 5:
        raise StageError(
            f"registration scaled the head's volume by {volume:.2g}: no head is like that"
        )
    return Alignment(path.read_bytes(), matrix)


def warp(
    data: NDArray[np.float32],
    affine: NDArray[np.float64],
    template_to_scan: NDArray[np.float64],
    grid: Grid = UNCROPPED,
) -> NDArray[np.float32]:
    """Resample a scan on the template's grid, linearly; 0 outside the scan, as ANTs has it.

    Parameters
    ----------
    data : array (X, Y, Z)
        Intensities.
    affine : array (4, 4)
        Voxel indices to world (RAS+, mm).
    template_to_scan : array (4, 4)
        World to world, from `align`.
    grid : Grid
        Grid to resample on.

    Returns
    -------
    array of `grid.shape`, float32
        Intensities on the grid.
    """
    from scipy import ndimage

    matrix = np.linalg.inv(affine) @ template_to_scan @ grid.affine
    return ndimage.affine_transform(
        data,
        matrix[:3, :3],
        matrix[:3, 3],
        output_shape=grid.shape,
        order=1,
        mode="constant",
        cval=0.0,
        output=np.float32,
    )
