"""One label's generator: its images and lineage from a set of a split, then the training."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from neuroaug.cohort.split_folder import SPLIT_COLUMNS
from neuroaug.cohort.split_table import SplitTable, open_split, read_split
from neuroaug.cohort.unlabelled import read_unlabelled, refuse_tested, refuse_trained
from neuroaug.config import GeneratorConfig, LawConfig
from neuroaug.errors import InputError
from neuroaug.imaging.cache import CohortCache
from neuroaug.imaging.caps import image_files
from neuroaug.models.generative_model import load_model
from neuroaug.system.devices import find_devices
from neuroaug.training.held_out.code_probes import ProbedPeople, probe
from neuroaug.training.held_out.label_forecast import LEAST_OF_A_CLASS, forecast_label, told_apart
from neuroaug.training.held_out.probe_record import read_probes, write_probes
from neuroaug.training.shared_training import Everyone, derive_label, train_anatomy
from neuroaug.training.train import MIN_PARTICIPANTS, train

if TYPE_CHECKING:
    from neuroaug.study import Study

log = logging.getLogger("neuroaug")

ANATOMY = "shared-anatomy"
"""Folder of a shared generator, among those of the labels; no label has a hyphen."""


@dataclass(frozen=True)
class TrainingRequest:
    """Where and how a generator is trained.

    Attributes
    ----------
    resolution : {"1mm", "2mm", "4mm"}
        Voxel size of the images.
    caps : Path, optional
        Preprocessed images; by default the study's.
    split : str, optional
        Training set: its name in the study, or the path of a TSV.
    out : Path, optional
        Model folder; by default the study's.
    seed : int, optional
        Seed of weights, order and noise; by default the first of the configuration.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:<number>``.
    n_devices : int
        Processes, one per device, that share each batch.
    n_threads : int, optional
        CPU threads; by default torch's own number.
    typed_batch : int, optional
        Batch size that the user typed; unlike a default it is never reduced.
    """

    resolution: str
    caps: Path | None = None
    split: str | None = None
    out: Path | None = None
    seed: int | None = None
    device: str = "auto"
    n_devices: int = 1
    n_threads: int | None = None
    typed_batch: int | None = None

    def options(self, config: GeneratorConfig) -> dict[str, Any]:
        """What `train` is told beside people and images."""
        return {
            "grid": self.resolution,
            "device": self.device,
            "n_devices": self.n_devices,
            "seed": config.seeds[0] if self.seed is None else self.seed,
            "typed_batch": self.typed_batch,
        }


def train_label(
    study: Study | None, label: str, config: GeneratorConfig, request: TrainingRequest
) -> None:
    """Train the generator of a label on its participants, or go on where it stopped.

    With ``generator.shared`` the anatomy of all labels is trained first, where it is not there yet.

    Parameters
    ----------
    study : Study or None
        Gives the training set, the images and the model folder where they are not asked for.
    label : str
        Diagnosis whose rows are learned.
    config : GeneratorConfig
        Settings of the generator.
    request : TrainingRequest
        Where and how.

    Raises
    ------
    InputError
        If a folder or the training set is neither passed nor a study's, the label has too few
        participants, or an image is missing.
    LeakageError
        If an unlabelled person is in a set that is tested or validated on.
    """
    table = read_split(study, request.split)
    caps, out = request.caps, request.out
    if study is not None:
        caps, out = caps or study.caps, out or study.model(table.name, label, request.seed)
    if caps is None or out is None:
        raise InputError("train: outside a study, a CAPS folder and --out are needed")
    rows = table.rows(label)
    if len(rows) < MIN_PARTICIPANTS:
        raise InputError(
            f"label '{label}': {len(rows)} training participants in the split '{table.name}', "
            f"at least {MIN_PARTICIPANTS} are needed to learn a generator"
        )
    if request.n_threads:
        torch.set_num_threads(request.n_threads)
    if config.shared:
        law = None if study is None else study.config.law
        _derive(study, table, label, config, request, caps, out, law)
        return
    cache = _cache(study, out, f"{table.name}_{label}", caps, rows, config, request.resolution)
    lineage = rows[["participant_id", "session_id", "diagnosis"]].assign(
        image_sha256=list(cache.image_sha256), split=table.name, split_hash=table.hash
    )
    train(
        cache,
        config=config,
        label=label,
        out=out,
        lineage=lineage,
        split_hash=table.hash,
        **request.options(config),
    )
    if _in_study(request) and study is not None:
        _look_at(study, rows, cache, _held_out(study, [label]), out, config, request, None)


def _cache(
    study: Study | None,
    out: Path,
    name: str,
    caps: Path,
    rows: pd.DataFrame,
    config: GeneratorConfig,
    resolution: str,
) -> CohortCache:
    """Memory-mapped copies of the images of some rows; a row may name a CAPS of its own."""
    root = study.cache if study is not None else out.parent / ".cache"
    folders = rows["caps"] if "caps" in rows else pd.Series([None] * len(rows))
    files = [
        image_files(Path(folder) if folder else caps, rows.iloc[[i]], resolution)[0]
        for i, folder in enumerate(folders)
    ]
    return CohortCache.build(
        root / f"{name}_{resolution}_{config.scaling}",
        files,
        rows.drop(columns="caps", errors="ignore"),
        dtype="float16",
        scaling=config.scaling,
    )


def _derive(
    study: Study | None,
    table: SplitTable,
    label: str,
    config: GeneratorConfig,
    request: TrainingRequest,
    caps: Path,
    out: Path,
    law: LawConfig | None,
) -> None:
    """Train the anatomy of everyone, then write the label's model."""
    people = _everyone(study, table, config)
    cache = _cache(study, out, f"{table.name}_{ANATOMY}", caps, people, config, request.resolution)
    labels = tuple(study.config.label_names if study else sorted(set(table.table["diagnosis"])))
    everyone = Everyone(people, labels, cache, table.name, table.hash)
    if study is not None and request.out is None:
        anatomy = study.model(table.name, ANATOMY, request.seed)
    else:
        anatomy = out.parent / f"{out.name}-{ANATOMY}"
    options = request.options(config)
    train_anatomy(everyone, config, out=anatomy, **options)
    derive_label(anatomy, everyone, label, out=out, law=law, device=request.device)
    if _in_study(request) and study is not None:
        held = _held_out(study, labels)
        told = _look_at(study, people, cache, held, out, config, request, law)
        if told is not None:
            _forecast(study, everyone, told, label, request)


