"""Worth in patients: a ruler that measures known lengths, and says where it ends."""

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import roc_auc_score

from neuroaug.statistics.worth import (
    SplitScores,
    isotonic,
    learning_curves,
    people_for,
    worth,
)

NS = (5, 10, 20, 50)
N_COHORT = 120


def separation(n: float) -> float:
    """How far a classifier of n people per label tells the classes apart, in deviations."""
    return 0.4 * np.log(n)


def cohort(effects, n_splits=12, n_test=40, seed=0, runs=2):
    """Scores of arms whose separation at n is `effects[arm](n)`; None leaves an n out.

    A person's own deviation is the same in every arm, n and split, as a person is.
    """
    rng = np.random.default_rng(seed)
    own = rng.standard_normal(N_COHORT)
    y = np.arange(N_COHORT) % 2 == 1
    scores = []
    for split in range(n_splits):
        tested = np.concatenate(
            [rng.choice(np.flatnonzero(y == k), n_test // 2, replace=False) for k in (0, 1)]
        )
        for arm, effect in effects.items():
            for n in NS:
                if effect(n) is None:
                    continue
                noise = 0.3 * rng.standard_normal((runs, n_test))
                score = own[tested] + effect(n) * y[tested] + noise
                names = tuple(f"sub-{i:03d}" for i in tested)
                scores.append(SplitScores(arm, n, split, names, y[tested], score))
    return scores


def test_curves_are_scikit_learns_auc_over_splits_and_runs():
    scores = cohort({"real": separation}, n_splits=3)
    curves = learning_curves(scores, n_replicates=200)
    for place, n in enumerate(NS):
        each = [roc_auc_score(s.positive, run) for s in scores if s.n == n for run in s.score]
        assert curves.auc["real"][place] == pytest.approx(np.mean(each), abs=1e-12)
        low, high = curves.interval("real", place)
        assert low < curves.auc["real"][place] < high


def test_an_oracle_of_further_people_is_worth_those_people():
    effects = {
        "real": separation,
        "twice": lambda n: separation(2 * n) if n <= 20 else None,
        "same": separation,
    }
    curves = learning_curves(cohort(effects, n_splits=40), n_replicates=500)
    controls = dict.fromkeys(NS, "real")
    for place, n in enumerate(NS[:3]):
        doubled = worth(curves, "twice", controls, place)
        assert doubled.low <= n <= doubled.high  # n more per label
        same = worth(curves, "same", controls, place)
        assert same.low <= 0 <= same.high
        assert same.patients < doubled.patients


def test_intervals_cover_the_true_worth_in_most_cohorts():
    effects = {"real": separation, "twice": lambda n: separation(2 * n) if n == 10 else None}
    covered = 0
    for seed in range(25):
        curves = learning_curves(cohort(effects, n_splits=8, seed=seed), n_replicates=300)
        found = worth(curves, "twice", dict.fromkeys(NS, "real"), 1)
        covered += found.low <= 10 <= found.high
    assert covered >= 21  # of 25, at a nominal 95 %: fewer has a probability below 1 %


def test_a_harmful_arm_is_worth_less_than_nothing():
    effects = {"real": separation, "worse": lambda n: separation(n / 2)}
    curves = learning_curves(cohort(effects, n_splits=40), n_replicates=300)
    found = worth(curves, "worse", dict.fromkeys(NS, "real"), 2)
    assert found.patients < 0
    assert found.high <= 0.5


def test_the_ends_of_the_curve_are_said():
    effects = {"real": separation, "best": lambda n: 3.0, "chance": lambda n: 0.0}
    curves = learning_curves(cohort(effects), n_replicates=200)
    controls = dict.fromkeys(NS, "real")
    above = worth(curves, "best", controls, 1)
    assert (above.at_least, above.at_most, above.patients) == (True, False, 40)
    below = worth(curves, "chance", controls, 1)
    assert (below.at_least, below.at_most, below.patients) == (False, True, -5)


def test_the_best_control_may_be_another_one_at_every_n():
    effects = {"real": separation, "linear": lambda n: 1.2 if n <= 10 else 0.5}
    curves = learning_curves(cohort(effects, n_splits=30), n_replicates=200)
    best = {5: "linear", 10: "linear", 20: "real", 50: "real"}
    found = worth(curves, "real", best, 0)
    assert found.at_most  # the best control is better from the first n on


def test_a_difference_of_arms_on_the_same_people_is_paired():
    effects = {"real": separation, "more": lambda n: separation(n) + 0.4}
    curves = learning_curves(cohort(effects, n_splits=20), n_replicates=500)
    found, low, high = curves.difference("more", "real", 2)
    own = curves.interval("more", 2)
    assert low <= found <= high
    assert high - low < own[1] - own[0]  # the people's own spread cancels
    assert low > 0


def test_between_two_ns_the_curve_is_straight_in_log_n():
    ns, auc = np.array([10.0, 40.0]), np.array([0.6, 0.7])
    found, below, above = people_for(ns, auc, 0.65)
    assert found == pytest.approx(20.0)
    assert not below
    assert not above


def test_curves_are_made_to_rise_as_scikit_learn_does():
    rng = np.random.default_rng(0)
    for _ in range(20):
        values = rng.standard_normal(6)
        expected = IsotonicRegression().fit_transform(np.arange(6), values)
        np.testing.assert_allclose(isotonic(values), expected, atol=1e-12)
