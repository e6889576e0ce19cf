"""Whether what the tables claim is true: repetitions with no effect, and with a planted one."""

import numpy as np
import pytest
from scored_study import study

from neuroaug.evaluation.summarise import summarise

REAL = "train_baseline_2mm_real"
BOTH = "train_baseline_2mm_real+synthetic-{}"
FAST = {"n_replicates": 2000}


def repetitions(tmp_path, n_repetitions, effect, **kwargs):
    """Tables of studies with and without an effect, one a repetition."""
    effects = {REAL: 0.0} | {BOTH.format(n): effect for n in (500, 2000)}
    for seed in range(n_repetitions):
        folder = tmp_path / str(seed)
        yield summarise(folder, study(folder, effects, seed=seed, **kwargs), seed=seed, **FAST)


@pytest.mark.parametrize(("n", "n_runs"), [(8, 3), (40, 4)])
def test_with_labels_that_mean_nothing_nothing_is_found_in_twenty_repetitions(tmp_path, n, n_runs):
    covered, significant = 0, 0
    for summary in repetitions(tmp_path, 20, 0.0, shift=0.0, n=n, n_runs=n_runs):
        lines = summary.results
        covered += (
            (lines["balanced_accuracy_ci_low"] <= 0.5) & (lines["balanced_accuracy_ci_high"] >= 0.5)
        ).all()
        balanced = summary.comparisons[summary.comparisons["metric"] == "balanced_accuracy"]
        significant += (balanced["p_holm"] < 0.05).any()
    # At the 5 % level one in twenty is expected.
    assert significant <= 1
    assert covered >= 18


def test_a_planted_effect_is_found(tmp_path):
    found = 0
    for summary in repetitions(tmp_path, 5, 1.5, n=60, n_runs=4):
        balanced = summary.comparisons[summary.comparisons["metric"] == "balanced_accuracy"]
        found += (
            (balanced["p_holm"] < 0.05) & (balanced["ci_low"] > 0) & (balanced["difference"] > 0)
        ).all()
        planted = balanced["difference"].mean()
        limits = summary.tables["detectable"]["detectable"]
        assert limits.between(0.02, planted).all()  # a study that finds it says that it could
    assert found == 5


@pytest.mark.slow
def test_level_and_power_in_many_repetitions_of_the_papers_size(tmp_path):
    null = list(repetitions(tmp_path / "null", 40, 0.0, shift=1.0, n=100, n_runs=20))
    false = [
        (s.comparisons.query("metric == 'balanced_accuracy'")["p_holm"] < 0.05).any() for s in null
    ]
    assert np.mean(false) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 40)
    planted = list(repetitions(tmp_path / "planted", 10, 0.8, shift=1.0, n=100, n_runs=20))
    true = [
        (s.comparisons.query("metric == 'balanced_accuracy'")["p_holm"] < 0.05).all()
        for s in planted
    ]
    assert np.mean(true) >= 0.8
