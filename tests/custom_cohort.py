"""A small cohort with labels of its own: tables and a CAPS of empty files, for tests."""

from __future__ import annotations

import json
from pathlib import Path

from neuroaug.config.label_settings import LabelRules

RULES = LabelRules(
    column="group", values={"HC": ("control",), "MDD": ("depr", "dysthymia")}, positive="MDD"
)


def write(path: Path, text: str) -> None:
    """Write a table whose columns are separated by blanks here and by tabs in the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["\t".join(line.split()) for line in text.strip().splitlines()]
    path.write_text("\n".join(lines) + "\n")


def make_caps(folder: Path, *visits: str) -> Path:
    """Make a CAPS that holds an (empty) image of each visit, given as ``sub-X_ses-Y``."""
    folder.mkdir(parents=True, exist_ok=True)
    description = {"Name": "t", "BIDSVersion": "1.7.0", "CAPSVersion": "1.0.0"}
    (folder / "dataset_description.json").write_text(
        json.dumps({**description, "DatasetType": "derivative"})
    )
    for visit in visits:
        participant, session = visit.split("_")
        name = f"{visit}_space-MNI152NLin2009cSym_desc-Crop_res-1x1x1_T1w.nii.gz"
        image = folder / "subjects" / participant / session / "t1_linear" / name
        image.parent.mkdir(parents=True)
        image.touch()
    return folder


def write_qc(caps: Path, **passed: bool) -> None:
    """Write ``qc.tsv``: verdicts by ``sub_X_ses_Y``, underscores for hyphens."""
    rows = ["participant_id session_id pass_probability pass"]
    for visit, verdict in passed.items():
        sub, x, ses, y = visit.split("_")
        rows.append(f"{sub}-{x} {ses}-{y} 0.9 {verdict}")
    write(caps / "qc.tsv", "\n".join(rows))
