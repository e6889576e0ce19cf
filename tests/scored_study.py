"""Run folders with made-up scores: cells of a known truth."""

import numpy as np
import pandas as pd

from neuroaug.config import Cell

REAL = "train_baseline_2mm_real"
BOTH = "train_baseline_2mm_real+synthetic-{}"
FAST = {"n_replicates": 2000}


def write_run(folder, cell, k, sets):
    """Write a run: `sets` is (labels, scores) by test set; ``validation`` goes where the engine
    puts it.
    """
    tables = {}
    for name, (labels, scores) in sets.items():
        tables[name] = pd.DataFrame(
            {
                "participant_id": [f"sub-{name}{i}" for i in range(len(labels))],
                "session_id": "ses-M000",
                "test_set": name,
                "label": np.where(labels, "AD", "CN"),
                "score": scores,
                "prediction": np.where(np.asarray(scores) >= 0.5, "AD", "CN"),
            }
        )
    run = folder / cell / f"run-{k}"
    run.mkdir(parents=True)
    if "validation" in tables:
        tables.pop("validation").to_csv(run / "validation-scores.tsv", sep="\t", index=False)
    pd.concat(tables.values()).to_csv(run / "scores.tsv", sep="\t", index=False)
    return run


def study(folder, effects, *, n=50, n_runs=5, seed=0, sets=("test",), shift=1.0):
    """Runs of cells whose scores separate the labels by `shift` plus the cell's effect (in standard
    deviations).

    Images differ in difficulty (shared by cells), runs in bias, and each score has noise of its
    own.
    """
    rng = np.random.default_rng(seed)
    labels = np.arange(2 * n) < n
    ease = {name: rng.normal(0, 0.7, 2 * n) for name in sets}
    for cell, effect in effects.items():
        for k in range(n_runs):
            bias = rng.normal(0, 0.3)
            scores = {}
            for name in sets:
                logit = (
                    (shift + effect) * (labels - 0.5)
                    + ease[name]
                    + bias
                    + rng.normal(0, 0.6, 2 * n)
                )
                scores[name] = (labels, 1 / (1 + np.exp(-logit)))
            write_run(folder, cell, k, scores)
    return [Cell.parse(name) for name in effects]


def row(table, **wanted):
    for column, value in wanted.items():
        table = table[table[column] == value]
    assert len(table) == 1
    return table.iloc[0]
