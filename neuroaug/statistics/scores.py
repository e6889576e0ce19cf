"""Per-image scores of a run: read, checked, and turned into the measures that are reported.

Every reported number is recomputed from these tables. The classes are a study's two: negative,
positive; sensitivity is that of the positive one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from neuroaug.errors import InputError
from neuroaug.statistics.columns import MEASURES, SCORE_COLUMNS
from neuroaug.system.files import read_tsv

ROUNDING = 1e-6  # of a score as written, against the one that was compared with 0.5


def read_scores(path: str | Path, classes: tuple[str, str]) -> pd.DataFrame:
    """Read and check a ``scores.tsv``.

    Parameters
    ----------
    path : path-like
        Table with the columns of `SCORE_COLUMNS`: label and prediction are one of the classes,
        score is the probability of the positive one.
    classes : (str, str)
        Negative and positive class.

    Returns
    -------
    DataFrame
        The same, scores as floats.

    Raises
    ------
    InputError
        A column is missing; a score is missing, not a number or outside [0, 1]; a label or
        prediction is unknown; a prediction contradicts its score; an image stands twice in a test
        set. The file and the participant are named.
    """
    negative, positive = classes
    table = read_tsv(path, SCORE_COLUMNS)[list(SCORE_COLUMNS)]
    if table.empty:
        raise InputError(f"{path}: no score in it; run this run again")

    def refuse(bad: pd.Series, column: str, expected: str) -> None:
        if bad.any():
            row = table[bad].iloc[0]
            raise InputError(
                f"{path}: {row['participant_id']}: {column} '{row[column]}'; expected {expected}"
            )

    for column in ("participant_id", "session_id", "test_set"):
        refuse(table[column].isna(), column, "a name")
    for column in ("label", "prediction"):
        refuse(~table[column].isin(classes), column, f"{positive} or {negative}")
    scores = pd.to_numeric(table["score"], errors="coerce").astype(float)
    refuse(~scores.between(0, 1), "score", f"a probability of {positive} in [0, 1]")
    says = table["prediction"] == positive
    below, above = says & (scores < 0.5 - ROUNDING), ~says & (scores > 0.5 + ROUNDING)
    refuse(below, "prediction", f"{negative}, since the score is below 0.5")
    refuse(above, "prediction", f"{positive}, since the score is above 0.5")
    key = ["participant_id", "session_id", "test_set"]
    repeated = table[table.duplicated(key)]
    if len(repeated):
        raise InputError(
            f"{path}: {' '.join(repeated.iloc[0][key])} stands twice; run this run again"
        )
    return table.assign(score=scores)


def rates(scores: pd.DataFrame, positive: str) -> dict[str, float]:
    """Balanced accuracy, sensitivity and specificity of one run on one set.

    Parameters
    ----------
    scores : DataFrame
        With columns label and prediction.
    positive : str
        Positive class.

    Returns
    -------
    dict of str to float
        By the names of `columns.MEASURES`. What needs a class that is not there is NaN.
    """
    truth = (scores["label"] == positive).to_numpy()
    correct = (scores["label"] == scores["prediction"]).to_numpy()
    sensitivity, specificity = _mean(correct[truth]), _mean(correct[~truth])
    values = ((sensitivity + specificity) / 2, sensitivity, specificity)
    return dict(zip(MEASURES, values, strict=True))


def measures(scores: pd.DataFrame, positive: str) -> dict[str, float]:
    """Measure one run on one test set, as scikit-learn would.

    Parameters
    ----------
    scores : DataFrame
        With columns label, prediction, score.
    positive : str
        Positive class.

    Returns
    -------
    dict of str to float
        `rates`, then auc, brier, calibration_error. What needs a class that is not there is NaN.
    """
    truth = (scores["label"] == positive).to_numpy()
    score = scores["score"].to_numpy(float)
    return {
        **rates(scores, positive),
        "auc": auc(score[truth], score[~truth]),
        "brier": _mean((score - truth) ** 2),
        "calibration_error": calibration_error(truth, score),
    }


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def auc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Area under the ROC curve: P(a positive image scores above a negative one).

    Ties count half; NaN where either set is empty.
    """
    from scipy.stats import rankdata

    n, m = len(positive), len(negative)
    if not n or not m:
        return float("nan")
    ranks = rankdata(np.concatenate([positive, negative]))
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))


def calibration_table(positive: np.ndarray, score: np.ndarray, n_bins: int = 10) -> pd.DataFrame:
    """Compare what was predicted with what was observed, in bins of equal width.

    Parameters
    ----------
    positive : ndarray of bool
        Whether each image is of the positive class.
    score : ndarray
        Probability of the positive class, of each image.
    n_bins : int
        Bins of [0, 1]; empty ones are left out.

    Returns
    -------
    DataFrame
        bin_low, bin_high, n, mean_score, observed (fraction of the positive class).
    """
    bins = np.minimum((np.asarray(score) * n_bins).astype(int), n_bins - 1)
    rows = []
    for k in np.unique(bins):
        held = bins == k
        means = (float(score[held].mean()), float(positive[held].mean()))
        rows.append((k / n_bins, (k + 1) / n_bins, int(held.sum()), *means))
    return pd.DataFrame(rows, columns=["bin_low", "bin_high", "n", "mean_score", "observed"])


def calibration_error(positive: np.ndarray, score: np.ndarray, n_bins: int = 10) -> float:
    """Expected calibration error: mean over images of |predicted - observed| of their bin."""
    table = calibration_table(positive, score, n_bins)
    if table.empty:
        return float("nan")
    gap = (table["mean_score"] - table["observed"]).abs()
    return float((gap * table["n"]).sum() / table["n"].sum())


def aligned(runs: Sequence[pd.DataFrame], what: str) -> list[pd.DataFrame]:
    """Bring the runs of a cell on one test set into one order of images.

    Raises
    ------
    InputError
        If two runs were tested on other images, or on other labels; one participant is named.
    """
    key = ["participant_id", "session_id"]
    ordered = [run.sort_values(key, ignore_index=True) for run in runs]
    first, *others = (run[[*key, "label"]] for run in ordered)
    for other in others:
        if not first.equals(other):
            both = first.merge(other, how="outer", indicator=True)
            who = both.loc[both["_merge"] != "both", "participant_id"].iloc[0]
            raise InputError(
                f"{what}: its runs were not tested on the same images (e.g. {who}); "
                "run the cell again"
            )
    return ordered
