import json
import shutil

import pytest
import torch

from neuroaug.errors import InputError
from neuroaug.models import RHVAE, VAE, load_model
from neuroaug.models.storage import CONFIG, METRIC, WEIGHTS, require_same_tensors
from neuroaug.system.files import sha256_file
from neuroaug.system.tensors import load_tensors


@pytest.fixture(params=[RHVAE, VAE])
def model(request, images):
    torch.manual_seed(0)
    model = request.param(
        request.param.Settings(latent_dim=3, width=4), (9, 13, 11), label="AD", grid="4mm"
    )
    model.update_metric([images])
    model.sampler_settings = {"step_size": 0.1}
    return model


@pytest.fixture
def folder(model, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "history.csv").write_text("epoch,elbo\n1,-2.0\n")
    model.save(tmp_path / "model")
    return tmp_path / "model"


def test_a_moved_model_gives_the_same_draws(model, folder, tmp_path):
    moved = shutil.move(folder, tmp_path / "elsewhere")
    loaded = load_model(moved)
    assert type(loaded) is type(model)
    assert (loaded.label, loaded.grid, loaded.shape, loaded.config) == (
        "AD",
        "4mm",
        (9, 13, 11),
        model.config,
    )
    assert loaded.sampler_settings == {"step_size": 0.1}
    assert not loaded.training
    assert torch.equal(loaded.sample(3, sampler="prior"), model.sample(3, sampler="prior"))


def test_the_metric_comes_back_bit_for_bit(model, folder):
    loaded = type(model).load(folder)
    z = torch.randn(5, 3)
    assert torch.equal(loaded.metric.log_density(z), model.metric.log_density(z))
    assert loaded.radius == model.radius


def test_saving_twice_gives_the_same_bytes(model, folder):
    before = {path.name: sha256_file(path) for path in folder.iterdir()}
    model.save(folder)
    assert {path.name: sha256_file(path) for path in folder.iterdir()} == before


def test_the_record_of_training_is_kept_and_checksummed(folder):
    checksums = json.loads((folder / CONFIG).read_text())["checksums"]
    assert checksums["history.csv"] == sha256_file(folder / "history.csv")
    assert set(checksums) == {"history.csv", WEIGHTS, METRIC, "environment.json"}


@pytest.mark.parametrize("name", [WEIGHTS, METRIC, "history.csv"])
def test_a_changed_file_is_named(folder, name):
    content = bytearray((folder / name).read_bytes())
    content[-3] ^= 1
    (folder / name).write_bytes(bytes(content))
    with pytest.raises(InputError, match=rf"{name}: changed since the model was written"):
        load_model(folder)


def test_a_truncated_or_missing_file_is_named(folder):
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:100])
    with pytest.raises(InputError, match=f"{WEIGHTS}: changed"):
        load_model(folder)
    (folder / WEIGHTS).unlink()
    with pytest.raises(InputError, match=f"{WEIGHTS}: no such file"):
        load_model(folder)


def test_a_folder_without_config_is_not_a_model(folder):
    (folder / CONFIG).unlink()
    with pytest.raises(InputError, match="not a finished model"):
        load_model(folder)
    with pytest.raises(InputError, match="no such folder"):
        load_model(folder / "nowhere")


def rewrite(folder, **changes):
    content = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(content | changes))


def test_a_model_of_another_version_is_refused(folder):
    rewrite(folder, format=99)
    with pytest.raises(InputError, match="format 99"):
        load_model(folder)


def test_unknown_settings_are_refused(folder):
    content = json.loads((folder / CONFIG).read_text())
    rewrite(folder, config=content["config"] | {"colour": "blue"})
    with pytest.raises(InputError, match=r"config\.colour"):
        load_model(folder)


def test_strict_loading_names_the_missing_tensor(model, tmp_path):
    weights = dict(model.state_dict())
    name = sorted(weights)[0]
    del weights[name]
    with pytest.raises(InputError, match=f"no tensor '{name}'"):
        require_same_tensors(weights, model.state_dict(), tmp_path / WEIGHTS)


def test_a_file_that_is_not_safetensors_is_refused(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"\x80\x04 pickled")
    with pytest.raises(InputError, match="not readable as safetensors"):
        load_tensors(tmp_path / "a.safetensors", "copy it again")


def test_one_kind_does_not_load_as_the_other(model, folder):
    other = VAE if isinstance(model, RHVAE) else RHVAE
    with pytest.raises(InputError, match=f"holds a {model.name}, not a {other.name}"):
        other.load(folder)


def test_a_killed_save_leaves_no_finished_model(model, folder, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("neuroaug.models.storage.write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        model.save(folder)
    with pytest.raises(InputError, match="not a finished model"):
        load_model(folder)
