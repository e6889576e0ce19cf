"""The study's ruler: on made-up people of known truth, every arm and null does what it says."""

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from neuroaug.errors import InputError
from neuroaug.proof.jobs import Plan, files_of, read_scores, run_job
from neuroaug.proof.people import People, block_means, make_task, read_people
from neuroaug.proof.strided_cnn import CnnSettings, Examples, train_cnn
from neuroaug.proof.study_arms import ARMS, CONTROLS, SYNTHETIC, shifted
from neuroaug.proof.study_bench import Bench, StudySettings
from neuroaug.proof.study_file import read_study
from neuroaug.proof.study_splits import draw
from neuroaug.statistics.scores import auc

SHAPE = (16, 14, 1)
DEMENTIA = make_task("dementia", column="diagnosis", positive=("AD",), years=4.0)
TINY = {"width": 2, "latent_dim": 3, "batch_size": 8, "max_epochs": 2, "validate_every": 2}
SETTINGS = StudySettings(
    cnn=CnnSettings(steps=40, batch_size=8, validate_every=20, learning_rates=(1e-3,), width=2),
    n_draws=12,
    n_components=6,
    recipe={"model": "vae", **TINY},
    network={"model": "vae", "start": "components", **TINY},
)


def made_up(n: int = 120, effect: float = 3.0, seed: int = 0) -> People:
    """Smooth images that age along one field; disease adds years, and a field of its own."""
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(np.linspace(-1, 1, SHAPE[0]), np.linspace(-1, 1, SHAPE[1]), indexing="ij")
    fields = [np.exp(-4 * (x**2 + y**2)), np.sin(3 * x), np.cos(3 * y), x * y, np.sin(2 * x * y)]
    sick = np.arange(n) % 2
    age = rng.uniform(60, 90, n)
    codes = np.stack(
        [
            (age - 75) / 10 + 0.4 * effect * sick / 3,
            *rng.standard_normal((3, n)),
            0.5 * rng.standard_normal(n) + 0.5 * effect * sick,
        ],
        axis=1,
    )
    images = 0.5 + 0.05 * np.einsum("nk,kxy->nxy", codes, np.stack(fields))
    images += 0.02 * rng.standard_normal(images.shape)
    table = pd.DataFrame(
        {
            "participant_id": [f"sub-{i:03d}" for i in range(n)],
            "diagnosis": np.where(sick == 1, "AD", "CN"),
            "age": age,
            "sex": np.where(rng.random(n) < 0.5, "F", "M"),
        }
    )
    return People(
        "made-up",
        np.clip(images, 0, 1)[..., None].astype(np.float32),
        tuple(table["participant_id"]),
        table,
    )


def bench(n=10, effect=3.0, null="none", tmp="/nowhere", seed=0):
    from pathlib import Path

    drawn = draw(made_up(effect=effect, seed=seed), DEMENTIA, seed, 15, 8)
    return Bench(drawn, DEMENTIA, n, SETTINGS, Path(tmp), null)


def area(of: Bench, scores: np.ndarray, name: str = "test") -> float:
    truth = of.draw.labels[getattr(of.draw, name)] > 0.5
    return auc(scores[truth], scores[~truth])


def test_a_split_is_nested_disjoint_and_its_own():
    people = made_up()
    one, two = (draw(people, DEMENTIA, k, 15, 8) for k in (0, 1))
    for some in (one, two):
        sets = [some.test, some.validation, some.everyone]
        assert sum(map(len, sets)) == len(set(np.concatenate(sets))) == 120
        assert set(some.train(5)) < set(some.train(20)) <= set(some.everyone)
        assert np.bincount(some.labels[some.test].astype(int)).tolist() == [15, 15]
    assert set(one.test) != set(two.test)
    again = draw(people, DEMENTIA, 0, 15, 8)
    np.testing.assert_array_equal(again.test, one.test)
    with pytest.raises(InputError, match="n = 60: only 37 people"):
        one.train(60)


