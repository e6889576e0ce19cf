"""The number of latents: where people left out are most probable, as scikit-learn's PCA says."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from test_cross_validation import record
from test_training import run, weights_of

from neuroaug.config import GeneratorConfig
from neuroaug.errors import InputError
from neuroaug.system.files import read_tsv
from neuroaug.training.folds.latent_choice import choose_latents

SHAPE = (6, 7, 8)


def images(n: int, n_latents: int, noise: float, seed: int = 0) -> np.ndarray:
    """Images of a linear anatomy with so many latents, and noise."""
    rng = np.random.default_rng(seed)
    directions = np.linalg.qr(rng.standard_normal((int(np.prod(SHAPE)), n_latents)))[0].T
    codes = rng.standard_normal((n, n_latents)) * 1.5
    x = 0.5 + codes @ directions + noise * rng.standard_normal((n, int(np.prod(SHAPE))))
    return x.reshape(n, *SHAPE).astype(np.float32)


@pytest.mark.parametrize("n_latents", [1, 3, 6])
def test_a_planted_number_of_latents_is_found(n_latents):
    x = images(60, n_latents, noise=0.05)
    assert choose_latents(x, np.arange(60) % 3).chosen == n_latents


def test_densities_are_scikit_learns_on_people_left_out():
    x = images(24, 3, noise=0.1)
    fold = np.arange(24) % 3
    found = choose_latents(x, fold)
    flat = x.reshape(24, -1).astype(np.float64)
    for k, d in enumerate(found.latent_dims[:5]):
        scores, errors = [], []
        for f in range(3):
            n = int((fold != f).sum())
            pca = PCA(n_components=int(d), svd_solver="full").fit(flat[fold != f])
            # scikit-learn divides by n - 1, and leaves the zero variances of n < V out of its
            # noise; the maximum of likelihood divides by n and counts every direction.
            pca.explained_variance_ = pca.explained_variance_ * (n - 1) / n
            whole = flat[fold != f].var(0).sum()
            pca.noise_variance_ = (whole - pca.explained_variance_.sum()) / (flat.shape[1] - d)
            scores += pca.score_samples(flat[fold == f]).tolist()
            back = pca.inverse_transform(pca.transform(flat[fold == f]))
            errors += ((back - flat[fold == f]) ** 2).mean(1).tolist()
        assert found.log_density[k] == pytest.approx(np.mean(scores), rel=1e-4)
        assert found.rmse[k] == pytest.approx(np.sqrt(np.mean(errors)), rel=1e-4)


def test_a_generator_with_auto_has_the_number_that_its_people_choose(tmp_path):
    config = GeneratorConfig(model="linear", latent_dim="auto")
    x = np.clip(images(18, 2, noise=0.02) * 0.2 + 0.4, 0, 1)
    from test_training import people

    lineage = people(18)
    model = run(tmp_path / "m", x, config=config, lineage=lineage)
    table = read_tsv(tmp_path / "m" / "latents.tsv", ("latent_dim", "held_out_log_density"))
    best = table["held_out_log_density"].astype(float).idxmax()
    assert model.latent_dim == int(table["latent_dim"][best]) == 2
    again = run(tmp_path / "m", x, config=config, lineage=lineage)  # it is done
    assert again.latent_dim == 2
    assert record(tmp_path / "m") == again.training_record
    assert weights_of(tmp_path / "m")


def test_too_few_people_for_the_folds_are_refused(tmp_path):
    config = GeneratorConfig(latent_dim="auto", folds=10)
    with pytest.raises(InputError, match="9 training participants for 10 folds"):
        run(tmp_path / "m", config=config)
