"""Sections about the study: participants, preprocessing, failures, configuration, versions."""

from __future__ import annotations

import pandas as pd

from neuroaug.cohort.split_folder import SplitFolder
from neuroaug.imaging import caps as caps_names
from neuroaug.report.content import ReportSection, p_text
from neuroaug.report.generator_sections import member_folders
from neuroaug.study import Study
from neuroaug.system.files import read_json, read_tsv
from neuroaug.system.provenance import versions

MOST_ROWS = 200


def is_phantom(study: Study) -> bool:
    """Whether the study's participants are phantoms, by its configuration, data set or split."""
    if study.config.phantom is not None:
        return True
    for path in (study.root / "splits" / "train.tsv", study.root / "splits" / "test.tsv"):
        if path.is_file() and "sub-phantom" in path.read_text(encoding="utf-8", errors="replace"):
            return True
    return False


def participants(study: Study, section: ReportSection) -> None:
    """Fill in who is in which set, whether the sets match, and who was left out."""
    if not (study.splits / "split.json").is_file():
        return
    split = SplitFolder.open(study.splits)
    order = study.config.ordered_labels

    def rank(label: str) -> tuple[int, str]:
        return (order.index(label) if label in order else len(order), label)

    rows = []
    for name in split.names():
        table = split.table(name)
        for label in sorted(table["diagnosis"].unique(), key=rank):
            people = table[table["diagnosis"] == label]
            sex, age = people["sex"].dropna(), people["age"].dropna()
            deviation = f" ± {age.std(ddof=1):.1f}" if len(age) > 1 else ""
            ages = f"{age.mean():.1f}{deviation}" if len(age) else None
            women = int((sex == "F").sum())
            sexes = f"{len(sex) - women} M, {women} F"
            rows.append([name, label, len(people), ages, sexes, people["site"].nunique()])
    head = "set | label | participants | age (mean ± sd) | sex | sites"
    section.add_table("Sets, one image a participant", head, rows, numeric=(2, 3, 5))
    section.paragraphs.append(
        f"Split {split.hash[:12]} (hash over its tables); every model, set and score carries it."
    )

    balance = split.balance()
    if len(balance):
        columns = ("label", "variable", "test", "values")
        rows = [
            [f"{r['set_1']} / {r['set_2']}", *(r[c] for c in columns), p_text(r["p"]), r["note"]]
            for r in balance.to_dict("records")
        ]
        head = "sets | label | variable | test | values | p | note"
        caption = "Do the sets match? (p above .05: no difference found)"
        section.add_table(caption, head, rows, numeric=(5,))
    exclusions = split.exclusions()
    if len(exclusions):
        counts = exclusions.groupby("rule")["participant_id"].agg(["size", "nunique"]).reset_index()
        most_first = counts.sort_values("size", ascending=False)
        section.add_table(
            "Visits left out, by rule (exclusions.tsv)",
            "rule | visits | participants",
            most_first.itertuples(index=False, name=None),
            numeric=(1, 2),
        )


def preprocessing(study: Study, section: ReportSection) -> None:
    """Fill in how many visits were preprocessed, and what the quality check said."""
    if not caps_names.is_caps(study.caps):
        return
    done = caps_names.list_visits(study.caps)
    rows: list[list[object]] = [["visits with images", len(done)]]
    failures = study.caps / "failures.tsv"
    if failures.is_file():
        rows.append(["visits or participants that failed", len(read_tsv(failures))])
    qc = study.caps / "qc.tsv"
    if qc.is_file():
        table = read_tsv(qc, ("participant_id", "session_id", "pass"))
        made = _made_on_grid(study, table)
        if made.any():
            section.paragraphs.append(
                f"{int(made.sum())} of the visits are phantoms whose images were made directly on "
                "the grid of registered images: they had no raw scan, no bias correction and no "
                "registration, and no check looked at them."
            )
            rows.append(["phantoms made on the grid, not preprocessed", int(made.sum())])
            table = table[~made]
        passed = table["pass"].str.lower() == "true"
        rows += [
            ["registrations that passed the check", int(passed.sum())],
            ["registrations that did not", int((~passed).sum())],
        ]
        if "pass_probability" in table.columns:
            probability = pd.to_numeric(table["pass_probability"], errors="coerce")
            lowest = float(probability[passed].min())
            rows.append(["lowest probability of passing among those that passed", lowest])
    else:
        section.paragraphs.append(
            "There is no quality check (qc.tsv) in this CAPS: every visit counts as passed."
        )
    settings = study.config.preprocessing
    rows += [
        ["profile", settings.profile],
        ["N4 spline distance, mm", settings.n4_distance],
        ["template", "given by path" if settings.template else "packaged"],
        ["resolutions written", ", ".join(settings.resolutions)],
    ]
    section.add_table("Raw scan to registered volume", " | ", rows, numeric=(1,))


def _made_on_grid(study: Study, table: pd.DataFrame) -> pd.Series:
    """Whether each row of ``qc.tsv`` is a phantom that preprocessing never saw."""
    nothing = pd.Series(False, index=table.index)
    if study.config.phantom is None or study.config.phantom.scanned is None:
        return nothing
    probability = table.get("pass_probability")
    return nothing if probability is None else pd.to_numeric(probability, errors="coerce").isna()


def failures(study: Study, section: ReportSection) -> None:
    """Fill in ``failures.tsv``, row by row."""
    path = study.caps / "failures.tsv"
    if not path.is_file():
        return
    columns = ["participant_id", "session_id", "stage", "reason"]
    table = read_tsv(path, columns)
    if table.empty:
        section.paragraphs.append("None.")
        return
    rows = list(table[columns].head(MOST_ROWS).itertuples(index=False, name=None))
    if len(table) > MOST_ROWS:
        section.paragraphs.append(f"The first {MOST_ROWS} of {len(table)} rows of failures.tsv.")
    head, folded = "participant | session | stage | reason", len(rows) > 20
    section.add_table("What could not be done (failures.tsv)", head, rows, folded=folded)


def configuration(study: Study, section: ReportSection) -> None:
    """Fill in every setting as the stages resolved it."""
    hidden = set() if section.phantom else {"phantom"}
    rows = _flatten("", study.config.model_dump(mode="json", exclude=hidden))
    caption = "neuroaug.yaml, every default spelled out"
    section.add_table(caption, "setting | value", rows, folded=True)


def _flatten(prefix: str, value: object) -> list[tuple[str, str]]:
    if isinstance(value, dict) and value:
        return [
            row
            for key, inner in value.items()
            for row in _flatten(f"{prefix}.{key}" if prefix else str(key), inner)
        ]
    if isinstance(value, list):
        return [(prefix, ", ".join(map(str, value)) or "none")]
    return [(prefix, "not set" if value is None or value == {} else str(value))]


def software(study: Study, section: ReportSection) -> None:
    """Fill in the versions that wrote this report, and other ones that generators recorded."""
    here = versions()
    section.add_table("Software that wrote this report", "package | version", sorted(here.items()))
    rows = []
    for name, folder in member_folders(study.root / "models"):
        if (folder / "environment.json").is_file():
            recorded = read_json(folder / "environment.json")
            recorded = recorded.get("versions", recorded) if isinstance(recorded, dict) else {}
            rows += [
                [name, package, version, here[package]]
                for package, version in sorted(recorded.items())
                if package in here and version != here[package]
            ]
    if rows:
        head = "generator | package | trained with | here"
        section.add_table("Trained with other versions", head, rows)
