"""Training one classifier with ClinicaDL's `Trainer`, and testing its best epoch."""

from __future__ import annotations

import dataclasses
import errno
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

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

from neuroaug.errors import LeakageError, ResourceError
from neuroaug.evaluation import classifiers
from neuroaug.evaluation.arms.mixup import Mixup
from neuroaug.evaluation.cell_images import Images
from neuroaug.evaluation.classical_augmentation import (
    ClassicalAugmentation,
    TestTimeAugmentation,
)
from neuroaug.evaluation.clinicadl.callbacks import (
    BestEpoch,
    Handler,
    KeyedRandomness,
    LossRecorder,
    ScoreRecorder,
    ShowEpochs,
)
from neuroaug.evaluation.clinicadl.classifier_checkpoint import ClassifierCheckpoint
from neuroaug.evaluation.clinicadl.clinicadl_model import BALANCED_ACCURACY, Classifier, metrics
from neuroaug.evaluation.clinicadl.datasets import VolumeCollate, VolumeDataset
from neuroaug.evaluation.runs import ClassifierSettings, Fitted, RunState
from neuroaug.system.progress import progress
from neuroaug.system.provenance import versions
from neuroaug.system.randomness import CLASSIFIER


class TooLargeError(ResourceError):
    """A network and its batch do not fit into the GPU's memory."""


class RunMaps(Maps):
    """A MAPS without the environment snapshot, which runs ``pip freeze`` and writes local paths."""

    def create(self, overwrite: bool = False, exist_ok: bool = False) -> None:
        """Make the folder and write the versions of what matters."""
        Directory.create(self, overwrite=overwrite, exist_ok=exist_ok)
        self.env.create(exist_ok=True)
        lines = [f"{name}=={version}" for name, version in versions().items()]
        self.env.environment_txt.write_text("\n".join(lines) + "\n", encoding="utf-8")
        self._create_summary_log()


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
        mixup=Mixup(settings.seed) if settings.mixup else None,
        test_time=TestTimeAugmentation(shape, voxel_mm, settings.seed, settings.device)
        if settings.test_time
        else None,
    )


@dataclass(frozen=True)
class ClassificationTask:
    """What is told apart, and how well: two diagnoses, unless told otherwise.

    Attributes
    ----------
    build_model : callable
        (settings, shape, voxel size) -> `Classifier`.
    metrics : callable
        () -> metrics by name, balanced accuracy among them: it chooses the epoch.
    recorder : callable
        `RunState` -> the callback that keeps the scores of every evaluation.
    """

    build_model: Callable[[ClassifierSettings, tuple[int, int, int], float], Classifier] = (
        build_model
    )
    metrics: Callable[[], dict[str, Metric]] = metrics
    recorder: Callable[[RunState], ScoreRecorder] = ScoreRecorder


def two_classes(classes: tuple[str, str]) -> ClassificationTask:
    """Tell a study's negative class from its positive one."""
    return ClassificationTask(recorder=partial(ScoreRecorder, classes=classes))


class Unscaled(ComputationalConfig):
    """Device settings without loss scaling, which waits at every step.

    bfloat16 has float32's range and needs none.
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
    """Training and validation data. The data set has the order; loaders do not shuffle."""
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
    split.build_train_loader(**_loading(settings))
    split.build_val_loader(**_loading(settings))
    return split


def _loading(settings: ClassifierSettings) -> dict[str, Any]:
    """Options of a loader over a `VolumeDataset`."""
    return {
        "batch_size": settings.batch_size,
        "shuffle": False,
        "pin_memory": False,
        "collate_fn": VolumeCollate(),
    }


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
        Settings of the training, its device among them.
    maps : Path
        The MAPS to write; replaced if it exists.
    tests : mapping of str to Images, optional
        Test sets by name.
    checkpoint : Path, optional
        File to go on from, and to write to; none is kept without it.
    inputs : str
        Checksum of the inputs, written into the checkpoint.
    title : str
        Name of the training in the progress line.
    extra_callbacks : sequence of Callback
        Called after ours (benchmarks time epochs with one).
    task : ClassificationTask
        Classes that are told apart.

    Raises
    ------
    LeakageError
        If a participant is in two of the sets.
    DivergenceError
        If the loss or a score is not a number.
    ResourceError
        Too little memory of the device, or too little disk.
    """
    run = RunState()
    scores = task.recorder(run)
    best = BestEpoch(run, scores)
    callbacks: list[Callback] = [KeyedRandomness(settings.seed), LossRecorder(run), scores, best]
    with (
        progress(settings.epochs, title, "epochs") as tracker,
        _translated(),
        _arithmetic(settings) as n_threads,
    ):
        voxel_mm = float(abs(train.caches[0].affine[:3, :3]).max())
        model = task.build_model(settings, train.shape, voxel_mm)
        network = classifiers.network_record(model.network)
        callbacks += [ShowEpochs(tracker, run), *extra_callbacks]
        if checkpoint is not None:
            every_s = settings.checkpoint_every_s
            callbacks.append(ClassifierCheckpoint(checkpoint, run, inputs=inputs, every_s=every_s))
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
        tested = _score(trainer, model, tests or {}, settings, scores)
        if settings.test_time:
            run.best_scores = _averaged(model, run, validation, settings, scores)
    assert best.weights is not None, "written when the training ended"
    return Fitted(run, settings, network, len(train), n_threads, best.weights, tested)


