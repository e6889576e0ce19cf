"""Training as a user meets it: what it leaves, what it refuses, several processes as one.

Longer than 400 lines because the generator that most cases look at is trained once for all.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from neuroaug.config import GeneratorConfig
from neuroaug.errors import DivergenceError, InputError, ResourceError
from neuroaug.models import RHVAE, VAE
from neuroaug.models.flow import Noise
from neuroaug.training import memory_estimate, random_order
from neuroaug.training.batches import BatchReader
from neuroaug.training.early_stopping import EarlyStopping
from neuroaug.training.stored_images import training_start
from neuroaug.training.train import build_model, train

SHAPE = (8, 10, 12)
N = 9
TINY = GeneratorConfig(width=1, latent_dim=2, batch_size=5, n_leapfrog=2, max_epochs=3)
QUIET = {"say": lambda text: None}


def blobs(n: int = N, seed: int = 0) -> np.ndarray:
    """Smooth bright balls of varying place and size: something a generator can learn."""
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(-1, 1, k) for k in SHAPE), indexing="ij")
    images = []
    for _ in range(n):
        center, width = rng.uniform(-0.3, 0.3, 3), rng.uniform(0.3, 0.6)
        squared = sum((a - c) ** 2 for a, c in zip(axes, center, strict=True))
        images.append(np.exp(-squared / width**2))
    return np.stack(images).astype(np.float32)


def people(n: int = N, label: str = "AD") -> pd.DataFrame:
    return pd.DataFrame(
        {
            "participant_id": [f"sub-{i:02d}" for i in range(n)],
            "session_id": "ses-M000",
            "diagnosis": label,
            "image_sha256": [f"{i:064x}" for i in range(n)],
            "split": "train",
            "split_hash": "abc",
        }
    )


def run(out: Path, images: Any = None, **changes: Any) -> Any:
    images = blobs() if images is None else images
    options = {
        "config": TINY,
        "label": "AD",
        "lineage": people(len(images)),
        "split_hash": "abc",
        "device": "cpu",
        **QUIET,
    }
    return train(images, out=out, **(options | changes))


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "weights.safetensors")


@pytest.fixture(autouse=True)
def _untuned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the tuning of samplers, which is seconds of every run and tested elsewhere;
    `trained` has it.
    """
    monkeypatch.setattr(
        "neuroaug.training.train.tune_samplers", lambda space: {"hmc": {"step_size": 0.1}}
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("models") / "AD"
    run(out)
    return out


def test_a_finished_folder_holds_all_that_the_contract_names(trained):
    names = {path.name for path in trained.iterdir()}
    assert names == {
        "config.json",
        "weights.safetensors",
        "metric.safetensors",
        "history.csv",
        "lineage.tsv",
        "environment.json",
    }
    lineage = pd.read_csv(trained / "lineage.tsv", sep="\t", dtype=str)
    assert list(lineage["participant_id"]) == list(people()["participant_id"])
    record = json.loads((trained / "config.json").read_text())
    assert record["label"] == "AD"
    assert record["config"]["learning_rate"] == 1e-3  # what was left open is spelled out
    assert record["sampler"]
    assert record["training"]["split_hash"] == "abc"


def test_history_reports_a_true_elbo_that_rises(trained):
    history = pd.read_csv(trained / "history.csv", float_precision="round_trip")
    assert list(history["epoch"]) == [1, 2, 3]
    assert np.isfinite(history.to_numpy()).all()
    assert history["elbo"].iloc[-1] > history["elbo"].iloc[0]
    best = json.loads((trained / "config.json").read_text())["training"]
    assert best["elbo"] == history["elbo"].max()
    assert best["best_epoch"] == history["epoch"][history["elbo"].idxmax()]


def test_the_elbo_in_the_history_is_the_models_own_with_noise_fixed_per_image(trained):
    model = RHVAE.load(trained)
    x = torch.from_numpy(blobs())[:, None]
    drawn = random_order.noise(0, "elbo", range(N), 2)
    elbo = model.elbo(x, Noise(drawn[:, 0], drawn[:, 1])).mean()
    recorded = json.loads((trained / "config.json").read_text())["training"]["elbo"]
    assert float(elbo) == pytest.approx(recorded, rel=1e-5)


def test_the_metric_is_that_of_all_training_images_under_the_final_weights(trained):
    model = RHVAE.load(trained)
    mean, _ = model.encode(torch.from_numpy(blobs())[:, None])
    assert model.metric.centroids.shape == (N, 2)
    assert torch.allclose(model.metric.centroids, mean, atol=1e-5)


def test_training_learns_the_images(tmp_path):
    images = torch.from_numpy(blobs())[:, None]
    changes = {"batch_size": N, "max_epochs": 100, "learning_rate": 1e-2, "validate_every": 50}
    model = run(tmp_path / "m", images[:, 0].numpy(), config=TINY.model_copy(update=changes))
    error = (model.reconstruct(images) - images).square().mean()
    assert error < 0.8 * (images - images.mean(0)).square().mean()  # closer than the mean image is


def test_a_plain_vae_trains_through_the_same_door(tmp_path):
    model = run(
        tmp_path / "m",
        config=GeneratorConfig(
            model="vae", network="mlp-toy", latent_dim=2, batch_size=5, max_epochs=3
        ),
    )
    assert isinstance(model, VAE)
    assert model.metric.means.shape == (N, 2)


def test_seed_alone_decides_and_the_global_random_state_does_not(tmp_path):
    config = TINY.model_copy(update={"max_epochs": 1})
    torch.manual_seed(1)
    one = run(tmp_path / "one", config=config)
    torch.manual_seed(2)
    two = run(tmp_path / "two", config=config)
    other = run(tmp_path / "other", config=config, seed=1)
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, two.state_dict()[name])
    assert any(not torch.equal(t, other.state_dict()[name]) for name, t in one.state_dict().items())


