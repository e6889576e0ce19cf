"""A run that was killed goes on as if nothing had happened, and a broken checkpoint is refused."""

from __future__ import annotations

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
from safetensors.torch import load_file

from neuroaug.config import GeneratorConfig
from neuroaug.errors import InputError, TrainingInterrupted
from neuroaug.system import tensors as tensors_module
from neuroaug.system.interruption import stop_requests
from neuroaug.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from neuroaug.training.loop import Loop
from neuroaug.training.state import TIMING_COLUMNS
from neuroaug.training.train import train

SHAPE = (8, 9, 10)
N = 7
CONFIG = GeneratorConfig(
    width=1, latent_dim=2, batch_size=4, n_leapfrog=1, max_epochs=4, validate_every=2
)


def images() -> np.ndarray:
    return np.random.default_rng(0).random((N, *SHAPE), dtype=np.float32)


def people() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "participant_id": [f"sub-{i}" for i in range(N)],
            "session_id": "ses-M000",
            "diagnosis": "CN",
            "image_sha256": [f"{i:064x}" for i in range(N)],
            "split": "train",
            "split_hash": "abc",
        }
    )


def run(out: Path, config: GeneratorConfig = CONFIG, **options: object) -> object:
    options = {"checkpoint_seconds": 0.0, **options}
    return train(
        images(),
        config=config,
        label="CN",
        out=out,
        lineage=people(),
        split_hash="abc",
        device="cpu",
        **options,
    )


def stop_at(monkeypatch: pytest.MonkeyPatch, n: int) -> None:
    """Stop the training that follows at its step `n` (from 0), counted over folds and epochs."""
    step, taken = Loop._step, iter(range(10_000))

    def stopping(self, *arguments):
        if next(taken) == n:
            self.save()
            raise TrainingInterrupted("stopped")
        return step(self, *arguments)

    monkeypatch.setattr(Loop, "_step", stopping)


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the tuning of samplers; let checkpoints take any share of the time."""
    monkeypatch.setattr("neuroaug.training.train.tune_samplers", lambda space: {})
    monkeypatch.setattr("neuroaug.training.loop.CHECKPOINT_SHARE", 1e9)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("models") / "undisturbed"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("neuroaug.training.train.tune_samplers", lambda space: {})
        run(out)
    return out


def assert_same(one: Path, other: Path) -> None:
    for name in ("weights.safetensors", "metric.safetensors", "lineage.tsv"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    first, second = (
        pd.read_csv(folder / "history.csv").drop(columns=list(TIMING_COLUMNS))
        for folder in (one, other)
    )
    pd.testing.assert_frame_equal(first, second, check_exact=True)


class _Killed(BaseException):
    """Stands for a power cut: nothing catches it."""


def kill_at(monkeypatch: pytest.MonkeyPatch, n_steps: int) -> None:
    """Let the process die in the middle of its n-th training step from now."""
    step, count = Loop._step, iter(range(n_steps))

    def dying(self, *arguments):
        if next(count, None) is None:
            raise _Killed
        return step(self, *arguments)

    monkeypatch.setattr(Loop, "_step", dying)


@pytest.mark.parametrize("n_steps", [0, 1, 5])
def test_killed_at_any_step_and_started_again_ends_with_the_same_bits(
    tmp_path, undisturbed, n_steps
):
    out = tmp_path / "m"
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, n_steps)
        with pytest.raises(_Killed):
            run(out)
    assert not (out / "config.json").exists()
    run(out)
    assert_same(undisturbed, out)
    assert not (out / "checkpoints").exists()


def test_killed_again_and_again_with_rare_checkpoints(tmp_path, undisturbed, monkeypatch):
    out = tmp_path / "m"
    monkeypatch.setattr(Loop, "_is_due", lambda self: self.position.optimiser_steps % 3 == 0)
    for n_steps in (5, 2):
        with pytest.MonkeyPatch.context() as patch:
            kill_at(patch, n_steps)
            with pytest.raises(_Killed):
                run(out)
    run(out)
    assert_same(undisturbed, out)


def test_killed_between_the_last_epoch_and_the_model_folder(tmp_path, undisturbed):
    out = tmp_path / "m"
    with pytest.MonkeyPatch.context() as patch:

        def dying(model: object) -> None:
            raise _Killed

        patch.setattr("neuroaug.training.train.tune_samplers", dying)
        with pytest.raises(_Killed):
            run(out)
    run(out)
    assert_same(undisturbed, out)


_PROGRAM = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
import torch
from neuroaug.training import loop
import neuroaug.training.train as train_module
import test_resume
train_module.tune_samplers = lambda space: {{}}
loop.CHECKPOINT_SHARE = 1e9
torch.set_num_threads({threads})
test_resume.run(Path({out!r}), n_devices={n_devices})
"""


def start(out: Path, n_devices: int = 1) -> subprocess.Popen[bytes]:
    program = _PROGRAM.format(
        tests=str(Path(__file__).parent),
        out=str(out),
        threads=torch.get_num_threads(),
        n_devices=n_devices,
    )
    return subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def wait_for_checkpoint(out: Path, process: subprocess.Popen[bytes], n_steps: int) -> None:
    state = out / "checkpoints" / "state.json"
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None:
        if (
            state.is_file()
            and json.loads(state.read_text())["state"]["position"]["optimiser_steps"] >= n_steps
        ):
            return
        time.sleep(0.002)
    raise AssertionError(
        f"no checkpoint after {n_steps} steps: {process.communicate()[1].decode()[-500:]}"
    )


