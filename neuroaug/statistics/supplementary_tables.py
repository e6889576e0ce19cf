"""Tables beside the results: further measures, detectable differences, choice of n, calibration.

And scores by group of participants.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
import pandas as pd

from neuroaug.statistics.bootstrap import Resampling, RunOutcomes, detectable, interval
from neuroaug.statistics.cell_scores import VALIDATION, CellScores
from neuroaug.statistics.columns import COMPARED, MEASURES, SCORE_MEASURES
from neuroaug.statistics.scores import calibration_table

MIN_GROUP = 10  # participants of each label
AGE_BOUNDS = (0, 65, 75, 85, 200)  # years
MEASURE_COLUMNS = ("cell", "test_set", "metric", "mean", "std", "ci_low", "ci_high")
_FOUND = ("standard_error", "detectable", "n_comparisons", "detectable_after_correction")
DETECTABLE_COLUMNS = (*COMPARED, *_FOUND)
_FAMILY = ("training_split", "network", "resolution", "data", "steps")
_CHOICE = ("test_set", "chosen_on", "n_synthetic_per_label", "validation_balanced_accuracy")
_REACHED = ("balanced_accuracy", "ci_low", "ci_high", "n_candidates")
SELECTION_COLUMNS = (*_FAMILY, *_CHOICE, *_REACHED)
_GROUP = ("variable", "group", "n_cn", "n_ad")
SUBGROUP_COLUMNS = (*MEASURE_COLUMNS[:2], *_GROUP, *MEASURE_COLUMNS[2:])
CALIBRATION_COLUMNS = ("cell", "test_set", "bin_low", "bin_high", "n", "mean_score", "observed")


def further_measures(
    shown: Sequence[CellScores], interval_of: Callable[[CellScores, str, str], tuple[float, float]]
) -> pd.DataFrame:
    """Area under the ROC curve, Brier score and calibration error; the last without interval."""
    rows = []
    for found in shown:
        for test_set in found.outcomes:
            per_run = found.per_run(test_set)
            for metric in (*SCORE_MEASURES, "calibration_error"):
                mean, std = float(per_run[metric].mean()), float(per_run[metric].std(ddof=1))
                known = metric in SCORE_MEASURES
                ends = interval_of(found, test_set, metric) if known else (float("nan"),) * 2
                rows.append((found.name, test_set, metric, mean, std, *ends))
    return pd.DataFrame(rows, columns=list(MEASURE_COLUMNS))


def detectable_differences(
    pairs: Sequence[tuple[CellScores, CellScores | None]],
    difference: Callable[[CellScores, CellScores, str, str], np.ndarray],
) -> pd.DataFrame:
    """Smallest difference from the real-only cell that would be found with 80 % power.

    At the 5 % level, and at the first step of Holm's correction.
    """
    rows = []
    sizes: dict[str, int] = {}
    for found, reference in pairs:
        for test_set in found.outcomes if reference else ():
            sizes[test_set] = sizes.get(test_set, 0) + 1
    for found, reference in pairs:
        for test_set, outcomes in found.outcomes.items() if reference else ():
            if reference is None or test_set not in reference.outcomes:
                continue
            replicates = difference(found, reference, test_set, "balanced_accuracy")
            n, m = outcomes.n_smallest, sizes[test_set]
            error = float(replicates.std(ddof=1))
            both = (detectable(replicates, n), m, detectable(replicates, n, alpha=0.05 / m))
            rows.append((found.name, reference.name, test_set, "balanced_accuracy", error, *both))
    return pd.DataFrame(rows, columns=list(DETECTABLE_COLUMNS))


def selection(
    shown: Sequence[CellScores], interval_of: Callable[[CellScores, str, str], tuple[float, float]]
) -> pd.DataFrame:
    """The number of synthetic images chosen on validation, and on the test set as the papers do.

    Cells that differ only by that number are the candidates. The second choice is optimistic: it is
    made on the very figures that it reports. Where the runs left no validation scores there is only
    the second.
    """
    families: dict[tuple[str, ...], list[CellScores]] = {}
    for found in sorted(shown, key=lambda found: found.cell.n_synthetic):
        cell = found.cell
        if cell.n_synthetic:
            data = re.sub(r"-\d+", "", cell.data)
            alike = (cell.split, cell.network, cell.resolution, data, cell.steps)
            families.setdefault(alike, []).append(found)
    rows = []
    for family, candidates in families.items():
        test_sets = [
            name for name in candidates[0].outcomes if all(name in c.outcomes for c in candidates)
        ]
        for test_set in test_sets:
            for chosen_on in (VALIDATION, test_set):
                values = [_mean_accuracy(candidate, chosen_on) for candidate in candidates]
                if np.isnan(values).any():
                    continue
                best = candidates[int(np.argmax(values))]  # of equals, the fewest images
                reached = (_mean_accuracy(best, name) for name in (VALIDATION, test_set))
                ends = interval_of(best, test_set, "balanced_accuracy")
                choice = (test_set, chosen_on, best.cell.n_synthetic)
                rows.append((*family, *choice, *reached, *ends, len(candidates)))
    return pd.DataFrame(rows, columns=list(SELECTION_COLUMNS))


def _mean_accuracy(found: CellScores, test_set: str) -> float:
    return float(found.per_run(test_set)["balanced_accuracy"].mean())


def subgroups(
    shown: Sequence[CellScores], people: Mapping[str, pd.DataFrame], n_replicates: int, seed: int
) -> pd.DataFrame:
    """Scores by age, sex and site, of groups with `MIN_GROUP` participants of each label."""
    rows = []
    for found in shown:
        for test_set, outcomes in found.outcomes.items():
            if test_set not in people:
                continue
            for variable, group, members in _groups(outcomes, people[test_set]):
                part = outcomes.take(np.flatnonzero(members))
                n_ad, n_cn = int(part.positive.sum()), int((~part.positive).sum())
                if min(n_ad, n_cn) < MIN_GROUP:
                    continue
                key = (seed, test_set, variable, group)
                resampling = Resampling(part.positive, *key, n_replicates=n_replicates)
                replicates = resampling.replicates(part, found.name)
                sensitivity = part.correct[:, part.positive].mean(axis=1)
                specificity = part.correct[:, ~part.positive].mean(axis=1)
                values = ((sensitivity + specificity) / 2, sensitivity, specificity)
                head = (found.name, test_set, variable, group, n_cn, n_ad)
                for metric, value in zip(MEASURES, values, strict=True):
                    mean = float(value.mean())
                    std = float(value.std(ddof=1)) if len(value) > 1 else float("nan")
                    ends = interval(replicates[metric], mean, min(n_ad, n_cn))
                    rows.append((*head, metric, mean, std, *ends))
    return pd.DataFrame(rows, columns=list(SUBGROUP_COLUMNS))


def _groups(outcomes: RunOutcomes, people: pd.DataFrame) -> Iterator[tuple[str, str, np.ndarray]]:
    """Which images each group holds: variable, group, and a mask."""
    known = people.drop_duplicates("participant_id").set_index("participant_id")
    rows = known.reindex([name.split(" ")[0] for name in outcomes.participants])
    ages = rows["age"].astype(float).to_numpy()
    for low, high in pairwise(AGE_BOUNDS):
        name = f"{low} and over" if high == AGE_BOUNDS[-1] else f"{low} to {high - 1}"
        name = f"under {high}" if low == 0 else name
        yield "age", name, (ages >= low) & (ages < high)
    for variable in ("sex", "site"):
        for group in sorted(rows[variable].dropna().unique(), key=str):
            yield variable, str(group), (rows[variable] == group).to_numpy()


def calibration(shown: Sequence[CellScores]) -> pd.DataFrame:
    """Reliability of each cell's scores, all runs together."""
    tables = []
    for found in shown:
        for test_set, outcomes in found.outcomes.items():
            positive = np.tile(outcomes.positive, len(outcomes.score))
            table = calibration_table(positive, outcomes.score.ravel())
            tables.append(table.assign(cell=found.name, test_set=test_set))
    if not tables:
        return pd.DataFrame(columns=list(CALIBRATION_COLUMNS))
    return pd.concat(tables, ignore_index=True)[list(CALIBRATION_COLUMNS)]