def test_the_same_call_again_loads_and_any_other_is_refused(trained):
    before = (trained / "config.json").stat().st_mtime_ns
    again = run(trained)
    assert (trained / "config.json").stat().st_mtime_ns == before
    assert torch.equal(again.metric.centroids, RHVAE.load(trained).metric.centroids)
    others = [
        {"config": TINY.model_copy(update={"latent_dim": 3})},
        {"seed": 1},
        {"split_hash": "abd"},
        {"lineage": people().assign(image_sha256=[f"{i + 1:064x}" for i in range(N)])},
    ]
    for change in others:
        with pytest.raises(InputError, match="another --out"):
            run(trained, **change)


def test_held_out_participants_are_evaluated_and_never_fitted(tmp_path):
    model = run(tmp_path / "m", config=TINY.model_copy(update={"held_out": 0.25}))
    assert len(model.metric.centroids) == 7
    fitted, kept = random_order.held_out(0, list(people()["participant_id"]), 0.25)
    assert set(fitted) | set(kept) == set(range(N))
    assert not set(fitted) & set(kept)
    expected, _ = model.encode(torch.from_numpy(blobs()[fitted])[:, None])
    assert torch.allclose(model.metric.centroids, expected, atol=1e-5)


def test_all_images_of_a_held_out_participant_are_held_out():
    names = ["sub-a", "sub-b", "sub-a", "sub-c", "sub-b", "sub-d"]
    fitted, kept = random_order.held_out(3, names, 0.5)
    assert {names[i] for i in fitted}.isdisjoint({names[i] for i in kept})
    assert len({names[i] for i in kept}) == 2


def test_early_stopping_counts_epochs_since_the_best():
    stopping = EarlyStopping(patience=3)
    for epoch, elbo in enumerate([-5.0, -4.0, -4.5, float("nan"), -4.0], start=1):
        stopping = stopping.update(epoch, elbo)
    assert (stopping.best, stopping.best_epoch) == (-4.0, 2)
    assert not stopping.exhausted(4)
    assert stopping.exhausted(5)


def test_training_stops_by_patience_and_keeps_the_best_weights(tmp_path):
    # Steps too small to change a weight: the first ELBO is never bettered.
    config = TINY.model_copy(update={"max_epochs": 200, "patience": 3, "learning_rate": 1e-30})
    model = run(tmp_path / "m", config=config)
    record = model.training_record
    history = pd.read_csv(tmp_path / "m" / "history.csv")
    assert record["stopped_by"] == "patience"
    assert (record["best_epoch"], record["epochs"]) == (1, 4)
    assert list(history["epoch"]) == [1, 2, 3, 4]


def test_patience_is_not_used_up_between_two_evaluations(tmp_path):
    model = run(
        tmp_path / "m",
        config=TINY.model_copy(update={"max_epochs": 12, "patience": 1, "validate_every": 4}),
    )
    assert model.training_record["epochs"] > 4


