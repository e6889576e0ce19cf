"""``neuroaug split``: who is trained on, who is tested."""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd

from neuroaug.cohort import labels as label_rules
from neuroaug.cohort import splits, tables
from neuroaug.cohort.split_folder import SplitFolder
from neuroaug.config import StudyConfig
from neuroaug.errors import InputError
from neuroaug.imaging import caps as caps_names
from neuroaug.preprocessing import records
from neuroaug.study import Study

log = logging.getLogger("neuroaug")


def split(
    study: Study | None,
    *,
    caps: Path | None = None,
    tables_folder: Path | None = None,
    out: Path | None = None,
    config: StudyConfig | None = None,
    typed: frozenset[str] = frozenset(),
) -> SplitFolder:
    """Label the cohort and draw matched test, train, validation and train-K sets.

    Parameters
    ----------
    study : Study or None
        Gives the defaults of what is not passed.
    caps, tables_folder, out : Path, optional
        Preprocessed images, clinical tables, folder to write.
    config : StudyConfig, optional
        Overrides the study's (options typed on the command line are already in it).
    typed : frozenset of str
        Names of `SplitConfig` fields that the user typed: they are met or refused, never adapted.
    """
    if study is not None:
        caps, tables_folder, out = (
            caps or study.caps,
            tables_folder or study.tables,
            out or study.splits,
        )
    config = config or (study.config if study is not None else StudyConfig())
    for value, option in ((caps, "CAPS"), (tables_folder, "--tables"), (out, "--out")):
        if value is None:
            raise InputError(f"{option}: needed outside a study")
    assert caps is not None
    assert tables_folder is not None
    assert out is not None
    caps_names.require_caps(caps)
    visits, cohort = tables.read_visits(tables_folder, cohort=config.cohort)
    labelled, exclusions = label_rules.assign_labels(
        visits,
        cohort,
        caps_visits=caps_names.list_visits(caps, config.resolution if study is not None else None),
        passed=passed_visits(caps),
        min_age=config.split.min_age,
    )
    made = splits.make_split(
        labelled,
        exclusions,
        out,
        config.split,
        labels=config.labels,
        typed=set(typed),
        cohort=cohort,
    )
    for note in made.notes:
        log.info("%s", note)
    for line in made.demographics().to_string(index=False).splitlines():
        log.info("%s", line)
    log.info("%s: %s", out, "  ".join(f"{name} {_counts(made, name)}" for name in made.names()))
    return made


def _counts(split: SplitFolder, name: str) -> str:
    counts = split.table(name)["diagnosis"].value_counts()
    return " + ".join(f"{n} {label}" for label, n in sorted(counts.items()))


def passed_visits(caps: Path) -> list[caps_names.Visit] | None:
    """Visits that passed the quality check; None, and that is said, where there was none."""
    passed = records.passed_visits(caps)
    if passed is None:
        log.info("%s: no qc.tsv; every preprocessed visit counts as passed", caps)
    return passed


def external_table(study: Study, name: str) -> tuple[Path, pd.DataFrame]:
    """CAPS and table of an external test cohort; kept, with its exclusions, in
    ``splits/external/<name>``.
    """
    external = study.config.external[name]
    caps = study.path(external.caps)
    caps_names.require_caps(caps)
    visits, cohort = tables.read_visits(study.path(external.tables), cohort=external.cohort)
    labelled, exclusions = label_rules.assign_labels(
        visits,
        cohort,
        caps_visits=caps_names.list_visits(caps, study.config.resolution),
        passed=passed_visits(caps),
        min_age=external.min_age,
    )
    out = study.splits / "external" / name
    folder = splits.make_external(
        labelled, exclusions, out, name, labels=study.config.labels, cohort=cohort
    )
    return caps, folder.table(name)
