"""The proof, before any training, that no generator of a cell saw anyone the cell is tested on."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from neuroaug.audit import cell_proof
from neuroaug.audit.near_copies import VisitKey, image_fingerprint
from neuroaug.cohort import lineage
from neuroaug.cohort.unlabelled import read_unlabelled
from neuroaug.config import Cell
from neuroaug.config.label_settings import UNLABELLED
from neuroaug.errors import InputError, LeakageError
from neuroaug.imaging import caps as caps_names
from neuroaug.imaging.cache import digest
from neuroaug.imaging.nifti import read_volume
from neuroaug.study import Study
from neuroaug.synthesis.synthetic_caps import SetRecord, parse_index
from neuroaug.system.files import read_json, sha256_file, write_json, write_tsv

log = logging.getLogger("neuroaug")


class VoxelChecksums:
    """Checksums and fingerprints of real images, remembered while a file's size and time stay.

    Parameters
    ----------
    path : Path
        The JSON that remembers them: path of an image -> checksum, fingerprint, bytes, mtime_ns.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            known = json.loads(path.read_text()) if path.is_file() else {}
            self._known: dict[str, list[str | int]] = known
        except (json.JSONDecodeError, UnicodeDecodeError):
            self._known = {}  # a memory of what can be computed again
        self._changed = False

    def of(self, path: Path) -> tuple[str, str]:
        """Checksum (`neuroaug.imaging.cache.voxel_sha256`) and `image_fingerprint` of one image."""
        status = path.stat()
        stamp = [status.st_size, status.st_mtime_ns]
        entry = self._known.get(str(path))
        if entry is None or entry[2:] != stamp:
            data = read_volume(path).data
            entry = [digest(data), image_fingerprint(data), *stamp]
            self._known[str(path)] = entry
            self._changed = True
        return str(entry[0]), str(entry[1])

    def save(self) -> None:
        """Keep what was computed."""
        if self._changed:
            write_json(self._path, self._known)


def synthetic_sets(study: Study, cell: Cell, seeds: Sequence[int]) -> dict[int, dict[str, Path]]:
    """Synthetic CAPS of a cell, by seed of the generator and label.

    Raises
    ------
    InputError
        If one is absent, or holds images of another label or resolution.
    """
    found: dict[int, dict[str, Path]] = {}
    if not cell.n_synthetic:
        return found
    for seed in seeds:
        for label in study.config.class_labels:
            folder = study.synthetic(cell.split, label, seed)
            record = SetRecord.read(folder)
            if record.label != label:
                raise InputError(
                    f"{folder}: images of label {record.label}, where {label} is expected"
                )
            if record.resolution != cell.resolution:
                raise InputError(
                    f"{folder}: images at {record.resolution} in the cell {cell.name}; "
                    f"all images of a cell must be on one grid ({cell.resolution})"
                )
            found.setdefault(seed, {})[label] = folder
    return found


def prove(
    study: Study,
    cell: Cell,
    *,
    split_hash: str,
    train: pd.DataFrame,
    forbidden: Mapping[str, tuple[Path, pd.DataFrame]],
    sets: Mapping[int, Mapping[str, Path]],
    searched: tuple[Path, pd.DataFrame] | None = None,
    models: Sequence[Path] = (),
) -> pd.DataFrame:
    """Refuse a cell that leaks; else write the proof beside its runs.

    Parameters
    ----------
    study : Study
        The study that the cell is of.
    cell : Cell
        The cell to prove.
    split_hash : str
        Content hash of the split.
    train : DataFrame
        The cell's real training set.
    forbidden : mapping of str to (Path, DataFrame)
        CAPS and table of validation, test and external sets, by name.
    sets : mapping of int to mapping of str to Path
        `synthetic_sets` of the cell.
    searched : (Path, DataFrame), optional
        Folder of the search that chose the cell's network, and the training set that it was to use.
    models : sequence of Path
        Generators that the cell's classifier is made of, beside those of its images.

    Returns
    -------
    DataFrame
        `cell_proof.PROOF_COLUMNS`, all passed; also in ``evaluation/<cell>/leakage.tsv`` (as are
        those of a refused cell).

    Raises
    ------
    LeakageError
        Naming the participants.
    InputError
        If an image of a set is missing, or synthetic.
    """
    checksums = VoxelChecksums(study.cache / "voxel-checksums.json")
    tables = [(study.caps, train), *forbidden.values()]
    images: dict[VisitKey, str] = {}
    fingerprints: dict[VisitKey, str] = {}
    for caps, table in [*tables, *([(study.caps, searched[1])] if searched else [])]:
        for row in table.itertuples():
            visit = caps_names.Visit(str(row.participant_id), str(row.session_id))
            path = caps_names.find_t1_linear_image(caps, visit, resolution=cell.resolution)
            if not path.is_file():
                raise InputError(
                    f"{path}: no {cell.resolution} image for {visit}; preprocess it first"
                )
            key = (visit.participant_id, visit.session_id)
            images[key], fingerprints[key] = checksums.of(path)
    generators: list[Path] = list(models)
    pairs: list[tuple[Path, Path]] = []
    for seed, by_label in sets.items():
        for label, folder in by_label.items():
            generators.append(folder)
            model = study.model(cell.split, label, seed)
            pairs.append((folder, model))
            if (model / lineage.FILE_NAME).is_file():
                generators.append(model)  # trained again since? then both must be clean
    _refuse_synthetic_in_sets(tables)
    for key, path in unlabelled_images(study, generators, cell.resolution).items():
        if key not in images:
            images[key], fingerprints[key] = checksums.of(path)
    checksums.save()

    def check(own: pd.DataFrame, learned: Sequence[Path]) -> pd.DataFrame:
        names = {name: table for name, (_, table) in forbidden.items()}
        return cell_proof.check_cell(
            cell_train=own,
            forbidden=names,
            generators=learned,
            split_hash=split_hash,
            image_sha256=images,
            fingerprints=fingerprints,
        )

    path = study.cell(cell) / cell_proof.FILE_NAME
    try:
        proof = check(train, generators)  # first, since it names the participants
        for folder, model in pairs:
            refuse_edited_lineage(folder, model)
        if searched is not None:
            folder, own = searched
            if (folder / lineage.FILE_NAME).is_file():
                rows = check(own, [folder])
                rows = rows[rows["generator"] != cell_proof.TRAINING_SET]
                proof = pd.concat([proof, rows], ignore_index=True)
            else:
                doubt = "%s: no %s; on whom this network was chosen is not proved"
                log.warning(doubt, folder, lineage.FILE_NAME)
    except cell_proof.LineageError as error:
        write_tsv(path, error.proof)  # an earlier proof holds no longer, and the report says so
        raise
    except LeakageError:
        path.unlink(missing_ok=True)
        raise
    write_tsv(path, proof)
    return proof


