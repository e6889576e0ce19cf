"""Who of a data set would be labelled, and who would be left out by which rule: what `split` says.

It is asked where `split` asks, `neuroaug.cohort.account.label_cohort`, so that both agree.
"""

from __future__ import annotations

from pathlib import Path

from neuroaug.cohort.account import label_cohort
from neuroaug.cohort.reading.table_layouts import find_tables
from neuroaug.cohort.tables import recognise
from neuroaug.config.label_settings import CUSTOM
from neuroaug.dataset_check.finding import Finding
from neuroaug.errors import InputError
from neuroaug.imaging.bids import PARTICIPANTS
from neuroaug.imaging.caps import is_caps
from neuroaug.preprocessing.select import find_scans
from neuroaug.study import CONFIG_NAME, Study


def check_cohort(dataset: str | Path) -> list[Finding]:
    """Count who is labelled and who is left out.

    In a study its configuration says which labels there are; the tables of a data set alone are
    understood where they are of a published cohort.

    Parameters
    ----------
    dataset : path-like
        A study, a BIDS folder, or a CAPS with tables.

    Returns
    -------
    list of Finding
        Notes with the counts, in their order; an error where `split` would refuse.
    """
    root = Path(dataset).expanduser().absolute()
    if (root / CONFIG_NAME).is_file():
        return _of_study(Study.open(root))
    if not (root / PARTICIPANTS).is_file():
        return []
    caps = root if is_caps(root) else None
    try:
        recognise(find_tables(root))
    except InputError:
        fix = "neuroaug init makes a study that says which column gives the labels"
        return [Finding(PARTICIPANTS, "note", "labels not looked at: cohort not recognised", fix)]
    try:
        cohort = label_cohort(root, caps)
    except InputError as error:
        return [_refused(error, root)]
    return _notes(PARTICIPANTS, [*cohort.account.lines(), *cohort.notes])


def _of_study(study: Study) -> list[Finding]:
    config = study.config
    if not study.tables.exists() or (config.cohort == CUSTOM and config.label_rules is None):
        return []
    caps = study.caps if is_caps(study.caps) else None
    name = study.tables.name
    found = []
    try:
        cohort = label_cohort(
            study.tables,
            caps,
            cohort=config.cohort,
            rules=config.label_rules,
            min_age=config.split.min_age,
            resolution=config.resolution if caps is not None else None,
        )
        found = _notes(name, [*cohort.account.lines(), *cohort.notes])
    except InputError as error:
        found = [_refused(error, study.root)]
    if caps is None and study.bids is not None and study.bids.is_dir():
        try:
            scans, refusals = find_scans(study.bids)
        except InputError as error:
            return [*found, _refused(error, study.root)]
        line = f"{len(scans)} visits to preprocess, {len(refusals)} refused"
        found += _notes(study.bids.name, [line])
    return found


def _notes(path: str, lines: list[str]) -> list[Finding]:
    return [Finding(path, "note", line, "") for line in lines]


def _refused(error: InputError, root: Path) -> Finding:
    return Finding(PARTICIPANTS, "error", str(error).replace(f"{root}/", ""), "split would refuse")
