"""Reading, checking and writing NIfTI files: the only place that touches them."""

from __future__ import annotations

import gzip
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy as np
from isal import igzip, isal_zlib
from numpy.typing import NDArray

from neuroaug.errors import InputError
from neuroaug.imaging.physical_space import physical_space
from neuroaug.system.files import reading, write_bytes

if TYPE_CHECKING:
    import nibabel as nib

MIN_VOXELS = 8
VOXEL_MM = (0.3, 6.0)
MAX_SHEAR = 0.02  # cosine between two axes
MAX_BYTES = 8 * 1024**3  # of the voxels, as stored
MAX_ORIGIN_MM = 1e5  # of the first voxel; beyond some 1e20, ITK crashes
COMPRESSION = 3
_GZIP_MAGIC = b"\x1f\x8b"
_CHUNK = 1 << 17  # what ISA-L decompresses into the processor's cache
_HEADER_BYTES = 540

Dtype = Literal["float32", "uint8", "int16"]


@dataclass(frozen=True)
class Volume:
    """A scan that passed every check of `read_volume`.

    Attributes
    ----------
    data : array (X, Y, Z), float32
        Finite intensities, scale factor applied, axes as stored.
    affine : array (4, 4), float64
        Voxel indices to world (RAS+, mm).
    notes : tuple of str
        What a reader should know: contradicting or missing orientation codes.
    """

    data: NDArray[np.float32]
    affine: NDArray[np.float64]
    notes: tuple[str, ...] = ()

    @property
    def voxel_mm(self) -> tuple[float, float, float]:
        """Voxel size along each stored axis."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)


@dataclass(frozen=True)
class Inspection:
    """What a file that passed every check says of its scan.

    Attributes
    ----------
    shape : tuple of int
        Voxels along each stored axis.
    affine : array (4, 4), float64
        Voxel indices to world (RAS+, mm).
    notes : tuple of str
        What a reader should know, as in `Volume`.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Stored:
    """Numbers as the file holds them, first axis fastest (n,), and how they become intensities."""

    values: NDArray[Any]
    slope: float
    intercept: float
    found: Inspection


@contextmanager
def _stream(path: Path) -> Iterator[IO[bytes]]:
    """Open the file decompressed; every way of being unreadable becomes one line."""
    with reading(path, "a NIfTI file"):
        if stat.S_ISFIFO(path.stat().st_mode):  # opening it would wait for a writer
            raise InputError(f"{path}: a pipe, where a NIfTI file is expected")
        with open(path, "rb") as raw:
            packed = raw.peek(2)[:2] == _GZIP_MAGIC
            if not packed and path.suffix == ".gz":
                empty = not raw.peek(1)
                raise InputError(
                    f"{path}: {'empty file' if empty else 'named .gz but not compressed by gzip'}"
                )
            # ISA-L's reader checks length and checksum as zlib's does, in half the time.
            try:
                yield igzip.GzipFile(fileobj=raw) if packed else raw  # type: ignore[misc]
            except isal_zlib.error as error:  # type: ignore[misc]
                raise zlib.error(str(error)) from None


def _read_header(path: Path, head: bytes) -> tuple[type[nib.Nifti1Image], nib.Nifti1Header]:
    import nibabel as nib
    from nibabel.spatialimages import HeaderDataError
    from nibabel.wrapstruct import WrapStructError

    sizes = {int.from_bytes(head[:4], order) for order in ("little", "big")}
    kind: type[nib.Nifti1Image] = nib.Nifti2Image if 540 in sizes else nib.Nifti1Image
    if not head:
        raise InputError(f"{path}: empty file")
    if not sizes & {348, 540} or len(head) < 348:
        raise InputError(f"{path}: not a NIfTI file")
    try:
        header = _as_stored(kind, head)
        if header["magic"].item() not in (b"n+1", b"n+2"):
            raise InputError(
                f"{path}: not a single-file NIfTI (its header says it is one of a pair, or Analyze)"
            )
        header.get_data_dtype()
        header.get_slope_inter()
        header.check_fix(logger=_silent(), error_level=40)
    except (HeaderDataError, WrapStructError, ValueError, KeyError) as error:
        raise InputError(
            f"{path}: NIfTI header not usable ({' '.join(str(error).split())})"
        ) from None
    return kind, header


def _as_stored(kind: type[nib.Nifti1Image], head: bytes) -> nib.Nifti1Header:
    """Return the header without nibabel's repairs."""
    return kind.header_class(head[: kind.header_class.sizeof_hdr], check=False)


def _silent() -> Any:
    import logging

    logger = logging.getLogger("neuroaug.nifti")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    return logger


