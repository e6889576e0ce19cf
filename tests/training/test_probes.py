"""Probes of codes on people left out, against scikit-learn, and beside components of as many."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.metrics import r2_score

from neuroaug.config import GeneratorConfig
from neuroaug.models import VAE
from neuroaug.models.linear import LinearModel
from neuroaug.training.held_out.code_probes import ProbedPeople, age_r2, probe
from neuroaug.training.held_out.probe_record import ProbedCodes, Probes, read_probes, write_probes
from neuroaug.training.stored_images import training_start

SHAPE = (8, 9, 8)
D = 3


def brains(n, seed):
    """Images that age along one direction and vary along two others."""
    rng = np.random.default_rng(seed)
    directions = np.linalg.qr(np.random.default_rng(9).standard_normal((int(np.prod(SHAPE)), D)))[0]
    age = rng.uniform(50, 90, n)
    codes = np.stack([(age - 70) / 12, *rng.standard_normal((2, n))], axis=1)
    x = 0.5 + 0.5 * codes @ directions.T + 0.01 * rng.standard_normal((n, directions.shape[0]))
    return np.clip(x, 0, 1).reshape(n, *SHAPE).astype(np.float32), age


def people(x, age):
    return ProbedPeople(
        lambda a, b: torch.from_numpy(x[a:b])[:, None], age, ["AD"] * len(x), np.empty((len(x), 0))
    )


@pytest.fixture
def sets():
    return brains(40, 0), brains(16, 1)


def linear(x):
    model = LinearModel(GeneratorConfig(model="linear", latent_dim=D), SHAPE, "AD")
    model.start_from(training_start(x, np.arange(len(x))))
    return model.eval()


def test_components_are_scikit_learns_and_a_linear_model_is_level_with_them(sets):
    (x, age), (new, new_age) = sets
    found = probe(linear(x), people(x, age), people(new, new_age), None, None, torch.device("cpu"))
    pca = PCA(D, svd_solver="full").fit(x.reshape(len(x), -1).astype(np.float64))
    back = pca.inverse_transform(pca.transform(new.reshape(len(new), -1)))
    rmse = np.sqrt(np.mean((back - new.reshape(len(new), -1)) ** 2))
    assert found.components.rmse == pytest.approx(rmse, rel=1e-4)
    assert found.codes.rmse == pytest.approx(rmse, rel=1e-2)
    assert found.codes.age_r2 == pytest.approx(found.components.age_r2, abs=0.02)
    assert found.codes.age_r2 > 0.9
    assert math.isnan(found.codes.rule_auc)
    assert not found.worse


def test_codes_that_lost_the_person_are_worse_than_components(sets):
    (x, age), (new, new_age) = sets
    torch.manual_seed(0)
    blank = VAE(GeneratorConfig(width=1, latent_dim=D), SHAPE, "AD").eval()
    found = probe(blank, people(x, age), people(new, new_age), None, None, torch.device("cpu"))
    assert found.worse
    assert found.codes.rmse > found.components.rmse


def test_age_is_read_as_scikit_learn_scores_it():
    rng = np.random.default_rng(0)
    codes, new = rng.standard_normal((200, 4)), rng.standard_normal((100, 4))
    age = 70 + codes @ [3, 0, 1, 0] + rng.standard_normal(200)
    truth = 70 + new @ [3, 0, 1, 0] + rng.standard_normal(100)
    expected = r2_score(truth, 70 + new @ [3, 0, 1, 0])
    assert age_r2(codes, age, new, truth) == pytest.approx(expected, abs=0.05)
    assert math.isnan(age_r2(codes, np.full(200, np.nan), new, truth))
    assert math.isnan(age_r2(codes, age, new[:3], truth[:3]))


def test_probes_read_back_and_belong_to_one_model(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    found = ProbedCodes(Probes(0.1, float("nan"), 0.6), Probes(0.05, 0.2, 0.7), 10, 12)
    write_probes(tmp_path, found)
    back = read_probes(tmp_path)
    assert back.components == found.components
    assert math.isnan(back.codes.age_r2)
    assert back.line() == (
        "codes on 12 validation people (10 principal components in brackets): reconstruction error "
        "0.1000 (0.0500), AUC of the law's rule 0.600 (0.700)"
    )
    (tmp_path / "config.json").write_text('{"another": 1}')
    assert read_probes(tmp_path) is None


def test_people_of_a_table_have_the_laws_covariates():
    from neuroaug.config import LawConfig

    table = pd.DataFrame({"age": [60.0, np.nan], "sex": ["F", "M"], "diagnosis": ["HC", "MDD"]})

    class Cache:
        images = np.zeros((2, *SHAPE), dtype=np.float32)

    found = ProbedPeople.of(Cache(), table, LawConfig(covariates=("age", "sex")))
    np.testing.assert_array_equal(found.covariates, [[60, 0], [np.nan, 1]])
    assert found.diagnoses == ["HC", "MDD"]
    assert found.read(0, 2).shape == (2, 1, *SHAPE)
