"""A model on disk: safetensors and JSON, every file with its checksum, `config.json` written last.

``config.json`` holds the family, settings, grid, label, sampler settings and the sha256 of the
other files. A folder with one is complete; a folder with a file that was changed since is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from neuroaug.errors import InputError
from neuroaug.law.label_law import LabelLaw
from neuroaug.law.law_tensors import law_from_store, law_to_store
from neuroaug.system.files import read_json, sha256_file, write_json
from neuroaug.system.provenance import versions
from neuroaug.system.tensors import load_tensors, save_tensors

FORMAT_VERSION = 1
CONFIG = "config.json"
WEIGHTS = "weights.safetensors"
METRIC = "metric.safetensors"
ENVIRONMENT = "environment.json"
TEXTURE = "texture.safetensors"
FITTED = "sampler."
"""Prefix, in the metric's file, of what samplers have fitted to the codes."""
LAW = "law."
"""Prefix, in the metric's file, of the law's tensors."""

FILES = (WEIGHTS, METRIC, TEXTURE, "history.csv", "lineage.tsv", ENVIRONMENT)
"""What a model folder may hold beside `config.json`, all of it checksummed."""

COPY_AGAIN = "copy the model folder again"


@dataclass(frozen=True)
class StoredModel:
    """What a model folder holds.

    Attributes
    ----------
    family : str
        Name of the family of models.
    config : dict
        Its settings.
    shape : tuple of int
        The grid (X, Y, Z).
    grid, label : str or None
        Name of the resolution; the diagnosis.
    sampler : dict
        By sampler, settings found after training.
    training : dict
        What training wants to be remembered.
    weights, metric : dict of Tensor
        Weights; metric and codes, empty where there are none.
    fitted : dict of dict of Tensor
        By sampler, tensors fitted after training.
    law : LabelLaw or None
        Law of anatomy that the codes follow.
    texture : Tensor or None
        Mixtures of what the latents miss, (K, X, Y, Z).
    """

    family: str
    config: dict[str, Any]
    shape: tuple[int, ...]
    grid: str | None
    label: str | None
    sampler: dict[str, Any]
    training: dict[str, Any]
    weights: dict[str, Tensor]
    metric: dict[str, Tensor]
    fitted: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    law: LabelLaw | None = None
    texture: Tensor | None = None


def write_model(folder: Path, model: StoredModel) -> None:
    """Write a model folder; ``history.csv`` and ``lineage.tsv`` that are there are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).unlink(missing_ok=True)  # no longer complete until the end
    save_tensors(folder / WEIGHTS, model.weights)
    beside = dict(model.metric)
    for sampler, tensors in model.fitted.items():
        beside |= {f"{FITTED}{sampler}.{part}": tensor for part, tensor in tensors.items()}
    named: dict[str, Any] = {}
    if model.law is not None:
        arrays, named = law_to_store(model.law)
        beside |= {f"{LAW}{part}": torch.from_numpy(array) for part, array in arrays.items()}
        named = {"law": named}
    if beside:
        save_tensors(folder / METRIC, beside)
    else:
        (folder / METRIC).unlink(missing_ok=True)
    if model.texture is not None:
        save_tensors(folder / TEXTURE, {"fields": model.texture})
    else:
        (folder / TEXTURE).unlink(missing_ok=True)
    write_json(folder / ENVIRONMENT, versions())
    write_json(
        folder / CONFIG,
        {
            "format": FORMAT_VERSION,
            "model": model.family,
            "config": model.config,
            "shape": list(model.shape),
            "grid": model.grid,
            "label": model.label,
            "sampler": model.sampler,
            "training": model.training,
            **named,
            "checksums": {
                name: sha256_file(folder / name) for name in FILES if (folder / name).exists()
            },
        },
    )


def read_model_config(folder: str | Path, verify: bool = True) -> dict[str, Any]:
    """Read a model folder's ``config.json`` and check the other files against it.

    Raises
    ------
    InputError
        If the folder is not a model, is of another version, or a file is missing or was changed.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; train a model first")
    if not (folder / CONFIG).is_file():
        raise InputError(
            f"{folder}: not a finished model (no {CONFIG} in it); train it, or let its training "
            "finish"
        )
    content = read_json(folder / CONFIG)
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT_VERSION:
        raise InputError(
            f"{folder / CONFIG}: format {found!r}, this neuroaug reads {FORMAT_VERSION}; "
            "train the model again"
        )
    needed = ("model", "config", "shape", "grid", "label", "sampler", "checksums")
    if missing := [name for name in needed if name not in content]:
        raise InputError(f"{folder / CONFIG}: no '{missing[0]}' in it; {COPY_AGAIN}")
    if verify:
        for name, expected in content["checksums"].items():
            if not (folder / name).is_file():
                raise InputError(f"{folder / name}: no such file; the model folder is incomplete")
            if sha256_file(folder / name) != expected:
                raise InputError(
                    f"{folder / name}: changed since the model was written; {COPY_AGAIN}"
                )
    return content


def read_model(folder: Path) -> StoredModel:
    """Read a model folder, every file checked.

    Raises
    ------
    InputError
        One line naming the file at fault.
    """
    content = read_model_config(folder)
    metric: dict[str, Tensor] = {}
    fitted: dict[str, dict[str, Tensor]] = {}
    law: dict[str, Any] = {}
    if METRIC in content["checksums"]:
        for name, tensor in load_tensors(folder / METRIC, COPY_AGAIN).items():
            if name.startswith(FITTED):
                sampler, _, part = name.removeprefix(FITTED).partition(".")
                fitted.setdefault(sampler, {})[part] = tensor
            elif name.startswith(LAW):
                law[name.removeprefix(LAW)] = tensor.numpy()
            else:
                metric[name] = tensor
    return StoredModel(
        family=content["model"],
        config=content["config"],
        shape=tuple(content["shape"]),
        grid=content["grid"],
        label=content["label"],
        sampler=dict(content["sampler"]),
        training=dict(content.get("training", {})),
        weights=load_tensors(folder / WEIGHTS, COPY_AGAIN),
        metric=metric,
        fitted=fitted,
        law=law_from_store(law, content["law"]) if "law" in content else None,
        texture=load_tensors(folder / TEXTURE, COPY_AGAIN)["fields"]
        if TEXTURE in content["checksums"]
        else None,
    )


def require_same_tensors(
    stored: dict[str, Tensor], expected: dict[str, Tensor], path: Path
) -> None:
    """Refuse weights of another network.

    Raises
    ------
    InputError
        Naming the first tensor that is missing, unexpected or of another shape.
    """
    another = "the weights are of another network"
    for name, tensor in expected.items():
        if name not in stored:
            raise InputError(f"{path}: no tensor '{name}' in it; {another}")
        if stored[name].shape != tensor.shape:
            raise InputError(
                f"{path}: tensor '{name}' is {tuple(stored[name].shape)}, expected "
                f"{tuple(tensor.shape)}; {another} or grid"
            )
    if extra := sorted(set(stored) - set(expected)):
        raise InputError(f"{path}: unexpected tensor '{extra[0]}'; {another}")
