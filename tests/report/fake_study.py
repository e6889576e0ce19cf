"""A finished study, small and fake: its numbers were made up to be recognised in the report."""

import numpy as np
import pandas as pd

from neuroaug.audit.cell_proof import PROOF_COLUMNS
from neuroaug.config import StudyConfig, write_config
from neuroaug.imaging import caps as caps_names
from neuroaug.imaging.grid import GRIDS
from neuroaug.imaging.nifti import write_volume
from neuroaug.statistics.scores import MEASURES
from neuroaug.study import Study
from neuroaug.system.files import write_json, write_text, write_tsv

CELLS = (
    "train_baseline_4mm_real",
    "train_baseline_4mm_synthetic-12",
    "train_baseline_4mm_real+synthetic-12",
)


def head(rng, size=1.0):
    shape = GRIDS["4mm"].shape
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
    radius = np.sqrt((grid**2).sum(0)) / size
    return np.clip(1.1 - radius + 0.03 * rng.standard_normal(shape), 0, 1).astype(np.float32)


def write_image(caps, participant, rng):
    visit = caps_names.Visit(participant, "ses-M000")
    path = caps_names.t1_linear_image(caps, visit, resolution="4mm")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_volume(path, head(rng), GRIDS["4mm"].affine)


def comparison(cell, low, difference, high, p_holm, test_set="test"):
    reference = CELLS[0]
    return {
        "cell": cell,
        "reference_cell": reference,
        "test_set": test_set,
        "metric": "balanced_accuracy",
        "difference": difference,
        "ci_low": low,
        "ci_high": high,
        "p": p_holm / 2,
        "p_holm": p_holm,
    }


def fill(root, phantom=True):
    """Everything that a finished study holds, in small and in fake."""
    rng = np.random.default_rng(0)
    config = StudyConfig.model_validate(
        {
            "resolution": "4mm",
            "phantom": {"n_participants": 12} if phantom else None,
            "evaluation": {"cells": ["real", "synthetic-12", "real+synthetic-12"]},
        }
    )
    write_config(root / "neuroaug.yaml", config)
    prefix = "sub-phantom" if phantom else "sub-ADNI002S"
    people = {
        name: [f"{prefix}{10 * k + i:04d}" for i in range(6)]
        for k, name in enumerate(("test", "train", "validation"))
    }
    caps_names.write_dataset_description(root / "caps", name="fake")
    for participant in people["train"]:
        write_image(root / "caps", participant, rng)
    rows = [("sub-broken", "ses-M000", "read", "truncated gzip <b>")]
    write_tsv(
        root / "caps" / "failures.tsv",
        pd.DataFrame(rows, columns=["participant_id", "session_id", "stage", "reason"]),
    )
    qc = [(p, "ses-M000", 0.93, str(i > 0)) for i, p in enumerate(people["train"])]
    write_tsv(
        root / "caps" / "qc.tsv",
        pd.DataFrame(qc, columns=["participant_id", "session_id", "pass_probability", "pass"]),
    )

    for name, ids in people.items():
        table = pd.DataFrame({
            "participant_id": ids, "session_id": "ses-M000", "diagnosis": ["CN", "AD"] * 3,
            "age": np.linspace(61, 83, 6), "sex": ["F", "M", "F"] * 2, "site": ["1", "2", "3"] * 2,
        })  # fmt: skip
        write_tsv(root / "splits" / f"{name}.tsv", table)
    balance = [
        ("test", "train", "CN", "age", "Mann-Whitney U", 4.0, 0.4321, 3, 3, "mean 70.1 / 71.2", "")
    ]
    columns = [
        "set_1",
        "set_2",
        "label",
        "variable",
        "test",
        "statistic",
        "p",
        "n_1",
        "n_2",
        "values",
        "note",
    ]
    write_tsv(root / "splits" / "balance.tsv", pd.DataFrame(balance, columns=columns))
    exclusions = [
        ("sub-a", "ses-M000", "diagnosis changes"),
        ("sub-b", "ses-M000", "diagnosis changes"),
    ]
    write_tsv(
        root / "splits" / "exclusions.tsv",
        pd.DataFrame(exclusions, columns=["participant_id", "session_id", "rule"]),
    )
    write_json(root / "splits" / "split.json", {"hash": "0" * 64, "files": {}, "members": {}})

    for label in ("CN", "AD"):
        model = root / "models" / "train" / label
        record = {"n_images": 3, "epochs": 40, "best_epoch": 31, "elbo": -4321.5}
        record |= {"stopped_by": "patience", "metric_contrast": 2.5, "metric_dead": label == "AD"}
        write_json(
            model / "config.json",
            {"model": "rhvae", "grid": "4mm", "training": record, "config": {"network": "conv3d"}},
        )
        epochs = range(1, 41)
        lines = [f"{e},{9000 / e},{'nan' if e % 5 else -9000 / e}" for e in epochs]
        write_text(model / "history.csv", "\n".join(["epoch,loss,elbo", *lines]) + "\n")
        write_json(model / "environment.json", {"versions": {"torch": "1.0.fake"}})
        made = root / "synthetic" / "train" / label
        for i in range(1, 4):
            write_image(made, f"sub-syn{label}{i:05d}", rng)
        record = {"label": label, "resolution": "4mm", "sampler": "hmc", "profile": "tuned"}
        write_json(made / "synthesis.json", {**record, "seed": 7, "dtype": "float32"})
        ids = [f"sub-syn{label}{i:05d}" for i in range(1, 4)]
        write_tsv(
            made / "participants.tsv", pd.DataFrame({"participant_id": ids, "diagnosis": label})
        )
        rates = [0.8, 0.85, 0.9] if label == "CN" else [0.1, 0.2, 0.3]
        chains = {"index": [1, 2, 3], "acceptance_rate": rates, "displacement": [1.0, 2.0, 3.5]}
        write_tsv(made / "draws.tsv", pd.DataFrame(chains))
        learned = people["train"][::2] if label == "CN" else people["train"][1::2]
        write_tsv(
            made / "lineage.tsv",
            pd.DataFrame({"participant_id": learned, "session_id": "ses-M000"}),
        )

    fill_curve(root / "curve")
    rows = []
    for k, cell in enumerate(CELLS):
        row = {
            "cell": cell,
            "training_split": "train",
            "network": "baseline",
            "resolution": "4mm",
            "data": cell.split("_")[-1],
            "n_real_per_label": 3,
            "n_synthetic_per_label": 12 * (k > 0),
            "steps": "epochs",
            "test_set": "test",
            "n_runs": 3,
        }
        for m in MEASURES:
            row |= {
                f"{m}_mean": 0.611 + 0.05 * k,
                f"{m}_std": 0.021,
                f"{m}_ci_low": 0.4 + 0.05 * k,
                f"{m}_ci_high": 0.81,
            }
        rows.append(row)
        proof = [("train/CN", "no participant in common", "test", 3, 6, 0, "passed")]
        proof = pd.DataFrame(proof, columns=list(PROOF_COLUMNS))
        write_tsv(root / "evaluation" / cell / "leakage.tsv", proof)
        for run in range(2):
            fill_run(root / "evaluation" / cell / f"run-{run}", rng, n_epochs=4 + run)
    write_tsv(root / "results.tsv", pd.DataFrame(rows))
    write_tsv(root / "comparisons.tsv", pd.DataFrame([
        comparison(CELLS[1], -0.12, 0.031, 0.19, 0.9), comparison(CELLS[2], -0.05, 0.1, 0.25, 0.4),
    ]))  # fmt: skip
    write_tsv(
        root / "evaluation" / "detectable.tsv",
        pd.DataFrame([{"cell": CELLS[1], "test_set": "test", "detectable": 0.23456789}]),
    )
    searched = pd.DataFrame({
        "draw": range(7), "n_blocks": 3, "dropout": 0.123456, "balanced_accuracy_std": 0.05,
        "balanced_accuracy_mean": [0.5, 0.6, 0.7123, 0.7, 0.5, 0.4, 0],
        "fold_0": 0.5, "fold_1": 0.6, "failure": [None] * 6 + ["diverged"],
    })  # fmt: skip
    write_tsv(root / "search" / "4mm" / "draws.tsv", searched)
    write_tsv(
        root / "search" / "4mm" / "lineage.tsv", pd.DataFrame({"participant_id": people["train"]})
    )
    return Study.open(root)


