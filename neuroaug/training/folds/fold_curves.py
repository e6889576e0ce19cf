"""``folds.tsv`` beside a model: the ELBO of the people that each fold of its training left out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neuroaug.system.files import read_tsv

FILE_NAME = "folds.tsv"
COLUMNS = ("fold", "epoch", "steps", "elbo")


@dataclass(frozen=True)
class FoldCurves:
    """Curves of all folds.

    Attributes
    ----------
    folds : tuple of (ndarray, ndarray)
        Steps and ELBO of each fold.
    taken : float
        Mean of the steps at which the folds were best.
    """

    folds: tuple[tuple[NDArray[np.float64], NDArray[np.float64]], ...]
    taken: float


def read_fold_curves(model_folder: Path) -> FoldCurves | None:
    """Read the curves of a model's folds; None where it was trained without."""
    path = model_folder / FILE_NAME
    if not path.is_file():
        return None
    table = read_tsv(path, COLUMNS)
    steps, elbo = (table[name].to_numpy(float) for name in ("steps", "elbo"))
    members = [(table["fold"] == fold).to_numpy() for fold in table["fold"].unique()]
    folds = tuple((steps[rows], elbo[rows]) for rows in members)
    return FoldCurves(folds, float(np.mean([s[np.nanargmax(e)] for s, e in folds])))
