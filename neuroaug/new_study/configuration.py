"""A commented ``neuroaug.yaml`` that fits what a survey found."""

from __future__ import annotations

import json
import math
from pathlib import Path

from neuroaug.config import PUBLISHED_LABELS, parse_config
from neuroaug.config.label_settings import CUSTOM
from neuroaug.config.stage_settings import SplitConfig
from neuroaug.errors import InputError
from neuroaug.new_study.survey import FEW, Survey

MANY = 4  # times the default test set: enough people to take it as it is
SMALL_TEST = 0.2
SUBSETS = (100, 50, 20)


def write_study(survey: Survey, out: str | Path, resolution: str) -> Path:
    """Write ``neuroaug.yaml`` into a new study's folder.

    Parameters
    ----------
    survey : Survey
        What was found.
    out : path-like
        The study's folder; made if absent.
    resolution : {"1mm", "2mm", "4mm"}
        Voxel size that the study works at.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        If there is one already, or the folder lies in the data set.
    """
    from neuroaug.system.files import write_text

    out = Path(out).expanduser().absolute()
    path = out / "neuroaug.yaml"
    if path.exists() or path.is_symlink():
        raise InputError(f"{path}: there is one already; nothing was written, give another --out")
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: not a folder; give another --out")
    if out.resolve().is_relative_to(survey.data.resolve()):
        raise InputError(f"{out}: lies in the data set; give an --out outside of {survey.data}")
    text = render(survey, resolution)
    write_text(path, text)
    return path


def render(survey: Survey, resolution: str) -> str:
    """Write the configuration as commented YAML.

    Raises
    ------
    InputError
        If what was written does not follow the schema (which would be a fault of ours).
    """
    import yaml

    lines = [
        "# A study of neuroaug. What is not written here has its default; see docs/study.md.",
        "",
    ]
    if survey.kind == "bids":
        lines += [f"bids: {_quoted(survey.data)}  # raw scans; nothing is written there"]
        lines += ["caps: caps  # where preprocessed images go, in this folder"]
    else:
        lines += [f"caps: {_quoted(survey.data)}  # preprocessed images"]
    lines += [f"tables: {_quoted(survey.tables)}", "", *_labels(survey), ""]
    lines += [
        f"resolution: {resolution}  # 4mm: minutes on a CPU; 2mm and 1mm want a GPU",
        "",
        *_split(survey),
        "",
    ]
    text = "\n".join(lines)
    parse_config(yaml.safe_load(text), "the new neuroaug.yaml")
    return text


def _quoted(value: object) -> str:
    return json.dumps(str(value), ensure_ascii=False)


def _labels(survey: Survey) -> list[str]:
    others = [f"#   {candidate.text()}" for candidate in survey.found]
    if survey.cohort != CUSTOM:
        return [
            f"cohort: {survey.cohort}  # recognised by ids or columns: its rules give the labels",
            f"labels: [{', '.join(PUBLISHED_LABELS)}]",
        ]
    if survey.rules is None:
        listed = ["# No column of the tables looks like a label. Name one, and take the # away:"]
        example = [
            "# cohort: custom",
            "# labels:",
            "#   column: group",
            "#   file: participants.tsv  # or phenotype/<name>.tsv",
            "#   values: {HC: control, MDD: [depr, dysthymia]}",
            "#   positive: MDD",
        ]
        return listed + example
    rules = survey.rules
    lines = ["# Columns that may tell the label, the likeliest first, with people of each value:"]
    lines += others
    lines += [
        "cohort: custom",
        "labels:",
        f"  column: {_quoted(rules.column)}",
        f"  file: {_quoted(rules.file)}",
        "  values:  # label (letters and digits): value or values of the column",
    ]
    lines += [
        f"    {_quoted(label)}: [{', '.join(map(_quoted, values))}]"
        for label, values in rules.values.items()
    ]
    lines += [f"  positive: {_quoted(rules.positive)}  # a guess; sensitivity is that of this one"]
    if rules.negative is not None:
        lines += [
            f"  negative: {_quoted(rules.negative)}  # a guess; evaluate tells these two apart"
        ]
    lines += [
        "  changing: exclude  # people whose label changes; first: labelled by the first visit"
    ]
    return lines


def sizes(survey: Survey) -> tuple[float, tuple[int, ...]]:
    """Test people a label (or their share), and subsets of the training set, that fit."""
    defaults = SplitConfig()
    told_apart = [survey.counts.get(label, 0) for label in _classes(survey)]
    fewest = min(told_apart, default=0)
    n_test = defaults.n_test if fewest >= MANY * defaults.n_test else SMALL_TEST
    tested = n_test if n_test >= 1 else max(1, math.floor(fewest * n_test + 0.5))
    rest = fewest - int(tested)
    trained = rest - max(1, math.floor(rest * defaults.validation))
    return n_test, tuple(k for k in SUBSETS if k < trained)


def _classes(survey: Survey) -> tuple[str, ...]:
    if survey.rules is None:
        return tuple(survey.counts)
    other = survey.rules.other
    return (survey.rules.positive, *([other] if other else []))


def _split(survey: Survey) -> list[str]:
    counts = survey.counts
    n_test, subsets = sizes(survey)
    said = ", ".join(f"{n} {label}" for label, n in counts.items())
    lines = [f"# People with an image and a label: {said}."] if said else []
    if counts and min(counts.values()) < FEW:
        lines += [
            f"# Fewer than {FEW} of a label: little can be learned of them, and no difference that",
            "# could be expected would be shown by so few test people.",
        ]
    share = "test people a label" if n_test >= 1 else "share of each label that is tested"
    lines += [
        "split:",
        f"  n_test: {n_test:g}  # {share}",
        f"  subsets: [{', '.join(map(str, subsets))}]  # smaller training sets that fit",
    ]
    return lines