def test_max_minutes_ends_training_with_a_model(tmp_path):
    model = run(
        tmp_path / "m", config=TINY.model_copy(update={"max_epochs": 100_000}), max_minutes=0.1 / 60
    )
    assert model.training_record["stopped_by"] == "max_minutes"
    assert model.has_metric


def test_noise_and_order_belong_to_seed_epoch_and_image_alone():
    together = random_order.noise(0, 5, [3, 1, 4], 6)
    assert torch.equal(together[1], random_order.noise(0, 5, [1], 6)[0])
    assert not torch.equal(together, random_order.noise(0, 6, [3, 1, 4], 6))
    assert not torch.equal(together[0], together[2])
    assert sorted(random_order.order(0, 1, 10)) == list(range(10))
    assert list(random_order.order(0, 1, 10)) != list(random_order.order(0, 2, 10))
    sizes = [len(batch) for batch in random_order.batches(np.arange(403), 25)]
    assert sum(sizes) == 403
    assert (min(sizes), max(sizes), len(sizes)) == (23, 24, 17)


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
def test_batches_are_the_stored_images_in_the_order_asked(resident, dtype):
    images = blobs()
    stored = (images * 255).round().astype(np.uint8) if dtype == "uint8" else images.astype(dtype)
    feed = BatchReader(stored, torch.device("cpu"), resident=resident, channels_last=True)
    order = [np.array([4, 2, 7]), np.array([0]), np.array([1, 1]), np.array([8, 3])]
    for rows, batch in zip(order, feed.batches(order), strict=True):
        assert batch.dtype == torch.float32
        assert batch.shape == (len(rows), 1, *SHAPE)
        expected = stored[rows].astype(np.float32) / (255 if dtype == "uint8" else 1)
        assert np.abs(batch[:, 0].numpy() - expected).max() < 1e-6


def test_gradient_accumulation_steps_once_a_group(tmp_path):
    config = TINY.model_copy(
        update={"batch_size": 3, "accumulate": 3, "max_epochs": 1, "objective": "elbo"}
    )
    run(tmp_path / "m", config=config)
    model = build_model(config, SHAPE, "AD", None, 0)
    model.start_from(training_start(blobs(), np.arange(N)))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    order = random_order.order(0, 1, N)
    images = torch.from_numpy(blobs())[:, None]
    losses = []
    for rows in random_order.batches(order, 3):
        drawn = random_order.noise(0, 1, rows, 2)
        losses.append(
            model.loss(images[torch.from_numpy(rows)], Noise(drawn[:, 0], drawn[:, 1])).loss
        )
    torch.stack(losses).mean().backward()
    optimizer.step()
    for name, tensor in weights_of(tmp_path / "m").items():
        assert torch.allclose(tensor, model.state_dict()[name], atol=1e-5), name


# -- bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_image_that_is_not_finite_is_named(tmp_path, bad):
    images = blobs()
    images[3, 1, 2, 3] = bad
    with pytest.raises(InputError, match="sub-03 ses-M000: 1 voxels are NaN or infinite"):
        run(tmp_path / "m", images)
    assert not (tmp_path / "m").exists()


def test_images_outside_0_1_are_named(tmp_path):
    with pytest.raises(InputError, match=r"sub-00.*expected \[0, 1\]"):
        run(tmp_path / "m", 100 * blobs())


def test_a_typed_batch_larger_than_the_set_is_refused_a_default_is_reduced(tmp_path):
    with pytest.raises(InputError, match="--batch-size 10: larger than the training set of 9"):
        run(tmp_path / "m", typed_batch=10)
    said: list[str] = []
    config = TINY.model_copy(update={"batch_size": 25, "max_epochs": 1})
    model = run(tmp_path / "m", config=config, say=said.append)
    assert "25 is larger than the training set" in said[0]
    assert model.config.batch_size == N


def test_too_few_participants_are_refused(tmp_path):
    with pytest.raises(InputError, match="label 'AD': 4 training participants"):
        run(tmp_path / "m", blobs(4))
    with pytest.raises(
        InputError, match="4 training participants"
    ):  # five images, two of one person
        run(
            tmp_path / "m",
            blobs(5),
            lineage=people(5).assign(participant_id=["sub-0", *(f"sub-{i}" for i in range(4))]),
        )


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ResourceError, match="no GPU"):
        run(tmp_path / "m", device="cuda")
    with pytest.raises(InputError, match="device 'gpus'"):
        run(tmp_path / "m", device="gpus")


