"""A training that diverges goes on from its best weights at half the rate, and says so."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from test_resume import CONFIG, assert_same, run, stop_at

from neuroaug.errors import DivergenceError, TrainingInterrupted
from neuroaug.training.loop import MOST_RETREATS, Loop

SETTINGS = CONFIG.model_copy(update={"max_epochs": 6, "validate_every": 1})


def diverging(monkeypatch: pytest.MonkeyPatch, at: dict[int, int]) -> list[float]:
    """Make training diverge at the epochs `at`, by the retreats before; give the rates of steps."""
    check, rates = Loop._check, []

    def checked(self, epoch, loss, norm):
        if self.position.retreats < len(at) and epoch == at.get(self.position.retreats):
            loss = float("nan")
        rates.append(self.optimizer.param_groups[0]["lr"])
        return check(self, epoch, loss, norm)

    monkeypatch.setattr(Loop, "_check", checked)
    return rates


def record(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text())["training"]


def test_it_goes_on_from_the_best_weights_at_half_the_rate(tmp_path, monkeypatch, caplog):
    rates = diverging(monkeypatch, {0: 3, 1: 5})
    seen: list[bool] = []
    retreat = Loop._retreat

    def watched(self, epoch, error):
        best = {name: tensor.clone() for name, tensor in self.best.items()}
        retreat(self, epoch, error)
        now = self.model.state_dict()
        seen.append(all(torch.equal(now[name].cpu(), tensor) for name, tensor in best.items()))

    monkeypatch.setattr(Loop, "_retreat", watched)
    with caplog.at_level(logging.WARNING, "neuroaug"):
        run(tmp_path / "m", SETTINGS)
    assert seen == [True, True]
    assert sorted(set(rates), reverse=True) == [1e-3, 5e-4, 2.5e-4]
    assert record(tmp_path / "m")["retreats"] == 2
    assert record(tmp_path / "m")["epochs"] == 6
    said = [message for message in caplog.messages if "diverged" in message]
    assert "diverged at epoch 3; going on from the weights of epoch" in said[0]
    assert "half the learning rate (0.0005)" in said[0]


def test_a_training_that_does_not_diverge_says_nothing_of_it(tmp_path):
    run(tmp_path / "m", SETTINGS)
    assert "retreats" not in record(tmp_path / "m")


def test_a_killed_run_that_diverged_resumes_to_the_same_weights(tmp_path, monkeypatch):
    diverging(monkeypatch, {0: 3})
    run(tmp_path / "whole", SETTINGS)
    with monkeypatch.context() as patch:
        stop_at(patch, 9)  # an epoch after the retreat
        with pytest.raises(TrainingInterrupted):
            run(tmp_path / "again", SETTINGS)
    state = json.loads((tmp_path / "again" / "checkpoints" / "state.json").read_text())
    assert state["state"]["position"]["retreats"] == 1
    run(tmp_path / "again", SETTINGS)
    assert_same(tmp_path / "whole", tmp_path / "again")


def test_one_that_always_diverges_ends_with_its_reason(tmp_path, monkeypatch):
    diverging(monkeypatch, dict.fromkeys(range(MOST_RETREATS + 1), 0) | {0: 2})
    check = Loop._check

    def always(self, epoch, loss, norm):
        return check(self, epoch, float("nan") if epoch >= 2 else loss, norm)

    monkeypatch.setattr(Loop, "_check", always)
    with pytest.raises(DivergenceError, match="diverged at epoch"):
        run(tmp_path / "m", SETTINGS.model_copy(update={"max_epochs": 30}))


def test_published_networks_diverge_as_published(tmp_path, monkeypatch):
    diverging(monkeypatch, {0: 3})
    config = SETTINGS.model_copy(update={"network": "mlp"})
    with pytest.raises(DivergenceError, match="epoch 3"):
        run(tmp_path / "m", config)
