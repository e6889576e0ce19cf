"""What a synthetic CAPS is on disk: names, the record of how it was drawn, its tables.

Synthetic participants are ``sub-synAD00001``, session ``ses-M000``; file names and affine are those
of real preprocessed images, so that ClinicaDL and viewers read them unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import pandas as pd

from neuroaug.errors import InputError
from neuroaug.imaging import caps as caps_names
from neuroaug.system.files import read_json, read_tsv, write_json, write_text, write_tsv
from neuroaug.system.provenance import versions

SESSION = "ses-M000"
RECORD = "synthesis.json"
DRAW_COLUMNS = ("index", "acceptance_rate", "displacement", "split_r_hat", "effective_sample_size")
PROBABILITY = "probability"
"""Column: probability of the drawn label under the law, given the image's code."""
PEOPLE_COLUMNS = ("age", "sex", PROBABILITY)
"""Columns of people that a law of anatomy gives."""
_PARTICIPANT = re.compile(r"sub-syn([A-Za-z0-9]*?[A-Za-z])(\d{5,})")


def participant_id(label: str, index: int) -> str:
    """``("AD", 1)`` -> ``sub-synAD00001``; `index` counts from 1."""
    return f"sub-syn{label}{index:05d}"


def parse_index(participant: str) -> int | None:
    """Inverse of `participant_id`; None for any other name.

    Examples
    --------
    >>> participant_id("AD", 7), parse_index("sub-synAD00007"), parse_index("sub-01")
    ('sub-synAD00007', 7, None)
    """
    match = _PARTICIPANT.fullmatch(participant)
    return int(match[2]) if match else None


def image_path(folder: Path, label: str, index: int, resolution: str) -> Path:
    """Path of synthetic image `index`."""
    visit = caps_names.Visit(participant_id(label, index), SESSION)
    return caps_names.t1_linear_image(folder, visit, resolution=resolution)


@dataclass(frozen=True)
class SetRecord:
    """Everything that fixes the bytes of a set, written once beside it."""

    label: str
    resolution: str
    model_sha256: str
    model: str
    sampler: str
    profile: str
    seed: int
    dtype: str
    device: str
    settings: dict[str, Any]
    asked: dict[str, list[float]] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write ``synthesis.json``."""
        content = asdict(self)
        if not self.asked:
            del content["asked"]
        write_json(folder / RECORD, {**content, "versions": versions("torch", "nibabel", "numpy")})

    @classmethod
    def read(cls, folder: Path) -> SetRecord:
        """Read ``synthesis.json`` of a synthetic CAPS.

        Raises
        ------
        InputError
            If the folder is not a synthetic CAPS of ours.
        """
        if not (folder / RECORD).is_file():
            raise InputError(
                f"{folder}: not a synthetic CAPS (no {RECORD}); make one with 'neuroaug augment'"
            )
        content = read_json(folder / RECORD)
        names = [part.name for part in fields(cls)]
        needed = [name for name in names if name != "asked"]
        if not isinstance(content, dict) or any(name not in content for name in needed):
            raise InputError(
                f"{folder / RECORD}: not a record of a synthetic set; give another --out"
            )
        return cls(**{name: content[name] for name in names if name in content})

    def refuse_mixing(self, other: SetRecord, folder: Path) -> None:
        """Refuse to add samples of another kind to a set.

        Raises
        ------
        InputError
            Naming what differs and asking for ``--out``.
        """
        for part in fields(self):
            mine, theirs = getattr(self, part.name), getattr(other, part.name)
            if mine != theirs and part.name != "settings":
                raise InputError(
                    f"{folder}: drawn with {part.name.replace('_', ' ')} {theirs}, not {mine}; "
                    "give another folder with --out"
                )


def present_indices(folder: Path, label: str, resolution: str, upto: int | None = None) -> set[int]:
    """Indices of the images that are there; a file under its final name is complete."""
    subjects = folder / "subjects"
    if not subjects.is_dir():
        return set()
    prefix = f"sub-syn{label}"
    found = set()
    for entry in subjects.iterdir():
        index = parse_index(entry.name)
        if (
            index is None
            or not entry.name.startswith(prefix)
            or (upto is not None and index > upto)
        ):
            continue
        if image_path(folder, label, index, resolution).is_file():
            found.add(index)
    return found


def draws_file(folder: Path, block: int) -> Path:
    """Table of the samples of one block, kept so that a resumed run loses no diagnostics."""
    return folder / ".neuroaug" / "draws" / f"block-{block:05d}.tsv"


def write_tables(folder: Path, record: SetRecord) -> pd.DataFrame:
    """Write ``participants.tsv`` and ``draws.tsv`` from what is on disk."""
    indices = sorted(present_indices(folder, record.label, record.resolution))
    participants = pd.DataFrame(
        {
            "participant_id": [participant_id(record.label, i) for i in indices],
            "diagnosis": record.label,
            "model": record.model,
            "sampler": record.sampler,
            "seed": record.seed,
            "index": indices,
        }
    )
    blocks = sorted((folder / ".neuroaug" / "draws").glob("block-*.tsv"))
    if blocks:
        draws = pd.concat([read_tsv(path, DRAW_COLUMNS) for path in blocks], ignore_index=True)
        draws = draws[draws["index"].astype(int).isin(set(indices))]
        if of_people := [name for name in PEOPLE_COLUMNS if name in draws.columns]:
            known = draws[["index", *of_people]].assign(index=draws["index"].astype(int))
            participants = participants.merge(known, on="index", how="left")
            draws = draws.drop(columns=of_people)
        write_tsv(folder / "draws.tsv", draws)
    write_tsv(folder / "participants.tsv", participants)
    return participants


def write_description(
    folder: Path, record: SetRecord, source_datasets: Sequence[dict[str, str]]
) -> None:
    """Write ``dataset_description.json`` and ``.bidsignore``."""
    caps_names.write_dataset_description(
        folder,
        name=f"Synthetic T1w images, {record.label}, drawn with neuroaug",
        source_datasets=source_datasets,
    )
    write_text(
        folder / ".bidsignore", "subjects\nsynthesis.json\nlineage.tsv\ndraws.tsv\n.neuroaug/\n"
    )


def missing_of(indices: Iterable[int], present: set[int]) -> list[int]:
    """Indices not yet there, in order."""
    return [i for i in indices if i not in present]
