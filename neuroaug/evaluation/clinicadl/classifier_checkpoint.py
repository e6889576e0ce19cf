"""Checkpoints of a run: one safetensors file, from which training goes on exactly.

ClinicaDL's resume restores neither random states nor the order of the table. Here the randomness of
an epoch depends on (seed, epoch) alone, so weights, optimiser and what was recorded are all there
is.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from clinicadl.callbacks import Callback

from neuroaug.evaluation.runs import RunState
from neuroaug.system.files import atomic_path
from neuroaug.system.tensors import save_tensors

if TYPE_CHECKING:
    from clinicadl.metrics import MetricsHandler
    from clinicadl.models import Model
    from clinicadl.train import TrainerState
    from torch.optim import Optimizer

FORMAT_VERSION = 1


class ClassifierCheckpoint(Callback):
    """Saves a run at the end of epochs, and restores it at the start of training.

    Parameters
    ----------
    path : Path
        File of the checkpoint.
    run : RunState
        Record of the run so far.
    inputs : str
        Checksum of everything the run depends on; a checkpoint of other inputs is passed over.
    every_s : float
        Least seconds between two checkpoints.
    """

    def __init__(self, path: Path, run: RunState, *, inputs: str, every_s: float) -> None:
        self.path, self.run, self.inputs, self.every_s = path, run, inputs, every_s
        self._saved_at = time.monotonic()
        self._optimizers: dict[str, Optimizer] = {}
        self._scaler: Any = None
        self._metrics: MetricsHandler | None = None

    def on_train_start(
        self,
        *,
        model: Model,
        state: TrainerState,
        metrics: MetricsHandler,
        optimizers: dict[str, Optimizer],
        grad_scaler: torch.amp.GradScaler,
        **kwargs: Any,
    ) -> None:
        """Go on from the checkpoint, if there is one of these inputs."""
        self._optimizers, self._scaler, self._metrics = optimizers, grad_scaler, metrics
        if not self.path.is_file():
            return
        from safetensors import safe_open

        with safe_open(self.path, framework="pt", device="cpu") as file:
            record = json.loads((file.metadata() or {}).get("record", "{}"))
            if (
                record.get("format_version") != FORMAT_VERSION
                or record.get("inputs") != self.inputs
            ):
                return
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
        model.load_state_dict(_section(tensors, "model"))
        for name, optimizer in optimizers.items():
            _restore(optimizer, _section(tensors, f"optimizer/{name}"))
        grad_scaler.load_state_dict(record["scaler"])
        self.run.history[:] = record["history"]
        self.run.best_epoch, self.run.best_value = record["best_epoch"], record["best_value"]
        self.run.best_weights = _section(tensors, "best")
        self.run.best_scores = record["best_scores"]
        self._restore_metrics(metrics, record["metrics"])
        state.current_epoch, state.optim_step = record["epoch"], record["optim_step"]

    def on_epoch_end(self, *, model: Model, state: TrainerState, **kwargs: Any) -> None:
        """Save, if the last checkpoint is old enough."""
        if time.monotonic() - self._saved_at < self.every_s:
            return
        self.save(model, state)
        self._saved_at = time.monotonic()

    def save(self, model: Model, state: TrainerState) -> None:
        """Write the file, atomically."""
        tensors = {f"model/{name}": tensor for name, tensor in model.state_dict().items()}
        tensors |= {f"best/{name}": tensor for name, tensor in self.run.best_weights.items()}
        for name, optimizer in self._optimizers.items():
            for index, values in optimizer.state_dict()["state"].items():
                tensors |= {
                    f"optimizer/{name}/{index}/{key}": value for key, value in values.items()
                }
        record = {
            "format_version": FORMAT_VERSION,
            "inputs": self.inputs,
            "epoch": state.current_epoch,
            "optim_step": state.optim_step,
            "scaler": self._scaler.state_dict(),
            "history": self.run.history,
            "best_epoch": self.run.best_epoch,
            "best_value": self.run.best_value,
            "best_scores": self.run.best_scores,
            "metrics": self._metrics.df.to_dict(orient="list") if self._metrics is not None else {},
        }
        save_tensors(self.path, tensors, {"record": json.dumps(record)})

    def _restore_metrics(self, metrics: MetricsHandler, columns: dict[str, list[Any]]) -> None:
        """Give ClinicaDL back its table of past epochs (it reads it from a file only)."""
        with atomic_path(self.path.with_suffix(".metrics.tsv")) as table:
            pd.DataFrame(columns).to_csv(table, sep="\t", index=False)
            metrics.load(table)
        self.path.with_suffix(".metrics.tsv").unlink(missing_ok=True)


def _section(tensors: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    prefix = f"{name}/"
    return {
        key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)
    }


def _restore(optimizer: Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    """Load an optimiser's state, each tensor in its parameter's layout: sums then round alike."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split("/")
        parameter = parameters[int(index)]
        if value.shape == parameter.shape and value.dim() > 0:
            value = torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict(
        {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
    )