def test_people_of_the_middle_ages_are_in_neither_class_but_in_the_anatomy():
    drawn = draw(made_up(), make_task("age", covariates=()), 0, 10, 5)
    middle = np.flatnonzero(np.isnan(drawn.labels))
    assert len(middle) == pytest.approx(40, abs=2)
    assert set(middle) <= set(drawn.everyone)
    assert not set(middle) & set(drawn.test)


@pytest.mark.parametrize("arm", sorted(ARMS))
def test_every_arm_scores_everyone_and_reads_a_large_effect(arm, tmp_path):
    of = bench(n=16, effect=6.0, tmp=tmp_path)
    scores = ARMS[arm](of)
    assert set(scores) == {"validation", "test"}
    assert len(scores["test"]) == 30
    assert np.isfinite(scores["test"]).all()
    least = 0.5 if "recipe" in arm or "network" in arm else 0.7  # two epochs teach them nothing
    least = 0.55 if arm == "brain-age" else least  # eight years, read off noisy images
    assert area(of, scores["test"]) > least


def test_every_arm_is_a_control_a_synthetic_one_or_a_known_other():
    others = {"oracle", "soft-unlabelled"} | {name for name in ARMS if name.startswith("bayes")}
    assert set(CONTROLS) | set(SYNTHETIC) | others == set(ARMS)
    assert not set(CONTROLS) & set(SYNTHETIC)


def test_no_arm_looks_at_the_tested_or_at_validation_images_to_learn(tmp_path):
    """With test images replaced by others, all that is learned is the same."""
    of, other = bench(tmp=tmp_path / "a"), bench(tmp=tmp_path / "b")
    other.draw.people.images[other.draw.test] = 0.123
    for arm in ("real", "linear", "brain-age", "bayes-rule", "law-soft", "network-soft", "recipe"):
        one, two = ARMS[arm](of), ARMS[arm](other)
        np.testing.assert_allclose(one["validation"], two["validation"], err_msg=arm)


def test_labels_of_people_who_are_not_among_the_n_teach_nothing():
    of, other = bench(), bench()
    hidden = np.setdiff1d(other.draw.everyone, other.train)
    other.draw.labels[hidden] = 1 - other.draw.labels[hidden]
    for arm in ("bayes-rule", "law-soft", "soft-unlabelled", "brain-age", "pretrained-age"):
        one, two = ARMS[arm](of), ARMS[arm](other)
        np.testing.assert_allclose(one["test"], two["test"], err_msg=arm)


def test_shuffled_labels_are_read_at_chance_and_shuffled_ages_take_the_prior_away():
    arms = ("linear", "bayes-rule-no-prior")
    found = {arm: [] for arm in arms}
    for seed in range(12):
        of = bench(n=16, effect=1.0, null="labels", seed=seed)
        for arm in arms:
            found[arm].append(area(of, ARMS[arm](of)["test"]))
    for arm in arms:
        assert np.mean(found[arm]) == pytest.approx(0.5, abs=0.12)
    true, shuffled = [], []
    for seed in range(8):
        for null, kept in (("none", true), ("ages", shuffled)):
            of = bench(n=5, effect=1.5, null=null, seed=seed)
            kept.append(area(of, ARMS["bayes-rule"](of)["test"]))
    assert np.mean(true) > np.mean(shuffled)


def test_draws_do_not_tell_the_label_by_age_and_their_texture_is_sharp():
    of = bench()
    images, soft, hard = of.prior_law.draws(40, seed=1)
    assert ((soft > 0) & (soft < 1)).all()
    assert float(soft[hard == 1].mean()) > float(soft[hard == 0].mean())
    plain, *_ = of.prior_law.draws(40, seed=1, texture=False)

    def sharpness(x):
        return float((x[:, :, 1:] - x[:, :, :-1]).var())

    real = of.images(of.draw.everyone)
    assert sharpness(images) > 0.5 * sharpness(real)
    assert sharpness(images) > sharpness(plain)


