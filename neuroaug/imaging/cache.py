"""A cohort as one memory-mapped array with a checksum: what training reads.

A cache folder holds ``images.npy`` (N, X, Y, Z), ``index.tsv`` (one row per image) and
``cache.json``, written last. It can be deleted at any time; it is remade when an image, their
order, the scaling or the dtype changes.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from neuroaug.errors import InputError, ResourceError
from neuroaug.imaging.grid import GRIDS, Grid
from neuroaug.imaging.intensity import Scaling, from_stored, rescale, to_stored
from neuroaug.imaging.nifti import Volume, read_volume
from neuroaug.system.files import (
    TEMPORARY_PREFIX,
    free_bytes,
    fsync_folder,
    human_bytes,
    read_json,
    read_tsv,
    reading,
    sha256_file,
    write_json,
    write_tsv,
)
from neuroaug.system.locks import exclusive
from neuroaug.system.threads import processes

if TYPE_CHECKING:
    import pandas as pd

FORMAT_VERSION = 1
ARRAY, INDEX, RECORD = "images.npy", "index.tsv", "cache.json"
INDEX_COLUMNS = ("participant_id", "session_id", "image_sha256")

CacheDtype = Literal["float16", "uint8", "float32"]


def digest(data: NDArray[np.float32]) -> str:
    """`voxel_sha256` of voxels that were read already."""
    return hashlib.sha256(np.ascontiguousarray(data, dtype="<f4").data).hexdigest()


def voxel_sha256(path: str | Path) -> str:
    """Hex sha256 of an image's voxels: float32, little-endian, C order, before any scaling.

    Names, headers and compression do not enter, so a renamed or recompressed copy is recognised.

    Raises
    ------
    InputError
        If the file is not a readable scan.
    """
    return digest(read_volume(path).data)


@dataclass(frozen=True)
class _SourceImage:
    """An image file as it was when the cache was made."""

    name: str  # without its folder: caches hold no machine's paths
    bytes: int
    mtime_ns: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> _SourceImage:
        status = _status(path)
        return cls(path.name, status.st_size, status.st_mtime_ns, sha256_file(path))

    def is_still(self, path: Path) -> bool:
        """Whether the file is unchanged; its content is only read where its date differs."""
        status = _status(path)
        if path.name != self.name or status.st_size != self.bytes:
            return False
        return status.st_mtime_ns == self.mtime_ns or sha256_file(path) == self.sha256


def _status(path: Path) -> os.stat_result:
    with reading(path, "an image", "preprocess this visit or leave it out of the table"):
        return path.stat()


@dataclass(frozen=True)
class _CacheTask:
    """One row of the array, for one worker."""

    row: int
    path: Path
    array: Path
    scaling: Scaling
    first: Path
    grid: Grid  # of the first image


def _check_grid(task: _CacheTask, volume: Volume) -> None:
    shape = volume.data.shape
    if task.grid.matches(shape, volume.affine):
        return
    found = "its affine differs"
    if shape != task.grid.shape:
        sizes = ("x".join(map(str, size)) for size in (shape, task.grid.shape))
        found = " voxels, the other ".join(sizes)
    raise InputError(
        f"{task.path}: not on the same grid as {task.first} ({found}); give images of one grid"
    )


def _fill(task: _CacheTask) -> tuple[str, _SourceImage]:
    """Read, check and scale one image into its row; its voxel checksum and source record."""
    volume = read_volume(task.path)
    _check_grid(task, volume)
    array = np.lib.format.open_memmap(task.array, mode="r+")
    try:
        array[task.row] = to_stored(rescale(volume.data, task.scaling), array.dtype)
    except InputError as error:
        raise InputError(f"{task.path}: {error}") from None
    array.flush()
    return digest(volume.data), _SourceImage.of(task.path)


def _run(tasks: list[_CacheTask], n_procs: int) -> Iterator[tuple[str, _SourceImage]]:
    if n_procs <= 1 or len(tasks) < 2:
        yield from map(_fill, tasks)
        return
    with processes(min(n_procs, len(tasks))) as pool:
        try:
            yield from pool.map(_fill, tasks)
        except BrokenProcessPool:
            raise ResourceError(
                "a process that was reading images died, most likely for lack of memory; "
                "try a smaller --n-procs"
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class CohortCache:
    """Scaled images of a cohort, memory-mapped.

    Attributes
    ----------
    folder : Path
        The cache's folder.
    images : memmap (N, X, Y, Z), float16, uint8 or float32
        Intensities in [0, 1]; uint8 holds round(255 x).
    index : DataFrame
        One row per image: ``participant_id session_id image_sha256`` and whatever else the caller
        gave.
    grid : {"1mm", "2mm", "4mm", None}
        Name of the images' grid; None for any other.
    affine : array (4, 4)
        Voxel indices to world (mm).
    """

    def __init__(
        self, folder: Path, images: NDArray[Any], index: pd.DataFrame, record: dict[str, Any]
    ) -> None:
        self.folder, self.images, self.index, self._record = folder, images, index, record
        self.affine = np.asarray(record["affine"], dtype=np.float64)
        self.grid: str | None = record["grid"]
        self.scaling: Scaling = record["scaling"]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels of one image along x, y, z."""
        x, y, z = self.images.shape[1:]
        return x, y, z

    @property
    def image_sha256(self) -> tuple[str, ...]:
        """`voxel_sha256` of each image, in order."""
        return tuple(self.index["image_sha256"])

    @property
    def sha256(self) -> str:
        """Checksum of the stored array."""
        return str(self._record["sha256"])

    def read(self, i: int) -> NDArray[np.float32]:
        """Image `i` as float32 in [0, 1], (X, Y, Z)."""
        return from_stored(self.images[i])

    def batch(self, rows: Sequence[int] | NDArray[np.integer]) -> NDArray[np.float32]:
        """Several images as float32 in [0, 1], (B, X, Y, Z), in the order asked."""
        return from_stored(self.images[np.asarray(rows, dtype=np.intp)])

    @classmethod
    def open(cls, folder: str | Path, *, verify: bool = True) -> CohortCache:
        """Open a cache, reading its array once to verify the checksum.

        Parameters
        ----------
        folder : path-like
            A folder that `build` wrote.
        verify : bool
            False skips the checksum (another process of the same run has just verified it).

        Raises
        ------
        InputError
            If the folder is not a cache, is of another version, or a file in it was changed.
        """
        folder = Path(folder)
        again = f"remove {folder} and it will be made again"
        record = read_json(folder / RECORD)
        if not isinstance(record, dict) or record.get("format_version") != FORMAT_VERSION:
            found = record.get("format_version") if isinstance(record, dict) else None
            raise InputError(
                f"{folder / RECORD}: cache of version {found}, not {FORMAT_VERSION}; {again}"
            )
        array, index = folder / ARRAY, folder / INDEX
        for path, key in ((array, "sha256"), (index, "index_sha256")):
            if not path.is_file():
                raise InputError(f"{path}: missing; {again}")
            if (verify or path == index) and sha256_file(path) != record[key]:
                raise InputError(f"{path}: changed since it was written (checksum); {again}")
        with reading(array, "an array", again):
            try:
                images = np.load(array, mmap_mode="r", allow_pickle=False)
            except (ValueError, EOFError):
                raise InputError(f"{array}: not readable as an array; {again}") from None
        return cls(folder, images, read_tsv(index, INDEX_COLUMNS), record)

    @classmethod
    def build(
        cls,
        folder: str | Path,
        files: Sequence[str | Path],
        index: pd.DataFrame,
        *,
        dtype: CacheDtype = "float16",
        scaling: Scaling = "min-max",
        n_procs: int = 1,
    ) -> CohortCache:
        """Make a cache of `files`, or open the one in `folder` if it still answers to them.

        The array depends on the files and options alone, not on `n_procs`. It is built in a
        temporary folder and renamed; processes that ask for the same folder wait for each other.

        Parameters
        ----------
        folder : path-like
            The cache's folder.
        files : sequence of path-like
            One image per row of `index`, all on one grid.
        index : DataFrame
            At least ``participant_id`` and ``session_id``, one row per image.
        dtype : {"float16", "uint8", "float32"}
            Type that intensities are stored in (`intensity.to_stored`).
        scaling : {"min-max", "percentile"}
            How each image is mapped to [0, 1] (`intensity.rescale`).
        n_procs : int
            Processes that read images.

        Raises
        ------
        InputError
            An image missing, unreadable or on another grid than the first (both are named), or a
            row too many.
        ResourceError
            Too little disk, or a reading process died.
        """
        folder, paths = Path(folder).absolute(), [Path(file) for file in files]
        if dtype not in get_args(CacheDtype):
            raise InputError(
                f"cache dtype '{dtype}': unknown; choose {', '.join(get_args(CacheDtype))}"
            )
        _check_index(paths, index)
        with exclusive(folder.parent / f".{folder.name}.lock"):
            if (found := cls._reusable(folder, paths, index, dtype, scaling)) is not None:
                return found
            for leftover in folder.parent.glob(f"{TEMPORARY_PREFIX}*-{folder.name}"):
                shutil.rmtree(leftover, ignore_errors=True)
            temporary = folder.parent / f"{TEMPORARY_PREFIX}{os.getpid()}-{folder.name}"
            try:
                _write(temporary, paths, index, np.dtype(dtype), scaling, n_procs)
                if folder.exists():
                    shutil.rmtree(folder)
                os.replace(temporary, folder)
                fsync_folder(folder.parent)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
            return cls.open(folder, verify=False)

    @classmethod
    def _reusable(
        cls, folder: Path, paths: list[Path], index: pd.DataFrame, dtype: str, scaling: str
    ) -> CohortCache | None:
        if not (folder / RECORD).is_file():
            return None
        try:
            cache = cls.open(folder)
        except InputError:
            return None
        record = cache._record
        sources = [_SourceImage(**source) for source in record["sources"]]
        if (record["dtype"], record["scaling"], len(sources)) != (dtype, scaling, len(paths)):
            return None
        wanted = _as_text(index)
        if list(wanted.columns) != [name for name in cache.index.columns if name != "image_sha256"]:
            return None
        same_rows = (
            cache.index[list(wanted.columns)].astype(object).where(cache.index.notna(), None)
        )
        if not same_rows.equals(wanted):
            return None
        return cache if all(s.is_still(p) for s, p in zip(sources, paths, strict=True)) else None


