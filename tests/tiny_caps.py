"""Tiny cohorts in CAPS layout, on a grid of no two equal axes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from neuroaug.config import Cell, EvaluationConfig
from neuroaug.evaluation.runs import LabelledFolder, Run, Synthetic
from neuroaug.imaging import caps
from neuroaug.imaging.nifti import write_volume
from neuroaug.system.files import write_tsv

SHAPE = (16, 20, 18)
AFFINE = np.diag([4.0, 4.0, 4.0, 1.0])
LABELS = ("CN", "AD")


def image(
    rng: np.random.Generator, label: str, effect: float = 1.0, shape: tuple[int, ...] = SHAPE
) -> np.ndarray:
    """Noise; AD is brighter in a corner."""
    volume = rng.random(shape).astype(np.float32)
    if label == "AD":
        volume[2:8, 2:8, 2:8] += effect
    return volume


def write_caps(
    folder: Path,
    participants: list[tuple[str, str]],
    *,
    seed: int = 0,
    shape: tuple[int, ...] = SHAPE,
    effect: float = 1.0,
) -> pd.DataFrame:
    """Write one 4 mm image a (participant, label), and return the table."""
    rng = np.random.default_rng(seed)
    caps.write_dataset_description(folder, name="tiny")
    for participant, label in participants:
        visit = caps.Visit(participant, "ses-M000")
        write_volume(
            caps.t1_linear_image(folder, visit, "4mm"),
            image(rng, label, effect, shape),
            AFFINE,
            level=1,
        )
    table = pd.DataFrame(participants, columns=["participant_id", "diagnosis"])
    table.insert(1, "session_id", "ses-M000")
    return table


def people(n: int, first: int = 0) -> list[tuple[str, str]]:
    """`n` participants, CN and AD by turns."""
    return [(f"sub-T{i:03d}", LABELS[i % 2]) for i in range(first, first + n)]


def write_synthetic(
    folder: Path, label: str, n: int, *, seed: int, shape: tuple[int, ...] = SHAPE
) -> Synthetic:
    """Write a synthetic CAPS of one label."""
    names = [f"sub-syn{label}{i:05d}" for i in range(1, n + 1)]
    write_caps(folder, [(name, label) for name in names], seed=seed, shape=shape)
    table = pd.DataFrame({"participant_id": names, "diagnosis": label, "index": range(1, n + 1)})
    write_tsv(folder / "participants.tsv", table)
    return Synthetic(label, folder, n)


class Cohort:
    """A real CAPS of 32 participants, its split, and 10 synthetic images a label."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.caps = root / "caps"
        table = write_caps(self.caps, people(32))
        self.train, self.validation, self.test = table[:14], table[14:22], table[22:]
        self.synthetic = [
            write_synthetic(root / "synthetic" / label, label, 10, seed=seed)
            for seed, label in enumerate(LABELS, 7)
        ]
        self.cache = root / "cache"

    def run(
        self, out: Path, data: str = "real", k: int = 0, steps: str = "epochs", **changes: object
    ) -> Run:
        """A run of three epochs."""
        settings = {
            "epochs": 3,
            "batch_size": 4,
            "learning_rate": 1e-3,
            "checkpoint_every_s": 1e9,
            **changes,
        }
        cell = Cell(split="train", network="baseline", resolution="4mm", data=data, steps=steps)  # type: ignore[arg-type]
        given = (
            [Synthetic(s.label, s.folder, cell.n_synthetic) for s in self.synthetic]
            if cell.n_synthetic
            else []
        )
        return Run(
            cell=cell,
            k=k,
            out=out,
            config=EvaluationConfig(**settings),  # type: ignore[arg-type]
            train=LabelledFolder(self.caps, self.train),
            validation=LabelledFolder(self.caps, self.validation),
            tests={"test": LabelledFolder(self.caps, self.test)},
            synthetic=given,
        )
