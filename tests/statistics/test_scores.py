"""Scores are read with suspicion, and measured as scikit-learn measures them."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score, brier_score_loss, recall_score, roc_auc_score

from neuroaug.errors import InputError
from neuroaug.statistics.scores import auc, calibration_table, measures, read_scores


def table(labels, scores, predictions=None):
    predictions = predictions or ["AD" if score >= 0.5 else "CN" for score in scores]
    return pd.DataFrame(
        {
            "participant_id": [f"sub-{i}" for i in range(len(labels))],
            "session_id": "ses-M000",
            "test_set": "test",
            "label": labels,
            "score": scores,
            "prediction": predictions,
        }
    )


def write(path, content):
    content.to_csv(path, sep="\t", index=False, na_rep="n/a")
    return path


@pytest.mark.parametrize("seed", range(5))
def test_measures_are_scikit_learns(seed):
    rng = np.random.default_rng(seed)
    labels = ["CN"] * 23 + ["AD"] * 17
    content = table(labels, rng.uniform(size=40).round(1))  # rounded: ties
    y, guess = (content[c] == "AD" for c in ("label", "prediction"))
    found = measures(content, "AD")
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(y, guess), abs=1e-12)
    assert found["sensitivity"] == pytest.approx(recall_score(y, guess), abs=1e-12)
    assert found["specificity"] == pytest.approx(recall_score(y, guess, pos_label=False), abs=1e-12)
    assert found["auc"] == pytest.approx(roc_auc_score(y, content["score"]), abs=1e-12)
    assert found["brier"] == pytest.approx(brier_score_loss(y, content["score"]), abs=1e-12)


def test_the_matrix_that_clinicadls_own_metrics_get_wrong():
    # Half of the AD and three quarters of the CN right: .625 / .5 / .75, reported there as .625 /
    # 1.0 / 0.0.
    found = measures(table(["AD"] * 4 + ["CN"] * 4, [0.9, 0.8, 0.2, 0.1, 0.7, 0.3, 0.2, 0.1]), "AD")
    assert (found["balanced_accuracy"], found["sensitivity"], found["specificity"]) == (
        0.625,
        0.5,
        0.75,
    )


def test_a_class_that_is_not_there_leaves_no_number():
    found = measures(table(["CN", "CN"], [0.1, 0.8]), "AD")
    assert found["specificity"] == 0.5
    assert np.isnan([found["balanced_accuracy"], found["sensitivity"], found["auc"]]).all()


def test_auc_counts_ties_as_half():
    assert auc(np.array([0.5, 0.9]), np.array([0.5, 0.1])) == 0.875


def test_calibration_is_exact_in_a_case_done_by_hand():
    positive = np.array([True, False, True, True])
    found = calibration_table(positive, np.array([0.05, 0.05, 0.95, 1.0]))
    assert list(found["n"]) == [2, 2]
    assert list(found["observed"]) == [0.5, 1.0]
    assert list(found["mean_score"]) == pytest.approx([0.05, 0.975])
    labels = ["AD" if value else "CN" for value in positive]
    assert measures(table(labels, [0.05, 0.05, 0.95, 1.0]), "AD")[
        "calibration_error"
    ] == pytest.approx((0.45 + 0.025) / 2)


def test_scores_read_back(tmp_path):
    content = table(["AD", "CN"], [0.25, 0.125])
    assert read_scores(write(tmp_path / "scores.tsv", content), ("CN", "AD")).equals(content)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("score", np.nan, "sub-1: score 'nan'; expected a probability"),
        ("score", 1.5, "sub-1: score '1.5'; expected a probability"),
        ("score", "high", "sub-1: score 'high'; expected a probability"),
        ("label", "MCI", "sub-1: label 'MCI'; expected AD or CN"),
        ("prediction", "1", "sub-1: prediction '1'; expected AD or CN"),
        ("prediction", "AD", "sub-1: prediction 'AD'; expected CN, since the score is below 0.5"),
        ("score", 0.75, "sub-1: prediction 'CN'; expected AD, since the score is above 0.5"),
        ("participant_id", "sub-0", "sub-0 ses-M000 test stands twice"),
    ],
)
def test_bad_scores_are_refused_naming_file_and_participant(tmp_path, column, value, message):
    content = table(["AD", "CN"], [0.25, 0.125]).astype(object)
    content.loc[1, column] = value
    with pytest.raises(InputError, match=message) as error:
        read_scores(write(tmp_path / "scores.tsv", content), ("CN", "AD"))
    assert str(tmp_path / "scores.tsv") in str(error.value)


def test_missing_columns_and_empty_tables_are_refused(tmp_path):
    content = table(["AD"], [0.25])
    with pytest.raises(InputError, match=r"column\(s\) score missing; found participant_id"):
        read_scores(write(tmp_path / "a.tsv", content.drop(columns="score")), ("CN", "AD"))
    with pytest.raises(InputError, match="no score in it"):
        read_scores(write(tmp_path / "b.tsv", content.iloc[:0]), ("CN", "AD"))
