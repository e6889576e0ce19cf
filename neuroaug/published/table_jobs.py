"""A table's configuration, and its jobs: one data set and run each, to a file of scores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from neuroaug.errors import InputError
from neuroaug.published.memo import Memo, digest
from neuroaug.published.run_scores import Score, read_scores, write_scores

if TYPE_CHECKING:
    import pandas as pd

MODES = ("full", "smoke")
NEEDED = ("table", "experiment", "runs", "datasets")
NOT_SETTINGS = ("about", "figure", "order", "runs", *MODES)
"""Parts of a configuration on which no number of a run depends."""


def experiments() -> dict[str, Callable[[Any], list[Score]]]:
    """What a configuration can ask for under ``experiment``."""
    from neuroaug.published.experiments import (
        ablation,
        augmentation,
        clustering,
        geometric_vae,
        held_out_likelihood,
        interpolation,
    )

    return {
        "augmentation": augmentation.table_3,
        "gan": augmentation.table_2,
        "curve": augmentation.table_3,
        "likelihood": held_out_likelihood.table,
        "geometric": geometric_vae.table,
        "clustering": clustering.table,
        "interpolation": interpolation.table,
        "ablation": ablation.table,
    }


def read_configuration(path: str | Path, mode: str = "") -> dict[str, Any]:
    """Read a table's configuration; ``smoke`` or ``full`` lays that section over the rest.

    Raises
    ------
    InputError
        If the file is absent, not YAML, or lacks ``table``, ``experiment``, ``runs`` or
        ``datasets``.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such table; choose one of those beside it") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
    missing = [name for name in NEEDED if name not in (content or {})]
    if missing:
        raise InputError(f"{path}: {', '.join(missing)} missing; see the other tables' files")
    if mode and mode not in content:
        raise InputError(f"{path}: the table has no {mode} version; make it without --{mode}")
    if mode:
        content = overlaid(content, content.get(mode, {}))
        content["table"] = f"{content['table']}-{mode}"
    return content


def overlaid(base: Any, over: Any) -> Any:
    """`base` with the values of `over`, mapping by mapping; None in `over` removes a key."""
    if not isinstance(base, dict) or not isinstance(over, dict):
        return over
    merged = {key: value for key, value in base.items() if not (key in over and over[key] is None)}
    return merged | {
        key: overlaid(base.get(key), value) for key, value in over.items() if value is not None
    }


def job_digest(settings: dict[str, Any], dataset: str, run: int) -> str:
    """Hash of all that the scores of one job depend on, so not of other data sets or runs."""
    content = {key: value for key, value in settings.items() if key not in NOT_SETTINGS}
    return digest([content | {"datasets": settings["datasets"][dataset]}, dataset, run])


def job_name(settings: dict[str, Any], dataset: str, run: int) -> str:
    """Name of a job's file of scores."""
    return f"{settings['table']}/{dataset}_run-{run}_{job_digest(settings, dataset, run)}"


def job_names(settings: dict[str, Any]) -> list[str]:
    """All jobs of a table: run 0 of every data set first."""
    runs, datasets = range(settings["runs"]), settings["datasets"]
    return [job_name(settings, dataset, run) for run in runs for dataset in datasets]


def collection_name(settings: dict[str, Any]) -> str:
    """Name of the record that all jobs of a table have been put together."""
    return f"{settings['table']}_{digest(job_names(settings))}"


def collected(settings: dict[str, Any], folder: Path) -> pd.DataFrame:
    """Scores of all jobs of a table that are done, in the configuration's order.

    Raises
    ------
    InputError
        If none is.
    """
    import pandas as pd

    files = [folder / "jobs" / f"{name}.tsv" for name in job_names(settings)]
    parts = [read_scores(file) for file in files if file.is_file()]
    if not parts:
        raise InputError(f"table '{settings['table']}': no run is done yet; make it first")
    return pd.concat(parts, ignore_index=True)


def run_job(settings: dict[str, Any], dataset: str, run: int, folder: Path) -> Path:
    """Make the scores of one data set and run.

    Parameters
    ----------
    settings : dict
        The table's configuration, from `read_configuration`.
    dataset : str
        Name of one of its data sets.
    run : int
        Number of the run, from 0.
    folder : Path
        Folder of generators, intermediate results and scores.

    Returns
    -------
    Path
        The file of scores; nothing is done where it exists.

    Raises
    ------
    InputError
        If images are absent or too few, or a name is unknown.
    """
    from neuroaug.published.table_run import TableRun

    out = folder / "jobs" / f"{job_name(settings, dataset, run)}.tsv"
    if out.is_file():
        return out
    known, name = experiments(), settings["experiment"]
    if name not in known:
        raise InputError(f"experiment '{name}': unknown; choose one of {', '.join(known)}")
    write_scores(out, known[name](TableRun(Memo(folder), settings, dataset, run)))
    return out
