"""``neuroaug split``: who is trained on, who is tested."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from neuroaug.cli.console import command, say_next, start
from neuroaug.cli.options import FILES, Caps, Seed, choice, config_of, literals, option, overlay
from neuroaug.cohort.split_cohort import split_cohort
from neuroaug.config import StudyConfig
from neuroaug.errors import InputError

SETS = "Sets"


def _number(text: str) -> int | float:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    raise InputError(f"--n-test {text}: a number of participants, or a fraction below 1")


@command(
    "split",
    epilog="Example: neuroaug split /data/adni_caps --tables /data/adni_bids --out splits "
    "--n-test 100",
)
def split(
    caps: Caps = None,
    tables: Annotated[
        Path | None, option("--tables", "Folder with participants.tsv, or a merged TSV.", FILES)
    ] = None,
    out: Annotated[
        Path | None, option("--out", "Folder to write (default: the study's splits).", FILES)
    ] = None,
    n_test: Annotated[
        float | None,
        option(
            "--n-test", "Test participants per label: a number or fraction.", SETS, parser=_number
        ),
    ] = None,
    validation: Annotated[
        float | None, option("--validation", "Fraction of the rest.", SETS)
    ] = None,
    subset: Annotated[
        list[int] | None, option("--subset", "Write train-K too; several K space separated.", SETS)
    ] = None,
    cohort: Annotated[
        str | None,
        choice("--cohort", literals(StudyConfig, "cohort"), "Whose conventions the tables follow"),
    ] = None,
    min_age: Annotated[
        float | None, option("--min-age", "Years; OASIS-1 defaults to 62.", SETS)
    ] = None,
    seed: Seed = None,
) -> None:
    """Draw matched test, train, validation and train-K sets, with the tests that they match."""
    study = start("split")
    base = config_of(study)
    typed = {
        "n_test": n_test,
        "validation": validation,
        "subsets": tuple(subset) if subset else None,
        "min_age": min_age,
        "seed": seed,
    }
    section = overlay(base.split, {"subsets": "--subset"}, **typed)
    split_cohort(
        study,
        base.model_copy(update={"split": section, "cohort": cohort or base.cohort}),
        caps=caps,
        tables=tables,
        out=out,
        typed=frozenset(name for name, value in typed.items() if value is not None),
    )
    if study is not None and out is None:
        say_next(f"neuroaug augment --label {base.positive} --n 100")
