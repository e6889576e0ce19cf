"""Training one classifier with ClinicaDL's `Trainer`, and testing its best epoch."""

from __future__ import annotations

import dataclasses
import errno
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from clinicadl.callbacks import Callback
from clinicadl.data.dataloader import DataLoader
from clinicadl.io.base import Directory
from clinicadl.io.maps import Maps
from clinicadl.metrics import Metric, MetricsHandler
from clinicadl.optim import OptimizationConfig
from clinicadl.split import Split
from clinicadl.train import ComputationalConfig, Trainer
from clinicadl.utils.exceptions import DataLeakageError

from neuroaug.config import OPTIMISED, ClassifierSpec, EvaluationConfig
from neuroaug.errors import LeakageError, ResourceError
from neuroaug.evaluation import classifiers
from neuroaug.evaluation.callbacks import (
    BestEpoch,
    Handler,
    KeyedRandomness,
    LossRecorder,
    RunState,
    ScoreRecorder,
)
from neuroaug.evaluation.cell_images import Images
from neuroaug.evaluation.classical_augmentation import ClassicalAugmentation
from neuroaug.evaluation.classifier_checkpoint import ClassifierCheckpoint
from neuroaug.evaluation.clinicadl_model import BALANCED_ACCURACY, Classifier, metrics
from neuroaug.evaluation.datasets import VolumeCollate, VolumeDataset
from neuroaug.evaluation.steps import matched_items
from neuroaug.system.devices import find_devices
from neuroaug.system.progress import Progress, progress
from neuroaug.system.provenance import versions
from neuroaug.system.randomness import CLASSIFIER

if TYPE_CHECKING:
    from clinicadl.train import TrainerState

    from neuroaug.evaluation.clinicadl import CellImages, Run


class TooLargeError(ResourceError):
    """A network and its batch do not fit into the GPU's memory."""


@dataclass(frozen=True)
class ClassifierSettings:
    """How to train one classifier.

    Attributes
    ----------
    network : str
        Its name (`classifiers.build`).
    spec : ClassifierSpec or None
        For ``optimised``.
    epochs, batch_size : int
        An epoch is what lies between two validations.
    learning_rate, weight_decay : float
        Of Adam.
    seed : int
        Fixes weights, order, dropout and augmentation.
    n_items : int or None
        Images shown in an epoch, where this is not one pass (``steps: matched``).
    classical : bool
        Augment the real images.
    device : torch.device
        Where.
    bf16 : bool
        Convolutions in bfloat16.
    checkpoint_every_s : float
        Least seconds between two checkpoints.
    """

    network: str
    spec: ClassifierSpec | None
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    seed: int
    n_items: int | None
    classical: bool
    device: torch.device
    bf16: bool
    checkpoint_every_s: float = 60.0

    @classmethod
    def of(cls, run: Run, images: CellImages, device: str) -> ClassifierSettings:
        """The settings that a run asks for."""
        config, where = run.config, find_devices(device).first
        searched = run.spec if run.cell.network == OPTIMISED else None
        matched = run.cell.steps == "matched"
        return cls(
            network=run.cell.network,
            spec=searched,
            epochs=config.epochs_of(run.cell.network),
            batch_size=config.batch_size,
            learning_rate=searched.learning_rate if searched else config.learning_rate,
            weight_decay=searched.weight_decay if searched else config.weight_decay,
            seed=run.seed,
            n_items=matched_items(images.n_real, config.batch_size) if matched else None,
            classical=run.cell.uses_classical,
            device=where,
            bf16=uses_bf16(config, where),
            checkpoint_every_s=config.checkpoint_every_s,
        )


@dataclass(eq=False)
class Fitted:
    """What `fit` found.

    Attributes
    ----------
    run : RunState
        History, best epoch and its validation scores.
    scores : dict of list of dict
        Score rows of each test set, at the best epoch.
    """

    run: RunState
    settings: ClassifierSettings
    network: dict[str, Any]
    n_images: int
    scores: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """What the record of a run says of the training."""
        last = self.run.history[-1]
        return {
            "n_training_images": self.n_images,
            "images_per_epoch": self.settings.n_items or self.n_images,
            "epochs": len(self.run.history),
            "gradient_steps": last["steps"],
            "best_epoch": self.run.best_epoch,
            "best_validation_balanced_accuracy": self.run.best_value,
            "learning_rate": self.settings.learning_rate,
            "weight_decay": self.settings.weight_decay,
            "network": self.network,
            "device": torch.cuda.get_device_name(self.settings.device)
            if self.settings.device.type == "cuda"
            else "cpu",
            "precision": "bf16" if self.settings.bf16 else "32",
        }


def uses_bf16(config: EvaluationConfig, device: torch.device) -> bool:
    """Whether convolutions run in bfloat16; ``auto`` does so on a GPU."""
    return config.precision == "bf16" or (config.precision == "auto" and device.type == "cuda")