def test_augmentation_of_no_strength_is_none_and_moves_with_strength():
    images = bench().images(np.arange(4))
    generator = torch.Generator().manual_seed(0)
    torch.testing.assert_close(shifted(0.0)(images, generator), images, atol=1e-5, rtol=0)
    moved = [
        float((shifted(s)(images, torch.Generator().manual_seed(0)) - images).abs().mean())
        for s in (0.25, 1.0)
    ]
    assert 0 < moved[0] < moved[1]


def test_a_cnn_repeats_exactly_and_soft_halves_teach_nothing():
    of = bench(n=16, effect=6.0)
    one, two = (of.cnn(of.real) for _ in range(2))
    np.testing.assert_array_equal(
        one.log_odds(of.validation.images), two.log_odds(of.validation.images)
    )
    unsure = Examples(of.real.images, torch.full((len(of.real),), 0.5))
    blind = train_cnn(unsure, of.validation, SETTINGS.cnn, 0)
    assert (
        np.abs(blind.log_odds(of.validation.images)).mean()
        < np.abs(one.log_odds(of.validation.images)).mean()
    )


def write_data(folder):
    """The made-up people in the files of the axial slices, twice as large."""
    people = made_up()
    large = np.repeat(np.repeat(people.images[..., 0], 2, 1), 2, 2)
    folder.mkdir()
    np.savez(folder / "oasis1-slices.npz", axial=np.rint(large * 255).astype(np.uint8))
    people.table.to_csv(folder / "oasis1-slices.tsv", sep="\t", index=False)
    return folder


def test_a_job_goes_on_where_it_stopped_and_its_scores_read_back(tmp_path, monkeypatch):
    data = write_data(tmp_path / "data")
    plan = Plan("axial", DEMENTIA, (5, 10), ("real", "linear"), ("oracle",), (5,), 15, 8, 2)
    places = (data, tmp_path / "folder", tmp_path / "runs")
    path = run_job(plan, 0, SETTINGS, *places)
    whole = path.read_bytes()
    assert files_of(plan, tmp_path / "runs") == [path]
    monkeypatch.setitem(ARMS, "linear", lambda bench: pytest.fail("made again"))
    run_job(plan, 0, SETTINGS, *places)
    assert path.read_bytes() == whole
    scores = read_scores([path])
    assert {(s.arm, s.n) for s in scores} == {
        ("real", 5),
        ("real", 10),
        ("linear", 5),
        ("linear", 10),
        ("oracle", 5),
    }
    assert all(len(s.participants) == 30 and s.positive.sum() == 15 for s in scores)
    assert {s.participants for s in read_scores([path], "validation")} != {
        s.participants for s in scores
    }


def test_images_are_made_smaller_by_block_means(tmp_path):
    stored = np.random.default_rng(0).integers(0, 255, (2, 5, 4, 3)).astype(np.uint8)
    small = block_means(stored, (2, 2, 1))
    assert small.shape == (2, 2, 2, 3)
    assert small[1, 1, 0, 2] == pytest.approx(stored[1, 2:4, 0:2, 2].mean() / 255)
    with pytest.raises(InputError, match=r"oasis1-slices\.npz: no such file"):
        read_people("axial", tmp_path)
    people = read_people("axial", write_data(tmp_path / "data"))
    assert people.images.shape == (120, *SHAPE)


def test_a_study_file_with_an_unknown_arm_is_refused(tmp_path):
    path = tmp_path / "study.yaml"
    tasks = {"dementia": {"column": "diagnosis", "positive": ["AD"], "years": 4}}
    plan = {"dataset": "axial", "task": "dementia", "ns": [5], "arms": ["reel"], "minor_arms": []}
    plan |= {"minor_ns": [], "n_test": 5, "n_validation": 5, "splits": 1}
    path.write_text(yaml.safe_dump({"settings": {}, "tasks": tasks, "plans": [plan]}))
    with pytest.raises(InputError, match="arm 'reel'"):
        read_study(path)
    plan["arms"] = ["real"]
    content = {"settings": {"cnn": {"steps": 7}}, "tasks": tasks, "plans": [plan]}
    path.write_text(yaml.safe_dump(content))
    plans, settings = read_study(path)
    assert (plans[0].name, settings.cnn.steps) == ("axial_dementia", 7)
