"""A run of a cell, its settings and its results, as values; nothing here trains.

The other modules of this folder import this one and it imports none that trains, so a run and its
settings travel as one value each, from the command to the trainer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuroaug.config import OPTIMISED, PUBLISHED_LABELS, Cell, ClassifierSpec, EvaluationConfig
from neuroaug.evaluation.run_order import matched_items, run_seed
from neuroaug.system.randomness import CLASSIFIER

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from neuroaug.evaluation.cell_images import Images


@dataclass(frozen=True)
class Synthetic:
    """Images 1..n of a synthetic CAPS, all of one label."""

    label: str
    folder: Path
    n: int


@dataclass(frozen=True)
class LabelledFolder:
    """Real images: a CAPS, and the table (or its path) of the visits to use with diagnoses."""

    caps: Path
    table: Path | pd.DataFrame


@dataclass(frozen=True)
class Run:
    """One run to do.

    Attributes
    ----------
    cell : Cell
        Training set and network.
    k : int
        Number of the run, from 0; fixes its seed together with ``config.seed``.
    out : Path
        ``evaluation/<cell>/run-<k>``.
    config : EvaluationConfig
        Epochs, batch size and the other settings of all runs of a study.
    train : LabelledFolder
        The split's real training images. Needed in every cell: they size ``matched`` cells.
    validation : LabelledFolder
        Real images that choose the epoch.
    tests : mapping of str to LabelledFolder
        Test sets by name (``test``, ``aibl``).
    synthetic : sequence of Synthetic
        Used where the cell's name says ``synthetic-<n>``; one entry per label, or several whose n
        add up. That their generators saw nobody they should not have is for the caller to prove
        (`neuroaug.audit.leakage.prove`); ClinicaDL compares names only and cannot.
    classes : (str, str)
        Negative and positive class: the diagnoses told apart.
    spec : ClassifierSpec, optional
        What the search found, for cells of the network ``optimised``; its learning rate and weight
        decay replace those of `config`; `EvaluationConfig.epochs_of` says for how many epochs it
        trains.
    law_model : Path, optional
        Folder of the generator whose law is the classifier, for cells of the network
        ``bayes-rule``.
    unlabelled : DataFrame, optional
        participant_id, session_id and caps of the visits without a label that the generator of
        `law_model` learned from, for cells of ``soft-unlabelled``.
    member : int, optional
        Which classifier of an ensemble it trains; gives it a seed of its own.
    """

    cell: Cell
    k: int
    out: Path
    config: EvaluationConfig
    train: LabelledFolder
    validation: LabelledFolder
    tests: Mapping[str, LabelledFolder]
    synthetic: Sequence[Synthetic] = ()
    classes: tuple[str, str] = PUBLISHED_LABELS
    spec: ClassifierSpec | None = None
    law_model: Path | None = None
    unlabelled: pd.DataFrame | None = None
    member: int | None = None

    @property
    def seed(self) -> int:
        """Seed of weights, order, dropout and augmentation. Run k of every cell has the same."""
        seed = run_seed(self.config.seed, self.k)
        return seed if self.member is None else CLASSIFIER.seed(seed, "member", self.member)

    def settings(
        self, n_real: int, device: torch.device, n_threads: int | None = None
    ) -> ClassifierSettings:
        """How its classifier is trained, given the number of real training images of its split."""
        config, cell = self.config, self.cell
        return ClassifierSettings.of(
            config,
            network=cell.network,
            spec=self.spec if cell.network == OPTIMISED else None,
            epochs=config.epochs_of(cell.network),
            seed=self.seed,
            n_items=matched_items(n_real, config.batch_size) if cell.steps == "matched" else None,
            classical=cell.uses_classical,
            mixup=cell.uses_mixup,
            test_time=cell.uses_test_time,
            device=device,
            n_threads=n_threads,
        )


@dataclass(frozen=True, eq=False)
class CellImages:
    """The images of a run, read and checked.

    Attributes
    ----------
    train, validation : Images
        Images that are trained on, and those that choose the epoch.
    tests : dict of str to Images
        Test sets by name.
    n_real : int
        Real training images of the cell's split, whether the cell uses them or not.
    synthetic : list of dict
        Label, number and checksum of each synthetic set, for the run's record.
    """

    train: Images
    validation: Images
    tests: dict[str, Images]
    n_real: int
    synthetic: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class ClassifierSettings:
    """How one classifier is trained.

    Attributes
    ----------
    network : str
        Name of the network (`neuroaug.evaluation.classifiers.build`).
    spec : ClassifierSpec or None
        Layers of the network ``optimised``.
    epochs : int
        Number of epochs; an epoch is what lies between two validations.
    batch_size : int
        Images per gradient step.
    learning_rate, weight_decay : float
        Step size and weight decay of the Adam optimiser.
    seed : int
        Seed of weights, order, dropout and augmentation.
    n_items : int or None
        Images shown in an epoch, where this is not one pass (``steps: matched``).
    classical : bool
        Whether the real images are augmented.
    device : torch.device
        Device that trains: the CPU, or one GPU by its number.
    bf16 : bool
        Whether convolutions run in bfloat16.
    checkpoint_every_s : float
        Least seconds between two checkpoints.
    n_threads : int or None
        CPU threads of torch while it trains; None leaves their number as it is.
    mixup : bool
        Whether images are mixed in pairs in training.
    test_time : bool
        Whether tested images are augmented, and their scores averaged.
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
    n_threads: int | None = None
    mixup: bool = False
    test_time: bool = False

    @classmethod
    def of(
        cls,
        config: EvaluationConfig,
        *,
        network: str,
        epochs: int,
        seed: int,
        device: torch.device,
        spec: ClassifierSpec | None = None,
        n_items: int | None = None,
        classical: bool = False,
        n_threads: int | None = None,
        mixup: bool = False,
        test_time: bool = False,
    ) -> ClassifierSettings:
        """The settings of a study's evaluation, for one network.

        Learning rate and weight decay are those of `spec` where there is one; ``auto`` precision
        means bfloat16 on a GPU and float32 on a CPU.
        """
        on_gpu = device.type == "cuda"
        return cls(
            network=network,
            spec=spec,
            epochs=epochs,
            batch_size=config.batch_size,
            learning_rate=(spec or config).learning_rate,
            weight_decay=(spec or config).weight_decay,
            seed=seed,
            n_items=n_items,
            classical=classical,
            device=device,
            bf16=config.precision == "bf16" or (config.precision == "auto" and on_gpu),
            checkpoint_every_s=config.checkpoint_every_s,
            n_threads=n_threads,
            mixup=mixup,
            test_time=test_time,
        )


