"""A split on disk: a table per set, a hash over their sorted content, and how it was drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuroaug.cohort.demographics import DEMOGRAPHICS_COLUMNS
from neuroaug.cohort.lineage import LABELLED_VISIT
from neuroaug.cohort.reading.numbers import read_number
from neuroaug.cohort.split_labels import refuse_two_spellings, study_labels
from neuroaug.errors import InputError
from neuroaug.system.files import (
    read_json,
    read_tsv,
    remove_leftovers,
    sha256_bytes,
    sha256_json,
    visible,
    write_json,
    write_tsv,
)
from neuroaug.system.tsv import column_key

if TYPE_CHECKING:
    import pandas as pd

    from neuroaug.config.label_settings import LabelRules

SPLIT_COLUMNS = (*LABELLED_VISIT, "age", "sex", "site")
RECORD = "split.json"
_NOT_SETS = ("balance", "exclusions")


def content_hash(folder: Path) -> str:
    """Hash over the sorted content of every TSV of a split folder, as it is now.

    The order of rows and the kind of line ends do not count; every value does.
    """
    return sha256_json({path.name: _file_hash(path) for path in visible(folder, "*.tsv")})


def _file_hash(path: Path) -> str:
    header, *rows = path.read_bytes().splitlines() or [b""]
    return sha256_bytes(b"\n".join([header, *sorted(rows)]))


def read_set(
    path: str | Path, labels: Sequence[str] | None = None, rules: LabelRules | None = None
) -> pd.DataFrame:
    """Read one set of a split, or a table of the user's with the same columns.

    Parameters
    ----------
    path : path-like
        The table; the case of its columns' names does not count.
    labels : sequence of str, optional
        Labels of the study, which the diagnoses must be. Without them they are taken as written.
    rules : LabelRules, optional
        Rules of a custom cohort: values that mean a label are read as that label.

    Returns
    -------
    DataFrame
        participant_id, session_id, diagnosis, age (float), sex, site; missing values are None or
        NaN.

    Raises
    ------
    InputError
        A column is missing, an age is no number, a participant stands twice, or a label is none of
        the study's.
    """
    import numpy as np

    table = read_tsv(path, SPLIT_COLUMNS[:3], any_case=True, lines=True)
    lines = table.attrs["lines"]
    table = table.rename(columns=column_key)
    for column in SPLIT_COLUMNS:
        if column not in table.columns:
            table[column] = None
    empty = table[list(LABELLED_VISIT)].isna().any(axis=1)
    if empty.any():
        line = lines[int(empty.to_numpy().argmax())]
        raise InputError(f"{path}: line {line} lacks a participant_id, session_id or diagnosis")
    _refuse_repeated(table, lines, path)
    ages = []
    for line, text in zip(lines, table["age"], strict=True):
        try:
            number = read_number(text if isinstance(text, str) else None)
        except ValueError:
            raise InputError(f"{path}: line {line}: age '{text}' is not a number") from None
        ages.append(float("nan") if number is None else number.value)
    table["age"] = np.array(ages, dtype=float)
    written = list(table["diagnosis"])
    if labels is None:
        refuse_two_spellings(written, lines, str(path))
    else:
        table["diagnosis"] = study_labels(written, lines, str(path), labels=labels, rules=rules)
    return table[list(SPLIT_COLUMNS)]


def _refuse_repeated(table: pd.DataFrame, lines: Sequence[int], path: str | Path) -> None:
    first: dict[str, str] = {}
    for line, name in zip(lines, table["participant_id"], strict=True):
        other = first.get(name.casefold())
        if other is not None:
            as_what = "" if other == name else f" (as {other} too)"
            raise InputError(
                f"{path}: participant {name} stands twice{as_what}, again in line {line}; "
                "one image per participant"
            )
        first[name.casefold()] = name


@dataclass(frozen=True)
class SplitFolder:
    """A split folder: its tables as they are now, and what was recorded when it was made.

    Attributes
    ----------
    folder : Path
        Folder of the tables.
    record : mapping
        Content of its ``split.json``.
    """

    folder: Path
    record: Mapping[str, Any]

    @classmethod
    def open(cls, folder: str | Path) -> SplitFolder:
        """Open a split folder.

        Raises
        ------
        InputError
            If it is no split folder, or making it was interrupted.
        """
        folder = Path(folder)
        if not (folder / RECORD).is_file():
            raise InputError(
                f"{folder}: not a split folder (no {RECORD} in it); make it with `neuroaug split`"
            )
        record = read_json(folder / RECORD)
        if not isinstance(record, dict) or not {"hash", "files", "members"} <= record.keys():
            raise InputError(
                f"{folder / RECORD}: not the record of a split; "
                "make the split again with another --out"
            )
        return cls(folder, record)

    def names(self) -> list[str]:
        """List the sets: test, train, validation, then train-K by size."""
        found = [path.stem for path in visible(self.folder, "*.tsv") if path.stem not in _NOT_SETS]
        order = {"test": 0, "train": 1, "validation": 2}
        return sorted(found, key=lambda name: (order.get(name, 3), len(name), name))

    def path(self, name: str) -> Path:
        """Name the TSV of a set."""
        return self.folder / f"{name}.tsv"

    def table(self, name: str) -> pd.DataFrame:
        """Read a set: participant_id, session_id, diagnosis, age, sex, site.

        Raises
        ------
        InputError
            If there is no such set.
        """
        if name in _NOT_SETS or not self.path(name).is_file():
            known = ", ".join(self.names())
            raise InputError(f"{self.folder}: no set '{name}' in this split; it has {known}")
        return read_set(self.path(name))

    def balance(self) -> pd.DataFrame:
        """Every comparison between sets, ``balance.tsv``."""
        return read_tsv(self.folder / "balance.tsv")

    def exclusions(self) -> pd.DataFrame:
        """Who was left out by which rule, ``exclusions.tsv``."""
        return read_tsv(self.folder / "exclusions.tsv", ["participant_id", "session_id", "rule"])

    @property
    def hash(self) -> str:
        """Content hash of the tables as they are now."""
        return content_hash(self.folder)

    @property
    def recorded_hash(self) -> str:
        """Content hash when the split was made."""
        return str(self.record["hash"])

    @property
    def notes(self) -> list[str]:
        """What was said when the split was made: defaults that could not be met, and the like."""
        return list(self.record.get("notes", []))

    def demographics(self) -> pd.DataFrame:
        """Summary of the cohort and each set by label: `DEMOGRAPHICS_COLUMNS`."""
        import pandas as pd

        return pd.DataFrame(self.record.get("demographics", []), columns=list(DEMOGRAPHICS_COLUMNS))

    def verify(self) -> None:
        """Refuse a split that was edited by hand, or in which a participant is in two sets.

        Raises
        ------
        InputError
            Naming the file and the participants.
        """
        if content_hash(self.folder) != self.recorded_hash:
            advice = "restore it, or make another split with another --out and train again"
            raise InputError(
                f"{self.folder}: edited after it was made ({'; '.join(self._edits())}); {advice}"
            )
        owner: dict[str, str] = {}
        for name in self.names():
            if name.startswith("train-"):
                continue
            for participant in self.table(name)["participant_id"]:
                if participant in owner:
                    raise InputError(
                        f"{self.folder}: {participant} is in {owner[participant]} and in {name}"
                    )
                owner[participant] = name

    def _edits(self) -> list[str]:
        """Say what differs from the record, file by file and participant by participant."""
        edits = []
        recorded = self.record["files"]
        present = {path.name for path in visible(self.folder, "*.tsv")}
        edits += [f"{name} is new" for name in sorted(present - recorded.keys())]
        edits += [f"{name} is gone" for name in sorted(recorded.keys() - present)]
        for name in sorted(present & recorded.keys()):
            if _file_hash(self.folder / name) == recorded[name]:
                continue
            known = self.record["members"].get(Path(name).stem)
            before, now = ({}, {}) if known is None else (known, _members(self.folder / name))
            changes = [
                *_named("added", now.keys() - before.keys()),
                *_named("removed", before.keys() - now.keys()),
                *_named("altered", {k for k in before.keys() & now.keys() if now[k] != before[k]}),
            ]
            edits.append(f"{name}: {', '.join(changes) or 'altered'}")
        return edits


def _named(what: str, names: Set[str], most: int = 10) -> list[str]:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return [f"{what} {' '.join(sorted(names)[:most])}{more}"] if names else []


def _members(path: Path) -> dict[str, str]:
    """Digest each row, by participant."""
    lines = filter(None, path.read_bytes().splitlines()[1:])
    names = {line: line.split(b"\t", 1)[0].decode("utf-8", "replace") for line in lines}
    return {name: sha256_bytes(line)[:12] for line, name in names.items()}


def write_split_folder(
    out: Path,
    tables: Mapping[str, pd.DataFrame],
    *,
    balance_table: pd.DataFrame,
    exclusions: pd.DataFrame,
    record: Mapping[str, Any],
) -> SplitFolder:
    """Write the tables, then ``split.json``, without which the folder is no split.

    A killed process therefore leaves none.

    Raises
    ------
    InputError
        If `out` holds a split already, and it is another one.
    """
    import tempfile

    everything = {**tables, "balance": balance_table, "exclusions": exclusions}
    with tempfile.TemporaryDirectory() as scratch:
        for name, table in everything.items():
            write_tsv(Path(scratch) / f"{name}.tsv", table)
        record = _complete(record, Path(scratch), tables)
    if (out / RECORD).is_file():
        existing = SplitFolder.open(out)
        if existing.record != record:
            raise InputError(
                f"{out}: holds another split ({_difference(existing.record, record)}), "
                "which models may depend on; choose another --out"
            )
        existing.verify()
        return existing
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: a file, where a folder is to be written; choose another --out")
    if out.is_dir():
        # What an interrupted run of ours left is written again; anything else is the user's.
        remove_leftovers(out)
        strangers = sorted(p.name for p in visible(out, "*.tsv") if p.stem not in everything)
        if strangers:
            raise InputError(
                f"{out}: holds tables of something else ({', '.join(strangers)}); "
                "choose another --out"
            )
    for name, table in everything.items():
        write_tsv(out / f"{name}.tsv", table)
    write_json(out / RECORD, record)
    return SplitFolder.open(out)


def _complete(
    record: Mapping[str, Any], folder: Path, tables: Mapping[str, pd.DataFrame]
) -> dict[str, Any]:
    counts = {name: table["diagnosis"].value_counts() for name, table in tables.items()}
    return {
        **record,
        "hash": content_hash(folder),
        "files": {path.name: _file_hash(path) for path in visible(folder, "*.tsv")},
        "members": {name: _members(folder / f"{name}.tsv") for name in tables},
        "counts": {
            name: {str(label): int(n) for label, n in of.sort_index().items()}
            for name, of in counts.items()
        },
    }


def _difference(existing: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    before, after = existing.get("config") or {}, wanted.get("config") or {}
    new = {key: value for key, value in after.items() if before.get(key) != value}
    changed = [f"{key} {before.get(key)}, not {value}" for key, value in new.items()]
    if changed:
        return ", ".join(changed)
    keys = ("cohort", "labels", "external", "counts")
    changed = [key for key in keys if existing.get(key) != wanted.get(key)]
    return f"other {', '.join(changed) or 'participants or tables'}"
