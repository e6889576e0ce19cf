"""Ensembles: several classifiers of one training set, whose scores are averaged."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from neuroaug.evaluation.run_folder import RECORD, SCORES, VALIDATION_SCORES
from neuroaug.evaluation.runs import CellImages, ClassifierSettings, Fitted, Run, RunState
from neuroaug.statistics.cell_scores import VALIDATION
from neuroaug.statistics.scores import rates, read_scores
from neuroaug.system.files import read_json, read_tsv, write_tsv

MEMBERS = "members"
WEIGHTS = "members.tsv"


def member_runs(run: Run) -> list[Run]:
    """The runs of an ensemble's members: its cell without the ensemble, a seed and folder each."""
    return [
        replace(
            run,
            cell=run.cell.member,
            member=j,
            out=run.out / MEMBERS / f"{run.cell.member.name}-{j}",
        )
        for j in range(run.cell.n_members)
    ]


def average_members(
    run: Run, members: list[Run], images: CellImages, settings: ClassifierSettings
) -> Fitted:
    """Average the scores of finished members, image by image.

    The mean of probabilities, which is one; its prediction is its own, not a vote.
    """
    records = [read_json(member.out / RECORD) for member in members]
    tables = [read_scores(member.out / SCORES, run.classes) for member in members]
    tests = {name: _mean([t[t["test_set"] == name] for t in tables], run) for name in images.tests}
    held = [read_scores(member.out / VALIDATION_SCORES, run.classes) for member in members]
    validation = _mean([t[t["test_set"] == VALIDATION] for t in held], run)
    import pandas as pd

    measured = rates(pd.DataFrame(validation), run.classes[1])
    state = RunState([_epoch(members, measured)], 1, measured["balanced_accuracy"], {}, validation)
    listing = run.out / WEIGHTS
    kept = ("seed", "best_epoch", "best_validation_balanced_accuracy", "gradient_steps")
    write_tsv(listing, pd.DataFrame([{k: r[k] for k in kept} for r in records]))
    network = {**records[0]["network"], "members": len(members)}
    n_threads = records[0]["threads"]
    return Fitted(state, settings, network, len(images.train), n_threads, listing, tests)


def _mean(tables: list[Any], run: Run) -> list[dict[str, Any]]:
    columns = ["participant_id", "session_id", "label"]
    first = tables[0].reset_index(drop=True)
    mean = np.mean([table["score"].to_numpy(float) for table in tables], axis=0)
    return [
        {
            **{name: row[name] for name in columns},
            "score": float(p),
            "prediction": run.classes[int(p > 0.5)],
        }
        for row, p in zip(first.to_dict("records"), mean, strict=True)
    ]


def _epoch(members: list[Run], measured: dict[str, float]) -> dict[str, Any]:
    """One row of history: losses at the members' best epochs, and the steps of all of them."""
    rows = [read_tsv(member.out / "history.tsv") for member in members]
    best = [
        table.iloc[int(read_json(member.out / RECORD)["best_epoch"]) - 1]
        for table, member in zip(rows, members, strict=True)
    ]
    losses = {
        name: float(np.mean([float(row[name]) for row in best]))
        for name in ("training_loss", "validation_loss")
    }
    steps = sum(int(float(table["steps"].iloc[-1])) for table in rows)
    return {
        "epoch": 1,
        "steps": steps,
        **losses,
        **{f"validation_{name}": value for name, value in measured.items()},
    }
