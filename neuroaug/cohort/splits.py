"""Matched test, training and validation sets, drawn per label (TPAMI sec. 5.4)."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuroaug.cohort import balance
from neuroaug.cohort.demographics import demographics
from neuroaug.cohort.split_folder import SPLIT_COLUMNS, SplitFolder, write_split_folder
from neuroaug.config import PUBLISHED_LABELS
from neuroaug.errors import InputError
from neuroaug.system.randomness import RESAMPLING

if TYPE_CHECKING:
    import pandas as pd

    from neuroaug.config import SplitConfig

MAX_DRAWS = 1000  # random splits, of which the first that matches is taken
FALLBACK_TEST_FRACTION = 0.2  # of each label, where the default number cannot be met
MIN_TRAINING = 2  # participants of each label
PAIRS = (("test", "train"), ("test", "validation"), ("train", "validation"))


@dataclass
class _Sizes:
    """How many people of each label go into which set, and what had to be said about it."""

    test: dict[str, int]
    validation: dict[str, int]
    train: dict[str, int]
    subsets: tuple[int, ...]
    notes: list[str] = field(default_factory=list)


def make_split(
    labelled: pd.DataFrame,
    exclusions: pd.DataFrame,
    out: str | Path,
    config: SplitConfig,
    labels: Sequence[str] = PUBLISHED_LABELS,
    typed: Set[str] = frozenset(),
    *,
    cohort: str | None = None,
    notes: Sequence[str] = (),
    absent: Collection[str] = (),
) -> SplitFolder:
    """Draw the sets, test that they match, and write the split folder.

    The test set is drawn per label; the rest is divided between training and validation; each
    ``train-K`` is drawn from the training set. This is repeated, at most `MAX_DRAWS` times, until
    no comparison of age, sex or site between two sets, per label, has p <= 0.05.

    Parameters
    ----------
    labelled, exclusions : DataFrame
        As `neuroaug.cohort.labels.assign_labels` returns them.
    out : path-like
        The split folder. A split that is there already must be the same one.
    config : SplitConfig
        n_test (people per label, or a fraction of each label below 1), validation, subsets, seed.
    labels : sequence of str
        Labels of the study; participants with others are left out.
    typed : set of str
        Which of "n_test", "subsets" (or "subset") the user gave; a value other than the default was
        given too. What was given and cannot be met is refused; a default that cannot be met is
        replaced (n_test) or skipped (subsets), and `SplitFolder.notes` says so.
    cohort : str, optional
        Name of the cohort, recorded in ``split.json``.
    notes : sequence of str
        Lines about the cohort that are recorded too.
    absent : collection of str
        Which of age, sex and site the tables do not have: the sets are matched without them.

    Raises
    ------
    InputError
        A label has too few people, a typed number cannot be met, no random split matched, or `out`
        holds another split.
    """
    import pandas as pd

    out = Path(out)
    wanted = labelled["diagnosis"].isin(list(labels))
    people = labelled[wanted].sort_values("participant_id", ignore_index=True)
    repeated = people["participant_id"][people["participant_id"].duplicated()]
    if len(repeated):
        raise InputError(
            f"{out}: participant {repeated.iloc[0]} stands twice among the labelled; one image each"
        )
    sizes = _sizes(people, config, labels, _given(config, typed), out)
    tables, rows, n_draws = _draw_main(people, sizes, config.seed, labels, absent)
    for k in sizes.subsets:
        subset, subset_rows = _draw_subset(tables, k, config.seed, labels, absent)
        tables[f"train-{k}"] = subset
        rows += subset_rows
    if len(others := labelled[~wanted]):
        rules = "label " + others["diagnosis"] + " not asked for"
        left_out = others[["participant_id", "session_id"]].assign(rule=rules)
        exclusions = pd.concat([exclusions, left_out], ignore_index=True)
    return write_split_folder(
        out,
        tables,
        balance_table=pd.DataFrame(rows, columns=list(balance.BALANCE_COLUMNS)),
        exclusions=exclusions,
        record={
            "cohort": cohort,
            "config": config.model_dump(mode="json"),
            "labels": list(labels),
            "seed": config.seed,
            "draws": n_draws,
            "demographics": _demographics(labelled, tables, cohort or "all", labels),
            "notes": [*notes, *sizes.notes],
        },
    )


def make_external(
    labelled: pd.DataFrame,
    exclusions: pd.DataFrame,
    out: str | Path,
    name: str,
    labels: Sequence[str] = PUBLISHED_LABELS,
    *,
    cohort: str | None = None,
    notes: Sequence[str] = (),
) -> SplitFolder:
    """Write an external test set: every labelled participant of another cohort, as ``<name>.tsv``.

    A folder of its own, so that adding a cohort later does not alter the split that models were
    trained on.

    Raises
    ------
    InputError
        A label has nobody, or `out` holds another set.
    """
    import pandas as pd

    wanted = labelled["diagnosis"].isin(list(labels))
    people = labelled[wanted].sort_values("participant_id", ignore_index=True)
    for label in labels:
        if not (people["diagnosis"] == label).any():
            raise InputError(
                f"external cohort {name}: nobody is labelled {label}; see its exclusions"
            )
    return write_split_folder(
        Path(out),
        {name: people[list(SPLIT_COLUMNS)]},
        balance_table=pd.DataFrame(columns=list(balance.BALANCE_COLUMNS)),
        exclusions=exclusions,
        record={
            "cohort": cohort,
            "external": name,
            "labels": list(labels),
            "demographics": _demographics(people, {}, name, labels),
            "notes": list(notes),
        },
    )


def _given(config: SplitConfig, typed: Set[str]) -> set[str]:
    """Name the settings that are the user's own."""
    names, defaults = {"n_test", "subsets"}, type(config)()
    own = {name for name in names if getattr(config, name) != getattr(defaults, name)}
    return own | (names & typed) | ({"subsets"} if "subset" in typed else set())


