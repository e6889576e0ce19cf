"""A model on disk: safetensors and JSON, every file with its checksum, `config.json` written last.

``config.json`` holds the model's kind, settings, grid, label, sampler settings and the sha256 of
the other files. A folder with one is complete; a folder with a file that was changed since is
refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import ValidationError

from neuroaug.config import GeneratorConfig
from neuroaug.errors import InputError
from neuroaug.system.files import read_json, sha256_file, write_json
from neuroaug.system.provenance import versions
from neuroaug.system.tensors import load_tensors, save_tensors

if TYPE_CHECKING:
    from neuroaug.models.generative_model import GenerativeModel

FORMAT_VERSION = 1
CONFIG = "config.json"
WEIGHTS = "weights.safetensors"
METRIC = "metric.safetensors"
ENVIRONMENT = "environment.json"
COPY_AGAIN = "copy the model folder again"
FILES = (WEIGHTS, METRIC, "history.csv", "lineage.tsv", ENVIRONMENT)
"""What a model folder may hold beside `config.json`, all of it checksummed."""


def load_weights(model: torch.nn.Module, path: Path) -> None:
    """Load weights strictly.

    Raises
    ------
    InputError
        Naming the first tensor that is missing, unexpected or of another shape.
    """
    stored = load_tensors(path, COPY_AGAIN)
    expected = model.state_dict()
    for name, tensor in expected.items():
        if name not in stored:
            raise InputError(
                f"{path}: no tensor '{name}' in it; the weights are of another network"
            )
        if stored[name].shape != tensor.shape:
            raise InputError(
                f"{path}: tensor '{name}' is {tuple(stored[name].shape)}, expected {tuple(tensor.shape)}; "
                "the weights are of another network or grid"
            )
    if extra := sorted(set(stored) - set(expected)):
        raise InputError(
            f"{path}: unexpected tensor '{extra[0]}'; the weights are of another network"
        )
    model.load_state_dict(stored)


def save_model(model: GenerativeModel, folder: Path) -> None:
    """Write a model folder; ``history.csv`` and ``lineage.tsv`` are kept if they are there, and
    checksummed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).unlink(missing_ok=True)  # no longer complete until the end
    save_tensors(folder / WEIGHTS, dict(model.state_dict()))
    if model.has_metric:
        save_tensors(folder / METRIC, model.metric_tensors())
    else:
        (folder / METRIC).unlink(missing_ok=True)
    write_json(folder / ENVIRONMENT, versions())
    _write_config(model, folder)


def _write_config(model: GenerativeModel, folder: Path) -> None:
    write_json(
        folder / CONFIG,
        {
            "format": FORMAT_VERSION,
            "model": model.name,
            "config": model.config.model_dump(mode="json"),
            "shape": list(model.shape),
            "grid": model.grid,
            "label": model.label,
            "sampler": model.sampler_settings,
            "training": model.training_record,
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
            f"{folder}: not a finished model (no {CONFIG} in it); train it, or let its training finish"
        )
    content = read_json(folder / CONFIG)
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT_VERSION:
        raise InputError(
            f"{folder / CONFIG}: format {found!r}, this neuroaug reads {FORMAT_VERSION}; train the model again"
        )
    missing = [
        k
        for k in ("model", "config", "shape", "grid", "label", "sampler", "checksums")
        if k not in content
    ]
    if missing:
        raise InputError(f"{folder / CONFIG}: no '{missing[0]}' in it; copy the model folder again")
    if verify:
        for name, expected in content["checksums"].items():
            if not (folder / name).is_file():
                raise InputError(f"{folder / name}: no such file; the model folder is incomplete")
            if sha256_file(folder / name) != expected:
                raise InputError(
                    f"{folder / name}: changed since the model was written; copy the model folder again"
                )
    return content


def load_model(folder: str | Path) -> GenerativeModel:
    """Load the model in `folder`, an `RHVAE` or a `VAE` by its ``config.json``, on the CPU, in
    evaluation mode.

    Raises
    ------
    InputError
        One line naming the file at fault.
    """
    from neuroaug.models.rhvae import RHVAE
    from neuroaug.models.vae import VAE

    folder = Path(folder)
    content = read_model_config(folder)
    kinds: dict[str, type[GenerativeModel]] = {"rhvae": RHVAE, "vae": VAE}
    if content["model"] not in kinds:
        raise InputError(
            f"{folder / CONFIG}: unknown model '{content['model']}' (known: {', '.join(kinds)})"
        )
    try:
        config = GeneratorConfig.model_validate(content["config"])
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{folder / CONFIG}: config.{where}: {first['msg']}; the model is of another version"
        ) from None
    model = kinds[content["model"]](
        config, tuple(content["shape"]), content["label"], content["grid"]
    )
    load_weights(model, folder / WEIGHTS)
    if METRIC in content["checksums"]:
        tensors = load_tensors(folder / METRIC, COPY_AGAIN)
        try:
            model.set_metric_tensors(tensors)
        except KeyError as error:
            raise InputError(
                f"{folder / METRIC}: no tensor {error} in it; copy the model folder again"
            ) from None
    model.sampler_settings = dict(content["sampler"])
    model.training_record = dict(content.get("training", {}))
    return model.eval()
