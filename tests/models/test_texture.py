"""Texture: drawn fields have the residuals' covariance, are nobody's, and bring sharpness back."""

import nibabel as nib
import numpy as np
import pytest
import torch

from neuroaug.imaging import caps
from neuroaug.models import load_model
from neuroaug.models.texture import Texture, fit_texture

SHAPE = (6, 5, 4)


def residuals(n: int = 9) -> torch.Tensor:
    return torch.randn(n, 1, *SHAPE, generator=torch.Generator().manual_seed(3))


def fitted(n_fields: int, rests: torch.Tensor) -> Texture:
    base = torch.full_like(rests, 0.5)

    def reconstruct(x: torch.Tensor) -> torch.Tensor:
        return base[: len(x)]

    return fit_texture(lambda a, b: base[a:b] + rests[a:b], reconstruct, len(rests), n_fields, 0)


def test_over_many_mixtures_and_draws_the_covariance_is_that_of_the_residuals():
    rests = residuals()
    fields = fitted(4000, rests).fields.float().flatten(1)
    ours = fields.T @ fields / len(fields)
    flat = rests.flatten(1)
    theirs = flat.T @ flat / len(flat)
    error = (ours - theirs).norm() / theirs.norm()
    assert float(error) < 0.12


def test_drawn_fields_have_the_variance_of_the_mixtures():
    texture = fitted(6, residuals())
    drawn = texture.draw(range(1, 3001), seed=0, label="AD")
    expected = texture.fields.float().square().mean(0)
    torch.testing.assert_close(drawn.square().mean(0), expected, rtol=0.2, atol=0.02)
    assert drawn.mean(0).abs().max() < 0.1


def test_field_i_is_a_function_of_seed_label_and_i_alone():
    texture = fitted(5, residuals())
    together = texture.draw([1, 2, 3], seed=4, label="AD")
    assert torch.equal(texture.draw([3], seed=4, label="AD")[0], together[2])
    for other in (texture.draw([3], 5, "AD"), texture.draw([3], 4, "CN"), together[1:2]):
        assert not torch.equal(other[0], together[2])


def test_no_mixture_is_one_persons_residual():
    rests = residuals(12)
    fields = fitted(64, rests).fields.float().flatten(1)
    one = torch.nn.functional.normalize(fields, dim=1)
    other = torch.nn.functional.normalize(rests.flatten(1), dim=1)
    assert float((one @ other.T).abs().max()) < 0.95


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    from test_own_labels import CONFIG, people, write_study
    from typer.testing import CliRunner

    from neuroaug.cli import app

    root = tmp_path_factory.mktemp("texture")
    generator = {"model": "linear", "latent_dim": 2, "texture": 8}
    write_study(root, people("control", "depr", n=12), {**CONFIG, "generator": generator})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for words in (("split",), ("augment", "--label", "MDD", "--n", "4")):
            result = CliRunner().invoke(app, list(words))
            assert result.exit_code == 0, result.output
    return root


def test_synthetic_images_are_the_decoded_ones_plus_a_field_and_as_sharp_as_real_ones(study):
    model = load_model(study / "models" / "train" / "MDD")
    assert model.texture.fields.shape == (8, *model.shape)
    made = study / "synthetic" / "train" / "MDD"
    images = []
    for i in range(1, 5):
        visit = caps.Visit(f"sub-synMDD{i:05d}", "ses-M000")
        path = caps.t1_linear_image(made, visit, "4mm")
        images.append(np.asarray(nib.load(path).dataobj, dtype=np.float32))
    z, _ = model.sample_latents(4, seed=0)
    plain = model.decode(z)[:, 0].numpy()
    fields = model.texture.draw(range(1, 5), seed=0, label="MDD").numpy()
    np.testing.assert_allclose(np.stack(images), np.clip(plain + fields, 0, 1), atol=1e-5)

    def sharpness(x):
        return float(np.mean([np.diff(x, axis=axis).var() for axis in range(3)]))

    # The study's images are noise around a box: what two components leave is nearly all of them.
    real = study / "caps" / "subjects" / "sub-01" / "ses-M000" / "t1_linear"
    reference = np.asarray(nib.load(next(real.glob("*4x4x4*"))).dataobj, dtype=np.float32)
    reference = (reference - reference.min()) / np.ptp(reference)
    assert sharpness(images[0]) > 0.5 * sharpness(reference)
    assert sharpness(plain[0]) < sharpness(images[0])


def test_a_model_without_texture_has_no_file_of_it(tmp_path):
    from neuroaug.config import GeneratorConfig
    from neuroaug.models import VAE

    model = VAE(GeneratorConfig(width=1, latent_dim=2), (8, 8, 8), "AD").eval()
    model.update_metric([torch.rand(3, 1, 8, 8, 8)])
    model.save(tmp_path)
    assert not (tmp_path / "texture.safetensors").exists()
    assert load_model(tmp_path).texture is None
