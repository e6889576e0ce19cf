"""Stream draws from a generator to a synthetic CAPS: bounded memory, parallel writers, resumable.

Image i is a function of (model, sampler, seed, label, i) alone (contract 4): latents are drawn in
fixed full blocks aligned on i, and decoded in fixed full chunks inside a block, so that neither the
number asked for, nor a shard, nor an interruption changes a byte.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neuroaug.cohort import lineage
from neuroaug.errors import InputError, ResourceError
from neuroaug.imaging.grid import GRIDS
from neuroaug.imaging.nifti import write_volume
from neuroaug.law.covariates import written
from neuroaug.synthesis import synthetic_caps as layout
from neuroaug.system.devices import find_devices
from neuroaug.system.files import free_bytes, human_bytes, remove_leftovers, sha256_file, write_tsv
from neuroaug.system.progress import Progress, progress
from neuroaug.system.threads import n_cores, torch_threads

if TYPE_CHECKING:
    from neuroaug.law.label_law import PlacedDraws
    from neuroaug.models.generative_model import GenerativeModel
    from neuroaug.samplers.latents import SamplingInfo

log = logging.getLogger("neuroaug")

# Share of the raw size that gzip leaves of a noiseless decoded image; the disk estimate errs
# upward.
COMPRESSED_SHARE = {"float32": 0.92, "uint8": 0.6}


@dataclass(frozen=True)
class GenerateSummary:
    """What a call did."""

    n_written: int
    n_present: int
    acceptance_rate: float | None
    displacement: float | None
    warning: str | None


def model_sha256(model_folder: Path) -> str:
    """Identity of a trained model: the checksum of ``config.json``, which holds all others."""
    return sha256_file(model_folder / "config.json")


def bytes_needed(n_images: int, shape: tuple[int, ...], dtype: str) -> int:
    """Disk that `n_images` compressed volumes of `shape` take, erring upward (bytes)."""
    raw = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return int(n_images * (raw * COMPRESSED_SHARE[dtype] + 8192))


def generate(
    model_folder: Path,
    *,
    n: int,
    out: Path,
    sampler: str | None = None,
    profile: str = "tuned",
    seed: int = 0,
    dtype: str = "float32",
    shard: tuple[int, int] = (1, 1),
    device: str = "auto",
    n_writers: int | None = None,
    source_name: str = "",
    ranges: Mapping[str, tuple[float, float]] | None = None,
) -> GenerateSummary:
    """Write synthetic images 1..n of a model to a synthetic CAPS; what is there is kept.

    Parameters
    ----------
    model_folder : Path
        A trained generator.
    n : int
        Images the set is to hold; more than present extends it, fewer leaves it as it is.
    out : Path
        The synthetic CAPS.
    sampler : str, optional
        ``hmc``, ``random-walk``, ``geometric``, ``prior`` or ``mixture``; default: the model's own.
    profile : {"tuned", "paper"}
        Step sizes and chain lengths: tuned at the end of training, or the papers'.
    seed : int
        Seed of the set.
    dtype : {"float32", "uint8"}
        Voxel type on disk; ``uint8`` stores 255 levels with a scale factor.
    shard : (int, int)
        ``(i, k)``: write only the i-th of k parts (for arrays of jobs).
    device : str
        ``auto``, ``cpu``, ``cuda``, ``cuda:1``...
    n_writers : int, optional
        Threads that compress and write.
    source_name : str
        Name of the real data set, for ``SourceDatasets``.
    ranges : mapping of str to (float, float), optional
        Least and largest value asked of a covariate of the model's law.

    Returns
    -------
    GenerateSummary

    Raises
    ------
    InputError
        If n < 1, or the folder holds a set of another model, sampler, seed or voxel type.
    ResourceError
        If the disk cannot hold the images, or the device is absent.
    """
    if n < 1:
        raise InputError(f"--n {n}: at least 1 image must be asked for")
    if not (model_folder / "config.json").is_file():
        raise InputError(f"{model_folder}: no trained model there; train one with 'neuroaug train'")
    from neuroaug.models import load_model
    from neuroaug.samplers import latents
    from neuroaug.samplers.sampler import SAMPLING_THREADS

    target = find_devices(device).first
    model = load_model(model_folder)
    space = model.latent_space()
    grid = model.grid
    if grid not in GRIDS or tuple(model.shape) != tuple(GRIDS[grid].shape):
        raise InputError(
            f"{model_folder}: trained on a grid of {tuple(model.shape)} voxels, "
            "which is not a CAPS grid"
        )
    if model.label is None:
        raise InputError(
            f"{model_folder}: a model without a label; train it with 'neuroaug train --label'"
        )
    _check_ranges(model, ranges or {}, model_folder)
    sampler = sampler or model.default_sampler
    record = layout.SetRecord(
        label=model.label,
        resolution=grid,
        model_sha256=model_sha256(model_folder),
        model=model_folder.name,
        sampler=sampler,
        profile=profile,
        seed=seed,
        dtype=dtype,
        device=target.type,
        settings={
            "block": latents.BLOCK,
            "decode_block": model.decode_block,
            "threads": SAMPLING_THREADS,
            "sampler": latents.make_sampler(space, sampler, profile).settings,
        },
        asked={name: list(ends) for name, ends in (ranges or {}).items()},
    )
    if (out / layout.RECORD).exists():
        record.refuse_mixing(layout.SetRecord.read(out), out)
    elif out.exists() and any(p for p in out.iterdir() if not p.name.startswith(".")):
        raise InputError(
            f"{out}: not empty and not a synthetic CAPS; give another folder with --out"
        )

    present = layout.present_indices(out, record.label, grid, upto=n)
    wanted = _indices_of_shard(n, shard, latents.BLOCK, model.decode_block)
    missing = layout.missing_of(wanted, present)
    if not missing:
        if (out / layout.RECORD).exists():
            layout.write_tables(out, record)
        return GenerateSummary(0, len(present), None, None, None)

    needed = bytes_needed(len(missing), GRIDS[grid].shape, dtype)
    free = free_bytes(out)
    log.info(
        "%d images to write to %s: up to %s of disk (%s free)",
        len(missing),
        out,
        human_bytes(needed),
        human_bytes(free),
    )
    if needed > free:
        raise ResourceError(
            f"{out}: {len(missing)} images need up to {human_bytes(needed)}, "
            f"{human_bytes(free)} are free; free some space, choose --dtype uint8, or ask for fewer"
        )

    learned_from = lineage.read_lineage(model_folder)
    out.mkdir(parents=True, exist_ok=True)
    lineage.write_lineage(out, learned_from)
    sources = [{"Description": f"{source_name or 'preprocessed T1w images'}, label {model.label}"}]
    layout.write_description(out, record, sources)
    record.write(out)

    model = model.to(target)
    todo = set(missing)
    rates: list[np.ndarray] = []
    moved: list[np.ndarray] = []
    warning: str | None = None
    n_writers = n_writers or min(8, max(2, n_cores()))
    with (
        progress(
            len(present) + len(missing), f"draw {model.label}", "images", done=len(present)
        ) as bar,
        _Writer(n_writers) as writer,
        torch_threads(SAMPLING_THREADS),
    ):
        for block in sorted({(i - 1) // latents.BLOCK for i in missing}):
            indices = range(block * latents.BLOCK + 1, (block + 1) * latents.BLOCK + 1)
            z, info = latents.sample_latents(
                space, indices, sampler=sampler, profile=profile, seed=seed, label=model.label
            )
            z, placed = model.place(z, indices, seed, ranges)
            _write_draws(out, block, indices, info, _of_people(model, placed))
            rates.append(np.asarray(info.acceptance_rate))
            moved.append(np.asarray(info.displacement))
            warning = info.warning or warning
            _decode_block(model, record, z, indices, todo, out, writer, bar)
    layout.write_tables(out, record)
    present_now = layout.present_indices(out, record.label, grid)
    return GenerateSummary(
        len(missing),
        len(present_now),
        float(np.mean(np.concatenate(rates))),
        float(np.median(np.concatenate(moved))),
        warning,
    )


def _indices_of_shard(n: int, shard: tuple[int, int], block: int, chunk: int) -> list[int]:
    """Which of the images 1..n are a shard's: whole decoded chunks, dealt in turn.

    Shards that share a block each make its latents, which costs little, and decode and write only
    their own.
    """
    part, n_parts = shard
    chunks_of_a_block = -(-block // chunk)

    def number(i: int) -> int:
        return (i - 1) // block * chunks_of_a_block + (i - 1) % block // chunk

    return [i for i in range(1, n + 1) if number(i) % n_parts == part - 1]


def _decode_block(
    model: GenerativeModel,
    record: layout.SetRecord,
    latents: Any,
    indices: range,
    todo: set[int],
    out: Path,
    writer: _Writer,
    bar: Progress,
) -> None:
    # `decode` pads to its own fixed blocks, so that the rounding depends on nothing but the grid.
    chunk = model.decode_block
    for start in range(0, len(indices), chunk):
        these = indices[start : start + chunk]
        if not todo.intersection(these):
            continue
        images = model.decode(latents[start : start + chunk])[:, 0].float().cpu().numpy()
        if model.texture is not None:
            fields = model.texture.draw(these, record.seed, record.label).numpy()
            images = np.clip(images + fields, 0, 1)
        for index, image in zip(these, images, strict=True):
            if index in todo:
                path = layout.image_path(out, record.label, index, record.resolution)
                writer.submit(path, image, GRIDS[record.resolution].affine, record.dtype)
                bar.advance()


def _check_ranges(
    model: GenerativeModel, ranges: Mapping[str, tuple[float, float]], folder: Path
) -> None:
    known = model.law.covariates.names if model.law is not None else ()
    for name in ranges:
        if name not in known:
            has = f"its covariates are {', '.join(known)}" if known else "it has no law"
            raise InputError(
                f"--{name}: {folder} was learned without {name} as a covariate ({has}); name it "
                "in law.covariates and train again"
            )


def _of_people(model: GenerativeModel, placed: PlacedDraws | None) -> dict[str, Sequence[object]]:
    """Columns of ``participants.tsv`` that a law gives: covariates, probability of the label."""
    if placed is None or model.law is None:
        return {}
    own = placed.probabilities[:, model.law.labels.index(str(model.label))]
    return {
        **written(placed.covariates, model.law.covariates.names),
        layout.PROBABILITY: [f"{value:.6f}" for value in own],
    }


def _write_draws(
    out: Path,
    block: int,
    indices: range,
    info: SamplingInfo,
    people: Mapping[str, Sequence[object]],
) -> None:
    columns = {
        name: np.round(np.asarray(getattr(info, name), float), 4)
        for name in layout.DRAW_COLUMNS[1:]
    }
    table = pd.DataFrame({"index": list(indices), **columns, **people})
    write_tsv(layout.draws_file(out, block), table)


class _Writer:
    """Threads that compress and write volumes, with a bounded queue in front of them."""

    def __init__(self, n_threads: int) -> None:
        self._pool = ThreadPoolExecutor(n_threads, thread_name_prefix="writer")
        self._limit = 4 * n_threads
        self._pending: deque[Future[None]] = deque()

    def submit(self, path: Path, image: np.ndarray, affine: np.ndarray, dtype: str) -> None:
        while len(self._pending) >= self._limit:
            self._pending.popleft().result()
        self._pending.append(self._pool.submit(_write_one, path, image, affine, dtype))

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                while self._pending:
                    self._pending.popleft().result()
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)


def _write_one(path: Path, image: np.ndarray, affine: np.ndarray, dtype: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent)
    write_volume(path, image, affine, dtype="uint8" if dtype == "uint8" else "float32")
