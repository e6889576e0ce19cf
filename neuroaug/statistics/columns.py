"""The columns of the tables that an evaluation leaves, in the order in which they are written."""

MEASURES = ("balanced_accuracy", "sensitivity", "specificity")

SCORE_MEASURES = ("auc", "brier")
"""Measures of the scores themselves, whatever the threshold; a lower Brier score is better."""

REPORTED = (*MEASURES, *SCORE_MEASURES)

SCORE_COLUMNS = ("participant_id", "session_id", "test_set", "label", "score", "prediction")
"""A run's ``scores.tsv`` and ``validation-scores.tsv``, one row per image."""

_TRAINED = ("cell", "training_split", "network", "resolution", "data", "n_real_per_label")
_TESTED = ("n_synthetic_per_label", "steps", "test_set", "n_runs")
_PARTS = ("mean", "std", "ci_low", "ci_high")
RESULT_COLUMNS = (*_TRAINED, *_TESTED, *(f"{m}_{part}" for m in REPORTED for part in _PARTS))
"""``results.tsv``, one row per cell and test set; older ones end with `MEASURES`."""

OLDEST_RESULT_COLUMNS = tuple(
    name for name in RESULT_COLUMNS if not name.startswith(tuple(f"{m}_" for m in SCORE_MEASURES))
)

COMPARED = ("cell", "reference_cell", "test_set", "metric")
COMPARISON_COLUMNS = (*COMPARED, "difference", "ci_low", "ci_high", "p", "p_holm")
"""``comparisons.tsv``, one row per cell with a real-only cell beside it, test set and measure."""
