"""The scores of all runs of a cell, in one order of images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from neuroaug.config import Cell
from neuroaug.errors import InputError
from neuroaug.statistics.bootstrap import RunOutcomes

VALIDATION = "validation"  # its name among the sets of `CellScores.runs`

RealCounts = Mapping[str, int] | int | str
"""Real training images of a cell: by label, one number for each of them, or text."""


@dataclass(frozen=True)
class CellScores:
    """All scores of one cell.

    Attributes
    ----------
    cell : Cell
        The cell that was trained and tested.
    outcomes : mapping of str to RunOutcomes
        By test set, ``test`` first.
    runs : DataFrame
        One row per run and set (validation too, where its scores are there): run, test_set, and its
        measures.
    n_real_per_label : str
        Real training images, as the runs recorded it; ``n/a`` where they did not.
    classes : (str, str)
        Negative and positive class.
    """

    cell: Cell
    outcomes: Mapping[str, RunOutcomes]
    runs: pd.DataFrame
    n_real_per_label: str
    classes: tuple[str, str]

    @property
    def name(self) -> str:
        """The cell's name."""
        return self.cell.name

    def per_run(self, test_set: str) -> pd.DataFrame:
        """Measures of each run on one set."""
        return self.runs[self.runs["test_set"] == test_set]

    def n_people(self, test_set: str, measure: str) -> int:
        """Participants that a measure rests on: of its label, or of the smaller label."""
        positive = self.outcomes[test_set].positive
        counts = {"sensitivity": int(positive.sum()), "specificity": int((~positive).sum())}
        return counts.get(measure, min(counts.values()))


def real_per_label(counts: RealCounts) -> str:
    """``50`` where labels have equally many, else as ``243 HC + 210 MDD``."""
    if not isinstance(counts, Mapping):
        return str(counts)
    numbers = set(counts.values())
    if len(numbers) == 1:
        return str(numbers.pop())
    return " + ".join(f"{n} {label}" for label, n in counts.items())


def require_same_images(first: CellScores, second: CellScores, test_set: str) -> None:
    """Refuse to compare two cells that were tested on other images.

    Raises
    ------
    InputError
        Naming the cells and one participant.
    """
    one, two = first.outcomes[test_set], second.outcomes[test_set]
    if one.participants != two.participants or not np.array_equal(one.positive, two.positive):
        who = sorted(set(one.participants) ^ set(two.participants)) or ["a label"]
        raise InputError(
            f"cells {first.name} and {second.name}: not tested on the same images of {test_set} "
            f"(e.g. {who[0]}); run one of them again"
        )
