"""The law of anatomy against scikit-learn, closed forms and people of a known law."""

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LinearRegression

from neuroaug.config import LawConfig
from neuroaug.errors import InputError
from neuroaug.law.anatomy_law import estimate_effects, make_law, no_prior
from neuroaug.law.covariates import CovariateLaw, covariate_values
from neuroaug.law.label_law import fit_law
from neuroaug.law.law_tensors import law_from_store, law_to_store

D = 4
AGEING = np.array([0.3, -0.1, 0.0, 0.05])


def cohort(n=400, years=5.0, seed=0, unlabelled=0):
    """People whose patients look `years` older, and are; some people without a label."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(["HC", "MDD"], [n // 2, n - n // 2])
    ages = rng.normal(70, 8, n) + 3 * (labels == "MDD")
    if unlabelled:
        labels = np.concatenate([labels, ["unlabelled"] * unlabelled])
        ages = np.concatenate([ages, rng.normal(60, 10, unlabelled)])
    older = ages + years * (labels == "MDD")
    codes = np.outer(older, AGEING) + rng.normal(size=(len(ages), D)) * [1, 2, 0.5, 1]
    return codes, ages[:, None], list(labels)


def test_the_rule_is_linear_discriminant_analysis_where_there_is_nothing_else():
    codes, _, labels = cohort(60)
    config = LawConfig(covariates=(), ridge=0.0, strength=0.0)
    law = fit_law(codes, np.empty((60, 0)), labels, ("HC", "MDD"), config).of("MDD")
    oracle = LinearDiscriminantAnalysis(solver="svd", priors=[0.5, 0.5]).fit(codes, labels)
    # Its covariance is divided by n, ours by the degrees of freedom n - 2.
    expected = oracle.decision_function(codes) * 58 / 60
    np.testing.assert_allclose(law.scores(codes, "MDD", "HC"), expected, rtol=1e-6)
    np.testing.assert_allclose(law.probabilities(codes)[:, 1], 1 / (1 + np.exp(-expected)))


def test_effects_are_those_of_least_squares_with_a_level_for_every_group():
    codes, ages, labels = cohort(50, unlabelled=30)
    groups = np.array([{"HC": 0, "MDD": 1}.get(label, -1) for label in labels])
    found = estimate_effects(codes, ages, groups, 2)
    design = np.concatenate([ages, groups[:, None] == np.array([[0, 1]])], axis=1).astype(float)
    oracle = LinearRegression().fit(design, codes)
    np.testing.assert_allclose(found.effects[:, 0], oracle.coef_[:, 0], atol=1e-10)
    np.testing.assert_allclose(
        found.shifts[1] - found.shifts[0], oracle.coef_[:, 2] - oracle.coef_[:, 1], atol=1e-9
    )
    np.testing.assert_allclose(found.rests, codes - oracle.predict(design), atol=1e-9)
    assert list(found.counts) == [25, 25]


def test_the_unlabelled_teach_ageing_and_spread_but_not_the_labels_difference():
    codes, ages, labels = cohort(200, unlabelled=2000)
    groups = np.array([{"HC": 0, "MDD": 1}.get(label, -1) for label in labels])
    found = estimate_effects(codes, ages, groups, 2)
    np.testing.assert_allclose(found.effects[:, 0], AGEING, atol=0.02)
    moved = codes.copy()
    moved[groups == -1] += 100.0  # wherever their group lies
    again = estimate_effects(moved, ages, groups, 2)
    np.testing.assert_allclose(again.shifts, found.shifts, atol=1e-6)


def test_the_prior_counts_as_so_many_people_of_each_label():
    codes, ages, labels = cohort(20)
    groups = np.array([{"HC": 0, "MDD": 1}[label] for label in labels])
    raw = estimate_effects(codes, ages, groups, 2)
    config = LawConfig(prior="age", years={"MDD": 4}, strength=30)
    law = fit_law(codes, ages, labels, ("HC", "MDD"), config).settings[0]
    difference = raw.shifts[1] - raw.shifts[0]
    expected = (10 * difference + 30 * 4 * raw.effects[:, 0]) / 40
    np.testing.assert_allclose(law.shifts[1] - law.shifts[0], expected, rtol=1e-10)
    np.testing.assert_allclose(law.shifts.sum(0), 0, atol=1e-12)


def test_drawn_people_follow_the_law_whatever_their_label():
    """Means, covariance and the rule: a known length measured with the product's own ruler."""
    codes, ages, labels = cohort(4000)
    config = LawConfig(ridge=0.0, strength=0.0)
    fitted = fit_law(codes, ages, labels, ("HC", "MDD"), config)
    law = fitted.of("MDD")
    rng = np.random.default_rng(1)
    drawn = law.drawn_from
    rests = rng.multivariate_normal(np.zeros(D), drawn.spread, 4000)
    placed = law.place(rests, range(1, 4001), seed=0)
    other = fitted.of("HC").place(rests, range(1, 4001), seed=0)
    assert abs(placed.covariates.mean() - other.covariates.mean()) < 0.6  # 3 years apart in life
    np.testing.assert_allclose(placed.codes.mean(0) - other.codes.mean(0), 5 * AGEING, atol=0.15)
    calibrated = law.probabilities(np.concatenate([placed.codes, other.codes]))[:, 1]
    truth = np.repeat([1.0, 0.0], 4000)
    for low in (0.2, 0.4, 0.6):
        bin_ = (calibrated >= low) & (calibrated < low + 0.2)
        assert truth[bin_].mean() == pytest.approx(calibrated[bin_].mean(), abs=0.04)


