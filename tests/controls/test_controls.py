"""Linear controls against scikit-learn and images of a known law."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from neuroaug.controls.brain_age import fit_brain_age
from neuroaug.controls.forecast import forecast
from neuroaug.controls.linear_classifier import fit_linear, log_loss, logistic
from neuroaug.controls.linear_score import ImageComponents
from neuroaug.errors import InputError
from neuroaug.statistics.scores import auc

SHAPE = (6, 7, 8)


def people(n, seed=0, ageing=0.02, disease=5.0):
    """Images that age in one pattern; the diseased look `disease` years older."""
    rng = np.random.default_rng(seed)
    pattern = np.random.default_rng(99).normal(size=SHAPE)
    ages, labels = rng.uniform(55, 85, n), np.arange(n) % 2
    older = (ages - 70 + disease * labels) * ageing
    volumes = 0.5 + older[:, None, None, None] * pattern + 0.1 * rng.normal(size=(n, *SHAPE))
    return volumes.astype(np.float32), ages, labels.astype(float)


def reader(volumes):
    return lambda a, b: torch.from_numpy(volumes[a:b])[:, None]


def test_the_score_in_voxels_is_the_score_in_components():
    volumes, _, labels = people(30)
    images = ImageComponents.of(reader(volumes), 30)
    weights, intercept = logistic(images.scores, labels, 1.0)
    score = images.in_voxels(weights, intercept)
    np.testing.assert_allclose(
        score.of(reader(volumes), 30), images.scores @ weights + intercept, atol=1e-4
    )


def test_all_components_make_the_ridge_classifier_of_the_voxels():
    """The penalty is of the voxels' weights too, since the components are orthonormal."""
    volumes, _, labels = people(20)
    images = ImageComponents.of(reader(volumes), 20)
    found, chosen = fit_linear(images, labels)
    flat = volumes.reshape(20, -1).astype(float)
    centred = (flat - flat.mean(0)) / images.scale
    oracle = LogisticRegression(C=chosen, max_iter=10000).fit(centred, labels)
    np.testing.assert_allclose(
        found.of(reader(volumes), 20), oracle.decision_function(centred), atol=2e-3
    )


def test_soft_targets_weigh_both_classes():
    volumes, _, labels = people(40)
    scores = ImageComponents.of(reader(volumes), 40).scores
    hard, soft = logistic(scores, labels, 1.0), logistic(scores, 0.5 + 0 * labels, 1.0)
    assert np.abs(hard[0]).max() > 0.01
    np.testing.assert_allclose(soft[0], 0, atol=1e-6)


def test_the_penalty_is_the_one_with_least_loss_on_validation_people():
    volumes, _, labels = people(40)
    others, _, truth = people(60, seed=1)
    images = ImageComponents.of(reader(volumes), 40)

    def loss(score):
        return log_loss(score.of(reader(others), 60), truth)

    best, _ = fit_linear(images, labels, loss)
    by_folds, _ = fit_linear(images, labels)
    assert loss(best) <= loss(by_folds) + 1e-9


def test_brain_age_reads_age_and_tells_disease_by_the_gap():
    volumes, ages, labels = people(80)
    others, their_ages, truth = people(200, seed=1)
    images = ImageComponents.of(reader(volumes), 80)
    found = fit_brain_age(images, ages, labels, np.ones(80, dtype=bool))
    read = found.age.of(reader(others), 200)
    assert np.corrcoef(read, their_ages)[0, 1] > 0.9
    odds = found.log_odds(read, their_ages)
    assert auc(odds[truth == 1], odds[truth == 0]) > 0.8
    assert found.slope > 0


def test_shuffled_ages_take_it_away():
    volumes, ages, labels = people(80)
    others, their_ages, truth = people(200, seed=1)
    images = ImageComponents.of(reader(volumes), 80)
    shuffled = np.random.default_rng(2).permutation(ages)
    found = fit_brain_age(images, shuffled, labels, np.ones(80, dtype=bool))
    odds = found.log_odds(found.age.of(reader(others), 200), np.full(200, np.nan))
    assert np.std(found.age.of(reader(others), 200)) < 0.5 * their_ages.std()
    assert odds.shape == truth.shape


def test_brain_age_needs_ages():
    volumes, ages, labels = people(20)
    ages[4:] = np.nan
    images = ImageComponents.of(reader(volumes), 20)
    with pytest.raises(InputError, match="network brain-age: 4 training people with an age"):
        fit_brain_age(images, ages, labels, np.ones(20, dtype=bool))


def test_a_forecast_has_intervals_over_people_and_says_what_it_is():
    rng = np.random.default_rng(0)
    positive = np.arange(200) % 2 == 1
    good, none = rng.normal(size=200) + positive, rng.normal(size=200)
    found = forecast(good, none, positive)
    assert found.rule[1] < found.rule[0] < found.rule[2]
    assert found.rule[0] == pytest.approx(auc(good[positive], good[~positive]))
    assert found.difference[1] > 0
    same = forecast(good, good, positive)
    assert same.difference == (0.0, 0.0, 0.0)
    assert "cannot teach more than AUC" in found.line()
    assert found.n == (100, 100)
