"""Intervals, p-values and corrections: what they must do in cases that can be worked out."""

import numpy as np
import pytest
from scipy import stats

from neuroaug.statistics.bootstrap import (
    Resampling,
    RunOutcomes,
    detectable,
    interval,
    p_value,
    resampled_runs,
)
from neuroaug.statistics.holm import holm


def outcomes(correct, n_ad, score=None, generators=None):
    correct = np.asarray(correct, dtype=float)
    n = correct.shape[1]
    return RunOutcomes(
        participants=tuple(f"sub-{i} ses-M000" for i in range(n)),
        positive=np.arange(n) < n_ad,
        correct=correct,
        score=np.full(correct.shape, 0.5) if score is None else np.asarray(score, dtype=float),
        generators=np.zeros(len(correct), dtype=int)
        if generators is None
        else np.asarray(generators),
    )


def test_replicates_agree_with_resampling_one_by_one():
    rng = np.random.default_rng(0)
    found = outcomes(rng.random((4, 30)) < 0.7, n_ad=12)
    resampling = Resampling(found.positive, "test", n_replicates=200)
    replicates = resampling.replicates(found, "cell")
    runs = resampling.runs(found, "cell")
    for b in range(0, 200, 23):
        sides = [
            sum(
                runs[b, r] * resampling._weights[label][b, j] * found.correct[r, i]
                for r in range(4)
                for j, i in enumerate(resampling.images[label])
            )
            for label in (True, False)
        ]
        assert replicates["sensitivity"][b] == pytest.approx(sides[0])
        assert replicates["specificity"][b] == pytest.approx(sides[1])
        assert replicates["balanced_accuracy"][b] == pytest.approx(sum(sides) / 2)


def test_with_one_run_the_spread_is_the_binomial_one():
    found = outcomes([[1] * 60 + [0] * 40 + [1] * 80 + [0] * 20], n_ad=100)
    replicates = Resampling(found.positive, "test").replicates(found, "cell")
    assert replicates["sensitivity"].mean() == pytest.approx(0.6, abs=0.002)
    assert replicates["sensitivity"].std() == pytest.approx(np.sqrt(0.6 * 0.4 / 100), rel=0.03)
    expected = np.sqrt(0.6 * 0.4 / 100 + 0.8 * 0.2 / 100) / 2
    assert replicates["balanced_accuracy"].std() == pytest.approx(expected, rel=0.03)


def test_runs_add_their_own_spread():
    # Every participant alike within a run: all of the spread is between runs.
    found = outcomes([[k % 2] * 40 for k in range(10)], n_ad=20)
    replicates = Resampling(found.positive, "test").replicates(found, "cell")["balanced_accuracy"]
    assert replicates.std() == pytest.approx(0.5 / np.sqrt(10), rel=0.03)


def test_runs_of_one_generator_understate_the_spread_of_several():
    correct = [[1] * 40] * 10 + [[0] * 40] * 10
    alone, nested = (outcomes(correct, 20, generators=g) for g in ([0] * 20, [0] * 10 + [1] * 10))
    spreads = [
        Resampling(o.positive, "t").replicates(o, "c")["balanced_accuracy"].std()
        for o in (alone, nested)
    ]
    assert spreads[0] == pytest.approx(0.5 / np.sqrt(20), rel=0.05)
    assert spreads[1] == pytest.approx(0.5 / np.sqrt(2), rel=0.05)
    weights = resampled_runs(np.array([0, 0, 1]), 1000, np.random.default_rng(0))
    assert weights.sum(axis=1) == pytest.approx(1)


def test_the_same_participants_are_drawn_for_every_cell():
    rng = np.random.default_rng(0)
    found = outcomes(rng.random((3, 40)) < 0.6, n_ad=20)
    resampling = Resampling(found.positive, 0, "test")
    same = (
        resampling.replicates(found, "a")["balanced_accuracy"]
        - resampling.replicates(found, "a")["balanced_accuracy"]
    )
    assert not same.any()
    again = Resampling(found.positive, 0, "test").replicates(found, "a")["balanced_accuracy"]
    assert np.array_equal(again, resampling.replicates(found, "a")["balanced_accuracy"])


def test_a_label_without_any_variation_still_has_an_interval():
    # 8 of 8 right in all runs: resampling alone would say [1, 1].
    found = outcomes(np.ones((3, 16)), n_ad=8)
    replicates = Resampling(found.positive, "test").replicates(found, "cell")["sensitivity"]
    low, high = interval(replicates, 1.0, 8)
    assert 0.55 < low < 0.85
    assert high == 1.0