def _in_study(request: TrainingRequest) -> bool:
    """Whether a set of the study's own split is learned from: it has validation people."""
    own_table = request.split is not None and request.split.endswith(".tsv")
    return request.out is None and request.caps is None and not own_table


def _held_out(study: Study, labels: Sequence[str]) -> pd.DataFrame:
    """Validation people of some labels."""
    table = open_split(study).table("validation")
    return table[table["diagnosis"].isin(labels)].reset_index(drop=True)


def _look_at(
    study: Study,
    people: pd.DataFrame,
    cache: CohortCache,
    held: pd.DataFrame,
    out: Path,
    config: GeneratorConfig,
    request: TrainingRequest,
    law: LawConfig | None,
) -> CohortCache | None:
    """Probe a trained model's codes on validation people; gives their images."""
    if held.empty:
        return None
    name = "-".join([out.parent.name, "validation", *sorted(set(held["diagnosis"]))])
    try:
        images = _cache(study, out, name, study.caps, held, config, request.resolution)
    except InputError as error:  # the model is trained; only what would be told of it is lacking
        log.warning("the model's codes are not looked at on validation people: %s", error)
        return None
    if read_probes(out) is None:
        found = probe(
            load_model(out),
            ProbedPeople.of(cache, people, law),
            ProbedPeople.of(images, held, law),
            told_apart(study),
            law,
            find_devices(request.device).first,
        )
        write_probes(out, found)
        log.info("%s", found.line())
        if found.worse:
            log.warning(
                "new people are reconstructed worse than by principal components; generator.start: "
                "components begins with them"
            )
    return images


def _forecast(
    study: Study, everyone: Everyone, images: CohortCache, label: str, request: TrainingRequest
) -> None:
    """Say what images of this anatomy's law can teach at most, where the study has two classes."""
    classes = told_apart(study)
    if classes is None or study.config.law is None:
        return
    counts = images.index["diagnosis"]
    if min((counts == name).sum() for name in classes) < LEAST_OF_A_CLASS:
        log.info("no forecast of what these images can teach: too few validation people")
        return
    out, others = study.model(everyone.split, label, request.seed), set(classes) - {label}
    known = [study.model(everyone.split, other, request.seed) for other in sorted(others)]
    found = forecast_label(out, everyone, images, classes, request.device, known)
    if found is not None:
        log.info("%s", found.line())


def _everyone(study: Study | None, table: SplitTable, config: GeneratorConfig) -> pd.DataFrame:
    """Training people of all labels, then the unlabelled visits; by participant within each."""
    columns = [name for name in SPLIT_COLUMNS if name in table.table.columns]
    people = table.table[columns].assign(caps=None)
    if config.unlabelled is None:
        return people.reset_index(drop=True)
    path = (
        study.path(config.unlabelled) if study is not None else Path(config.unlabelled).absolute()
    )
    unlabelled = read_unlabelled(path)
    if study is not None:
        split = open_split(study)
        refuse_tested(
            unlabelled, {name: split.table(name) for name in ("test", "validation")}, path
        )
        outside = [
            f
            for f in sorted((study.splits / "external").glob("*/*.tsv"))
            if f.parent.name == f.stem
        ]
        refuse_tested(unlabelled, {f.stem: _members(f) for f in outside}, path)
    refuse_trained(unlabelled, people, path)
    log.info("%d unlabelled visits shape the anatomy too (%s)", len(unlabelled), path)
    return pd.concat([people, unlabelled], ignore_index=True)


def _members(path: Path) -> pd.DataFrame:
    from neuroaug.cohort.split_folder import read_set

    return read_set(path)
