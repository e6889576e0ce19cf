"""Whom a generator learned from: ``lineage.tsv`` in its folder and in all sets sampled from it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from neuroaug.errors import InputError
from neuroaug.system.files import read_tsv, write_tsv

if TYPE_CHECKING:
    import pandas as pd

LABELLED_VISIT = ("participant_id", "session_id", "diagnosis")
LINEAGE_COLUMNS = (*LABELLED_VISIT, "image_sha256", "split", "split_hash")
FILE_NAME = "lineage.tsv"


def write_lineage(folder: str | Path, table: pd.DataFrame) -> None:
    """Write ``lineage.tsv``: the visits that a generator learned from.

    Parameters
    ----------
    folder : path-like
        The model folder, or the root of a synthetic CAPS.
    table : DataFrame
        With the columns of `LINEAGE_COLUMNS`, each filled.

    Raises
    ------
    InputError
        A column or value is missing, or there is no row.
    """
    path = Path(folder) / FILE_NAME
    _check(table, path)
    write_tsv(path, table[list(LINEAGE_COLUMNS)].sort_values(["participant_id", "session_id"]))


def read_lineage(folder: str | Path) -> pd.DataFrame:
    """Read the ``lineage.tsv`` of a model folder or a synthetic CAPS.

    Raises
    ------
    InputError
        There is none, or it is not complete: without it nothing can be proved.
    """
    path = Path(folder) / FILE_NAME
    if not path.is_file():
        raise InputError(
            f"{path}: no such file; whom this generator learned from cannot be proved: "
            "train it again"
        )
    table = read_tsv(path, LINEAGE_COLUMNS)[list(LINEAGE_COLUMNS)]
    _check(table, path)
    return table


def _check(table: pd.DataFrame, path: Path) -> None:
    missing = [name for name in LINEAGE_COLUMNS if name not in table.columns]
    if missing:
        raise InputError(f"{path}: column(s) {', '.join(missing)} missing from the lineage")
    if not len(table):
        raise InputError(f"{path}: nobody in the lineage; train the generator again")
    empty = table[list(LINEAGE_COLUMNS)].isna().any(axis=1)
    if empty.any():
        who = table["participant_id"][empty].iloc[0]
        raise InputError(f"{path}: the row of {who} is not complete; train the generator again")
