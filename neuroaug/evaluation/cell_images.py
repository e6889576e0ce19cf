"""Labelled images of one grid, as a trainer streams them, and what sets of them must satisfy.

Real and synthetic images take the same path, so that storage cannot tell them apart.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from neuroaug.errors import InputError, LeakageError
from neuroaug.imaging.cache import CohortCache

REQUIRED = ("participant_id", "session_id", "diagnosis")


@dataclass(frozen=True, eq=False)
class Images:
    """Labelled images, real or synthetic, on one grid.

    Attributes
    ----------
    table : DataFrame
        One row per image, index 0..n-1: ``participant_id session_id diagnosis label``; label is 1.0
        for the positive class, 0.0 for the other (ClinicaDL's losses crash on integers). Where
        images are trained on softly, ``target``: the probability of the positive class; ``age``
        where it is known of somebody.
    caches : tuple of CohortCache
        Memory-mapped arrays that hold the voxels.
    cache_of, row_of : ndarray of int, shape (n,)
        Number of the cache, and of its row, that holds each image.
    synthetic : ndarray of bool, shape (n,)
        Whether each image is synthetic.
    """

    table: pd.DataFrame
    caches: tuple[CohortCache, ...]
    cache_of: NDArray[np.int64]
    row_of: NDArray[np.int64]
    synthetic: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.table)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels of one image along x, y, z."""
        return self.caches[0].shape

    @property
    def labels(self) -> NDArray[np.float64]:
        """1.0 for the positive class, 0.0 for the negative one; shape (n,)."""
        return self.table["label"].to_numpy(dtype=np.float64)

    @property
    def targets(self) -> NDArray[np.float64] | None:
        """What is trained on where it is not the labels: probabilities of the positive class."""
        if "target" not in self.table:
            return None
        return self.table["target"].fillna(self.table["label"]).to_numpy(dtype=np.float64)

    @property
    def ages(self) -> NDArray[np.float64]:
        """Ages in years, NaN where unknown; shape (n,)."""
        if "age" not in self.table:
            return np.full(len(self), np.nan)
        return self.table["age"].to_numpy(dtype=np.float64)

    def stored(self, positions: NDArray[np.integer]) -> NDArray[np.generic]:
        """Stored voxels of some images, (B, X, Y, Z), in the given order and the caches' dtype."""
        rows = [self.caches[self.cache_of[p]].images[self.row_of[p]] for p in positions]
        return np.stack(rows)

    def release(self) -> None:
        """Give mapped pages back; they stay in the system's cache, and are mapped again when read.

        Otherwise a job's resident memory grows to the size of the set (16 GB for 20000 images at 2
        mm), and schedulers that count mapped files kill it.
        """
        for cache in self.caches:
            mapped = getattr(cache.images, "_mmap", None)
            if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
                mapped.madvise(mmap.MADV_DONTNEED)

    def sha256(self) -> str:
        """Checksum of who is in it, with which label and voxels; names of folders do not enter."""
        digest = hashlib.sha256()
        rows = zip(*(self.table[name] for name in REQUIRED), self.image_sha256(), strict=True)
        for participant, session, diagnosis, image in rows:
            digest.update(f"{participant}\t{session}\t{diagnosis}\t{image}\n".encode())
        if (targets := self.targets) is not None:
            digest.update("\t".join(f"{target:.6f}" for target in targets).encode())
        return digest.hexdigest()

    def image_sha256(self) -> list[str]:
        """Checksum of the voxels of each image, before any scaling."""
        checksums = [cache.image_sha256 for cache in self.caches]
        return [
            checksums[cache][row] for cache, row in zip(self.cache_of, self.row_of, strict=True)
        ]

    def take(self, positions: Sequence[int] | NDArray[np.integer]) -> Images:
        """Some of the images, in the given order."""
        rows = np.asarray(positions, dtype=np.int64)
        table = self.table.iloc[rows].reset_index(drop=True)
        return Images(
            table, self.caches, self.cache_of[rows], self.row_of[rows], self.synthetic[rows]
        )


def concatenate(parts: Sequence[Images]) -> Images:
    """Put several sets together, keeping the order.

    Raises
    ------
    InputError
        If they are not on one grid, or two rows are the same visit.
    """
    require_one_grid(parts)
    table = pd.concat([part.table for part in parts], ignore_index=True)
    refuse_duplicates(table, "the training set")
    offsets = np.cumsum([0, *(len(part.caches) for part in parts)])[:-1]
    return Images(
        table,
        tuple(cache for part in parts for cache in part.caches),
        np.concatenate(
            [part.cache_of + offset for part, offset in zip(parts, offsets, strict=True)]
        ),
        np.concatenate([part.row_of for part in parts]),
        np.concatenate([part.synthetic for part in parts]),
    )


def with_duplicates(images: Images, n: int) -> Images:
    """Add `n` further copies of real images of each label, all as often as any other, or once less.

    No image is new: what a cell gains by it is steps.
    """
    rows = [np.arange(len(images))]
    for label in sorted(set(images.labels)):
        real = np.flatnonzero((images.labels == label) & ~images.synthetic)
        rows.append(real[np.arange(n) % len(real)])
    return images.take(np.concatenate(rows))


def require_one_grid(parts: Sequence[Images]) -> None:
    """Refuse sets of different grids.

    Raises
    ------
    InputError
        Naming a visit of each.
    """
    first = parts[0].caches[0]
    for cache in (cache for part in parts for cache in part.caches):
        if cache.shape != first.shape or not np.allclose(cache.affine, first.affine, atol=1e-3):
            one, other = _first_visit(parts, cache), _first_visit(parts, first)
            raise InputError(
                f"{one}: image of {_size(cache)} voxels, while {other} has {_size(first)} or lies "
                "elsewhere; a cell needs images of one grid"
            )
        if cache.images.dtype != first.images.dtype:
            raise InputError(
                f"{cache.folder}: stored as {cache.images.dtype}, not {first.images.dtype}; "
                "remove it"
            )


def require_disjoint(sets: Mapping[str, Images]) -> None:
    """Refuse a participant, or an image whatever its name, in two sets, before anything is trained.

    ClinicaDL looks at the participants of test sets, and after the training only. A real image
    among the synthetic ones has no other check.

    Raises
    ------
    LeakageError
        Naming the participants.
    """
    seen: dict[str, str] = {}
    owners: dict[str, tuple[str, str]] = {}
    for name, images in sets.items():
        people = set(images.table["participant_id"])
        if both := sorted(people & seen.keys()):
            raise LeakageError(
                f"{', '.join(both)}: in {seen[both[0]]} and in {name}; nobody may be in two sets"
            )
        seen |= dict.fromkeys(people, name)
        found = images.image_sha256()
        copies = [
            f"{participant} of {name} is the image of {owners[image][0]} of {owners[image][1]}"
            for participant, image in zip(images.table["participant_id"], found, strict=True)
            if image in owners
        ]
        if copies:
            more = f", and {len(copies) - 10} more" if len(copies) > 10 else ""
            raise LeakageError(f"{', '.join(copies[:10])}{more}; no image may be in two sets")
        owners |= {
            image: (str(participant), name)
            for participant, image in zip(images.table["participant_id"], found, strict=True)
        }


def _size(cache: CohortCache) -> str:
    return "x".join(map(str, cache.shape))


def _first_visit(parts: Sequence[Images], wanted: CohortCache) -> str:
    for part in parts:
        for number, cache in enumerate(part.caches):
            if cache is wanted:
                row = part.table.iloc[int(np.flatnonzero(part.cache_of == number)[0])]
                return f"{row['participant_id']} {row['session_id']}"
    return str(wanted.folder)


def require_both_classes(table: pd.DataFrame, labels: Iterable[str], what: str) -> None:
    """Refuse a set that lacks a class, on which balanced accuracy has no value.

    Raises
    ------
    InputError
        Naming the class.
    """
    for label in labels:
        if not (table["diagnosis"] == label).any():
            raise InputError(
                f"{what}: no participant with label {label}; balanced accuracy needs both classes"
            )


def refuse_duplicates(table: pd.DataFrame, what: str) -> None:
    """Refuse a table with two rows of one visit, naming it."""
    twice = table[table.duplicated(["participant_id", "session_id"])]
    if len(twice):
        row = twice.iloc[0]
        raise InputError(
            f"{what}: {row['participant_id']} {row['session_id']} is in it twice; remove one"
        )
