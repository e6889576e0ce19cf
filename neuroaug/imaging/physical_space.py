"""Where the voxels of a NIfTI file lie in the world: as ITK, ANTs and Clinica read it.

nibabel prefers the sform, ITK mostly the qform, and where a header names neither they differ by a
mirror. A scan is read as ITK reads it, or refused with both readings.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from neuroaug.errors import InputError

if TYPE_CHECKING:
    import nibabel as nib

SAME_MM = 1e-4  # corners nearer than this: one space, and nibabel's numbers are kept
WORTH_SAYING_MM = 0.1
MAX_SIZE_CONFLICT = 0.01  # relative, between the sform's voxel size and the header's
# ITK 5.4 takes an sform for orthonormal up to here (cosine between two axes, measured).
MAX_ITK_SHEAR = 5e-5
_UNIT_MM = {1: 1000.0, 2: 1.0, 3: 0.001}  # NIfTI's codes; ITK takes any other for mm
_UNIT_NAME = {1: "metres", 3: "microns"}
_MIRRORED_IDENTITY = np.diag([-1.0, -1.0, 1.0])  # the identity of ITK's LPS+ axes in RAS+


@dataclass(frozen=True)
class _Header:
    """The fields that place a scan, in mm."""

    s_code: int
    q_code: int
    voxel_mm: NDArray[np.float64]  # (3,); ITK reads 1 where the header has 0
    absent: bool  # whether a voxel size is 0 or not a number
    sform: NDArray[np.float64]
    qform: NDArray[np.float64]


def physical_space(
    path: Path, header: nib.Nifti1Header, shape: tuple[int, int, int]
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Read the affine of a header as ITK 5.4 does, and say what had to be decided.

    Parameters
    ----------
    path : Path
        The scan, for messages.
    header : Nifti1Header
        As stored: not repaired by nibabel, which hides voxel sizes of 0 and below.
    shape : tuple of int
        Voxels along each stored axis.

    Returns
    -------
    affine : array (4, 4), float64
        Voxel indices to world (RAS+, mm); nibabel's own numbers where both agree.
    notes : tuple of str
        Missing or contradicting orientations, and which was used.

    Raises
    ------
    InputError
        If left and right depend on which of two orientations is believed, or the voxel size does;
        if an orientation or a voxel size is no number.
    """
    found = _fields(path, header)
    if found.s_code <= 0 and found.q_code <= 0:
        if found.absent:
            raise InputError(
                f"{path}: its header gives neither a voxel size (pixdim is "
                f"{_pixdim(header)}) nor an orientation; convert the scan again"
            )
        affine = np.eye(4)
        affine[:3, :3] = _MIRRORED_IDENTITY * found.voxel_mm
        return affine, (
            "no orientation in the header (sform and qform codes are 0): read as ITK reads it, "
            "but left and right are a guess",
        )
    _refuse_mirrored(path, found)
    by_sform = found.s_code > 0 and (
        found.q_code <= 0 or (found.s_code == 1 and _shear(found.sform) <= MAX_ITK_SHEAR)
    )
    if by_sform:
        affine = _with_size(path, header, found)
    else:
        affine = found.qform
        if found.absent:
            raise InputError(
                f"{path}: its header gives no voxel size (pixdim is {_pixdim(header)}), without "
                f"which its qform means nothing; ITK would read {_told(affine)}"
                + (f", the sform says {_told(found.sform)}" if found.s_code > 0 else "")
            )
    notes = []
    if found.s_code > 0 and found.q_code > 0:
        apart = _apart(found.sform, found.qform, shape)
        if apart > WORTH_SAYING_MM:
            used = "sform" if by_sform else "qform"
            notes.append(
                f"sform and qform disagree by up to {apart:.1f} mm; the {used} was used, "
                "as ITK and Clinica do"
            )
    usual = found.sform if found.s_code > 0 else _nibabel_qform(header, found)
    if _apart(affine, usual, shape) <= SAME_MM:
        return usual, tuple(notes)
    if by_sform and not notes:
        apart = _apart(affine, usual, shape)
        if apart > WORTH_SAYING_MM:
            notes.append(
                f"the sform's voxel size differs from the header's, by up to {apart:.1f} mm over "
                "the image; the header's was used, as ITK does"
            )
    return affine, tuple(notes)