def test_divergence_names_the_epoch_and_keeps_the_last_good_checkpoint(tmp_path):
    config = TINY.model_copy(update={"learning_rate": 1e6, "max_epochs": 30})
    with pytest.raises(DivergenceError, match=r"epoch \d+ .*learning_rate \(now 1e\+06\)"):
        run(tmp_path / "m", config=config)
    state = json.loads((tmp_path / "m" / "checkpoints" / "state.json").read_text())
    from safetensors.torch import load_file

    kept = load_file(tmp_path / "m" / "checkpoints" / state["last"]["file"])
    assert all(bool(torch.isfinite(tensor).all()) for tensor in kept.values())
    assert not (tmp_path / "m" / "config.json").exists()


def test_the_published_network_at_2_mm_is_counted_and_refused_where_it_cannot_fit(
    tmp_path, monkeypatch
):
    config = GeneratorConfig(network="mlp", latent_dim=10)
    needed = memory_estimate.estimate(config, (84, 104, 89))
    assert needed.n_parameters == 1_090_220_379  # TPAMI Table 11
    assert (
        needed.memory(1) > 16 * 1_090_220_379
    )  # weights, gradients and Adam's moments alone: 17.4 GB
    with pytest.raises(ResourceError, match=r"1,090,220,379 parameters.*17\.4 GB"):
        memory_estimate.check_memory(config, needed, 25, 16 * 10**9, "cpu")
    monkeypatch.setattr(memory_estimate, "free_bytes", lambda folder: 10**9)
    with pytest.raises(ResourceError, match="checkpoints"):
        memory_estimate.check_disk(needed, tmp_path)


def test_a_batch_too_large_for_the_memory_is_answered_with_one_that_fits():
    config = GeneratorConfig()
    needed = memory_estimate.estimate(config, (84, 104, 89))
    available = needed.memory(7)
    with pytest.raises(ResourceError, match="--batch-size 7"):
        memory_estimate.check_memory(config, needed, 25, available, "cpu")
    memory_estimate.check_memory(config, needed, 7, available, "cpu")


def test_a_metric_too_large_for_the_memory_is_said_to_be_the_metric():
    config = TINY.model_copy(update={"latent_dim": 5000})
    needed = memory_estimate.estimate(config, SHAPE)
    with pytest.raises(ResourceError, match=r"lower --latent-dim: .* = 12,502,500 entries"):
        memory_estimate.check_memory(config, needed, 1, 10**9, "cpu")


def test_out_of_memory_in_a_step_becomes_advice(tmp_path, monkeypatch):
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError(
            "[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory"
        )

    monkeypatch.setattr(RHVAE, "loss", refuse)
    with pytest.raises(
        ResourceError, match=r"out of memory on cpu with a batch of 5; a batch of 2 would fit"
    ):
        run(tmp_path / "m")


# -- several processes ------------------------------------------------------------------------


def test_two_processes_give_the_metric_and_the_weights_of_one(tmp_path):
    config = TINY.model_copy(update={"max_epochs": 2, "batch_size": 5})
    one = run(tmp_path / "one", config=config)
    two = run(tmp_path / "two", config=config, n_devices=2)
    for name, tensor in one.state_dict().items():
        assert torch.allclose(tensor, two.state_dict()[name], atol=1e-4), name
    assert torch.allclose(one.metric.centroids, two.metric.centroids, atol=1e-4)
    assert torch.allclose(one.metric.factors, two.metric.factors, atol=1e-4)
    first, second = (pd.read_csv(tmp_path / name / "history.csv") for name in ("one", "two"))
    assert np.allclose(first["loss"], second["loss"], rtol=1e-5)
    assert np.allclose(first["elbo"], second["elbo"], rtol=1e-5)
    assert two.training_record["n_devices"] == 2


def test_an_error_in_one_of_two_processes_is_the_users_one_line(tmp_path):
    config = TINY.model_copy(update={"learning_rate": 1e6, "max_epochs": 30})
    with pytest.raises(DivergenceError, match="epoch"):
        run(tmp_path / "m", config=config, n_devices=2)
