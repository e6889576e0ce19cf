"""From images to a model folder: checks first, then training in one or several processes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray

from neuroaug.cohort.lineage import LINEAGE_COLUMNS
from neuroaug.config import FamilySettings, GeneratorConfig
from neuroaug.errors import InputError
from neuroaug.models.generative_model import GenerativeModel, load_model
from neuroaug.models.storage import CONFIG, read_model_config
from neuroaug.registries import FAMILIES, NETWORKS
from neuroaug.samplers.sampler import fit_samplers, tune_samplers
from neuroaug.system.devices import Devices, find_devices
from neuroaug.system.files import read_json, sha256_json, write_text, write_tsv
from neuroaug.system.interruption import stop_requests
from neuroaug.system.progress import progress
from neuroaug.system.randomness import KEYED
from neuroaug.training import memory_estimate, random_order
from neuroaug.training.batches import BatchReader
from neuroaug.training.checkpoint import STATE
from neuroaug.training.distributed import Processes
from neuroaug.training.launch import launch
from neuroaug.training.loop import Loop
from neuroaug.training.state import HISTORY_COLUMNS, TrainingPlan, TrainingResult
from neuroaug.training.stored_images import check_images, open_stored, stored_array, training_start

if TYPE_CHECKING:
    import pandas as pd

    from neuroaug.imaging.cache import CohortCache

MIN_PARTICIPANTS = 5
CHECKPOINTS = "checkpoints"
EVERYONE = "one anatomy for all labels"


@dataclass(frozen=True)
class _TrainingTask:
    """All that a process needs to train; it travels to spawned processes."""

    plan: TrainingPlan
    out: Path
    label: str | None
    grid: str | None
    images: NDArray[Any] | Path
    lineage: pd.DataFrame
    split_hash: str
    devices: Devices
    needed: memory_estimate.MemoryEstimate
    tune: bool = True


def resolve(config: GeneratorConfig, batch_size: int, n_images: int) -> FamilySettings:
    """Every setting of the family, with what the configuration leaves open spelled out."""
    rate = config.learning_rate
    settled = {
        "learning_rate": NETWORKS.get(config.network).learning_rate if rate is None else rate,
        "batch_size": batch_size,
    }
    return config.model_copy(update=settled).resolved().for_images(n_images)


def build_model(
    config: GeneratorConfig, shape: tuple[int, ...], label: str | None, grid: str | None, seed: int
) -> GenerativeModel:
    """A generator with untrained weights that depend on `seed` alone."""
    family: type[GenerativeModel] = FAMILIES.get(config.model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(KEYED.seed(seed, "weights"))
        return family(config, shape, label, grid)


def train(
    images: CohortCache | NDArray[Any],
    *,
    config: GeneratorConfig,
    label: str | None,
    out: str | Path,
    lineage: pd.DataFrame,
    split_hash: str,
    grid: str | None = None,
    device: str = "auto",
    n_devices: int = 1,
    seed: int = 0,
    typed_batch: int | None = None,
    max_minutes: float | None = None,
    checkpoint_seconds: float = 30.0,
    tune: bool = True,
    say: Callable[[str], None] = print,
) -> GenerativeModel:
    """Train one generator on the images of one label, or go on where an earlier call was stopped.

    Killed at any moment and called again, it ends with the same weights, on CPU bit for bit. A
    folder that is complete is loaded.

    Parameters
    ----------
    images : CohortCache or array (N, X, Y, Z)
        Training images in [0, 1] (uint8: x / 255), one a row of `lineage`.
    config : GeneratorConfig
        The generator.
    label : str or None
        The diagnosis; None where people of several are learned from.
    out : path-like
        The model folder.
    lineage : DataFrame
        The training participants (`neuroaug.cohort.lineage.LINEAGE_COLUMNS`), in the order of the
        images.
    split_hash : str
        Of the split they come from.
    grid : str, optional
        Name of the resolution.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:<i>``.
    n_devices : int
        Processes, one a device, that share each batch.
    seed : int
        Of weights, order and noise.
    typed_batch : int, optional
        A batch size that the user asked for, over the configuration's; unlike a default it is never
        reduced.
    max_minutes : float, optional
        Stop after this time and take the best so far.
    checkpoint_seconds : float
        Least time between two checkpoints.
    tune : bool
        Tune every sampler that the model allows at the end. Without, each is tuned when it first
        draws, to the same settings, and nothing of it is stored.
    say : callable
        Told what the user should know.

    Returns
    -------
    GenerativeModel
        As `load_model` reads it from `out`.

    Raises
    ------
    InputError
        Too few participants, images that are not finite or not in [0, 1], a typed batch larger than
        the set, a folder that holds another model or another run's checkpoint.
    ResourceError
        A device that is not there; too little memory or disk.
    DivergenceError
        If training diverges.
    TrainingInterrupted
        After SIGINT or SIGTERM; the same call goes on.
    """
    out = Path(out).absolute()
    stored, source = stored_array(images)
    _check_lineage(lineage, len(stored), label)
    devices = find_devices(device, n_devices)
    batch_size = _batch_size(config, len(stored), typed_batch, devices.n_devices, say)
    settings = resolve(config, batch_size, len(stored))
    participants = [str(name) for name in lineage["participant_id"]]
    fitted, evaluated = random_order.held_out(seed, participants, settings.held_out)
    identity = _identity(settings, label, lineage, split_hash, grid, seed, stored)
    if (done := _finished(out, identity)) is not None:
        return done
    check_images(
        stored,
        [f"{p} {s}" for p, s in zip(lineage["participant_id"], lineage["session_id"], strict=True)],
    )
    needed = memory_estimate.estimate(settings, stored.shape[1:])
    memory_estimate.check_memory(
        settings,
        needed,
        -(-batch_size // devices.n_devices),
        devices.free_memory(),
        devices.name,
    )
    memory_estimate.check_disk(needed, out)
    plan = TrainingPlan(
        config=settings,
        seed=seed,
        batch_size=batch_size,
        fitted=fitted,
        evaluated=evaluated,
        identity=identity,
        checkpoints=out / CHECKPOINTS,
        checkpoint_seconds=checkpoint_seconds,
        max_seconds=None if max_minutes is None else 60 * max_minutes,
    )
    task = _TrainingTask(plan, out, label, grid, source, lineage, split_hash, devices, needed, tune)
    launch(_train_in_process, task, devices, out, settings.precision)
    return load_model(out)


def _train_in_process(fabric: Any, task: _TrainingTask) -> None:
    """Train in one of the processes; the first one writes."""
    plan, config = task.plan, task.plan.config
    processes = Processes(fabric.global_rank, fabric.world_size, fabric.device)
    stored = open_stored(task.images)
    model = build_model(config, stored.shape[1:], task.label, task.grid, plan.seed)
    channels_last = NETWORKS.get(config.network).channels_last
    model = model.to(fabric.device)
    model.start_from(training_start(stored, plan.fitted))
    reader = BatchReader(stored, fabric.device, channels_last=channels_last)
    total = config.max_epochs
    title = f"training {task.label or EVERYONE}"
    with stop_requests() as stop, progress(total, title, "epochs") as tracker:
        loop = Loop(
            model,
            reader,
            plan,
            processes,
            fabric.autocast,
            stop,
            tracker if processes.is_first else None,
        )
        if not model.in_closed_form and loop.resume():
            tracker.resume_at(loop.position.epoch)
        try:
            outcome = loop.found_at_once() if model.in_closed_form else loop.run()
            loop.update_metric()
        except (RuntimeError, MemoryError) as error:
            batch = -(-plan.batch_size // processes.world_size)
            known = memory_estimate.out_of_memory(error, config, task.needed, batch, fabric.device)
            if known is None:
                raise
            raise known from error
    if processes.is_first:
        _finish(model, outcome, task)


def _finish(model: GenerativeModel, outcome: TrainingResult, task: _TrainingTask) -> None:
    """Write the model folder; `config.json`, written last, makes it complete."""
    plan = task.plan
    model = model.cpu().eval()
    contrast = model.metric_contrast()
    space = model.latent_space()
    model.sampler_tensors |= fit_samplers(space)
    model.sampler_settings = tune_samplers(space) if task.tune else {}
    model.training_record = {
        "identity": plan.identity,
        "seed": plan.seed,
        "split_hash": task.split_hash,
        "n_images": len(plan.fitted),
        "epochs": outcome.epochs,
        "best_epoch": outcome.best_epoch,
        "elbo": outcome.elbo,
        "stopped_by": outcome.reason,
        "seconds": round(outcome.seconds, 1),
        "device": task.devices.name,
        "n_devices": task.devices.n_devices,
        "metric_contrast": None if contrast is None else contrast.contrast,
        "metric_dead": contrast is not None and contrast.collapsed,
    }
    write_text(task.out / "history.csv", history_text(outcome.history))
    write_tsv(task.out / "lineage.tsv", task.lineage[list(LINEAGE_COLUMNS)])
    model.save(task.out)
    shutil.rmtree(plan.checkpoints, ignore_errors=True)


def history_text(rows: tuple[dict[str, float], ...]) -> str:
    """Write rows as CSV, numbers so that they read back exactly."""
    present = set(rows[0]) if rows else set()
    columns = [name for name in HISTORY_COLUMNS if name in present]
    columns += sorted(present - set(columns))
    lines = [",".join(columns), *(",".join(repr(row[name]) for name in columns) for row in rows)]
    return "\n".join(lines) + "\n"


# -- checks ---------------------------------------------------------------------------------


def _check_lineage(lineage: pd.DataFrame, n_images: int, label: str | None) -> None:
    missing = [name for name in LINEAGE_COLUMNS if name not in lineage.columns]
    if missing:
        raise InputError(f"lineage: column(s) {', '.join(missing)} missing")
    if len(lineage) != n_images:
        raise InputError(
            f"lineage: {len(lineage)} rows for {n_images} images; one row per image is needed"
        )
    n = lineage["participant_id"].nunique()
    if n < MIN_PARTICIPANTS:
        who = EVERYONE if label is None else f"label '{label}'"
        raise InputError(
            f"{who}: {n} training participants, at least {MIN_PARTICIPANTS} are needed to learn a "
            "generator"
        )


def _batch_size(
    config: GeneratorConfig,
    n_images: int,
    typed: int | None,
    n_devices: int,
    say: Callable[[str], None],
) -> int:
    if typed is not None and typed < 1:
        raise InputError(f"--batch-size {typed}: must be at least 1")
    if typed is not None and typed > n_images:
        raise InputError(
            f"--batch-size {typed}: larger than the training set of {n_images} images; lower it"
        )
    size = typed or config.batch_size
    if size > n_images:
        say(f"batch size {size} is larger than the training set: {n_images}, all images, are used")
        size = n_images
    if size < n_devices:
        raise InputError(
            f"batch size {size}: smaller than the number of devices ({n_devices}); raise it"
        )
    return size


def _identity(
    config: GeneratorConfig,
    label: str | None,
    lineage: pd.DataFrame,
    split_hash: str,
    grid: str | None,
    seed: int,
    stored: NDArray[Any],
) -> str:
    """What makes a run this run: settings, seed, people and images; the device may change."""
    settings = config.fingerprint()
    people = lineage[list(LINEAGE_COLUMNS)].astype(str).to_dict(orient="split", index=False)["data"]
    return sha256_json(
        [settings, label, people, split_hash, grid, seed, list(stored.shape), stored.dtype.name]
    )


def _finished(out: Path, identity: str) -> GenerativeModel | None:
    """The model in `out` if it is complete and this very one; refuses any other.

    Raises
    ------
    InputError
        If `out` holds another model, or the checkpoint of another run.
    """
    another = "of other settings, participants or seed; give another --out, or remove it"
    if (out / CONFIG).is_file():
        if read_model_config(out).get("training", {}).get("identity") != identity:
            raise InputError(f"{out}: holds a model {another}")
        shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)
        return load_model(out)
    state = out / CHECKPOINTS / STATE
    if state.is_file():
        try:
            found = read_json(state)["state"]["identity"]
        except (InputError, KeyError, TypeError):
            return None  # the checkpoint's own reader says what is wrong with it
        if found != identity:
            raise InputError(f"{out}: holds an unfinished training {another}")
    return None
