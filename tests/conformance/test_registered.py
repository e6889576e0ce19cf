"""Whatever is registered keeps what the product promises: one test over all names.

A new file in a registry is tested by being there; nothing is to be added here.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from neuroaug.config import GeneratorConfig
from neuroaug.errors import InputError
from neuroaug.models import load_model
from neuroaug.models.flow import Noise
from neuroaug.models.networks.registry import build_networks
from neuroaug.registries import FAMILIES, NETWORKS, SAMPLERS
from neuroaug.samplers import latents
from neuroaug.training.batches import BatchReader
from neuroaug.training.train import train

SHAPE, N = (8, 9, 10), 15
CONVOLUTIONAL = "conv3d"


def blobs() -> np.ndarray:
    """Images (N, X, Y, Z) in [0, 1] that differ by the place and size of a blob."""
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    rng = np.random.default_rng(0)
    centres, widths = rng.uniform(-0.4, 0.4, (N, 3)), rng.uniform(0.3, 0.6, N)
    return np.stack(
        [
            np.exp(-sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True)) / width)
            for centre, width in zip(centres, widths, strict=True)
        ]
    ).astype(np.float32)


def lineage() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "participant_id": [f"sub-{i:02d}" for i in range(N)],
            "session_id": "ses-M000",
            "diagnosis": "AD",
            "image_sha256": [f"{i:064d}" for i in range(N)],
            "split": "train",
            "split_hash": "0" * 64,
        }
    )


def fit(out: Path, family: str, network: str = CONVOLUTIONAL, epochs: int = 3, **options: object):
    """Train a tiny model of a family."""
    return train(
        blobs(),
        config=GeneratorConfig(
            model=family, network=network, width=1, latent_dim=2, batch_size=5, max_epochs=epochs
        ),
        label="AD",
        out=out,
        lineage=lineage(),
        split_hash="0" * 64,
        grid="4mm",
        device="cpu",
        checkpoint_seconds=0.0,
        tune=False,
        say=lambda _: None,
        **options,
    )


def quick(model):
    """The same model with chains of a few steps."""
    model.sampler_settings = {
        "hmc": {"n_steps": 5, "n_leapfrog": 2, "step_size": 0.05},
        "geometric": {"n_steps": 5, "n_leapfrog": 2, "step_size": 0.05},
        "random-walk": {"n_steps": 3, "scale": 0.1, "n_geodesic_steps": 4},
    }
    return model


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A trained folder of every family, made when it is first asked for."""
    root, made = tmp_path_factory.mktemp("families"), {}

    def folder(family: str) -> Path:
        if family not in made:
            fit(root / family, family)
            made[family] = root / family
        return made[family]

    return folder


# -- families -------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES.names)
def test_a_model_folder_is_the_model_and_holds_no_pickle(folders, family):
    folder = folders(family)
    model, again = load_model(folder), load_model(folder)
    assert model.name == family
    assert type(model.config) is FAMILIES.get(family).Settings
    x = torch.from_numpy(blobs()[:3])[:, None]
    assert torch.equal(model.reconstruct(x), again.reconstruct(x))
    assert {p.suffix for p in folder.iterdir()} <= {".json", ".safetensors", ".csv", ".tsv"}
    for path in folder.glob("*.json"):
        json.loads(path.read_text())
    moved = folder.parent / f"{family}-saved-again"
    model.save(moved)
    for name in ("weights.safetensors", "metric.safetensors"):
        assert (moved / name).read_bytes() == (folder / name).read_bytes()


TRAINED = [name for name in FAMILIES.names if not FAMILIES.get(name).in_closed_form]


@pytest.mark.parametrize("family", TRAINED)
def test_training_lowers_its_loss_and_tells_its_criterion(tmp_path, family):
    model = fit(tmp_path / "m", family, epochs=12)
    history = pd.read_csv(tmp_path / "m" / "history.csv")
    assert history["loss"].iloc[-1] < history["loss"].iloc[0]
    chosen = history["elbo"] if model.has_bound else -history["criterion"]
    assert model.training_record["elbo"] == pytest.approx(chosen.max())
    assert np.isfinite(history[["loss", "gradient_norm"]].to_numpy()).all()


@pytest.mark.parametrize("family", FAMILIES.names)
def test_settings_of_another_family_are_refused(family):
    own = set(FAMILIES.get(family).Settings.model_fields)
    for other in FAMILIES.names:
        fields = FAMILIES.get(other).Settings.model_fields
        for name in set(fields) - own:
            with pytest.raises(ValueError, match=f"not a setting of model {family}, but of"):
                GeneratorConfig(model=family, **{name: fields[name].default})


@pytest.mark.parametrize("family", FAMILIES.names)
def test_codes_and_default_sampler_are_there_after_training(folders, family):
    model = quick(load_model(folders(family)))
    assert model.default_sampler in model.samplers
    codes = model.codes
    assert codes is not None
    assert codes.means.shape[1] == model.latent_dim
    images = model.sample(3)
    assert images.shape == (3, 1, *SHAPE)
    assert 0 <= images.min() <= images.max() <= 1


_KILLED = """
import sys
sys.path.insert(0, {here!r})
from pathlib import Path
import torch
torch.set_num_threads({threads})
import test_registered
test_registered.fit(Path({out!r}), {family!r}, epochs=6)
"""


