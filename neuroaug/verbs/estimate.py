"""How many jobs a study needs, and the hours they may take, from steps measured on this machine."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from neuroaug.config import Cell
from neuroaug.errors import InputError
from neuroaug.imaging.grid import GRIDS
from neuroaug.study import Study

if TYPE_CHECKING:
    from neuroaug.evaluation.clinicadl import Run

# Sizes of the papers' ADNI sets, per label, for a split that is not drawn yet (TPAMI 5.4).
PUBLISHED_SIZE = {"train": 226}
PREPROCESSING_S = {"exact": 230.0, "default": 130.0, "fast": 80.0}  # one visit, one core


def print_estimate(study: Study) -> None:
    """Print the jobs of the whole protocol and the hours they may take on this kind of device."""
    config = study.config
    cells = config.cells()
    generators = {
        (cell.split, label, seed)
        for cell in cells
        if cell.n_synthetic
        for label in config.labels
        for seed in config.generator.seeds
    }
    step, where = generator_step_seconds(study)
    steps = {split: math.ceil(n_per_label(study, split) / config.generator.batch_size) for split, _, _ in generators}
    train_h = sum(steps[split] * config.generator.max_epochs for split, _, _ in generators) * step / 3600
    lines = [
        ("generators to train", len(generators), f"at most {train_h:.1f} h ({where}; early stopping ends sooner)"),
        ("synthetic sets to draw", len(generators), ""),
        ("CNN runs", len(cells) * config.evaluation.runs, _evaluation_hours(study, cells)),
    ]
    if config.bids or config.phantom:
        n = _n_raw(study)
        hours = n * PREPROCESSING_S[config.preprocessing.profile] / 3600
        lines.insert(0, ("visits to preprocess", n, f"about {hours:.1f} core hours"))
    for what, number, note in lines:
        print(f"{what:<24} {number:>7}   {note}".rstrip())


def n_per_label(study: Study, split: str) -> int:
    """Training images a label: counted where the split is drawn, else what its name promises."""
    if (study.splits / "split.json").is_file():
        from neuroaug.verbs.inputs import open_split

        return max(1, int(open_split(study).table(split)["diagnosis"].value_counts().max()))
    if "-" in split:
        return int(split.split("-")[1])
    if study.config.phantom is not None:
        return max(1, study.config.phantom.n_participants // 3)
    return PUBLISHED_SIZE["train"]


def _n_raw(study: Study) -> int:
    if study.config.phantom is not None:
        return study.config.phantom.n_participants
    if study.bids is None or not study.bids.is_dir():
        raise InputError(f"{study.bids}: no such folder")
    return len(list(study.bids.glob("sub-*/**/*_T1w.nii*")))


def generator_step_seconds(study: Study) -> tuple[float, str]:
    """Seconds of a training step at the study's batch size, measured with one image and scaled."""
    import torch

    from neuroaug.models import RHVAE, VAE

    config = study.config.generator
    device = "cuda" if torch.cuda.is_available() else "cpu"
    kind = RHVAE if config.model == "rhvae" else VAE
    shape = GRIDS[study.config.resolution].shape
    if config.network == "mlp":
        return float("nan"), "the fully connected network is not measured here"
    model = kind(config, shape, label="CN", grid=study.config.resolution).to(device)
    x = torch.rand(1, 1, *shape, device=device)
    times = []
    for _ in range(2):
        start = time.perf_counter()
        model.loss(x).loss.backward()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times) * config.batch_size, f"a step of one image took {min(times):.2f} s on {device}"


def _evaluation_hours(study: Study, cells: Sequence[Cell]) -> str:
    from neuroaug.evaluation.clinicadl import estimate_step_seconds

    config = study.config.evaluation
    step: dict[tuple[str, str], float] = {}
    seconds = 0.0
    for cell in cells:
        key = (cell.network, cell.resolution)
        if cell.network == "optimised":
            continue  # unknown until the search has run
        if key not in step:
            step[key] = estimate_step_seconds(cell, config)
        seconds += config.runs * config.epochs * steps_per_epoch(study, cell) * step[key]
    return f"about {seconds / 3600:.1f} h of this machine's device"


def steps_per_epoch(study: Study, cell: Cell) -> int:
    """Gradient steps of an epoch of a cell."""
    real = n_per_label(study, cell.split)
    labels = len(study.config.labels)
    n = labels * ((real if cell.uses_real else 0) + cell.n_synthetic)
    if cell.steps == "matched":
        n = labels * real
    return math.ceil(n / study.config.evaluation.batch_size)


def say_evaluation(study: Study, runs: Sequence[Run], n_procs: int) -> None:
    """Print what `neuroaug evaluate` would do."""
    cells = tuple(dict.fromkeys(run.cell for run in runs))
    print(f"{len(runs)} runs in {len(cells)} cells, {n_procs} at a time; no generator saw a test participant")
    print(_evaluation_hours(study, cells))