@dataclass
class RunState:
    """What a run has learned so far about itself; all of it travels in its checkpoints.

    Attributes
    ----------
    history : list of dict
        One row per epoch.
    best_epoch : int
        Epoch with the best validation balanced accuracy so far, the earliest of equals; 0 for none.
    best_value : float
        Balanced accuracy of that epoch.
    best_weights : dict of str to Tensor
        Weights of that epoch, on the CPU.
    best_scores : list of dict
        Validation scores of that epoch, one row per image.
    """

    history: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = 0
    best_value: float = -math.inf
    best_weights: dict[str, torch.Tensor] = field(default_factory=dict)
    best_scores: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Fitted:
    """A trained classifier, as far as a run keeps it.

    Attributes
    ----------
    run : RunState
        History, best epoch and its validation scores.
    settings : ClassifierSettings
        Settings of the training.
    network : dict
        Class and sizes of the network, for the run's record.
    n_images : int
        Size of the training set.
    n_threads : int
        CPU threads of torch that trained it.
    weights : Path
        The only weights that a finished run keeps: its best epoch's.
    scores : dict of str to list of dict
        Score rows of each test set, at the best epoch.
    """

    run: RunState
    settings: ClassifierSettings
    network: dict[str, Any]
    n_images: int
    n_threads: int
    weights: Path
    scores: dict[str, list[dict[str, Any]]]