def _as_text(index: pd.DataFrame) -> pd.DataFrame:
    """Give the index as it reads back from its TSV: strings, None where missing, no checksum."""
    import io

    import pandas as pd

    text = index.drop(columns="image_sha256", errors="ignore").to_csv(
        sep="\t", index=False, na_rep="n/a"
    )
    table = pd.read_csv(
        io.StringIO(text), sep="\t", dtype=str, na_values=["n/a", ""], keep_default_na=False
    )
    return table.astype(object).where(table.notna(), None)


def _check_index(paths: list[Path], index: pd.DataFrame) -> None:
    if not paths:
        raise InputError("no images to read: the table of participants is empty")
    if len(paths) != len(index):
        raise InputError(
            f"{len(paths)} images for {len(index)} rows of the table; give one image per row"
        )
    missing = [name for name in INDEX_COLUMNS[:2] if name not in index.columns]
    if missing:
        found = ", ".join(index.columns)
        raise InputError(f"table of images: column(s) {', '.join(missing)} missing; found {found}")
    for path in paths:
        _status(path)


def _write(
    folder: Path,
    paths: list[Path],
    index: pd.DataFrame,
    dtype: np.dtype[Any],
    scaling: Scaling,
    n_procs: int,
) -> None:
    """Fill `folder` with array, index and, last, the record."""
    first = read_volume(paths[0])
    x, y, z = first.data.shape
    shape, grid = (len(paths), x, y, z), Grid((x, y, z), first.affine)
    needed = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if (free := free_bytes(folder.parent)) < needed:
        raise ResourceError(
            f"{folder.parent}: {human_bytes(needed)} needed for the images of {len(paths)} visits, "
            f"{human_bytes(free)} free; free some space, or store them as uint8"
        )
    folder.mkdir()
    array = folder / ARRAY
    np.lib.format.open_memmap(array, mode="w+", dtype=dtype, shape=shape).flush()
    tasks = [
        _CacheTask(row, path, array, scaling, paths[0], grid) for row, path in enumerate(paths)
    ]
    digests, sources = zip(*_run(tasks, n_procs), strict=True)
    with open(array, "rb") as file:
        os.fsync(file.fileno())
    table = index.drop(columns="image_sha256", errors="ignore").assign(image_sha256=list(digests))
    write_tsv(folder / INDEX, table)
    names = [name for name, known in GRIDS.items() if known.matches(grid.shape, grid.affine)]
    record = {
        "format_version": FORMAT_VERSION,
        "sha256": sha256_file(array),
        "index_sha256": sha256_file(folder / INDEX),
        "shape": list(shape),
        "dtype": dtype.name,
        "scaling": scaling,
        "grid": names[0] if names else None,
        "affine": grid.affine.tolist(),
        "sources": [vars(source) for source in sources],
    }
    write_json(folder / RECORD, record)