class RunMaps(Maps):
    """A MAPS without the environment snapshot, which starts ``pip freeze`` and writes local paths."""

    def create(self, overwrite: bool = False, exist_ok: bool = False) -> None:
        """Make the folder and write the versions of what matters."""
        Directory.create(self, overwrite=overwrite, exist_ok=exist_ok)
        self.env.create(exist_ok=True)
        lines = [f"{name}=={version}" for name, version in versions().items()]
        self.env.environment_txt.write_text("\n".join(lines) + "\n", encoding="utf-8")
        self._create_summary_log()


class ShowEpochs(Callback):
    """One progress line for a run."""

    def __init__(self, tracker: Progress, run: RunState) -> None:
        self.tracker, self.run = tracker, run

    def on_epoch_end(self, *, state: TrainerState, **kwargs: Any) -> None:
        """Count the epoch."""
        self.tracker.done = state.current_epoch - 1
        self.tracker.advance(
            balanced_accuracy=f"{self.run.best_value:.3f} (epoch {self.run.best_epoch})"
        )


def build_model(
    settings: ClassifierSettings, shape: tuple[int, int, int], voxel_mm: float
) -> Classifier:
    """Network, loss and optimiser; the weights depend on the seed alone.

    The network is initialised here, by its own rules. ClinicaDL's ``reset_model`` would do it again
    by torch's defaults and undo, for instance, the initialisation of MONAI's DenseNets.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(CLASSIFIER.seed(settings.seed, "weights"))
        network = classifiers.build(settings.network, shape, settings.spec)
    augmentation = None
    if settings.classical:
        augmentation = ClassicalAugmentation(shape, voxel_mm, settings.seed, settings.device)
    return Classifier(
        network,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        augmentation=augmentation,
    )


@dataclass(frozen=True)
class ClassificationTask:
    """What is told apart, and how well: two diagnoses, unless told otherwise.

    Attributes
    ----------
    build_model : callable
        (settings, shape, voxel size) -> `Classifier`.
    metrics : callable
        Gives the metrics by name, balanced accuracy among them: it chooses the epoch.
    recorder : type
        Keeps the scores of every evaluation.
    """

    build_model: Callable[[ClassifierSettings, tuple[int, int, int], float], Classifier] = (
        build_model
    )
    metrics: Callable[[], dict[str, Metric]] = metrics
    recorder: type[ScoreRecorder] = ScoreRecorder


class Unscaled(ComputationalConfig):
    """Device settings without loss scaling: bfloat16 has float32's range, and scaling waits at
    every step.
    """

    def get_scaler(self) -> torch.amp.GradScaler:
        """Return a scaler that does nothing."""
        return torch.amp.GradScaler(device=self.device.type, enabled=False)


def computational(settings: ClassifierSettings) -> ComputationalConfig:
    """ClinicaDL's device settings. Never left to its default, which asks for a GPU and float16."""
    on_gpu = settings.device.type == "cuda"
    return Unscaled(
        gpu=on_gpu,
        amp=settings.bf16,
        channels_last=True,
        seed=settings.seed,
        deterministic=not on_gpu,
    )


def build_split(train: Images, validation: Images, settings: ClassifierSettings) -> Split:
    """Training and validation data; the order of training is the data set's, so nothing is shuffled
    here.
    """
    on_gpu = settings.device.type == "cuda"
    options: dict[str, Any] = {
        "batch_size": settings.batch_size,
        "read_ahead": on_gpu,
        "pin_memory": on_gpu,
    }
    split = Split(
        index=0,
        train_dataset=VolumeDataset(train, seed=settings.seed, n_items=settings.n_items, **options),
        val_dataset=VolumeDataset(validation, **options),
    )
    loader: dict[str, Any] = {
        "batch_size": settings.batch_size,
        "shuffle": False,
        "pin_memory": False,
    }
    split.build_train_loader(**loader, collate_fn=VolumeCollate())
    split.build_val_loader(**loader, collate_fn=VolumeCollate())
    return split