def _demographics(
    labelled: pd.DataFrame,
    tables: Mapping[str, pd.DataFrame],
    name: str,
    labels: Sequence[str],
) -> list[dict[Any, Any]]:
    """Table 5 of the whole cohort and of each set."""
    import pandas as pd

    if set(labels) <= set(PUBLISHED_LABELS):
        labels = PUBLISHED_LABELS
    parts = [demographics(labelled, name, labels)]
    for set_name, table in tables.items():
        people = labelled[labelled["participant_id"].isin(table["participant_id"])]
        parts.append(demographics(people, set_name, labels))
    return pd.concat(parts, ignore_index=True).to_dict("records")


def _sizes(
    people: pd.DataFrame, config: SplitConfig, labels: Sequence[str], typed: Set[str], out: Path
) -> _Sizes:
    counts = {label: int((people["diagnosis"] == label).sum()) for label in labels}
    found = ", ".join(f"{n} {label}" for label, n in counts.items())
    least = 1 + 1 + MIN_TRAINING
    for label, n in counts.items():
        if n < least:
            raise InputError(
                f"{out}: label {label} has too few people: {n} of the {least} needed for a test, "
                f"a validation and {MIN_TRAINING} training images (found {found}; exclusions are "
                "by the rules of the cohort)"
            )
    notes: list[str] = []
    n_test = _n_test(config.n_test, out)
    test = _per_label(n_test, counts)
    failing = [label for label, n in counts.items() if n - test[label] < 1 + MIN_TRAINING]
    if failing and "n_test" in typed:
        raise InputError(
            f"{out}: n_test {config.n_test:g} cannot be met: found {found}, and "
            f"{1 + MIN_TRAINING} of each must be left for training and validation; "
            "ask for fewer, or for a fraction such as 0.2"
        )
    if "n_test" not in typed and not isinstance(n_test, float):
        # Half as many left as tested: below that the default leaves next to nothing to learn from.
        failing = [
            label for label, n in counts.items() if n - n_test < max(1 + MIN_TRAINING, n_test // 2)
        ]
    if failing:
        test = _per_label(FALLBACK_TEST_FRACTION, counts)
        taken = ", ".join(f"{n} {label}" for label, n in test.items())
        notes.append(
            f"default of {config.n_test:g} test participants per label cannot be met with {found}: "
            f"{FALLBACK_TEST_FRACTION:.0%} of each label taken instead ({taken})"
        )
    rest = {label: n - test[label] for label, n in counts.items()}
    # Rounded down, as in the papers: of 303 and 262, 60 and 52 are for validation.
    validation = {
        label: min(max(1, math.floor(n * config.validation + 1e-9)), n - MIN_TRAINING)
        for label, n in rest.items()
    }
    train = {label: n - validation[label] for label, n in rest.items()}
    in_train = ", ".join(f"{n} {label}" for label, n in train.items())
    subsets = []
    for k in dict.fromkeys(config.subsets):
        if k < 1:
            raise InputError(f"{out}: subset {k}: at least 1 participant per label")
        if all(k <= n for n in train.values()):
            subsets.append(k)
        elif "subsets" in typed:
            raise InputError(
                f"{out}: subset {k} cannot be met: {in_train} are in train; ask for a smaller one"
            )
        else:
            notes.append(f"default subset train-{k} skipped: {in_train} are in train")
    return _Sizes(test, validation, train, tuple(subsets), notes)


def _n_test(value: float, out: Path) -> int | float:
    """Tell a count (int) from a fraction below 1 (float)."""
    if not math.isfinite(value) or value <= 0 or (value > 1 and value != int(value)):
        raise InputError(
            f"{out}: n_test {value:g}: expected a number of people per label, or a fraction below 1"
        )
    return float(value) if value < 1 else int(value)


def _per_label(n_test: float, counts: Mapping[str, int]) -> dict[str, int]:
    if isinstance(n_test, float):
        return {label: max(1, math.floor(n * n_test + 0.5)) for label, n in counts.items()}
    return dict.fromkeys(counts, n_test)


def _draw_main(
    people: pd.DataFrame,
    sizes: _Sizes,
    seed: int,
    labels: Sequence[str],
    absent: Collection[str],
) -> tuple[dict[str, pd.DataFrame], list[dict[str, Any]], int]:
    """Draw until test, train and validation match: the tables, the comparisons, how often drawn."""
    failures: dict[str, list[dict[str, Any]]] = {}
    for draw in range(MAX_DRAWS):
        chosen: dict[str, list[str]] = {"test": [], "train": [], "validation": []}
        for label in labels:
            names = _shuffled(people, seed, "split", label, draw)
            first, second = sizes.test[label], sizes.test[label] + sizes.validation[label]
            chosen["test"] += names[:first]
            chosen["validation"] += names[first:second]
            chosen["train"] += names[second:]
        tables = {name: _take(people, participants) for name, participants in chosen.items()}
        rows = _matching(balance.comparisons(tables, PAIRS, labels, absent=absent), failures)
        if rows is not None:
            return tables, rows, draw + 1
    raise _no_match("test, train and validation", failures)


def _draw_subset(
    tables: Mapping[str, pd.DataFrame],
    k: int,
    seed: int,
    labels: Sequence[str],
    absent: Collection[str],
) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """`k` of each label from the training set, matched with every set in age and sex."""
    train = tables["train"]
    failures: dict[str, list[dict[str, Any]]] = {}
    name = f"train-{k}"
    for draw in range(MAX_DRAWS):
        chosen: list[str] = []
        for label in labels:
            chosen += _shuffled(train, seed, name, label, draw)[:k]
        subset = _take(train, chosen)
        others = ("train", "test", "validation")
        sets = {name: subset, **{other: tables[other] for other in others}}
        pairs = [(name, other) for other in others]
        rows = _matching(
            balance.comparisons(sets, pairs, labels, site=False, absent=absent), failures
        )
        if rows is not None:
            return subset, rows
    raise _no_match(name, failures)


def _shuffled(people: pd.DataFrame, seed: int, name: str, label: str, draw: int) -> list[str]:
    """Participants of a label in the order of the `draw`-th attempt at the set `name`."""
    names = people.loc[people["diagnosis"] == label, "participant_id"].to_numpy()
    return list(names[RESAMPLING.numpy(seed, name, label, draw).permutation(len(names))])


def _take(people: pd.DataFrame, participants: Sequence[str]) -> pd.DataFrame:
    chosen = people["participant_id"].isin(list(participants))
    return people.loc[chosen, list(SPLIT_COLUMNS)].reset_index(drop=True)


def _matching(rows: Any, failures: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]] | None:
    """All rows when none shows a difference; else None, and the failure counted."""
    kept = []
    for row in rows:
        if balance.differs(row):
            key = f"{row['label']} {row['set_1']} {row['set_2']} {row['variable']}"
            failures.setdefault(key, []).append(row)
            return None
        kept.append(row)
    return kept


def _no_match(what: str, failures: Mapping[str, list[dict[str, Any]]]) -> InputError:
    worst = max(failures.values(), key=len)
    best = max(worst, key=lambda row: row["p"])
    return InputError(
        f"split: none of {MAX_DRAWS} random choices of {what} matched; most often different: "
        f"{balance.describe_comparison(best)} at best; "
        "change the sizes of the sets, or look at this variable in the tables"
    )