def _check_shape(path: Path, header: nib.Nifti1Header) -> tuple[int, int, int]:
    shape = tuple(int(n) for n in header.get_data_shape())
    if len(shape) < 3 or any(n != 1 for n in shape[3:]):
        raise InputError(
            f"{path}: not a 3D image (shape {'x'.join(map(str, shape))}); give one volume"
        )
    x, y, z = shape[:3]
    if min(x, y, z) < MIN_VOXELS:
        raise InputError(f"{path}: shape {x}x{y}x{z}, fewer than {MIN_VOXELS} voxels on an axis")
    dtype = header.get_data_dtype()
    if dtype.kind not in "iuf":
        kind = {"c": "complex numbers", "V": "colours"}.get(dtype.kind, str(dtype))
        raise InputError(f"{path}: holds {kind}, where one real number per voxel is expected")
    if x * y * z * dtype.itemsize > MAX_BYTES:
        raise InputError(
            f"{path}: shape {x}x{y}x{z} is beyond {MAX_BYTES // 1024**3} GB; the header is wrong"
        )
    return x, y, z


def check_affine(path: Path, affine: NDArray[np.float64]) -> None:
    """Refuse an affine that cannot be that of a head scan.

    Parameters
    ----------
    path : Path
        The scan, for the message.
    affine : array (4, 4)
        Voxel indices to world (RAS+, mm).

    Raises
    ------
    InputError
        Non-finite, singular, sheared, more than 100 m away, or a voxel size outside 0.3-6 mm.
    """
    if not np.isfinite(affine).all():
        raise InputError(
            f"{path}: the affine holds non-finite values; the header's orientation is broken"
        )
    if np.abs(affine[:3, 3]).max() > MAX_ORIGIN_MM:
        place = ", ".join(f"{x:.3g}" for x in affine[:3, 3])
        raise InputError(
            f"{path}: the first voxel lies at ({place}) mm; the header's orientation is broken"
        )
    size = np.linalg.norm(affine[:3, :3], axis=0)
    shown = " x ".join(f"{s:.3g}" for s in size)
    # The volume of the voxel relative to a box of the same edges: 0 where axes are parallel.
    volume = abs(np.linalg.det(affine[:3, :3]))
    if volume < 1e-3 * max(float(np.prod(size)), 1e-9):
        raise InputError(
            f"{path}: the affine is singular (determinant {volume:.2g}); "
            "the header's orientation is broken"
        )
    axes = affine[:3, :3] / size
    shear = float(np.abs(axes.T @ axes - np.eye(3)).max())
    if shear > MAX_SHEAR:
        raise InputError(
            f"{path}: the affine is sheared (cosine {shear:.2g} between two axes); "
            "resample the scan"
        )
    # A float32 header stores 0.3 as 0.30000001 or just below: allow for rounding.
    if size.min() < VOXEL_MM[0] * (1 - 1e-5) or size.max() > VOXEL_MM[1] * (1 + 1e-5):
        raise InputError(
            f"{path}: voxel size {shown} mm outside {VOXEL_MM[0]:g}-{VOXEL_MM[1]:g} mm"
        )


def read_volume(path: str | Path) -> Volume:
    """Read one scan, decompressing to the end, and refuse what no head scan is.

    Its place in the world is the one that ITK reads (`physical_space`).

    Parameters
    ----------
    path : path-like
        A ``.nii`` or ``.nii.gz``, NIfTI-1 or NIfTI-2.

    Raises
    ------
    InputError
        In one line: absent, truncated or corrupt, not NIfTI, not 3D (trailing axes of length 1 are
        fine), complex or colour, non-finite, constant, fewer than 8 voxels on an axis, orientations
        that contradict each other, singular or sheared affine, voxel size outside 0.3-6 mm.
    """
    stored = _read_checked(Path(path))
    values = stored.values.reshape(stored.found.shape, order="F")
    data = np.ascontiguousarray(_scale(values, stored.slope, stored.intercept), dtype=np.float32)
    return Volume(data, stored.found.affine, stored.found.notes)


def count_voxels(path: str | Path) -> int | None:
    """Read from the header how many voxels a scan has; None where it is none that can be read."""
    path = Path(path)
    try:
        with _stream(path) as stream:
            _, header = _read_header(path, stream.read(_HEADER_BYTES))
        return int(np.prod(_check_shape(path, header), dtype=np.int64))
    except InputError:
        return None


def inspect_volume(path: str | Path) -> Inspection:
    """Check a scan exactly as `read_volume` does, without making the array that computations want.

    Raises
    ------
    InputError
        As `read_volume`.
    """
    return _read_checked(Path(path)).found


