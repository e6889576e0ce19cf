"""From a CAPS and a table to labelled images: read once, then memory-mapped.

ClinicaDL's `BidsDataset` finds and checks the files; the voxels are then read once into
`neuroaug.imaging.cache.CohortCache` arrays, by the same reader that checks every other image of a
study. ClinicaDL's own stores do not serve: NIfTI files decompressed at every epoch cost ten times
more than training at 2 mm, and its tensors are float32 pickles of one image each (62 GB for 20000
images, where uint8 arrays take 16), written in a folder that two CAPS of one parent share.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from neuroaug.config.label_settings import UNLABELLED
from neuroaug.errors import InputError
from neuroaug.evaluation.cell_images import REQUIRED, Images, concatenate, refuse_duplicates
from neuroaug.imaging import caps as caps_names
from neuroaug.imaging.cache import RECORD, CohortCache
from neuroaug.system.files import read_tsv

if TYPE_CHECKING:
    from clinicadl.data.datasets import BidsDataset

Values = NDArray[np.float64]

SYNTHETIC_BLOCK = 500  # images of one cache, so that extending a set rewrites nothing


@dataclass
class ImageStore:
    """Opens the images of a resolution, and keeps what it opened.

    Parameters
    ----------
    cache_folder : Path
        Folder of the memory-mapped copies; may be deleted at any time.
    resolution : {"1mm", "2mm", "4mm"}
        Resolution of the images to open.
    scaling : {"min-max", "percentile"}
        Rule that maps each image to [0, 1].
    storage : {"uint8", "float16"}
        Type of the stored voxels.
    """

    cache_folder: Path
    resolution: str
    scaling: Literal["min-max", "percentile"] = "min-max"
    storage: Literal["uint8", "float16"] = "uint8"
    _open: dict[Path, CohortCache] = field(default_factory=dict)

    def real(
        self, caps: Path, table: Path | pd.DataFrame, classes: tuple[str, str], what: str
    ) -> Images:
        """Images of a table's visits.

        Parameters
        ----------
        caps : Path
            CAPS of the images.
        table : path or DataFrame
            ``participant_id session_id diagnosis``, one row per visit.
        classes : (str, str)
            Negative and positive class: the diagnoses allowed.
        what : str
            Name of the set, for messages (``"train.tsv"``).

        Raises
        ------
        InputError
            Column missing, unknown diagnosis, duplicate visit, a visit without image (named), an
            empty table.
        """
        table = read_labelled(table, classes, what)
        visits = [
            caps_names.Visit(p, s)
            for p, s in zip(table["participant_id"], table["session_id"], strict=True)
        ]
        # Sorted, so that one cache serves every table with these visits, whatever its order.
        order = np.array(sorted(range(len(visits)), key=lambda i: visits[i]))
        cache = self._cache(caps, [visits[i] for i in order], "real", what)
        rows = np.empty(len(visits), dtype=np.int64)
        rows[order] = np.arange(len(visits))
        return Images(table, (cache,), np.zeros_like(rows), rows, np.zeros(len(rows), dtype=bool))

    def synthetic(
        self,
        folder: Path,
        label: str,
        n: int,
        *,
        positive: bool,
        labels: Literal["soft", "hard", "auto"] = "hard",
    ) -> Images:
        """Images 1..n of a synthetic CAPS, whose label is the positive class or the negative one.

        Parameters
        ----------
        folder : Path
            The synthetic CAPS.
        label : str
            Label of its images.
        n : int
            How many are used.
        positive : bool
            Whether that label is the positive class.
        labels : {"soft", "hard", "auto"}
            What is trained on: see `Cell.synthetic_labels`.

        Raises
        ------
        InputError
            If the folder holds fewer images, or images of another label; or their probabilities are
            asked for and they have none.
        """
        table = read_tsv(folder / "participants.tsv", ("participant_id", "diagnosis", "index"))
        other = sorted(set(table["diagnosis"].dropna()) - {label})
        if other:
            raise InputError(
                f"{folder / 'participants.tsv'}: images of {', '.join(other)}, "
                f"where {label} is expected"
            )
        table = (
            table.assign(index=table["index"].astype(int))
            .sort_values("index")
            .reset_index(drop=True)
        )
        table = table[table["index"] <= n]
        if list(table["index"]) != list(range(1, n + 1)):
            raise InputError(
                f"{folder}: images 1 to {n} of {label} are needed, {len(table)} of them are "
                f"listed; draw them with 'neuroaug augment --label {label} --n {n}'"
            )
        visits = [
            caps_names.Visit(participant, "ses-M000") for participant in table["participant_id"]
        ]
        blocks = [visits[start : start + SYNTHETIC_BLOCK] for start in range(0, n, SYNTHETIC_BLOCK)]
        caches = tuple(
            self._cache(folder, block, f"synthetic-{label}", str(folder)) for block in blocks
        )
        labelled = pd.DataFrame(
            {
                "participant_id": [v.participant_id for v in visits],
                "session_id": [v.session_id for v in visits],
                "diagnosis": label,
                "label": float(positive),
            }
        )
        if "age" in table.columns:
            labelled["age"] = pd.to_numeric(table["age"], errors="coerce")
        if labels != "hard" and (soft := _probabilities(table, folder, labels)) is not None:
            labelled["target"] = soft if positive else 1 - soft
        positions = np.arange(n)
        return Images(
            labelled,
            caches,
            positions // SYNTHETIC_BLOCK,
            positions % SYNTHETIC_BLOCK,
            np.ones(n, dtype=bool),
        )

    def unlabelled(self, table: pd.DataFrame, positive: Callable[[Images], Values]) -> Images:
        """Real images without a label, each with a probability of the positive class.

        Parameters
        ----------
        table : DataFrame
            participant_id, session_id, caps.
        positive : callable
            From images to these probabilities, (n,).
        """
        parts = []
        for folder, rows in table.groupby("caps", sort=True):
            visits = list(map(caps_names.Visit, rows["participant_id"], rows["session_id"]))
            cache = self._cache(Path(str(folder)), visits, "unlabelled", "the unlabelled visits")
            n = len(visits)
            labelled = rows[["participant_id", "session_id"]].reset_index(drop=True)
            labelled = labelled.assign(diagnosis=UNLABELLED, label=0.0)
            where = (np.zeros(n, dtype=np.int64), np.arange(n), np.zeros(n, dtype=bool))
            parts.append(Images(labelled, (cache,), *where))
        whole = concatenate(parts)
        target = positive(whole)
        marked = whole.table.assign(target=target, label=(target > 0.5).astype(np.float64))
        return dataclasses.replace(whole, table=marked)

    def _cache(
        self, caps: Path, visits: list[caps_names.Visit], kind: str, what: str
    ) -> CohortCache:
        caps = caps_names.require_described(Path(caps).absolute())
        files = [caps_names.find_t1_linear_image(caps, visit, self.resolution) for visit in visits]
        lost = [visit for visit, file in zip(visits, files, strict=True) if not file.is_file()]
        if lost:
            more = f" (and {len(lost) - 1} more)" if len(lost) > 1 else ""
            raise InputError(
                f"{what}: {lost[0]}{more} has no {self.resolution} image in {caps}; "
                "preprocess the visit or take it out of the table"
            )
        key = hashlib.sha256("\n".join([str(caps), *map(str, visits)]).encode()).hexdigest()[:12]
        folder = self.cache_folder / f"{kind}_{self.resolution}_{self.scaling}_{self.storage}_{key}"
        if folder not in self._open:
            index = pd.DataFrame(
                {
                    "participant_id": [v.participant_id for v in visits],
                    "session_id": [v.session_id for v in visits],
                }
            )
            if not (folder / RECORD).is_file():
                files = _as_clinicadl_finds(caps, index, files, self.resolution)
            self._open[folder] = CohortCache.build(
                folder, files, index, dtype=self.storage, scaling=self.scaling
            )
        return self._open[folder]


def _probabilities(
    table: pd.DataFrame, folder: Path, labels: Literal["soft", "hard", "auto"]
) -> NDArray[np.float64] | None:
    """Probability of the drawn label of each image; None where there is none and it may be so.

    Raises
    ------
    InputError
        If there is none and it was asked for, or one is no probability.
    """
    if "probability" not in table.columns:
        if labels == "auto":
            return None
        raise InputError(
            f"{folder / 'participants.tsv'}: no column 'probability'; images have soft labels only "
            "where the generator has a law: give the study one, or use hard labels"
        )
    values = pd.to_numeric(table["probability"], errors="coerce").to_numpy(dtype=float)
    if not ((values >= 0) & (values <= 1)).all():
        row = table.iloc[int(np.argmin((values >= 0) & (values <= 1)))]
        raise InputError(
            f"{folder / 'participants.tsv'}: {row['participant_id']}: probability "
            f"'{row['probability']}'; expected a number in [0, 1]"
        )
    return values


def read_labelled(table: Path | pd.DataFrame, classes: tuple[str, str], what: str) -> pd.DataFrame:
    """Visits and labels, index 0..n-1, with the float column ``label``; see `ImageStore.real`."""
    if not isinstance(table, pd.DataFrame):
        what = str(table)
        table = read_tsv(table, REQUIRED)
    missing = [name for name in REQUIRED if name not in table.columns]
    if missing:
        found = ", ".join(map(str, table.columns))
        raise InputError(f"{what}: column(s) {', '.join(missing)} missing; found {found}")
    if table.empty:
        raise InputError(f"{what}: no visit in it")
    strange = [d for d in table["diagnosis"] if d not in classes]
    if strange:
        raise InputError(
            f"{what}: unknown diagnosis {strange[0]!r}; expected {', '.join(sorted(classes))}"
        )
    refuse_duplicates(table, what)
    known = {"age": pd.to_numeric(table["age"], errors="coerce")} if "age" in table.columns else {}
    label = (table["diagnosis"] == classes[1]).astype(np.float64)
    return table[list(REQUIRED)].assign(label=label, **known).reset_index(drop=True)


def bids_dataset(caps: Path, table: pd.DataFrame, resolution: str) -> BidsDataset:
    """ClinicaDL's own reader on a CAPS's cropped T1w images of one resolution."""
    from clinicadl.data.datasets import BidsDataset
    from clinicadl.io.bids import BidsFileType

    entities = {
        "space": caps_names.SPACE,
        "desc": "Crop",
        "res": caps_names.RESOLUTION_ENTITY[resolution],
    }
    file_type = BidsFileType(data_type="t1_linear", suffix="T1w", with_entities=entities)
    # A fresh 0..n-1 index: any other ends in a KeyError inside ClinicaDL.
    return BidsDataset(caps, file_type, data=table.reset_index(drop=True))


def _as_clinicadl_finds(
    caps: Path, table: pd.DataFrame, files: list[Path], resolution: str
) -> list[Path]:
    """Ask ClinicaDL for every file that has a name of today's Clinica; it knows no older ones."""
    visits = map(caps_names.Visit, table["participant_id"], table["session_id"])
    names = [caps_names.t1_linear_image(caps, visit, resolution) for visit in visits]
    usual = [i for i, file in enumerate(files) if file == names[i]]
    found = list(files)
    if usual:
        theirs = found_by_clinicadl(caps, table.iloc[usual], resolution)
        for i, file in zip(usual, theirs, strict=True):
            found[i] = file
    return found


def found_by_clinicadl(caps: Path, table: pd.DataFrame, resolution: str) -> list[Path]:
    """Files that ClinicaDL reads for a table's visits, in order.

    Raises
    ------
    InputError
        In ClinicaDL's words, if it cannot read the CAPS or finds no or several images for a visit.
    """
    try:
        dataset = bids_dataset(caps, table, resolution)
        bids, file_type = dataset.image.bids, dataset.image.file_type
        visits = zip(table["participant_id"], table["session_id"], strict=True)
        return [
            Path(bids.get_path(file_type, participant, session)) for participant, session in visits
        ]
    except (AssertionError, RuntimeError, ValueError, KeyError) as error:
        raise InputError(
            f"{caps}: ClinicaDL cannot read it ({' '.join(str(error).split())})"
        ) from None
