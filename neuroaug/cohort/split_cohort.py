"""The split of a cohort: label it, draw its sets, and say who is in them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from neuroaug.config import StudyConfig
from neuroaug.errors import InputError

if TYPE_CHECKING:
    from neuroaug.cohort.split_folder import SplitFolder
    from neuroaug.study import Study

log = logging.getLogger("neuroaug")


def split_cohort(
    study: Study | None,
    config: StudyConfig,
    *,
    caps: Path | None = None,
    tables: Path | None = None,
    out: Path | None = None,
    typed: frozenset[str] = frozenset(),
) -> SplitFolder:
    """Label a cohort, draw its sets, and say who is in them.

    Parameters
    ----------
    study : Study or None
        Gives the folders that are not passed.
    config : StudyConfig
        Labels, cohort, resolution and split settings.
    caps, tables, out : Path, optional
        Preprocessed images, clinical tables, folder to write.
    typed : frozenset of str
        Names of `SplitConfig` fields that the user typed: they are met or refused, never adapted.
    """
    from neuroaug.cohort.account import label_cohort
    from neuroaug.cohort.demographics import with_values
    from neuroaug.cohort.splits import make_split

    if study is not None:
        caps, tables, out = caps or study.caps, tables or study.tables, out or study.splits
    if caps is None or tables is None or out is None:
        absent = "CAPS" if caps is None else "--tables" if tables is None else "--out"
        raise InputError(f"{absent}: needed outside a study")
    people = label_cohort(
        tables,
        caps,
        cohort=config.cohort,
        rules=config.label_rules,
        min_age=config.split.min_age,
        resolution=config.resolution if study is not None else None,
    )
    for line in people.account.lines():
        log.info("%s", line)
    made = make_split(
        people.labelled,
        people.exclusions,
        out,
        config.split,
        labels=config.label_names,
        typed=typed,
        cohort=people.cohort,
        notes=people.notes,
        absent=people.absent,
    )
    for line in (
        *made.notes,
        *with_values(made.demographics()).to_string(index=False).splitlines(),
    ):
        log.info("%s", line)
    log.info("%s: %s", out, "  ".join(f"{name} {_counts(made, name)}" for name in made.names()))
    return made


def _counts(split: SplitFolder, name: str) -> str:
    counts = split.table(name)["diagnosis"].value_counts()
    return " + ".join(f"{n} {label}" for label, n in sorted(counts.items()))
