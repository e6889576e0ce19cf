"""From the folders of all runs of a study to ``results.tsv`` and ``comparisons.tsv``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from neuroaug.cohort.account import external_rules, label_external
from neuroaug.cohort.reading.table_layouts import people_folders
from neuroaug.cohort.split_folder import SplitFolder
from neuroaug.cohort.tables import read_published
from neuroaug.config import PUBLISHED_LABELS, Cell
from neuroaug.errors import InputError
from neuroaug.evaluation.gather_scores import gather_pairs
from neuroaug.statistics.bootstrap import N_REPLICATES
from neuroaug.statistics.cell_scores import RealCounts
from neuroaug.statistics.results import EvaluationSummary, summarise_scores
from neuroaug.study import Study
from neuroaug.system.files import write_tsv


def summarise(
    evaluation_folder: Path,
    cells: Sequence[Cell],
    *,
    n_real_per_label: Mapping[str, RealCounts] | None = None,
    people: Mapping[str, pd.DataFrame] | None = None,
    n_generators: int = 1,
    classes: tuple[str, str] = PUBLISHED_LABELS,
    n_replicates: int = N_REPLICATES,
    seed: int = 0,
) -> EvaluationSummary:
    """Summarise the runs of an evaluation.

    Parameters
    ----------
    evaluation_folder, cells, n_generators, classes
        See `neuroaug.evaluation.gather_scores.gather_pairs`.
    n_real_per_label, people, n_replicates, seed
        See `neuroaug.statistics.results.summarise_scores`.

    Raises
    ------
    InputError
        No run has ended, a table of scores is not as it should be, or cells were tested on
        different images.
    """
    pairs = gather_pairs(evaluation_folder, cells, n_generators, classes)
    if not pairs:
        raise InputError(f"{evaluation_folder}: no run has ended yet; nothing to summarise")
    return summarise_scores(
        pairs,
        n_real_per_label=n_real_per_label,
        people=people,
        n_replicates=n_replicates,
        seed=seed,
    )


def summarise_study(study: Study, cells: Sequence[Cell]) -> EvaluationSummary:
    """Summarise a study: write ``results.tsv``, ``comparisons.tsv`` and ``evaluation/*.tsv``."""
    columns = ["participant_id", "age", "sex", "site"]
    real: dict[str, RealCounts] = {}
    people: dict[str, pd.DataFrame] = {}
    if (study.splits / "split.json").is_file():
        split = SplitFolder.open(study.splits)
        people["test"] = split.table("test")[columns]
        for cell in cells:
            if not cell.uses_real:
                real[cell.name] = 0
            elif cell.split in split.names():
                counts = split.table(cell.split)["diagnosis"].value_counts()
                real[cell.name] = {
                    label: int(counts.get(label, 0)) for label in study.config.class_labels
                }
    for name, external in study.config.external.items():
        if study.path(external.tables).exists():
            people[name] = _external_people(study, name, columns)
    summary = summarise(
        study.root / "evaluation",
        cells,
        n_real_per_label=real,
        people=people,
        n_generators=len(study.config.generator.seeds),
        classes=study.config.classes,
        seed=study.config.evaluation.seed,
    )
    write_summary(summary, study.results, study.comparisons, study.root / "evaluation")
    return summary


def _external_people(study: Study, name: str, columns: list[str]) -> pd.DataFrame:
    """Age, sex and site of an external cohort at baseline."""
    if external_rules(study, name) is not None:
        return label_external(study, name).labelled[columns]
    external = study.config.external[name]
    folders = people_folders(study.path(external.caps) / "subjects")
    visits, *_ = read_published(study.path(external.tables), external.cohort, folders)
    return visits.loc[visits["months"] == 0, columns]


def write_summary(
    summary: EvaluationSummary, results: Path, comparisons: Path, folder: Path
) -> None:
    """Write the two tables, and the further ones into `folder`."""
    write_tsv(results, summary.results)
    write_tsv(comparisons, summary.comparisons)
    for name, table in summary.tables.items():
        write_tsv(folder / f"{name}.tsv", table)
