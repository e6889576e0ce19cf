"""How many jobs a study needs, and the hours they may take, from steps measured on this machine."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from neuroaug.config import OPTIMISED, Cell
from neuroaug.errors import InputError
from neuroaug.imaging.grid import GRIDS
from neuroaug.preprocessing.plan import SECONDS
from neuroaug.study import Study

if TYPE_CHECKING:
    from neuroaug.config import ClassifierSpec, EvaluationConfig
    from neuroaug.evaluation.runs import Run

# Sizes of the papers' ADNI sets, per label, for a split that is not drawn yet (TPAMI 5.4).
PUBLISHED_SIZE = {"train": 226}
PHANTOM_SHARE = 0.25  # of the seconds of a real head, for a visit of the embedded cohort, whose voxels are larger
TIMED_DRAWS = 6  # of a search, whose networks differ a hundredfold


def print_estimate(study: Study, n_jobs: int | None = None) -> None:
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
    lines: list[tuple[str, int | str, str]] = []
    if config.bids or config.phantom:
        n = _n_raw(study)
        hours = (
            n
            * SECONDS[config.preprocessing.profile]
            / 3600
            * (PHANTOM_SHARE if config.phantom else 1)
        )
        lines.append(("visits to preprocess", n, f"about {hours:.1f} core hours"))
    device_hours = 0.0
    if generators:
        step, where = generator_step_seconds(study)
        steps = {
            split: math.ceil(n_per_label(study, split) / config.generator.batch_size)
            for split, *_ in generators
        }
        hours = (
            sum(steps[split] * config.generator.max_epochs for split, *_ in generators)
            * step
            / 3600
        )
        device_hours += 0.0 if math.isnan(hours) else hours
        note = f"at most {_hours(hours)} ({where}; early stopping ends sooner)"
        lines.append(("generators to train", len(generators), note))
        lines.append(("synthetic sets to draw", len(generators), ""))
    searched = dict.fromkeys(cell.resolution for cell in cells if cell.network == OPTIMISED)
    for resolution in searched:
        hours = search_hours(study, resolution)
        device_hours += hours
        asked = config.search
        what = f"about {_hours(hours)}; {asked.draws} draws x {asked.folds} folds x {asked.epochs} epochs"
        lines.append((f"search, trainings at {resolution}", asked.draws * asked.folds, what))
    hours = evaluation_hours(study, cells)
    device_hours += hours
    lines.append(("cells", len(cells), ""))
    lines.append(("CNN runs", len(cells) * config.evaluation.runs, f"about {_hours(hours)}"))
    if n_jobs is not None:
        lines.append(("jobs of the workflow", n_jobs, ""))
    lines.append(
        (
            f"{_device().upper()} hours",
            _hours(device_hours).removesuffix(" h"),
            _where(bool(searched)),
        )
    )
    for what, number, note in lines:
        print(f"{what:<26} {number:>9}   {note}".rstrip())


def _hours(hours: float) -> str:
    return "unknown" if math.isnan(hours) else f"{hours:.1f} h" if hours < 100 else f"{hours:.0f} h"


def _device() -> str:
    import torch

    return "gpu" if torch.cuda.is_available() else "cpu"


def _where(searched: bool) -> str:
    """How the hours were come by."""
    import torch

    name = (
        torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else "the CPU: no GPU here, where it is far less"
    )
    drawn = f"; searched networks as the mean of {TIMED_DRAWS} draws" if searched else ""
    return f"from steps measured now on {name}{drawn}"


def n_per_label(study: Study, split: str) -> int:
    """Training images a label: counted where the split is drawn, else what its name promises."""
    if (study.splits / "split.json").is_file():
        from neuroaug.cohort.split_table import open_split

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

    from neuroaug.models.registry import FAMILIES

    config = study.config.generator
    device = "cuda" if torch.cuda.is_available() else "cpu"
    kind = FAMILIES.get(config.model)
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
    return min(
        times
    ) * config.batch_size, f"a step of one image took {min(times):.2f} s on {device}"


def evaluation_hours(study: Study, cells: Sequence[Cell]) -> float:
    """Hours of all runs of some cells on this machine's device, one after another."""
    config = study.config.evaluation
    seconds = 0.0
    for cell in cells:
        step = _step_seconds(study, cell.network, cell.resolution)
        seconds += (
            config.runs * config.epochs_of(cell.network) * steps_per_epoch(study, cell) * step
        )
    return seconds / 3600


def search_hours(study: Study, resolution: str) -> float:
    """Hours of the search of the classifier at a resolution."""
    asked, batch = study.config.search, study.config.evaluation.batch_size
    images = len(study.config.labels) * n_per_label(study, "train") * (1 - 1 / asked.folds)
    steps = asked.draws * asked.folds * asked.epochs * math.ceil(images / batch)
    return steps * _mean_draw_seconds(study, resolution) / 3600


def _step_seconds(study: Study, network: str, resolution: str) -> float:
    if network != OPTIMISED:
        return _measured(network, resolution, study.config.evaluation)
    from neuroaug.evaluation.study_search import found

    if (study.search(resolution) / "best.json").is_file():
        return _measured(network, resolution, study.config.evaluation, found(study, resolution))
    return _mean_draw_seconds(study, resolution)


@cache
def _measured(
    network: str, resolution: str, config: EvaluationConfig, spec: ClassifierSpec | None = None
) -> float:
    from neuroaug.evaluation.step_timing import bare_step_seconds

    return bare_step_seconds(network, GRIDS[resolution].shape, config, spec=spec)


def _mean_draw_seconds(study: Study, resolution: str) -> float:
    """A step of a network of the search space: the mean over its first draws, timed small and
    scaled by voxels.

    At full size a wide draw would take minutes on a CPU, and the memory of a small GPU.
    """
    from neuroaug.evaluation.search import draw

    timed = "4mm"
    voxels = math.prod(GRIDS[resolution].shape) / math.prod(GRIDS[timed].shape)
    specs = [draw(study.config.search.seed, i) for i in range(TIMED_DRAWS)]
    seconds = [_measured(OPTIMISED, timed, study.config.evaluation, spec) for spec in specs]
    return voxels * sum(seconds) / len(seconds)


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
    print(
        f"{len(runs)} runs in {len(cells)} cells, {n_procs} at a time; no generator saw a test participant"
    )
    print(
        f"about {_hours(evaluation_hours(study, cells))} of this machine's device, for all runs of these cells"
    )
