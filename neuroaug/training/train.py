"""From images to a model folder: checks first, then training in one or several processes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from neuroaug.cohort.lineage import LINEAGE_COLUMNS
from neuroaug.config import FamilySettings, GeneratorConfig
from neuroaug.errors import InputError
from neuroaug.models.generative_model import GenerativeModel, load_model
from neuroaug.models.storage import CONFIG, read_model_config
from neuroaug.models.texture import fit_texture
from neuroaug.registries import FAMILIES, NETWORKS
from neuroaug.samplers.sampler import fit_samplers, tune_samplers
from neuroaug.system.devices import find_devices
from neuroaug.system.files import read_json, sha256_json, write_text, write_tsv
from neuroaug.training import memory_estimate, random_order
from neuroaug.training.checkpoint import STATE
from neuroaug.training.folds.cross_validation import (
    cross_validate,
    folds_of,
    keep_curve,
    remove_folds,
    require_folds,
)
from neuroaug.training.folds.latent_choice import LatentChoice, choose_latents
from neuroaug.training.launch import launch
from neuroaug.training.process import EVERYONE, TrainingTask, build_model, train_in_process
from neuroaug.training.state import HISTORY_COLUMNS, TrainingPlan, TrainingResult
from neuroaug.training.stored_images import (
    check_images,
    open_stored,
    stored_array,
    training_start,
)

if TYPE_CHECKING:
    import pandas as pd

    from neuroaug.imaging.cache import CohortCache

__all__ = ["MIN_PARTICIPANTS", "build_model", "resolve", "train"]

MIN_PARTICIPANTS = 5
CHECKPOINTS = "checkpoints"


def resolve(config: GeneratorConfig, batch_size: int, n_images: int) -> FamilySettings:
    """Every setting of the family, with what the configuration leaves open spelled out."""
    rate = config.learning_rate
    settled = {
        "learning_rate": NETWORKS.get(config.network).learning_rate if rate is None else rate,
        "batch_size": batch_size,
    }
    return config.model_copy(update=settled).resolved().for_images(n_images)


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
    if config.stopping == "cross-validated" and FAMILIES.get(config.model).in_closed_form:
        raise InputError(
            f"generator.stopping: model {config.model} is found at once, there is no stopping"
        )
    if config.stopping == "cross-validated" or config.latent_dim == "auto":
        require_folds(lineage, config.folds)
    devices = find_devices(device, n_devices)
    batch_size = _batch_size(config, len(stored), typed_batch, devices.n_devices, say)
    settings = resolve(config, batch_size, len(stored))
    identity = _identity(settings, label, lineage, split_hash, grid, seed, stored)
    if (done := _finished(out, identity)) is not None:
        return done
    names = [
        f"{p} {s}" for p, s in zip(lineage["participant_id"], lineage["session_id"], strict=True)
    ]
    check_images(stored, names)
    choice: LatentChoice | None = None
    if config.latent_dim == "auto":
        choice = choose_latents(stored, folds_of(seed, lineage, config.folds))
        settled = config.model_copy(update={"latent_dim": choice.chosen})
        settings = resolve(settled, batch_size, len(stored))
    participants = [str(name) for name in lineage["participant_id"]]
    fitted, evaluated = random_order.held_out(seed, participants, settings.held_out)
    needed = memory_estimate.estimate(settings, stored.shape[1:])
    memory_estimate.check_memory(
        settings,
        needed,
        -(-batch_size // devices.n_devices),
        devices.free_memory(),
        devices.name,
    )
    memory_estimate.check_disk(needed, out)
    folded = settings.stopping == "cross-validated"
    max_seconds = None if max_minutes is None else 60 * max_minutes
    if folded and max_seconds is not None:
        max_seconds /= settings.folds + 1
    plan = TrainingPlan(
        config=settings,
        seed=seed,
        batch_size=batch_size,
        fitted=fitted,
        evaluated=evaluated,
        identity=identity,
        checkpoints=out / CHECKPOINTS,
        checkpoint_seconds=checkpoint_seconds,
        max_seconds=max_seconds,
    )
    task = TrainingTask(plan, out, label, grid, source, lineage, split_hash, devices, needed, tune)
    if folded:
        found = cross_validate(task, settings.folds, settings.precision, max_seconds)
        plan = replace(
            plan, config=settings.model_copy(update={"max_epochs": found.epochs}), to_the_end=True
        )
        task = replace(task, plan=plan, found_before=found.record())
        keep_curve(found, out)
    if choice is not None:
        choice.write(out)
    launch(_train_in_process, task, devices, out, settings.precision)
    remove_folds(out)
    return load_model(out)


def _train_in_process(fabric: Any, task: TrainingTask) -> None:
    """Train in one of the processes; the first one writes."""
    model, outcome = train_in_process(fabric, task)
    if fabric.global_rank == 0:
        _finish(model, outcome, task)


def _finish(model: GenerativeModel, outcome: TrainingResult, task: TrainingTask) -> None:
    """Write the model folder; `config.json`, written last, makes it complete."""
    plan = task.plan
    model = model.cpu().eval()
    if plan.config.texture:
        start = training_start(open_stored(task.images), plan.fitted)
        model.texture = fit_texture(
            start.read, model.reconstruct, start.n_images, plan.config.texture, plan.seed
        )
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
        **({"retreats": outcome.retreats} if outcome.retreats else {}),
        **task.found_before,
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
        remove_folds(out)
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