@pytest.mark.parametrize("family", FAMILIES.names)
def test_a_killed_training_goes_on_to_the_same_bytes(tmp_path, family):
    fit(tmp_path / "undisturbed", family, epochs=6)
    out = tmp_path / "killed"
    program = _KILLED.format(
        here=str(Path(__file__).parent),
        threads=torch.get_num_threads(),
        out=str(out),
        family=family,
    )
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    state, deadline = out / "checkpoints" / "state.json", time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if state.is_file() and json.loads(state.read_text())["state"]["position"]["epoch"] >= 1:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.001)
    process.wait()
    fit(out, family, epochs=6)
    for name in ("weights.safetensors", "metric.safetensors"):
        assert (out / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes()


@pytest.mark.parametrize("family", FAMILIES.names)
def test_a_step_in_the_precision_of_a_gpu_is_finite(folders, family):
    """Networks in bf16 under autocast, as on a GPU; what must be exact is outside of it."""
    model = load_model(folders(family)).train()
    x = torch.from_numpy(blobs()[:5])[:, None]
    eps, gamma = torch.randn(2, 5, model.latent_dim, generator=torch.Generator().manual_seed(0))
    full = model.loss(x, Noise(eps, gamma)).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model.loss(x, Noise(eps, gamma))
    output.loss.backward()
    assert output.loss.dtype == torch.float32
    assert float(output.loss) == pytest.approx(float(full), rel=0.05)
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_images_kept_on_the_device_are_those_that_are_streamed():
    stored = np.rint(blobs() * 255).astype(np.uint8)
    order = [np.array([3, 0, 7]), np.array([1])]
    readers = [BatchReader(stored, torch.device("cpu"), resident=r) for r in (True, False)]
    for kept, streamed in zip(*(reader.batches(order) for reader in readers), strict=True):
        assert torch.equal(kept, streamed)


# -- networks -------------------------------------------------------------------------------


@pytest.mark.parametrize("network", NETWORKS.names)
def test_networks_have_the_shapes_of_the_grid_and_see_one_image_at_a_time(network):
    torch.manual_seed(0)
    config = GeneratorConfig(network=network, width=2, latent_dim=3)
    encoder, decoder, metric = build_networks(config, SHAPE, metric=True)
    x = torch.from_numpy(blobs()[:4])[:, None]
    for part in (encoder, decoder, metric):
        part.centre_on(x.mean(0)[0], 0.1)
    mean, log_variance = encoder(x)
    assert mean.shape == log_variance.shape == (4, 3)
    assert decoder(mean).shape == (4, 1, *SHAPE)
    factors = metric(x)
    assert torch.equal(factors, factors.tril())
    assert (factors.diagonal(dim1=-2, dim2=-1) > 0).all()
    alone = torch.cat([encoder(image[None])[0] for image in x])
    torch.testing.assert_close(mean, alone, atol=1e-5, rtol=1e-4)


# -- samplers -------------------------------------------------------------------------------

OFFERS = [(family, sampler) for family in FAMILIES.names for sampler in SAMPLERS.names]


@pytest.mark.parametrize(("family", "sampler"), OFFERS)
def test_a_sampler_draws_by_number_alone_or_says_why_not(folders, monkeypatch, family, sampler):
    monkeypatch.setattr(latents, "BLOCK", 16)
    space = quick(load_model(folders(family))).latent_space()
    if sampler not in space.samplers():
        with pytest.raises(InputError, match=f"sampler {sampler}: it needs .*; use --sampler"):
            latents.sample_latents(space, (1, 2), sampler=sampler)
        return
    whole, info = latents.sample_latents(space, (1, 40), sampler=sampler, seed=2, label="AD")
    assert whole.shape == (40, 2)
    assert whole.isfinite().all()
    parts = [  # two shards, in another order
        latents.sample_latents(space, part, sampler=sampler, seed=2, label="AD")[0]
        for part in (range(21, 41), (1, 20))
    ]
    assert torch.equal(whole, torch.cat(parts[::-1]))
    other, _ = latents.sample_latents(space, (1, 40), sampler=sampler, seed=3, label="AD")
    assert not torch.equal(whole, other)
    assert json.loads(json.dumps(info.settings)) == info.settings
    fresh = quick(load_model(folders(family))).latent_space()
    assert torch.equal(
        whole, latents.sample_latents(fresh, (1, 40), sampler=sampler, seed=2, label="AD")[0]
    )


@pytest.mark.parametrize("sampler", SAMPLERS.names)
def test_what_a_sampler_fits_is_stored_with_the_model(folders, sampler):
    for family in FAMILIES.names:
        model = load_model(folders(family))
        if sampler in model.samplers:
            fitted = SAMPLERS.get(sampler).fit(model.latent_space().require_codes())
            stored = model.sampler_tensors.get(sampler, {})
            assert fitted.keys() <= stored.keys()
            assert all(torch.equal(fitted[name], stored[name]) for name in fitted)


# -- what users see -------------------------------------------------------------------------


def test_every_name_is_a_choice_of_the_command_line():
    environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    command = [sys.executable, "-m", "neuroaug"]
    for arguments, names in (
        (["train", "--help"], (*FAMILIES.names, *NETWORKS.names)),
        (["augment", "--help"], SAMPLERS.names),
    ):
        shown = subprocess.run(
            [*command, *arguments], capture_output=True, text=True, env=environment, check=True
        ).stdout
        assert [name for name in names if name not in shown] == []
