"""Who was included: n, age, sex, MMSE and CDR by label (as in TPAMI Table 5)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from neuroaug.config import PUBLISHED_LABELS

if TYPE_CHECKING:
    import pandas as pd

DEMOGRAPHICS_COLUMNS = ("data_set", "label", "n", "age", "sex_m_f", "mmse", "cdr")


def demographics(
    labelled: pd.DataFrame, name: str = "", labels: Sequence[str] = PUBLISHED_LABELS
) -> pd.DataFrame:
    """Summarise a labelled cohort as TPAMI Table 5 does.

    Parameters
    ----------
    labelled : DataFrame
        As `neuroaug.cohort.labels.assign_labels` returns it.
    name : str
        Name of the data set, for the first column.
    labels : sequence of str
        Labels in the order of the rows, the negative one first; others follow by name.

    Returns
    -------
    DataFrame
        One row per label, all text: data_set, label, n, age (mean ± standard deviation), sex_m_f,
        mmse (likewise), cdr (number of participants by value). Missing values are left out and
        counted.
    """
    import pandas as pd

    rows = []
    order = {label: i for i, label in enumerate(labels)}
    found = labelled["diagnosis"].unique()
    for label in sorted(found, key=lambda value: (order.get(value, len(order)), value)):
        people = labelled[labelled["diagnosis"] == label]
        sex = people["sex"].dropna()
        cdr = people["cdr"].dropna().astype(float).value_counts().sort_index()
        missing_sex = f" ({len(people) - len(sex)} unknown)" if len(sex) < len(people) else ""
        missing_cdr = [f"n/a: {len(people) - int(cdr.sum())}"] if cdr.sum() < len(people) else []
        sexes = f"{(sex == 'M').sum()}/{(sex == 'F').sum()}{missing_sex}"
        cdrs = ", ".join([f"{value:g}: {count}" for value, count in cdr.items()] + missing_cdr)
        age, mmse = (_mean_and_deviation(people[column]) for column in ("age", "mmse"))
        rows.append((name, label, str(len(people)), age, sexes, mmse, cdrs))
    return pd.DataFrame(rows, columns=list(DEMOGRAPHICS_COLUMNS))


_UNKNOWN = re.compile(r"n/a|0/0( \(\d+ unknown\))?|n/a: \d+")


def with_values(table: pd.DataFrame) -> pd.DataFrame:
    """Leave out the columns of `demographics` of which nobody's value is known."""
    unknown = [
        column
        for column in table.columns
        if len(table) and all(_UNKNOWN.fullmatch(str(value)) for value in table[column])
    ]
    return table.drop(columns=unknown)


def _mean_and_deviation(values: pd.Series) -> str:
    known = values.dropna().astype(float)
    if known.empty:
        return "n/a"
    missing = f" ({len(values) - len(known)} unknown)" if len(known) < len(values) else ""
    deviation = f" ± {known.std(ddof=1):.1f}" if len(known) > 1 else ""
    return f"{known.mean():.1f}{deviation}{missing}"
