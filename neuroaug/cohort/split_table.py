"""One set of a split, by its name in a study or by the path of its table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from neuroaug.cohort.lineage import LABELLED_VISIT
from neuroaug.cohort.split_folder import SplitFolder, read_set
from neuroaug.errors import InputError
from neuroaug.study import Study
from neuroaug.system.files import sha256_json


@dataclass(frozen=True)
class SplitTable:
    """One set of a split.

    Attributes
    ----------
    name : str
        Stem of the table's file.
    table : DataFrame
        One row per participant, as `neuroaug.cohort.split_folder.read_set` returns it.
    hash : str
        Content hash of the split folder; of the rows alone, where the table is in none.
    """

    name: str
    table: pd.DataFrame
    hash: str

    def rows(self, label: str) -> pd.DataFrame:
        """Rows of one diagnosis.

        Raises
        ------
        InputError
            If the label does not occur; the labels found are named.
        """
        rows = self.table[self.table["diagnosis"] == label].reset_index(drop=True)
        if rows.empty:
            found = ", ".join(sorted(self.table["diagnosis"].dropna().unique())) or "none"
            raise InputError(
                f"label '{label}': no such diagnosis in the split '{self.name}' (found: {found})"
            )
        return rows


def open_split(study: Study) -> SplitFolder:
    """Open the study's split and check that it is unchanged since it was made.

    Raises
    ------
    InputError
        If there is none, or a table was edited by hand.
    """
    if not study.splits.is_dir():
        raise InputError(f"{study.splits}: no split yet; make it with 'neuroaug split'")
    split = SplitFolder.open(study.splits)
    split.verify()
    return split


def read_split(study: Study | None, split: str | None) -> SplitTable:
    """Read a set of a split by its name in the study, or from a TSV's path.

    Raises
    ------
    InputError
        If it is absent, lacks a column, holds a label that is none of the study's, or was edited by
        hand.
    """
    if study is not None and (split is None or not split.endswith(".tsv")):
        folder = open_split(study)
        name = split or study.config.split.default
        if name not in folder.names():
            raise InputError(
                f"--split {name}: not in {study.splits} (found: {', '.join(folder.names())})"
            )
        return SplitTable(name, folder.table(name), folder.hash)
    if split is None:
        raise InputError(
            "--split: outside a study, give the path of a TSV with "
            "participant_id, session_id, diagnosis"
        )
    path = Path(split)
    if not path.is_file():
        raise InputError(
            f"{path}: no such file; --split is a TSV's path outside a study, a name inside one"
        )
    if (path.parent / "split.json").is_file():
        folder = SplitFolder.open(path.parent)
        folder.verify()
        return SplitTable(path.stem, folder.table(path.stem), folder.hash)
    if study is None:
        table = read_set(path)
    else:
        table = read_set(path, study.config.label_names, study.config.label_rules)
    rows = table[list(LABELLED_VISIT)].to_numpy().tolist()
    return SplitTable(path.stem, table, sha256_json(sorted(rows)))
