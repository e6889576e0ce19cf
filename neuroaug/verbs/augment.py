"""``neuroaug augment``: as many synthetic images of a label as asked for.

With the workflow, the only place where one stage calls another: a study without a split gets its
default one, a label without a generator gets it trained.
"""

from __future__ import annotations

import logging
import math
from pathlib import Path

from neuroaug.errors import InputError
from neuroaug.imaging.caps import require_caps
from neuroaug.study import Study
from neuroaug.synthesis.generate import GenerateSummary, generate, parse_shard
from neuroaug.system.files import read_json
from neuroaug.verbs.split import split as make_split
from neuroaug.verbs.train import train

log = logging.getLogger("neuroaug")


def augment(
    study: Study | None,
    *,
    label: str,
    n: int,
    caps: Path | None = None,
    split: str | None = None,
    model: Path | None = None,
    out: Path | None = None,
    sampler: str | None = None,
    profile: str | None = None,
    seed: int | None = None,
    model_seed: int | None = None,
    dtype: str | None = None,
    device: str = "auto",
    shard: str | None = None,
    n_writers: int | None = None,
) -> GenerateSummary:
    """Draw images 1..n of `label`; what is missing on the way (split, generator) is made first.

    Raises
    ------
    InputError
        If n < 1, the label is unknown, or the set at `out` is of another sampler, seed or model.
    """
    if n < 1:
        raise InputError(f"--n {n}: at least 1 image must be asked for")
    part = parse_shard(shard)
    if caps is not None:
        require_caps(caps)
    if model is None:
        model = _model_folder(study, label, caps, split, out, model_seed, device)
    _check_label(model, label)
    if out is None:
        if study is None:
            raise InputError("--out: needed outside a study")
        _check_grid(model, study)
        name = _split_name(study, split)
        out = study.synthetic(name, label, model_seed)
    if study is not None:
        defaults = study.config.synthesis
        sampler = sampler or _study_sampler(study)
        profile, dtype = profile or defaults.profile, dtype or defaults.dtype
        seed = defaults.seed if seed is None else seed
    summary = generate(
        model,
        n=n,
        out=out,
        sampler=sampler,
        profile=profile or "tuned",
        seed=seed or 0,
        dtype=dtype or "float32",
        shard=part,
        device=device,
        n_writers=n_writers,
    )
    _say(summary, n, out)
    return summary


def _study_sampler(study: Study) -> str | None:
    sampler = study.config.synthesis.sampler
    # A plain VAE has no learned metric: the study's default sampler means its own geometric one
    # there.
    return None if study.config.generator.model == "vae" and sampler == "hmc" else sampler


def _split_name(study: Study, split: str | None) -> str:
    return (
        Path(split).stem
        if split and split.endswith(".tsv")
        else split or study.config.split.default
    )


def _model_folder(
    study: Study | None,
    label: str,
    caps: Path | None,
    split: str | None,
    out: Path | None,
    model_seed: int | None,
    device: str,
) -> Path:
    if study is None:
        if split is None or out is None:
            raise InputError(
                "augment: outside a study, --split and --out are needed (or --model and --out)"
            )
        if caps is None:
            raise InputError("augment: outside a study, a CAPS folder (or --model) is needed")
        folder = out.parent / f"{out.name}_model"
        if not (folder / "config.json").is_file():
            log.info("no model for %s yet: training one in %s", label, folder)
            train(
                None,
                label=label,
                caps=caps,
                split=split,
                out=folder,
                device=device,
                seed=model_seed,
            )
        return folder
    if label not in study.config.labels:
        raise InputError(
            f"label '{label}': this study's labels are {', '.join(study.config.labels)}"
        )
    if not (study.splits / "split.json").is_file():
        log.info("no split yet: making the default one in %s", study.splits)
        make_split(study, caps=caps)
    folder = study.model(_split_name(study, split), label, model_seed)
    if not (folder / "config.json").is_file():
        log.info("no generator for %s yet: training one in %s", label, folder)
        train(study, label=label, caps=caps, split=split, seed=model_seed, device=device)
    return folder


def _check_label(model: Path, label: str) -> None:
    if not (model / "config.json").is_file():
        raise InputError(f"{model}: no trained model there; train one with 'neuroaug train'")
    learned = read_json(model / "config.json").get("label")
    if learned != label:
        raise InputError(
            f"{model}: learned from label '{learned}', not '{label}'; give the model of that label"
        )


def _check_grid(model: Path, study: Study) -> None:
    learned = read_json(model / "config.json").get("grid")
    if learned != study.config.resolution:
        raise InputError(
            f"{model}: learned from {learned} images, and this study is at {study.config.resolution}; "
            "train a model at that resolution, or give --out"
        )


def _say(summary: GenerateSummary, n: int, out: Path) -> None:
    if summary.n_written == 0:
        log.info("%s: %d images are there already; nothing to do", out, summary.n_present)
        return
    log.info("%s: %d images written, %d there", out, summary.n_written, summary.n_present)
    if summary.acceptance_rate is None or math.isnan(summary.acceptance_rate):
        return  # the prior and the mixture draw without chains
    log.info(
        "draws: acceptance %.2f, median displacement from the start %.2f",
        summary.acceptance_rate,
        summary.displacement,
    )
