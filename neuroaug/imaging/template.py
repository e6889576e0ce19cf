"""The template that scans are aligned to, on Clinica's grid: packaged or given, head or brain."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from neuroaug.errors import InputError
from neuroaug.imaging.grid import GRIDS, UNCROPPED, crop
from neuroaug.imaging.nifti import read_volume
from neuroaug.system.files import sha256_file
from neuroaug.system.packaged_files import packaged

PACKAGED = "MNI152NLin2009cAsym, mean with its mirror image"
_T1W = (
    "imaging/data/template_T1w.nii.gz",
    "c98093d4d875eb52ab1c8f4dd86fee6b9747339b2e912d65b096064d8c6e5105",
)
_REGIONS = (
    "imaging/data/template_regions.nii.gz",
    "134274c9e3401cd02ee530f6b475a6a2dd1e874c9d926126da3350f5a71d615f",
)
_CLINICAS = {
    "mni_icbm152_t1_tal_nlin_sym_09c": (
        "93359ab97c1c027376397612a9b6c30e95406c15bf8695bd4a8efcb2064eaa34"
    ),
    "ref_cropped_template": "67e1e7861805a8fd35f7fcf2bdf9d2a39d7bcb2fd5a201016c4d2acdd715f5b3",
}
KNOWN = {sha256: f"Clinica's {name}" for name, sha256 in _CLINICAS.items()}
# Share of a region that a template shows: of the head outside the brain, unless it is stripped of
# its skull; of the brain, in any case.
_MIN_SCALP = 0.3
_MIN_BRAIN = 0.5


@dataclass(frozen=True, eq=False)
class Template:
    """A head or a brain to align to.

    Attributes
    ----------
    name : str
        Name of a known template, or ``custom``.
    data : array (X, Y, Z), float32
        Intensities, on the template's grid or on the cropped one.
    affine : array (4, 4)
        Voxel indices to world.
    sha256 : str
        Checksum of the file.
    kind : {"head", "brain"}
        Whether it has a skull. Heads are aligned to heads and brains to brains: a whole head lands
        2.64 mm from its place on a brain.
    """

    name: str
    data: NDArray[np.float32]
    affine: NDArray[np.float64]
    sha256: str
    kind: Literal["head", "brain"] = "head"


def _unfold(name: str, sha256: str) -> NDArray[np.float32]:
    """Read a packaged half volume, check it and add its mirror image: (97, Y, Z) -> (193, Y, Z)."""
    path = packaged(*name.split("/"))
    if sha256_file(path) != sha256:
        raise InputError(
            f"{path}: not the file that was shipped (its sha256 differs); install neuroaug again"
        )
    half = np.rint(read_volume(path).data * 255)
    return np.concatenate([half, half[:-1][::-1]])


@lru_cache(maxsize=2)
def load_template(path: str | Path | None = None) -> Template:
    """Read the packaged template, or one given by path.

    Parameters
    ----------
    path : path-like, optional
        A head, or a brain in zeros, in MNI152NLin2009cSym space at 1 mm, on the template's grid or
        on the cropped one: Clinica's ``mni_icbm152_t1_tal_nlin_sym_09c.nii`` and
        ``ref_cropped_template.nii.gz`` are known by checksum, any other is called custom.

    Raises
    ------
    InputError
        If the file is unreadable, on another grid, or shows no brain where the template has its.
    """
    if path is None:
        return Template(PACKAGED, _unfold(*_T1W), UNCROPPED.affine, _T1W[1])
    path = Path(path)
    volume = read_volume(path)
    grids = (UNCROPPED, GRIDS["1mm"])
    if not any(grid.matches(volume.data.shape, volume.affine) for grid in grids):
        raise InputError(
            f"{path}: not a template in MNI152NLin2009cSym space "
            f"(shape {volume.data.shape}, origin {tuple(volume.affine[:3, 3])}); "
            f"expected {UNCROPPED.shape} voxels of 1 mm from {UNCROPPED.origin}"
        )
    head, brain = load_regions()
    scalp = head & ~brain
    if volume.data.shape != UNCROPPED.shape:
        scalp, brain = crop(scalp).astype(bool), crop(brain).astype(bool)
    bright = volume.data > 0.1 * np.percentile(volume.data, 99)
    if bright[brain].mean() < _MIN_BRAIN:
        raise InputError(
            f"{path}: shows no brain where MNI152NLin2009cSym has its; not a T1w template"
        )
    kind: Literal["head", "brain"] = "head" if bright[scalp].mean() >= _MIN_SCALP else "brain"
    checksum = sha256_file(path)
    return Template(KNOWN.get(checksum, "custom"), volume.data, volume.affine, checksum, kind)


@lru_cache(maxsize=2)
def template_brain(template: Template) -> Template:
    """The brain of a template, zero around it: what a skull-stripped scan is aligned to."""
    if template.kind == "brain":
        return template
    _, brain = load_regions()
    if template.data.shape != UNCROPPED.shape:
        brain = crop(brain).astype(bool)
    data = np.where(brain, template.data, np.float32(0))
    return Template(template.name, data, template.affine, template.sha256, "brain")


@lru_cache(maxsize=1)
def load_regions() -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Masks of the template's head and brain on its grid: two of (193, 229, 193)."""
    regions = _unfold(*_REGIONS)
    return regions >= 1, regions >= 2