def test_again(
    settings: ClassifierSettings,
    shape: tuple[int, int, int],
    maps: Path,
    tests: Mapping[str, Images],
    classes: tuple[str, str],
) -> dict[str, list[dict[str, Any]]]:
    """Score test sets with the best epoch of a finished run, without training.

    Parameters
    ----------
    settings : ClassifierSettings
        Settings that the run was trained with.
    shape : (X, Y, Z)
        Grid of the images.
    maps : Path
        The run's MAPS; its test results are replaced.
    tests : mapping of str to Images
        Test sets by name.
    classes : (str, str)
        Negative and positive class.

    Returns
    -------
    dict of list of dict
        Score rows of each test set.
    """
    shutil.rmtree(maps / "test", ignore_errors=True)
    scores = ScoreRecorder(RunState(), classes)
    with _translated(), _arithmetic(settings):
        some = next(iter(tests.values())) if tests else None
        voxel_mm = 1.0 if some is None else float(abs(some.caches[0].affine[:3, :3]).max())
        model = build_model(dataclasses.replace(settings, classical=False), shape, voxel_mm)
        trainer = Trainer.from_maps(
            maps,
            model=model,
            metrics=MetricsHandler(**metrics()),
            callbacks=Handler([scores]),
        )
        return _score(trainer, model, tests, settings, scores)


def _averaged(
    model: Classifier,
    run: RunState,
    images: Images,
    settings: ClassifierSettings,
    scores: ScoreRecorder,
) -> list[dict[str, Any]]:
    """Scores of validation images at the best epoch, averaged as those of tested ones."""
    model.load_state_dict(run.best_weights, strict=False)
    model.to(settings.device)
    model.network.eval()
    scores.rows, model.averages = [], True
    loader = DataLoader(VolumeDataset(images, batch_size=settings.batch_size), **_loading(settings))
    with torch.no_grad():
        for batch in loader:
            batch.to(settings.device)  # in place
            scores.on_metrics_computation_start(output=model.evaluation_step(batch))
    model.averages = False
    return scores.rows


def _score(
    trainer: Trainer,
    model: Classifier,
    tests: Mapping[str, Images],
    settings: ClassifierSettings,
    scores: ScoreRecorder,
) -> dict[str, list[dict[str, Any]]]:
    """Score rows of each test set, by the best epoch's weights."""
    found = {}
    model.averages = settings.test_time
    for name, images in tests.items():
        dataset = VolumeDataset(images, batch_size=settings.batch_size)
        loader = DataLoader(dataset, **_loading(settings))
        checkpoint = f"split-0_best-{BALANCED_ACCURACY}"
        trainer.test(checkpoint, name, dataloader=loader, computational=computational(settings))
        found[name] = scores.rows
    model.averages = False
    return found


@contextmanager
def _arithmetic(settings: ClassifierSettings) -> Iterator[int]:
    """Device, threads and numeric types of a training; those of before when the block ends.

    Yields the number of CPU threads. ClinicaDL takes no number of a GPU but trains on torch's
    current one, which is why that is set here. bfloat16 under autocast, and algorithms that are the
    same at every start.
    """
    kind, cudnn = settings.device.type, torch.backends.cudnn
    n_threads, dtype = torch.get_num_threads(), torch.get_autocast_dtype(kind)
    flags = (cudnn.benchmark, cudnn.deterministic)
    with torch.cuda.device(settings.device) if kind == "cuda" else nullcontext():
        if settings.n_threads is not None:
            torch.set_num_threads(settings.n_threads)
        cudnn.benchmark, cudnn.deterministic = False, True
        torch.set_autocast_dtype(kind, torch.bfloat16)
        try:
            yield torch.get_num_threads()
        finally:
            torch.set_num_threads(n_threads)
            cudnn.benchmark, cudnn.deterministic = flags
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