def unlabelled_images(
    study: Study, generators: Sequence[Path], resolution: str
) -> dict[VisitKey, Path]:
    """Images of the visits that shared generators learned from without a label.

    Of those whose image is no longer where the study's table says, checksums alone are compared;
    they are counted and said.
    """
    learned: dict[VisitKey, None] = {}
    for folder in generators:
        if (folder / lineage.FILE_NAME).is_file():
            table = lineage.read_lineage(folder)
            rows = table[table["diagnosis"].astype(str) == UNLABELLED]
            pairs = zip(rows["participant_id"], rows["session_id"], strict=True)
            learned |= dict.fromkeys((str(p), str(s)) for p, s in pairs)
    if not learned:
        return {}
    folders: dict[VisitKey, Path] = {}
    given = study.config.generator.unlabelled
    if given is not None and study.path(given).is_file():
        for row in read_unlabelled(study.path(given)).itertuples():
            visit = (str(row.participant_id), str(row.session_id))
            folders[visit] = Path(str(row.caps)) if row.caps else study.caps
    found: dict[VisitKey, Path] = {}
    for key in learned:
        caps = folders.get(key, study.caps)
        path = caps_names.find_t1_linear_image(caps, caps_names.Visit(*key), resolution=resolution)
        if path.is_file():
            found[key] = path
    if lost := len(learned) - len(found):
        log.warning(
            "%d of %d unlabelled visits have no %s image any more; they are compared with the sets "
            "by name and checksum alone",
            lost,
            len(learned),
            resolution,
        )
    return found


def refuse_edited_lineage(sampled: Path, model: Path) -> None:
    """Refuse a lineage that is not the one written when the generator was trained.

    The generator's ``config.json`` holds the checksum of its lineage, and the record of a synthetic
    set that of the ``config.json``.

    Parameters
    ----------
    sampled : Path
        A synthetic CAPS.
    model : Path
        Folder of the generator that it was sampled from.

    Raises
    ------
    LeakageError
        Naming the lineage that is gone, or was edited.
    """
    config = model / "config.json"
    if not config.is_file():
        return
    path = model / lineage.FILE_NAME
    recorded = read_json(config).get("checksums", {}).get(lineage.FILE_NAME)
    if recorded is not None and (not path.is_file() or sha256_file(path) != recorded):
        what = "edited" if path.is_file() else "gone"
        raise LeakageError(
            f"{path}: {what} since the generator was trained; restore it, or train the generator "
            "again"
        )
    if recorded is None or SetRecord.read(sampled).model_sha256 != sha256_file(config):
        return
    order = ["participant_id", "session_id"]
    own, given = (
        lineage.read_lineage(folder).sort_values(order, ignore_index=True)
        for folder in (sampled, model)
    )
    if not own.equals(given):
        raise LeakageError(
            f"{sampled / lineage.FILE_NAME}: not that of its generator, {path}; "
            "draw the images again"
        )


def _refuse_synthetic_in_sets(tables: Sequence[tuple[Path, pd.DataFrame]]) -> None:
    for caps, table in tables:
        for participant in table["participant_id"]:
            if parse_index(str(participant)) is not None:
                raise InputError(
                    f"{caps}: {participant} is a synthetic image; "
                    "real sets hold real participants only"
                )
