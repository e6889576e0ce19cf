"""Checkpoints of a training run: safetensors and JSON, replaced atomically.

``state.json`` names the two tensor files it belongs to, with their checksums, and is renamed into
place last; the files it no longer names are removed after that. A process killed at any moment
leaves the previous checkpoint or the new one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from neuroaug.errors import InputError
from neuroaug.system.files import TEMPORARY_PREFIX, read_json, sha256_file, write_json
from neuroaug.system.tensors import load_tensors, save_tensors

FORMAT_VERSION = 1
STATE = "state.json"
_OPTIMIZER = "optimizer."
_MODEL = "model."


@dataclass(frozen=True)
class Checkpoint:
    """All that a run needs to go on.

    Attributes
    ----------
    last : dict of Tensor
        Weights (``model.*``) and optimiser (``optimizer.<i>.<name>``) as they are.
    best : dict of Tensor
        Weights at the best ELBO so far; empty before the first.
    best_epoch : int
        The epoch of `best`.
    state : dict
        Everything else, as JSON.
    """

    last: dict[str, Tensor]
    best: dict[str, Tensor]
    best_epoch: int
    state: dict[str, Any]


def _save(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    return {"file": path.name, "sha256": save_tensors(path, tensors)}


def write_checkpoint(folder: Path, checkpoint: Checkpoint, step: int) -> None:
    """Replace the checkpoint in `folder`.

    Parameters
    ----------
    folder : Path
        Holds one run's checkpoint.
    checkpoint : Checkpoint
        What to keep.
    step : int
        Optimiser steps done; names the file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    before = read_json(folder / STATE) if (folder / STATE).is_file() else {}
    best = before.get("best")
    if not checkpoint.best:
        best = None
    elif best is None or best["epoch"] != checkpoint.best_epoch:
        written = _save(folder / f"best-{checkpoint.best_epoch:06d}.safetensors", checkpoint.best)
        best = {**written, "epoch": checkpoint.best_epoch}
    last = _save(folder / f"last-{step:09d}.safetensors", checkpoint.last)
    content = {
        "format_version": FORMAT_VERSION,
        "last": last,
        "best": best,
        "state": checkpoint.state,
    }
    write_json(folder / STATE, content)
    named = {STATE, last["file"], *([best["file"]] if best else [])}
    for path in folder.iterdir():
        if path.name not in named and (
            path.suffix == ".safetensors" or path.name.startswith(TEMPORARY_PREFIX)
        ):
            path.unlink(missing_ok=True)


def _load(folder: Path, entry: Any) -> dict[str, Tensor]:
    path = folder / str(entry["file"])
    advice = f"remove {folder} to train from the start"
    if not path.is_file():
        raise InputError(f"{path}: checkpoint missing; {advice}")
    if sha256_file(path) != entry["sha256"]:
        raise InputError(f"{path}: checkpoint truncated or changed (checksum); {advice}")
    return load_tensors(path, advice)


def read_checkpoint(folder: Path) -> Checkpoint | None:
    """Read the checkpoint in `folder`; None where there is none yet.

    Raises
    ------
    InputError
        If it is of another version, truncated or changed.
    """
    path = folder / STATE
    if not path.is_file():
        return None
    try:
        content = read_json(path)
        version = content["format_version"]
    except (InputError, KeyError, TypeError):
        raise InputError(
            f"{path}: checkpoint not readable; remove {folder} to train from the start"
        ) from None
    if version != FORMAT_VERSION:
        raise InputError(
            f"{path}: checkpoint of version {version}, this neuroaug reads version "
            f"{FORMAT_VERSION}; "
            f"go on with the version that wrote it, or remove {folder} to train from the start"
        )
    best = content["best"]
    return Checkpoint(
        last=_load(folder, content["last"]),
        best=_load(folder, best) if best else {},
        best_epoch=int(best["epoch"]) if best else 0,
        state=content["state"],
    )


def flatten(model: torch.nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """Give weights and optimiser moments as one flat dictionary of tensors."""
    tensors = {_MODEL + name: tensor for name, tensor in model.state_dict().items()}
    for i, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"{_OPTIMIZER}{i}.{name}": value for name, value in moments.items()}
    return tensors


def restore(
    model: torch.nn.Module, optimizer: Optimizer, tensors: Mapping[str, Tensor], folder: Path
) -> None:
    """Put back what `flatten` gave, in the same memory layout: arithmetic goes on bit for bit.

    Raises
    ------
    InputError
        If the tensors are those of another network.
    """
    weights = {
        name.removeprefix(_MODEL): t for name, t in tensors.items() if name.startswith(_MODEL)
    }
    load_weights(model, weights, folder)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith(_OPTIMIZER):
            i, _, moment = name.removeprefix(_OPTIMIZER).partition(".")
            like = parameters[int(i)]
            if tensor.shape == like.shape and moment != "step":
                tensor = torch.empty_like(like, dtype=tensor.dtype, requires_grad=False).copy_(
                    tensor
                )
            state.setdefault(int(i), {})[moment] = tensor
    optimizer.load_state_dict(
        {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
    )


def load_weights(model: torch.nn.Module, weights: Mapping[str, Tensor], folder: Path) -> None:
    """Copy weights into `model`, every name and shape accounted for.

    Raises
    ------
    InputError
        If the weights are those of another network.
    """
    try:
        model.load_state_dict(dict(weights), strict=True)
    except RuntimeError as error:
        first = " ".join(str(error).split())[:160]
        raise InputError(
            f"{folder}: checkpoint of another network ({first}); remove it to train from the start"
        ) from None