def test_runs_that_say_one_label_throughout_are_not_certain_to_score_one_half():
    positive = np.arange(16) < 8
    correct = np.array(
        [positive, ~positive], dtype=float
    )  # one run says AD of everybody, the other CN
    outcomes = RunOutcomes(
        tuple(map(str, range(16))), positive, correct, correct, np.zeros(2, dtype=int)
    )
    replicates = Resampling(positive, 0).replicates(outcomes, "cell")["balanced_accuracy"]
    low, high = interval(replicates, 0.5, 8)
    assert low < 0.4
    assert high > 0.6
    assert detectable(replicates, 8) > 0.1


def test_auc_replicates_centre_on_the_auc_and_brier_on_the_score():
    rng = np.random.default_rng(1)
    score = np.clip(rng.normal(0.5, 0.2, (3, 60)) + 0.15 * (np.arange(60) < 25), 0, 1)
    found = outcomes(np.ones((3, 60)), n_ad=25, score=score)
    resampling = Resampling(found.positive, "test")
    ad, cn = score[:, :25], score[:, 25:]
    truth = np.mean([(a[:, None] > c[None]).mean() for a, c in zip(ad, cn, strict=True)])
    assert resampling.auc(found, "cell").mean() == pytest.approx(truth, abs=0.005)
    assert resampling.brier(found, "cell").mean() == pytest.approx(
        ((score - found.positive) ** 2).mean(), abs=0.002
    )


def test_the_interval_of_a_normal_statistic_is_students():
    replicates = stats.norm.ppf((np.arange(100_000) + 0.5) / 100_000) * np.sqrt(
        9 / 10
    )  # n = 10: (n-1)/n of 1
    low, high = interval(replicates, 0.0, 10)
    assert high == pytest.approx(stats.t.ppf(0.975, 9), rel=1e-3)
    assert low == pytest.approx(-high, rel=1e-3)


def test_p_says_where_the_interval_begins_to_leave_out_zero():
    rng = np.random.default_rng(0)
    for n in (6, 20, 200):
        for shift in np.linspace(-4, 4, 33):
            replicates = rng.normal(shift, 1, 10_000)
            low, high = interval(replicates, shift, n)
            p = p_value(replicates, n)
            if abs(p - 0.05) > 0.003:
                assert (p < 0.05) == (not low <= 0 <= high)


def test_no_difference_at_all_is_p_one():
    assert p_value(np.zeros(1000), 10) == 1.0


def test_one_participant_gives_neither_interval_nor_p():
    assert np.isnan(interval(np.ones(10), 1.0, 1)).all()
    assert np.isnan(p_value(np.ones(10), 1))
    assert np.isnan(detectable(np.ones(10), 1))


def test_detectable_difference_is_the_textbooks():
    replicates = np.random.default_rng(0).normal(0, 0.02, 200_000)
    assert detectable(replicates, 1000) == pytest.approx((1.96 + 0.842) * 0.02, rel=0.01)
    assert detectable(replicates, 1000, alpha=0.05 / 10) > detectable(replicates, 1000)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])
    adjusted = holm([0.02, float("nan"), 0.01])
    assert adjusted[[0, 2]] == pytest.approx([0.02, 0.02])
    assert np.isnan(adjusted[1])
    assert len(holm([])) == 0


def coverage(n, n_runs, repetitions, rng, truth=0.7):
    """How often the interval holds the truth, participants and runs both differing."""
    held = 0
    for _ in range(repetitions):
        ease, bias = rng.normal(0, 1.5, 2 * n), rng.normal(0, 0.5, (n_runs, 1))
        side = np.where(np.arange(2 * n) < n, 1, -1)
        chance = 1 / (1 + np.exp(-(1.24 + ease + side * bias)))
        found = outcomes(rng.random((n_runs, 2 * n)) < chance, n_ad=n)
        replicates = Resampling(found.positive, "test", n_replicates=1000).replicates(found, "cell")
        low, high = interval(replicates["balanced_accuracy"], found.correct.mean(), n)
        held += low <= truth <= high
    return held / repetitions


def test_the_interval_covers_the_truth_with_few_participants():
    # E[logistic(1.24 + N(0, 1.5^2 + 0.5^2))] = 0.70
    assert coverage(8, 3, 200, np.random.default_rng(0)) >= 0.93


@pytest.mark.slow
@pytest.mark.parametrize(("n", "n_runs"), [(6, 2), (20, 5), (100, 20)])
def test_the_interval_covers_the_truth_at_every_size(n, n_runs):
    # Nominal .95; conservative where what is particular to one image in one run rules.
    assert coverage(n, n_runs, 600, np.random.default_rng(n)) >= 0.93