def _read_checked(path: Path) -> _Stored:
    with _stream(path) as stream:
        head = stream.read(_HEADER_BYTES)
        kind, header = _read_header(path, head)
        shape = _check_shape(path, header)
        if not -1 < float(header["vox_offset"]) < MAX_BYTES:
            begin = f"{float(header['vox_offset']):g}"
            raise InputError(f"{path}: its header says that the voxels begin at byte {begin}")
        offset = max(int(header["vox_offset"]), kind.header_class.sizeof_hdr)
        needed = offset + int(np.prod(shape)) * header.get_data_dtype().itemsize
        content = bytearray(head)
        while len(content) < needed and (chunk := stream.read(min(_CHUNK, needed - len(content)))):
            content += chunk
        if len(content) < needed:
            raise InputError(
                f"{path}: truncated, {len(content)} bytes where {needed} are needed; copy it again"
            )
        while stream.read(_CHUNK):  # the gzip checksum stands at the very end
            pass
    values = np.frombuffer(content, header.get_data_dtype(), int(np.prod(shape)), offset)
    slope, intercept = header.get_slope_inter()
    slope, intercept = (1.0, 0.0) if slope is None else (float(slope), float(intercept or 0.0))
    _check_values(path, values, slope, intercept)
    affine, notes = physical_space(path, _as_stored(kind, head), shape)
    check_affine(path, affine)
    return _Stored(values, slope, intercept, Inspection(shape, affine, notes))


def _scale(stored: NDArray[Any], slope: float, intercept: float) -> NDArray[Any]:
    return (
        stored
        if (slope, intercept) == (1.0, 0.0)
        else stored * np.float64(slope) + np.float64(intercept)
    )


def _check_values(path: Path, stored: NDArray[Any], slope: float, intercept: float) -> None:
    """Refuse non-finite and constant intensities, as float32 will hold them."""
    with np.errstate(over="ignore", invalid="ignore"):
        # Scaling and rounding keep the order, and NaN passes through: the extremes tell of every
        # voxel.
        extremes = _scale(np.array([stored.min(), stored.max()]), slope, intercept).astype(
            np.float32
        )
        if not np.isfinite(extremes).all():
            data = _scale(stored, slope, intercept).astype(np.float32)
            bad = int(data.size - np.count_nonzero(np.isfinite(data)))
            raise InputError(
                f"{path}: {bad} non-finite voxels (NaN or infinite); "
                "repair the file or leave the visit out"
            )
    if extremes[0] == extremes[1]:
        raise InputError(f"{path}: constant image (every voxel is {extremes[0]:g})")


def write_volume(
    path: str | Path,
    data: NDArray[Any],
    affine: NDArray[np.floating],
    dtype: Dtype = "float32",
    *,
    level: int = COMPRESSION,
    space: Literal["mni", "scanner"] = "mni",
) -> None:
    """Write a NIfTI-1 file atomically; equal arguments give equal bytes.

    Parameters
    ----------
    path : path-like
        A ``.nii`` or ``.nii.gz``.
    data : array (X, Y, Z)
        Finite intensities.
    affine : array (4, 4)
        Voxel indices to world (RAS+, mm).
    dtype : {"float32", "uint8", "int16"}
        ``uint8`` stores x in [0, 1] as round(255 x) with ``scl_slope`` 1/255; ``int16`` spreads the
        image's range over the integers with a scale factor.
    level : int
        Compression, 1-9.
    space : {"mni", "scanner"}
        What the orientation codes say the world coordinates are.

    Raises
    ------
    ValueError
        If the data cannot be stored so.
    """
    import nibabel as nib

    path = Path(path)
    header = nib.Nifti1Header()
    header.set_xyzt_units("mm")
    header.set_data_shape(data.shape)
    header.set_data_dtype(dtype)
    header.set_sform(affine, space)
    header.set_qform(affine, space)
    if not np.isfinite(data).all():
        raise ValueError("data to be written must be finite")
    stored, slope, intercept = _to_stored(np.asarray(data), dtype)
    header["magic"] = b"n+1"
    header["vox_offset"] = header.single_vox_offset
    header["scl_slope"], header["scl_inter"] = slope, intercept
    head = header.binaryblock.ljust(header.single_vox_offset, b"\0")
    content = head + stored.tobytes(order="F")
    write_bytes(path, gzip.compress(content, level, mtime=0) if path.suffix == ".gz" else content)


def _to_stored(data: NDArray[Any], dtype: Dtype) -> tuple[NDArray[Any], float, float]:
    """Numbers to store, slope, intercept."""
    if dtype == "float32":
        return data.astype("<f4"), 1.0, 0.0
    low, high = float(data.min()), float(data.max())
    if dtype == "uint8":
        if low < -1e-3 or high > 1 + 1e-3:
            raise ValueError(
                f"data to be written as uint8 must lie in [0, 1], found {low:g} to {high:g}"
            )
        return np.rint(np.clip(data, 0, 1) * 255).astype(np.uint8), float(np.float32(1 / 255)), 0.0
    if dtype == "int16":
        slope = float(np.float32(max(high - low, 1e-30) / 65000))
        intercept = float(np.float32(low + slope * 32500))
        return (
            np.rint((data.astype(np.float64) - intercept) / slope).astype("<i2"),
            slope,
            intercept,
        )
    raise ValueError(f"dtype {dtype!r} cannot be written")
