"""From the scores of every study of a curve to its tables, its picture and its sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from neuroaug.config import Cell
from neuroaug.errors import InputError
from neuroaug.evaluation.gather_scores import gather
from neuroaug.report.curve_section import (
    CURVE,
    CURVE_COLUMNS,
    WORTH,
    WORTH_COLUMNS,
    read_curve,
    sentences,
)
from neuroaug.statistics.cell_scores import VALIDATION
from neuroaug.statistics.worth import Curves, SplitScores, Worth, learning_curves, worth
from neuroaug.study import Study
from neuroaug.system.files import write_tsv
from neuroaug.workflow.learning_curve.points import (
    CurvePoint,
    arm_name,
    arms,
    curve_folder,
    is_control,
)


def summarise_curve(study: Study, points: Sequence[CurvePoint]) -> list[str]:
    """Write ``curve.tsv`` and ``worth.tsv``; say in sentences what was found."""
    cells = arms(study)
    scores, validation = _read(points, cells)
    if not scores:
        raise InputError(f"{curve_folder(study)}: no run has ended yet; nothing to summarise")
    curves = learning_curves(scores)
    controls = best_controls(cells, validation)
    found = [
        worth(curves, arm_name(cell), controls, place)
        for cell in cells
        if not is_control(cell)
        for place, n in enumerate(curves.ns)
        if n in controls and np.isfinite(curves.auc[arm_name(cell)][place])
    ]
    write_tsv(curve_folder(study) / CURVE, _curve_table(curves, cells, validation, scores))
    write_tsv(curve_folder(study) / WORTH, _worth_table(found, controls))
    return sentences(*read_curve(curve_folder(study)))


Validation = Mapping[tuple[str, int], float]
"""Mean AUC of an arm on validation people, by arm and n."""


def _read(
    points: Sequence[CurvePoint], cells: Sequence[Cell]
) -> tuple[list[SplitScores], Validation]:
    scores: list[SplitScores] = []
    held: dict[tuple[str, int], list[float]] = {}
    for point in points:
        own = point.study
        for cell in cells:
            named = cell.model_copy(update={"split": f"train-{point.n}"})
            seeds = len(own.config.generator.seeds)
            found = gather(own.root / "evaluation", named, seeds, own.config.classes)
            if found is None:
                continue
            tested = found.outcomes["test"]
            people = tuple(name.split(" ")[0] for name in tested.participants)
            arm = arm_name(cell)
            scores.append(
                SplitScores(arm, point.n, point.split, people, tested.positive, tested.score)
            )
            held.setdefault((arm, point.n), []).extend(found.per_run(VALIDATION)["auc"])
    return scores, {key: float(np.mean(values)) for key, values in held.items()}


def best_controls(cells: Sequence[Cell], validation: Validation) -> dict[int, str]:
    """Control of best AUC on validation people, by n; of equals, the first."""
    names = [arm_name(cell) for cell in cells if is_control(cell)]
    best: dict[int, str] = {}
    for n in sorted({n for _, n in validation}):
        known = [name for name in names if math.isfinite(validation.get((name, n), math.nan))]
        if known:
            best[n] = max(known, key=lambda name: (validation[name, n], -names.index(name)))
    return best


def _curve_table(
    curves: Curves, cells: Sequence[Cell], validation: Validation, scores: Sequence[SplitScores]
) -> pd.DataFrame:
    rows = []
    for cell in cells:
        arm = arm_name(cell)
        for place, n in enumerate(curves.ns):
            own = [s for s in scores if s.arm == arm and s.n == n]
            if not own:
                continue
            low, high = curves.interval(arm, place)
            rows.append(
                {
                    "arm": arm,
                    "control": is_control(cell),
                    "n_per_label": n,
                    "n_splits": len(own),
                    "n_runs": sum(len(s.score) for s in own),
                    "auc": curves.auc[arm][place],
                    "ci_low": low,
                    "ci_high": high,
                    "validation_auc": validation.get((arm, n), math.nan),
                }
            )
    return pd.DataFrame(rows, columns=list(CURVE_COLUMNS))


def _worth_table(found: Sequence[Worth], controls: Mapping[int, str]) -> pd.DataFrame:
    rows = [
        (w.arm, w.n, controls[w.n], w.patients, w.low, w.high, w.at_least, w.at_most) for w in found
    ]
    return pd.DataFrame(rows, columns=list(WORTH_COLUMNS))
