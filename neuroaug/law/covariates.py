"""Covariates of people: read from the columns of a table, and drawn independently of the label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

import numpy as np
from numpy.typing import NDArray

from neuroaug.config.law_settings import Covariate
from neuroaug.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

Values = NDArray[np.float64]

COVARIATES: tuple[str, ...] = get_args(Covariate)
"""Columns of a split that can be covariates: age in years, sex as M or F."""

SEXES = {"F": 0.0, "M": 1.0}


def covariate_values(table: pd.DataFrame, names: Sequence[str]) -> Values:
    """Covariates of the rows of a table.

    Parameters
    ----------
    table : DataFrame
        With the columns of `names`; sex is M or F.
    names : sequence of str
        Covariates, of `COVARIATES`.

    Returns
    -------
    ndarray, shape (N, q)
        Age in years, sex as 1 for M and 0 for F; NaN where it is missing.
    """
    columns = [_column(table, name) for name in names]
    return np.stack(columns, axis=1) if columns else np.empty((len(table), 0))


def _column(table: pd.DataFrame, name: str) -> Values:
    if name not in COVARIATES:
        raise InputError(f"covariate '{name}': unknown; choose of {', '.join(COVARIATES)}")
    if name not in table.columns:
        return np.full(len(table), np.nan)
    if name == "sex":
        return np.array([SEXES.get(str(value), np.nan) for value in table[name]])
    return table[name].to_numpy(dtype=float)


def written(values: Values, names: Sequence[str]) -> dict[str, list[str]]:
    """Covariates (N, q) as the columns of a ``participants.tsv``: age in tenths of a year."""
    sexes = {value: name for name, value in SEXES.items()}
    return {
        name: [
            sexes[float(round(value))] if name == "sex" else f"{value:.1f}"
            for value in values[:, column]
        ]
        for column, name in enumerate(names)
    }


@dataclass(frozen=True)
class CovariateLaw:
    """The covariates of everyone learned from, drawn as whole people whatever their label.

    Attributes
    ----------
    names : tuple of str
        Covariates.
    people : ndarray, shape (N, q)
        Their values, a row a person.
    """

    names: tuple[str, ...]
    people: Values

    def draw(
        self,
        n: int,
        generator: np.random.Generator,
        ranges: Mapping[str, tuple[float, float]] | None = None,
    ) -> Values:
        """Draw the covariates of n synthetic people.

        Parameters
        ----------
        n : int
            How many.
        generator : Generator
            Source of randomness.
        ranges : mapping of str to (float, float), optional
            Least and largest value asked of a covariate: it is then drawn uniformly between them,
            and the others with it from the people who lie there, or from everyone where nobody
            does.

        Returns
        -------
        ndarray, shape (n, q)
        """
        ranges = ranges or {}
        inside = np.ones(len(self.people), dtype=bool)
        for name, (low, high) in ranges.items():
            column = self.people[:, self.names.index(name)]
            inside &= (column >= low) & (column <= high)
        pool = self.people[inside] if inside.any() else self.people
        drawn = pool[generator.integers(len(pool), size=n)]
        for name, (low, high) in ranges.items():
            drawn[:, self.names.index(name)] = generator.uniform(low, high, size=n)
        return drawn
