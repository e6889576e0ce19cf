"""From images to verdict with real CNNs: nothing is found where labels mean nothing, a planted
effect is.
"""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from tiny_caps import LABELS, people, write_caps, write_synthetic

from neuroaug.config import Cell, ClassifierSpec, EvaluationConfig
from neuroaug.evaluation.run_cells import run_cells
from neuroaug.evaluation.runs import LabelledFolder, Run
from neuroaug.evaluation.summarise import summarise

pytestmark = pytest.mark.slow

SPEC = ClassifierSpec(
    n_blocks=2, first_filters=4, n_fully_connected=1, dropout=0.0, learning_rate=3e-3
)
CELLS = tuple(
    Cell.parse(f"train_optimised_4mm_{data}")
    for data in ("real", "synthetic-12", "real+synthetic-12")
)
N_RUNS = 3


class Study:
    """24 people to train on, 12 to validate on, 48 to test on, 12 synthetic images per label."""

    def __init__(self, root):
        self.root, self.caps = root, root / "caps"
        table = write_caps(self.caps, people(84))
        self.sets = {"train": table[:24], "validation": table[24:36], "test": table[36:]}
        self.synthetic = [
            write_synthetic(root / label, label, 12, seed=seed)
            for seed, label in enumerate(LABELS, 7)
        ]

    def evaluate(self, out, shuffle, epochs, seed=0):
        """Summary of all cells after the labels of the sets named in `shuffle` were permuted."""
        rng = np.random.default_rng(seed)
        tables = {
            name: table.assign(diagnosis=rng.permutation(table["diagnosis"]))
            if name in shuffle
            else table
            for name, table in self.sets.items()
        }
        folders = {name: LabelledFolder(self.caps, table) for name, table in tables.items()}
        # Synthetic images learned from shuffled labels are shuffled too: each half of a set goes
        # under the other's.
        synthetic = self.synthetic if "train" not in shuffle else self._relabelled()
        runs = [
            Run(
                cell=cell,
                k=k,
                out=out / cell.name / f"run-{k}",
                config=EvaluationConfig(
                    epochs=epochs, batch_size=8, seed=seed, checkpoint_every_s=1e9
                ),
                train=folders["train"],
                validation=folders["validation"],
                tests={"test": folders["test"]},
                synthetic=synthetic if cell.n_synthetic else [],
                spec=SPEC,
            )
            for cell in CELLS
            for k in range(N_RUNS)
        ]
        run_cells(runs, device="cpu", n_threads=1, cache_folder=self.root / "cache")
        return summarise(out, CELLS, seed=seed, n_replicates=2000)

    def _relabelled(self):
        """Synthetic sets whose images are of both kinds under either label."""
        found = []
        for source in self.synthetic:
            folder = self.root / f"mixed-{source.label}"
            if not folder.exists():
                write_synthetic(folder, source.label, 12, seed=11)
                self._mix(folder, source.label)
            found.append(dataclasses.replace(source, folder=folder))
        return found

    @staticmethod
    def _mix(folder, label):
        """Write AD's effect into every other image, whatever the label."""
        from tiny_caps import AFFINE, image

        from neuroaug.imaging import caps
        from neuroaug.imaging.nifti import write_volume

        rng = np.random.default_rng(len(label) + ord(label[0]))
        for i in range(1, 13):
            visit = caps.Visit(f"sub-syn{label}{i:05d}", "ses-M000")
            path = caps.t1_linear_image(folder, visit, "4mm")
            write_volume(path, image(rng, LABELS[i % 2]), AFFINE, level=1)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return Study(tmp_path_factory.mktemp("study"))


def balanced(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["metric"] == "balanced_accuracy"]


def test_with_shuffled_labels_intervals_cover_chance_and_nothing_is_significant(study, tmp_path):
    covered = np.zeros(len(CELLS))
    significant = 0
    for seed in range(20):
        summary = study.evaluate(
            tmp_path / str(seed), ("train", "validation", "test"), epochs=3, seed=seed
        )
        lines = summary.results
        covered += (
            (lines["balanced_accuracy_ci_low"] <= 0.5) & (lines["balanced_accuracy_ci_high"] >= 0.5)
        ).to_numpy()
        significant += bool((balanced(summary.comparisons)["p_holm"] < 0.05).any())
    # One in twenty is expected at the 5 % level; four or more of a cell would come by chance once
    # in sixty.
    assert (covered >= 17).all(), covered
    assert significant <= 1


def test_an_effect_planted_in_the_synthetic_images_is_found(study, tmp_path):
    summary = study.evaluate(tmp_path, (), epochs=10)
    assert (
        summary.results["balanced_accuracy_ci_low"] > 0.5
    ).all()  # all images tell the truth: every cell learns
    true = study.sets["train"]
    study.sets["train"] = true.assign(
        diagnosis=np.random.default_rng(0).permutation(true["diagnosis"])
    )
    try:
        summary = study.evaluate(tmp_path / "real labels mean nothing", (), epochs=10)
    finally:
        study.sets["train"] = true
    found = balanced(summary.comparisons).set_index("cell")
    row = found.loc["train_optimised_4mm_synthetic-12"]
    assert row["p_holm"] < 0.05
    assert row["ci_low"] > 0
