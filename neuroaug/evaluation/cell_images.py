"""From a CAPS and a table to labelled images that a trainer can stream: memory-mapped, on one grid.

ClinicaDL's `BidsDataset` finds and checks the files; the voxels are then read once into
`neuroaug.imaging.cache.CohortCache` arrays, by the same reader that checks every other image of a
study. The alternatives of ClinicaDL were left aside: NIfTI files decompressed at every epoch cost
ten times more than training at 2 mm, and its tensors are float32 pickles of one image each (62 GB
for 20000 images, where uint8 arrays take 16), written in a folder that two CAPS of one parent
share. Real and synthetic images take the same path, so that storage cannot tell them apart.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from neuroaug.errors import InputError, LeakageError
from neuroaug.imaging import caps as caps_names
from neuroaug.imaging.cache import RECORD, CohortCache
from neuroaug.system.files import read_tsv

if TYPE_CHECKING:
    from clinicadl.data.datasets import BidsDataset

POSITIVE = "AD"
REQUIRED = ("participant_id", "session_id", "diagnosis")
SYNTHETIC_BLOCK = 500  # images of one cache, so that extending a set rewrites nothing


@dataclass(frozen=True, eq=False)
class Images:
    """Labelled images, real or synthetic, on one grid.

    Attributes
    ----------
    table : DataFrame
        One row an image, index 0..n-1: ``participant_id session_id diagnosis label``; label is 1.0
        for AD and 0.0 for CN (ClinicaDL's losses crash on integers).
    caches : tuple of CohortCache
        Where the voxels lie.
    cache_of, row_of : ndarray of int
        Shape (n,): which cache, and which row of it, holds each image.
    synthetic : ndarray of bool
        Shape (n,).
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
        """1.0 for AD, 0.0 for CN; shape (n,)."""
        return self.table["label"].to_numpy(dtype=np.float64)

    def stored(self, positions: NDArray[np.integer]) -> NDArray[np.generic]:
        """Stored voxels of some images, (B, X, Y, Z), in the order asked and the caches' dtype."""
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
        """Checksum of who is in it, with which label and which voxels; names of folders do not
        enter.
        """
        digest = hashlib.sha256()
        rows = zip(*(self.table[name] for name in REQUIRED), self.image_sha256(), strict=True)
        for participant, session, diagnosis, image in rows:
            digest.update(f"{participant}\t{session}\t{diagnosis}\t{image}\n".encode())
        return digest.hexdigest()

    def image_sha256(self) -> list[str]:
        """Checksum of the voxels of each image, before any scaling."""
        checksums = [cache.image_sha256 for cache in self.caches]
        return [
            checksums[cache][row] for cache, row in zip(self.cache_of, self.row_of, strict=True)
        ]

    def take(self, positions: Sequence[int] | NDArray[np.integer]) -> Images:
        """Some of the images, in the order asked."""
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
    _refuse_duplicates(table, "the training set")
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
            raise InputError(
                f"{_first_visit(parts, cache)}: image of {_size(cache)} voxels, while {_first_visit(parts, first)} has "
                f"{_size(first)} or lies elsewhere; a cell needs images of one grid"
            )
        if cache.images.dtype != first.images.dtype:
            raise InputError(
                f"{cache.folder}: stored as {cache.images.dtype}, not {first.images.dtype}; remove it"
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


@dataclass
class ImageStore:
    """Opens the images of a resolution, and keeps what it opened.

    Parameters
    ----------
    cache_folder : Path
        Where memory-mapped copies are kept; may be deleted at any time.
    resolution : {"1mm", "2mm", "4mm"}
        Which of the CAPS's images.
    scaling : {"min-max", "percentile"}
        How each image is mapped to [0, 1].
    storage : {"uint8", "float16"}
        How voxels are stored.
    n_procs : int
        Processes that read images the first time.
    """

    cache_folder: Path
    resolution: str
    scaling: Literal["min-max", "percentile"] = "min-max"
    storage: Literal["uint8", "float16"] = "uint8"
    n_procs: int = 1
    _open: dict[Path, CohortCache] = field(default_factory=dict)

    def real(
        self, caps: Path, table: Path | pd.DataFrame, labels: Iterable[str], what: str
    ) -> Images:
        """Images of a table's visits.

        Parameters
        ----------
        caps : Path
            CAPS of the images.
        table : path or DataFrame
            ``participant_id session_id diagnosis``, one row a visit.
        labels : iterable of str
            Diagnoses allowed.
        what : str
            Name of the set, for messages (``"train.tsv"``).

        Raises
        ------
        InputError
            Column missing, unknown diagnosis, duplicate visit, a visit without image (named), an
            empty table.
        """
        table = read_labelled(table, labels, what)
        visits = [
            caps_names.Visit(p, s)
            for p, s in zip(table["participant_id"], table["session_id"], strict=True)
        ]
        # Sorted, so that one cache serves every table with these visits, whatever its order.
        order = np.array(sorted(range(len(visits)), key=lambda i: visits[i]))
        cache = self._cache(caps, [visits[i] for i in order], "real", what)
        rows = np.empty(len(visits), dtype=np.int64)
        rows[order] = np.arange(len(visits))
        return Images(table, (cache,), np.zeros_like(rows), rows, np.zeros(len(rows), dtype=bool))

    def synthetic(self, folder: Path, label: str, n: int) -> Images:
        """Images 1..n of a synthetic CAPS.

        Raises
        ------
        InputError
            If the folder holds fewer images, or images of another label.
        """
        table = read_tsv(folder / "participants.tsv", ("participant_id", "diagnosis", "index"))
        other = sorted(set(table["diagnosis"].dropna()) - {label})
        if other:
            raise InputError(
                f"{folder / 'participants.tsv'}: images of {', '.join(other)}, where {label} is expected"
            )
        table = (
            table.assign(index=table["index"].astype(int))
            .sort_values("index")
            .reset_index(drop=True)
        )
        table = table[table["index"] <= n]
        if list(table["index"]) != list(range(1, n + 1)):
            raise InputError(
                f"{folder}: images 1 to {n} of {label} are needed, {len(table)} of them are listed; "
                f"draw them with 'neuroaug augment --label {label} --n {n}'"
            )
        visits = [
            caps_names.Visit(participant, "ses-M000") for participant in table["participant_id"]
        ]
        blocks = [visits[start : start + SYNTHETIC_BLOCK] for start in range(0, n, SYNTHETIC_BLOCK)]
        caches = tuple(
            self._cache(folder, block, f"synthetic-{label}", str(folder)) for block in blocks
        )
        labelled = pd.DataFrame(
            {
                "participant_id": [v.participant_id for v in visits],
                "session_id": [v.session_id for v in visits],
                "diagnosis": label,
                "label": float(label == POSITIVE),
            }
        )
        positions = np.arange(n)
        return Images(
            labelled,
            caches,
            positions // SYNTHETIC_BLOCK,
            positions % SYNTHETIC_BLOCK,
            np.ones(n, dtype=bool),
        )

    def _cache(
        self, caps: Path, visits: list[caps_names.Visit], kind: str, what: str
    ) -> CohortCache:
        caps = caps_names.require_caps(Path(caps).absolute())
        files = [caps_names.t1_linear_image(caps, visit, self.resolution) for visit in visits]
        lost = [visit for visit, file in zip(visits, files, strict=True) if not file.is_file()]
        if lost:
            more = f" (and {len(lost) - 1} more)" if len(lost) > 1 else ""
            raise InputError(
                f"{what}: {lost[0]}{more} has no {self.resolution} image in {caps}; preprocess the visit or take it "
                "out of the table"
            )
        key = hashlib.sha256("\n".join([str(caps), *map(str, visits)]).encode()).hexdigest()[:12]
        folder = self.cache_folder / f"{kind}_{self.resolution}_{self.scaling}_{self.storage}_{key}"
        if folder not in self._open:
            index = pd.DataFrame(
                {
                    "participant_id": [v.participant_id for v in visits],
                    "session_id": [v.session_id for v in visits],
                }
            )
            if not (folder / RECORD).is_file():
                files = found_by_clinicadl(caps, index, self.resolution)
            self._open[folder] = CohortCache.build(
                folder, files, index, dtype=self.storage, scaling=self.scaling, n_procs=self.n_procs
            )
        return self._open[folder]


def read_labelled(table: Path | pd.DataFrame, labels: Iterable[str], what: str) -> pd.DataFrame:
    """Visits and their labels, index 0..n-1, with the float column ``label``; see
    `ImageStore.real`.
    """
    known = set(labels)
    if not isinstance(table, pd.DataFrame):
        what = str(table)
        table = read_tsv(table, REQUIRED)
    missing = [name for name in REQUIRED if name not in table.columns]
    if missing:
        raise InputError(
            f"{what}: column(s) {', '.join(missing)} missing; found {', '.join(map(str, table.columns))}"
        )
    if table.empty:
        raise InputError(f"{what}: no visit in it")
    strange = [d for d in table["diagnosis"] if d not in known]
    if strange:
        raise InputError(
            f"{what}: unknown diagnosis {strange[0]!r}; expected {', '.join(sorted(known))}"
        )
    _refuse_duplicates(table, what)
    table = table[list(REQUIRED)].reset_index(drop=True)
    return table.assign(label=(table["diagnosis"] == POSITIVE).astype(np.float64))


def require_both_classes(table: pd.DataFrame, labels: Iterable[str], what: str) -> None:
    """Refuse a set that lacks a class: balanced accuracy has no value on it, and nothing would be
    trained.

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


def _refuse_duplicates(table: pd.DataFrame, what: str) -> None:
    twice = table[table.duplicated(["participant_id", "session_id"])]
    if len(twice):
        row = twice.iloc[0]
        raise InputError(
            f"{what}: {row['participant_id']} {row['session_id']} is in it twice; remove one"
        )


def bids_dataset(caps: Path, table: pd.DataFrame, resolution: str) -> BidsDataset:
    """ClinicaDL's own reader on a CAPS's cropped T1w images of one resolution."""
    from clinicadl.data.datasets import BidsDataset
    from clinicadl.io.bids import BidsFileType

    entities = {
        "space": caps_names.SPACE,
        "desc": "Crop",
        "res": caps_names.RESOLUTION_ENTITY[resolution],
    }
    file_type = BidsFileType(data_type="t1_linear", suffix="T1w", with_entities=entities)
    # A fresh 0..n-1 index: any other ends in a KeyError inside ClinicaDL.
    return BidsDataset(caps, file_type, data=table.reset_index(drop=True))


def found_by_clinicadl(caps: Path, table: pd.DataFrame, resolution: str) -> list[Path]:
    """Files that ClinicaDL reads for a table's visits, in order.

    Raises
    ------
    InputError
        In ClinicaDL's words, if it cannot read the CAPS or finds no or several images for a visit.
    """
    try:
        dataset = bids_dataset(caps, table, resolution)
        bids, file_type = dataset.image.bids, dataset.image.file_type
        visits = zip(table["participant_id"], table["session_id"], strict=True)
        return [
            Path(bids.get_path(file_type, participant, session)) for participant, session in visits
        ]
    except (AssertionError, RuntimeError, ValueError, KeyError) as error:
        raise InputError(
            f"{caps}: ClinicaDL cannot read it ({' '.join(str(error).split())})"
        ) from None
