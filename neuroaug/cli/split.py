"""``neuroaug split``: who is trained on, who is tested."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from neuroaug.cli.console import command, log, say_next, start
from neuroaug.cli.options import FILES, Caps, Seed, choice, config_of, literals, option, overlay
from neuroaug.config import StudyConfig
from neuroaug.errors import InputError

if TYPE_CHECKING:
    from neuroaug.cohort.split_folder import SplitFolder
    from neuroaug.study import Study

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