def test_sigkill_in_the_middle_then_the_same_bits(tmp_path, undisturbed):
    out = tmp_path / "m"
    process = start(out)
    wait_for_checkpoint(out, process, 3)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (out / "config.json").exists()
    run(out)
    assert_same(undisturbed, out)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_two_processes_that_are_stopped_go_on_to_the_weights_of_one(tmp_path, undisturbed, number):
    out = tmp_path / "m"
    process = start(out, n_devices=2)
    wait_for_checkpoint(out, process, 3)
    process.send_signal(number)
    process.communicate()
    assert process.returncode != 0
    assert not (out / "config.json").exists()
    run(out, n_devices=2)
    resumed, whole = (load_file(folder / "weights.safetensors") for folder in (out, undisturbed))
    for name, tensor in whole.items():
        assert torch.allclose(tensor, resumed[name], atol=1e-4), name


def test_ctrl_c_keeps_everything_and_says_how_to_go_on(tmp_path, undisturbed, monkeypatch):
    out = tmp_path / "m"
    step = Loop._step

    def interrupted(self, epoch, group, stream):
        if epoch == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, epoch, group, stream)

    monkeypatch.setattr(Loop, "_is_due", lambda self: False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, "_step", interrupted)
        with pytest.raises(TrainingInterrupted, match="the same command goes on") as stopped:
            run(out)
    assert stopped.value.exit_code == 130
    kept = json.loads((out / "checkpoints" / "state.json").read_text())["state"]["position"]
    assert (kept["epoch"], kept["step"]) == (2, 1)  # the step in hand was finished
    run(out)
    assert_same(undisturbed, out)


def test_signal_handlers_are_put_back():
    before = signal.getsignal(signal.SIGINT)
    with stop_requests() as request:
        assert not request
        os.kill(os.getpid(), signal.SIGTERM)
        assert request
        assert request.signal is signal.SIGTERM
    assert signal.getsignal(signal.SIGINT) is before


# -- checkpoints ------------------------------------------------------------------------------


def example(value: float, best_epoch: int) -> Checkpoint:
    return Checkpoint(
        {"model.w": torch.full((3, 2), value)},
        {"w": torch.zeros(2)},
        best_epoch,
        {"position": value},
    )


def test_a_checkpoint_reads_back_and_replaces_the_one_before(tmp_path):
    assert read_checkpoint(tmp_path) is None
    write_checkpoint(tmp_path, example(1.0, 1), 10)
    best = next(tmp_path.glob("best-*")).stat().st_ino
    write_checkpoint(tmp_path, example(2.0, 1), 20)
    found = read_checkpoint(tmp_path)
    assert found is not None
    assert torch.equal(found.last["model.w"], torch.full((3, 2), 2.0))
    assert found.state == {"position": 2.0}
    assert next(tmp_path.glob("best-*")).stat().st_ino == best  # the same best is not written twice
    assert len(list(tmp_path.iterdir())) == 3


def test_a_write_that_dies_half_way_leaves_the_previous_checkpoint(tmp_path, monkeypatch):
    write_checkpoint(tmp_path, example(1.0, 1), 10)
    save = tensors_module.save_file

    def half(tensors, path, metadata=None):
        save(tensors, path)
        os.truncate(path, 40)
        raise _Killed

    monkeypatch.setattr(tensors_module, "save_file", half)
    with pytest.raises(_Killed):
        write_checkpoint(tmp_path, example(2.0, 2), 20)
    found = read_checkpoint(tmp_path)
    assert found is not None
    assert found.state == {"position": 1.0}


@pytest.fixture
def interrupted(tmp_path: Path) -> Path:
    out = tmp_path / "m"
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, 2)
        with pytest.raises(_Killed):
            run(out)
    return out


def test_broken_checkpoints_are_refused_naming_the_file(interrupted):
    folder = interrupted / "checkpoints"
    last = next(folder.glob("last-*.safetensors"))
    content = last.read_bytes()
    last.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=rf"{last.name}: checkpoint truncated or changed .*remove"):
        run(interrupted)
    last.unlink()
    with pytest.raises(InputError, match=rf"{last.name}: checkpoint missing"):
        run(interrupted)
    state = folder / "state.json"
    text = state.read_text()
    state.write_text(text.replace('"format_version": 1', '"format_version": 7'))
    with pytest.raises(InputError, match=r"state\.json: checkpoint of version 7"):
        run(interrupted)
    state.write_text(text[: len(text) // 2])
    with pytest.raises(InputError, match=r"state\.json: checkpoint not readable"):
        run(interrupted)


def test_another_run_does_not_go_on_from_this_checkpoint(interrupted):
    for other in (
        CONFIG.model_copy(update={"learning_rate": 1e-4}),
        CONFIG.model_copy(update={"latent_dim": 3}),
    ):
        with pytest.raises(
            InputError, match=r"unfinished training of other settings.*another --out"
        ):
            run(interrupted, other)
    with pytest.raises(InputError, match="unfinished training"):
        run(interrupted, seed=1)


def test_checkpoints_hold_plain_tensors_and_json_only(interrupted):
    for path in (interrupted / "checkpoints").iterdir():
        if path.suffix == ".safetensors":
            assert load_file(path)
        else:
            assert json.loads(path.read_text())["format_version"] == 1
