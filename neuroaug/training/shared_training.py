"""One anatomy for all labels: trained on everyone, then given each label's own density.

The anatomy lies in ``models/<split>/shared-anatomy``: encoder and decoder, learned from the
training people of all labels and from unlabelled visits. The folder of a label holds the same
weights with the label's density of codes, and in its ``lineage.tsv`` everyone whose image shaped
them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from neuroaug.cohort.lineage import FILE_NAME, LABELLED_VISIT, LINEAGE_COLUMNS
from neuroaug.errors import InputError
from neuroaug.imaging.cache import CohortCache
from neuroaug.law.covariates import covariate_values
from neuroaug.law.label_law import FittedLaw, fit_law
from neuroaug.models.generative_model import GenerativeModel, load_model
from neuroaug.models.storage import CONFIG, read_model_config
from neuroaug.samplers.sampler import fit_samplers, tune_samplers
from neuroaug.system.devices import find_devices
from neuroaug.system.files import read_tsv, sha256_file, sha256_json, write_text, write_tsv
from neuroaug.system.locks import exclusive
from neuroaug.training.batches import BatchReader
from neuroaug.training.random_order import batches
from neuroaug.training.train import MIN_PARTICIPANTS, train

if TYPE_CHECKING:
    from neuroaug.config import GeneratorConfig, LawConfig

log = logging.getLogger("neuroaug")

MOST_NAMES = 10


@dataclass(frozen=True)
class Everyone:
    """Whom a shared generator learns from: the training people of all labels, and the unlabelled.

    Attributes
    ----------
    table : DataFrame
        participant_id, session_id, diagnosis (`UNLABELLED` without one), age, sex.
    labels : tuple of str
        The study's labels.
    cache : CohortCache
        Their images, in this order.
    split, split_hash : str
        Name and hash of the training set.
    """

    table: pd.DataFrame
    labels: tuple[str, ...]
    cache: CohortCache
    split: str
    split_hash: str

    @property
    def lineage(self) -> pd.DataFrame:
        """Rows of ``lineage.tsv``, in the order of the images."""
        table = self.table[list(LABELLED_VISIT)].assign(
            image_sha256=list(self.cache.image_sha256),
            split=self.split,
            split_hash=self.split_hash,
        )
        return table[list(LINEAGE_COLUMNS)]

    def require_people(self) -> None:
        """Refuse a label with too few people for a density of its own.

        Raises
        ------
        InputError
            Naming it.
        """
        for label in self.labels:
            n = int((self.table["diagnosis"] == label).sum())
            if n < MIN_PARTICIPANTS:
                raise InputError(
                    f"label '{label}': {n} training participants in the split '{self.split}', at "
                    f"least {MIN_PARTICIPANTS} are needed to learn a generator"
                )


def train_anatomy(
    everyone: Everyone, config: GeneratorConfig, *, out: Path, seed: int, **options: Any
) -> Path:
    """Train the anatomy of all labels in `out`, or go on where it stopped; options as of `train`.

    Of two processes that ask for it at once, one trains and the other waits.
    """
    everyone.require_people()
    out.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(out.parent / f".{out.name}.lock"):
        train(
            everyone.cache,
            config=config,
            label=None,
            out=out,
            lineage=everyone.lineage,
            split_hash=everyone.split_hash,
            seed=seed,
            tune=False,
            **options,
        )
    return out


def derive_label(
    anatomy: Path,
    everyone: Everyone,
    label: str,
    *,
    out: Path,
    law: LawConfig | None = None,
    device: str = "auto",
) -> GenerativeModel:
    """Give a trained anatomy the density of one label, and write it as that label's model.

    Without a law the density is that of the label's own codes. With one, it is of everyone's rests
    (`neuroaug.law`), which samplers draw, and the law places them.

    Parameters
    ----------
    anatomy : Path
        Folder of `train_anatomy`.
    everyone : Everyone
        Whom it learned from.
    label : str
        Label to derive.
    out : Path
        Model folder of the label.
    law : LawConfig, optional
        Law of anatomy.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:<number>``.

    Raises
    ------
    InputError
        The folder holds another model, a covariate is the same for everyone, or nobody of a label
        has all covariates.
    """
    model = load_model(anatomy)
    asked = law.model_dump(mode="json") if law else None
    identity = sha256_json([sha256_file(anatomy / CONFIG), label, asked])
    if (out / CONFIG).is_file():
        if read_model_config(out).get("training", {}).get("identity") != identity:
            raise InputError(
                f"{out}: holds a model of another anatomy, label or law; give another --out, or "
                "remove it"
            )
        return load_model(out)
    target = find_devices(device).first
    model.label = label
    record = dict(model.training_record)
    model.to(target)
    if law is None:
        rows = np.flatnonzero(everyone.table["diagnosis"] == label)
        model.update_metric(_images(everyone.cache, rows, target))
    else:
        _under_law(model, everyone, label, law, target)
    model = model.cpu().eval()
    space = model.latent_space()
    model.sampler_tensors |= fit_samplers(space)
    model.sampler_settings = tune_samplers(space)
    contrast = model.metric_contrast()
    model.training_record = {
        **record,
        "identity": identity,
        "anatomy_identity": record["identity"],
        "metric_contrast": None if contrast is None else contrast.contrast,
        "metric_dead": contrast is not None and contrast.collapsed,
    }
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "history.csv", (anatomy / "history.csv").read_text(encoding="utf-8"))
    write_tsv(out / FILE_NAME, read_tsv(anatomy / FILE_NAME, LINEAGE_COLUMNS))
    model.save(out)
    return load_model(out)


def _images(
    cache: CohortCache, rows: np.ndarray, device: torch.device, size: int = 8
) -> Iterator[torch.Tensor]:
    reader = BatchReader(cache.images, device)
    return reader.batches(batches(rows.astype(np.intp), size))


def _under_law(
    model: GenerativeModel,
    everyone: Everyone,
    label: str,
    config: LawConfig,
    device: torch.device,
) -> None:
    """Fit the law to everyone's codes; the model then has everyone's rests, and the law."""
    table = everyone.table
    values = covariate_values(table, config.covariates)
    known = ~np.isnan(values).any(axis=1)
    _tell_left_out(table.iloc[np.flatnonzero(~known)], config.covariates)
    if not known.any():
        raise InputError(f"law: nobody has all of {', '.join(config.covariates)}")
    rows = np.flatnonzero(known)
    fitted: list[FittedLaw] = []

    def to_rests(codes: torch.Tensor) -> torch.Tensor:
        law = fit_law(
            codes.double().numpy(),
            values[known],
            table["diagnosis"].iloc[rows].tolist(),
            everyone.labels,
            config,
        )
        fitted.append(law)
        return torch.from_numpy(law.effects.rests).to(codes)

    model.update_metric(_images(everyone.cache, rows, device), to_rests)
    model.law = fitted[0].of(label)


def _tell_left_out(people: pd.DataFrame, covariates: Sequence[str]) -> None:
    if not len(people):
        return
    names = list(people["participant_id"][:MOST_NAMES])
    more = f" and {len(people) - MOST_NAMES} more" if len(people) > MOST_NAMES else ""
    log.warning(
        "law: %d people without %s teach the anatomy but not the law: %s%s",
        len(people),
        " and ".join(covariates),
        ", ".join(names),
        more,
    )
