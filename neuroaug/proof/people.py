"""The people of the study: images on one small grid, and what is known of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from neuroaug.errors import InputError
from neuroaug.system.files import read_tsv

Values = NDArray[np.float64]


@dataclass(frozen=True)
class People:
    """Everyone of a data set.

    Attributes
    ----------
    name : str
        Of the data set.
    images : ndarray, shape (N, X, Y, Z), float32
        In [0, 1]; Z = 1 for slices.
    ids : tuple of str
        Participants.
    table : DataFrame
        diagnosis (or group), age, sex.
    """

    name: str
    images: NDArray[np.float32]
    ids: tuple[str, ...]
    table: pd.DataFrame

    @property
    def ages(self) -> Values:
        """Years."""
        return pd.to_numeric(self.table["age"]).to_numpy(dtype=np.float64)


def block_means(images: NDArray[np.uint8], factors: tuple[int, int, int]) -> NDArray[np.float32]:
    """Means of blocks of voxels, images cut to whole blocks; (N, X, Y, Z), in [0, 1]."""
    n, *shape = images.shape
    whole = [size // factor * factor for size, factor in zip(shape, factors, strict=True)]
    cut = images[:, : whole[0], : whole[1], : whole[2]]
    x, y, z = (size // factor for size, factor in zip(whole, factors, strict=True))
    a, b, c = factors
    blocks = cut.reshape(n, x, a, y, b, z, c).astype(np.float32)
    return np.ascontiguousarray(blocks.mean((2, 4, 6)) / 255)


@dataclass(frozen=True)
class _Source:
    """Where images lie, and how they are made smaller."""

    file: str
    array: str
    table: str
    factors: tuple[int, int, int]
    slices: bool


_SOURCES = {
    "axial": _Source("oasis1-slices.npz", "axial", "oasis1-slices.tsv", (2, 2, 1), True),
    "coronal": _Source("oasis1-slices.npz", "coronal", "oasis1-slices.tsv", (2, 2, 1), True),
    "slab": _Source("oasis1-slabs-2mm.npz", "slab", "oasis1-slabs-2mm.tsv", (2, 2, 2), False),
    "brains": _Source("brains-2mm.npz", "volume", "brains-2mm.tsv", (2, 2, 2), False),
}


def read_people(name: str, folder: Path) -> People:
    """Read a data set from the folder that holds its arrays.

    Parameters
    ----------
    name : {"axial", "coronal", "slab", "brains"}
        Slices of 1 mm at 2 mm, or 2 mm volumes at 4 mm.
    folder : Path
        With the ``.npz`` and the ``.tsv``.

    Raises
    ------
    InputError
        If a file is absent, or rows and images differ in number.
    """
    if name not in _SOURCES:
        raise InputError(f"data set '{name}': unknown; choose one of {', '.join(_SOURCES)}")
    source = _SOURCES[name]
    path = folder / source.file
    if not path.is_file():
        raise InputError(f"{path}: no such file; give the folder of {name} with --data")
    stored = np.load(path)[source.array]
    images = stored[..., None] if source.slices else stored
    table = read_tsv(folder / source.table, ("participant_id", "age", "sex"))
    if len(table) != len(images):
        raise InputError(f"{folder / source.table}: {len(table)} rows for {len(images)} images")
    small = block_means(images, source.factors)
    return People(name, small, tuple(table["participant_id"]), table)


@dataclass(frozen=True)
class Task:
    """What is told apart among the people of a data set.

    Attributes
    ----------
    name : str
        As the pages call it.
    years : float
        How many years older the brains of the positive class are believed to look: the prior.
    covariates : tuple of str
        Of the law; age where the task is not age itself.
    """

    name: str
    years: float
    covariates: tuple[str, ...]
    _label: Callable[[People], NDArray[np.float64]]

    def labels(self, people: People) -> Values:
        """1 for the positive class, 0 for the negative one, NaN for neither."""
        return self._label(people)


def _equal(column: str, positive: tuple[str, ...]) -> Callable[[People], Values]:
    def labels(people: People) -> Values:
        return np.array(people.table[column].isin(positive), dtype=np.float64)

    return labels


def _outer_thirds(people: People) -> Values:
    """The oldest third against the youngest; the middle third belongs to neither."""
    low, high = np.quantile(people.ages, (1 / 3, 2 / 3))
    return np.where(people.ages <= low, 0.0, np.where(people.ages > high, 1.0, np.nan))


def make_task(
    name: str,
    *,
    column: str | None = None,
    positive: tuple[str, ...] = (),
    years: float = 0.0,
    covariates: tuple[str, ...] = ("age",),
) -> Task:
    """Make a task of a study file.

    Parameters
    ----------
    name : str
        As the pages call it.
    column, positive
        Column of the table and its values of the positive class; without a column the oldest third
        is told from the youngest.
    years, covariates
        See `Task`.

    Raises
    ------
    InputError
        A covariate that is not read.
    """
    if not set(covariates) <= {"age"}:
        raise InputError(f"task '{name}': covariates {', '.join(covariates)}; only age is read")
    label = _outer_thirds if column is None else _equal(column, positive)
    return Task(name, years, covariates, label)