def test_a_person_is_a_function_of_its_number_alone():
    codes, ages, labels = cohort(40)
    law = fit_law(codes, ages, labels, ("HC", "MDD"), LawConfig()).of("MDD")
    rests = np.random.default_rng(0).normal(size=(6, D))
    whole = law.place(rests, range(1, 7), seed=3)
    part = law.place(rests[4:], [5, 6], seed=3)
    np.testing.assert_array_equal(whole.codes[4:], part.codes)
    aged = law.place(rests, range(1, 7), seed=3, ranges={"age": (70.0, 72.0)})
    assert ((aged.covariates >= 70) & (aged.covariates <= 72)).all()


def test_several_settings_are_averaged_and_stored_exactly():
    codes, ages, labels = cohort(40)
    config = LawConfig(prior="age", years={"MDD": 4}, strength=(0, 30), ridge=(0.1, 1, 3))
    fitted = fit_law(codes, ages, labels, ("HC", "MDD"), config)
    assert len(fitted.settings) == 6
    law = fitted.of("HC")
    np.testing.assert_allclose(
        law.logits(codes), np.mean([one.logits(codes) for one in law.settings], axis=0)
    )
    again = law_from_store(*law_to_store(law))
    np.testing.assert_array_equal(again.logits(codes), law.logits(codes))
    rests = np.zeros((3, D))
    np.testing.assert_array_equal(
        again.place(rests, [1, 2, 3], 0).codes, law.place(rests, [1, 2, 3], 0).codes
    )


def test_a_constant_covariate_and_a_label_without_people_are_refused():
    codes, ages, labels = cohort(20)
    with pytest.raises(InputError, match="age is 70 for everyone; take it out"):
        fit_law(codes, np.full_like(ages, 70), labels, ("HC", "MDD"), LawConfig())
    with pytest.raises(InputError, match="nobody of label SCZ"):
        fit_law(codes, ages, labels, ("HC", "SCZ"), LawConfig())


def test_covariates_are_read_from_the_split_and_drawn_as_whole_people():
    import pandas as pd

    table = pd.DataFrame({"age": [70.0, float("nan")], "sex": ["M", "F"]})
    np.testing.assert_array_equal(covariate_values(table, ("age", "sex")), [[70, 1], [np.nan, 0]])
    people = np.array([[60, 0], [80, 1.0]])
    drawn = CovariateLaw(("age", "sex"), people).draw(50, np.random.default_rng(0))
    assert {tuple(row) for row in drawn} == {(60, 0), (80, 1)}


def test_no_prior_leaves_the_raw_difference():
    codes, ages, labels = cohort(30)
    groups = np.array([{"HC": 0, "MDD": 1}[label] for label in labels])
    effects = estimate_effects(codes, ages, groups, 2)
    law = make_law(effects, no_prior(effects), 1.0)
    np.testing.assert_allclose(law.shifts, effects.shifts)