def fill_run(folder, rng, n_epochs):
    history = {"epoch": range(1, n_epochs + 1), "steps": range(5, 5 * n_epochs + 1, 5)}
    for name in ("training_loss", "validation_loss", "validation_balanced_accuracy"):
        history[name] = rng.random(n_epochs)
    write_tsv(folder / "history.tsv", pd.DataFrame(history))
    record = {"n_training_images": 30, "epochs": n_epochs, "gradient_steps": 5 * n_epochs}
    record |= {"best_epoch": 3, "best_validation_balanced_accuracy": 0.625}
    write_json(folder / "run.json", {**record, "seconds": 90.0, "device": "cpu"})


def fill_curve(folder):
    """Two arms and a control at two numbers of people; the second arm ends above the curve."""
    rows, worth = [], []
    arms = {"real": 0.6, "real+synthetic-12": 0.62, "synthetic-12-soft": 0.7}
    for name, auc in arms.items():
        for k, n in enumerate((5, 20)):
            arm, own = f"baseline_4mm_{name}", auc + 0.05 * k
            spread = (own, own - 0.1, own + 0.1, own + 0.01)
            columns = ("auc", "ci_low", "ci_high", "validation_auc")
            row = {"arm": arm, "control": name == "real", "n_per_label": n, "n_splits": 4}
            rows.append({**row, "n_runs": 8, **dict(zip(columns, spread, strict=True))})
            if name == "real":
                continue
            above = name.endswith("soft")
            worth.append({
                "arm": arm, "n_per_label": n, "best_control": "baseline_4mm_real",
                "patients": 15.2 if above else 0.8, "ci_low": -3.0, "ci_high": 15.4,
                "at_least": above, "at_most": False,
            })  # fmt: skip
    write_tsv(folder / "curve.tsv", pd.DataFrame(rows))
    write_tsv(folder / "worth.tsv", pd.DataFrame(worth))