def _fields(path: Path, header: nib.Nifti1Header) -> _Header:
    unit = int(header["xyzt_units"]) & 7
    scale = _UNIT_MM.get(unit, 1.0)
    pixdim = np.asarray(header["pixdim"][1:4], dtype=np.float64)
    if (pixdim < 0).any():
        raise InputError(
            f"{path}: a negative voxel size in its header (pixdim is {_pixdim(header)}): some "
            "programs mirror such a scan and others do not; convert it again"
        )
    absent = ~np.isfinite(pixdim) | (pixdim == 0)
    if unit in _UNIT_NAME and not 0.01 <= float(np.where(absent, 1.0, pixdim).max()) * scale <= 100:
        size = " x ".join(f"{x:.3g}" for x in pixdim)
        raise InputError(
            f"{path}: its header counts in {_UNIT_NAME[unit]}, so that a voxel of {size} "
            f"is {scale:g} times as many mm; in mm it would be a head's; convert it again"
        )
    s_code, q_code = int(header["sform_code"]), int(header["qform_code"])
    voxel_mm = np.where(absent, 1.0, pixdim) * scale
    sform, qform = np.eye(4), np.eye(4)
    if s_code > 0:
        rows = [header["srow_x"], header["srow_y"], header["srow_z"]]
        sform[:3] = np.asarray(rows, dtype=np.float64) * scale
    if q_code > 0:
        offsets = [header["qoffset_x"], header["qoffset_y"], header["qoffset_z"]]
        qform[:3, 3] = np.asarray(offsets, dtype=np.float64).ravel() * scale
        qform[:3, :3] = _rotation(header) * voxel_mm
    for name, form in (("sform", sform), ("qform", qform)):
        if not np.isfinite(form).all():
            raise InputError(
                f"{path}: the affine holds non-finite values ({name}); the header's orientation is "
                "broken"
            )
    return _Header(s_code, q_code, voxel_mm, bool(absent.any()), sform, qform)


def _rotation(header: nib.Nifti1Header) -> NDArray[np.float64]:
    """Axes of the qform, (3, 3): NIfTI's quaternion, normalised where rounding made it too long."""
    b, c, d = (float(header[f"quatern_{name}"]) for name in "bcd")
    squared = 1.0 - (b * b + c * c + d * d)
    if squared < 1e-7:  # as nifti1_io: a half turn, whatever was lost in rounding
        length = np.sqrt(b * b + c * c + d * d)
        a, b, c, d = 0.0, b / length, c / length, d / length
    else:
        a = np.sqrt(squared)
    turn = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - c * c - b * b],
        ]
    )
    if float(header["pixdim"][0]) < 0:  # "qfac": the third axis is turned round
        turn[:, 2] *= -1
    return turn


def _nibabel_qform(header: nib.Nifti1Header, found: _Header) -> NDArray[np.float64]:
    """Nibabel's qform, to the last digit; ours where nibabel refuses the header's numbers."""
    if int(header["xyzt_units"]) & 7 in _UNIT_NAME or float(header["pixdim"][0]) not in (-1.0, 1.0):
        return found.qform
    try:
        return np.asarray(header.get_qform(), dtype=np.float64)
    except ValueError:  # HeaderDataError is one
        return found.qform


def _shear(affine: NDArray[np.float64]) -> float:
    """Largest cosine between two axes; infinite where an axis has no length."""
    size = np.linalg.norm(affine[:3, :3], axis=0)
    if not size.all():
        return float("inf")
    axes = affine[:3, :3] / size
    return float(np.abs(axes.T @ axes - np.eye(3)).max())


def _refuse_mirrored(path: Path, found: _Header) -> None:
    if found.s_code <= 0 or found.q_code <= 0:
        return
    hands = [np.linalg.det(form[:3, :3]) for form in (found.sform, found.qform)]
    if hands[0] * hands[1] < 0:
        raise InputError(
            f"{path}: its sform and qform are mirror images, so that left and right cannot be "
            f"told (sform: {_told(found.sform)}; qform: {_told(found.qform)}); convert it again"
        )


def _with_size(path: Path, header: nib.Nifti1Header, found: _Header) -> NDArray[np.float64]:
    """The sform's axes with the voxel size of the header, as ITK combines them."""
    size = np.linalg.norm(found.sform[:3, :3], axis=0)
    if not size.all() or (found.s_code > 0 and _shear(found.sform) > MAX_ITK_SHEAR):
        return found.sform  # ITK reads no such file; what is usable is decided later
    affine = found.sform.copy()
    affine[:3, :3] *= found.voxel_mm / size
    if np.abs(found.voxel_mm / size - 1).max() > MAX_SIZE_CONFLICT:
        raise InputError(
            f"{path}: its voxel size (pixdim is {_pixdim(header)}) contradicts its sform "
            f"(sform: {_told(found.sform)}; as ITK combines them: {_told(affine)}); "
            "convert it again"
        )
    return affine


def _apart(one: NDArray[np.float64], other: NDArray[np.float64], shape: tuple[int, ...]) -> float:
    """Largest distance (mm) of a corner of the image between two affines."""
    x, y, z = shape[:3]
    corners = np.array([[i, j, k, 1] for i in (0, x) for j in (0, y) for k in (0, z)])
    return float(np.linalg.norm((corners @ (one - other).T)[:, :3], axis=1).max())


def _told(affine: NDArray[np.float64]) -> str:
    """Say an affine: axes, voxel size, place of the first voxel."""
    import nibabel as nib

    try:
        axes = "".join(code or "?" for code in nib.orientations.aff2axcodes(affine))
    except (ValueError, np.linalg.LinAlgError):
        axes = "no axes"
    size = " x ".join(f"{s:.3g}" for s in np.linalg.norm(affine[:3, :3], axis=0))
    place = ", ".join(f"{x:.4g}" for x in affine[:3, 3])
    return f"{axes}, {size} mm, first voxel at ({place})"


def _pixdim(header: nib.Nifti1Header) -> str:
    return " x ".join(f"{float(x):.4g}" for x in header["pixdim"][1:4])
