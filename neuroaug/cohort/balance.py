"""Whether the sets of a split are alike: age, sex and site compared per label (TPAMI sec. 5.4)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

ALPHA = 0.05
_TESTED = ("variable", "test", "statistic", "p", "n_1", "n_2", "values", "note")
BALANCE_COLUMNS = ("set_1", "set_2", "label", *_TESTED)


def compare_age(first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    """Two-sided Mann-Whitney U test of two samples of ages; the note counts missing ones."""
    import numpy as np
    from scipy import stats

    known = [np.asarray(values, dtype=float) for values in (first, second)]
    n_missing = sum(int(np.isnan(values).sum()) for values in known)
    known = [values[~np.isnan(values)] for values in known]
    note = f"age unknown for {n_missing}" if n_missing else ""
    row = _row("age", "Mann-Whitney U", len(known[0]), len(known[1]), note=note)
    if not all(map(len, known)):
        return {**row, "note": f"{note}; not tested".lstrip("; ")}
    means = " / ".join(f"mean {values.mean():.1f}" for values in known)
    result = stats.mannwhitneyu(*known, alternative="two-sided")
    return {**row, "statistic": float(result.statistic), "p": float(result.pvalue), "values": means}


def compare_sex(first: Sequence[str | None], second: Sequence[str | None]) -> dict[str, Any]:
    """Fisher's exact test of the counts of men and women in two sets."""
    from scipy import stats

    sets = [[value for value in values if value in ("M", "F")] for values in (first, second)]
    n_missing = len(first) + len(second) - sum(map(len, sets))
    note = f"sex unknown for {n_missing}" if n_missing else ""
    counts = [[values.count("M"), values.count("F")] for values in sets]
    row = _row("sex", "Fisher exact", len(sets[0]), len(sets[1]), note=note)
    row["values"] = " / ".join(f"M {men}, F {women}" for men, women in counts)
    if not all(map(len, sets)):
        return {**row, "note": f"{note}; not tested".lstrip("; ")}
    if not all(map(sum, zip(*counts, strict=True))):
        only = "M" if counts[0][0] else "F"
        return {**row, "p": 1.0, "note": f"{note}; all {only}".lstrip("; ")}
    statistic, p = stats.fisher_exact(counts)
    return {**row, "statistic": float(statistic), "p": float(p)}


def compare_site(first: Sequence[str | None], second: Sequence[str | None]) -> dict[str, Any]:
    """Chi-square test of the number of participants per site in two sets."""
    import numpy as np
    from scipy import stats

    given = (first, second)
    sets = [[str(v) for v in values if v is not None and v == v] for values in given]
    n_missing = len(first) + len(second) - sum(map(len, sets))
    sites = sorted({*sets[0], *sets[1]})
    notes = [f"site unknown for {n_missing}"] if n_missing else []
    row = _row("site", "chi-square", len(sets[0]), len(sets[1]))
    row["values"] = f"{len(sites)} sites"
    if not all(map(len, sets)):
        return {**row, "note": "; ".join([*notes, "not tested"])}
    if len(sites) == 1:
        return {**row, "p": 1.0, "note": "; ".join([*notes, "one site"])}
    counts = np.array([[values.count(site) for site in sites] for values in sets])
    result = stats.chi2_contingency(counts)
    if (result.expected_freq < 5).mean() > 0.2:
        notes.append("expected counts under 5: approximate")
    found = {"statistic": float(result.statistic), "p": float(result.pvalue)}
    return {**row, **found, "note": "; ".join(notes)}


def _row(variable: str, test: str, n_1: int, n_2: int, note: str = "") -> dict[str, Any]:
    return dict(zip(_TESTED, (variable, test, None, None, n_1, n_2, "", note), strict=True))


def comparisons(
    sets: Mapping[str, pd.DataFrame],
    pairs: Sequence[tuple[str, str]],
    labels: Sequence[str],
    *,
    site: bool = True,
    absent: Collection[str] = (),
) -> Iterator[dict[str, Any]]:
    """Rows of ``balance.tsv``, one at a time: a split is given up at the first that differs.

    Parameters
    ----------
    sets : mapping of str to DataFrame
        Sets by name, with columns diagnosis, age, sex, site.
    pairs : sequence of (str, str)
        Names of the sets to compare.
    labels : sequence of str
        Each label is compared on its own.
    site : bool
        Whether to compare sites (not for train-k: there are more sites than participants).
    absent : collection of str
        Variables that the tables do not have; said in their rows.
    """
    for label in labels:
        people = {name: table[table["diagnosis"] == label] for name, table in sets.items()}
        for set_1, set_2 in pairs:
            both = people[set_1], people[set_2]
            head = {"set_1": set_1, "set_2": set_2, "label": label}
            rows = [
                compare_sex(*(list(table["sex"]) for table in both)),
                compare_age(*(table["age"].to_numpy(float) for table in both)),
            ]
            if site:
                rows.append(compare_site(*(list(table["site"]) for table in both)))
            for row in rows:
                if row["variable"] in absent:
                    row |= {"values": "", "note": f"{row['variable']}: not in the tables"}
                yield head | row


def differs(row: Mapping[str, Any]) -> bool:
    """Whether a comparison shows a significant difference."""
    return row["p"] is not None and row["p"] <= ALPHA


def describe_comparison(row: Mapping[str, Any]) -> str:
    """One comparison in words, for messages."""
    what = f"{row['label']}: {row['variable']} of {row['set_1']} and {row['set_2']}"
    return f"{what} ({row['test']}, p = {row['p']:.3g})"