def fit(
    train: Images,
    validation: Images,
    settings: ClassifierSettings,
    *,
    maps: Path,
    tests: Mapping[str, Images] | None = None,
    checkpoint: Path | None = None,
    inputs: str = "",
    title: str = "classifier",
    extra_callbacks: Sequence[Callback] = (),
    task: ClassificationTask = ClassificationTask(),
) -> Fitted:
    """Train a classifier, keep its best epoch and score the test sets with it.

    Parameters
    ----------
    train, validation : Images
        All on one grid, both classes in each.
    settings : ClassifierSettings
        How.
    maps : Path
        The MAPS to write; replaced if it exists.
    tests : mapping of str to Images, optional
        Test sets by name.
    checkpoint : Path, optional
        File to go on from, and to write to; none is kept without it.
    inputs : str
        Checksum of the inputs, written into the checkpoint.
    title : str
        For the progress line.
    extra_callbacks : sequence of Callback
        Called after ours (benchmarks time epochs with one).
    task : ClassificationTask
        The classes.

    Raises
    ------
    LeakageError, ResourceError, DivergenceError
        See `neuroaug.evaluation.clinicadl.run_cell`.
    """
    voxel_mm = float(abs(train.caches[0].affine[:3, :3]).max())
    model = task.build_model(settings, train.shape, voxel_mm)
    run = RunState()
    scores = task.recorder(run)
    callbacks: list[Callback] = [
        KeyedRandomness(settings.seed),
        LossRecorder(run),
        scores,
        BestEpoch(run, scores),
    ]
    fitted = Fitted(run, settings, classifiers.describe(model.network), len(train))
    with progress(settings.epochs, title, "epochs") as tracker, _translated(), _flags(settings):
        callbacks += [ShowEpochs(tracker, run), *extra_callbacks]
        if checkpoint is not None:
            callbacks.append(
                ClassifierCheckpoint(
                    checkpoint, run, inputs=inputs, every_s=settings.checkpoint_every_s
                )
            )
        trainer = Trainer(
            RunMaps(maps),
            model=model,
            metrics=task.metrics(),
            optimization=OptimizationConfig(num_epochs=settings.epochs, reset_model=False),
            callbacks=Handler(callbacks),
            overwrite=True,
        )
        trainer.train(
            build_split(train, validation, settings), computational=computational(settings)
        )
        fitted.scores = _score(trainer, tests or {}, settings, scores)
    return fitted


def weights_file(maps: Path) -> Path:
    """The only weights that a finished run keeps: its best epoch's."""
    found = Maps(maps)
    found.read()
    return found.training.get_checkpoint_dir(f"split-0_best-{BALANCED_ACCURACY}").model_pt


def test_again(
    settings: ClassifierSettings,
    shape: tuple[int, int, int],
    maps: Path,
    tests: Mapping[str, Images],
) -> dict[str, list[dict[str, Any]]]:
    """Score test sets with the best epoch of a finished run, without training.

    Parameters
    ----------
    settings : ClassifierSettings
        Those of the run.
    shape : (X, Y, Z)
        Grid of the images.
    maps : Path
        The run's MAPS; its test results are replaced.
    tests : mapping of str to Images
        Test sets by name.

    Returns
    -------
    dict of list of dict
        Score rows of each test set.
    """
    shutil.rmtree(maps / "test", ignore_errors=True)
    scores = ScoreRecorder(RunState())
    with _translated(), _flags(settings):
        trainer = Trainer.from_maps(
            maps,
            model=build_model(dataclasses.replace(settings, classical=False), shape, 1.0),
            metrics=MetricsHandler(**metrics()),
            callbacks=Handler([scores]),
        )
        return _score(trainer, tests, settings, scores)


def _score(
    trainer: Trainer,
    tests: Mapping[str, Images],
    settings: ClassifierSettings,
    scores: ScoreRecorder,
) -> dict[str, list[dict[str, Any]]]:
    """Score rows of each test set, by the best epoch's weights."""
    found = {}
    for name, images in tests.items():
        loader = DataLoader(
            VolumeDataset(images, batch_size=settings.batch_size),
            batch_size=settings.batch_size,
            shuffle=False,
            pin_memory=False,
            collate_fn=VolumeCollate(),
        )
        checkpoint = f"split-0_best-{BALANCED_ACCURACY}"
        trainer.test(checkpoint, name, dataloader=loader, computational=computational(settings))
        found[name] = scores.rows
    return found


@contextmanager
def _flags(settings: ClassifierSettings) -> Iterator[None]:
    """bfloat16 under autocast, and the same algorithms at every start."""
    cudnn = torch.backends.cudnn
    before = (cudnn.benchmark, cudnn.deterministic)
    kind = settings.device.type
    dtype = torch.get_autocast_dtype(kind)
    cudnn.benchmark, cudnn.deterministic = False, True
    torch.set_autocast_dtype(kind, torch.bfloat16)
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.deterministic = before
        torch.set_autocast_dtype(kind, dtype)


@contextmanager
def _translated() -> Iterator[None]:
    """Say in one line what ClinicaDL and torch say in many."""
    try:
        yield
    except DataLeakageError as error:
        raise LeakageError(" ".join(str(error).split())) from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ResourceError(
                "the disk is full while a classifier was trained; free some space and start again"
            ) from error
        raise
    except torch.cuda.OutOfMemoryError:
        raise TooLargeError(
            "the GPU's memory is too small for this batch; choose a smaller evaluation.batch_size"
        ) from None
