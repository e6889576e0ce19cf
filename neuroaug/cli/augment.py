"""``neuroaug augment``: as many synthetic images of a label as asked for.

With the workflow, the only place where one stage calls another: a study without a split gets its
default one, a label without a generator gets it trained.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from neuroaug.cli.console import command, log, say_next, start
from neuroaug.cli.options import (
    FILES,
    Caps,
    Device,
    Label,
    Part,
    Seed,
    SplitName,
    choice,
    config_of,
    literals,
    option,
    overlay,
    part,
)
from neuroaug.config import SynthesisConfig
from neuroaug.errors import InputError
from neuroaug.registries import SAMPLERS

if TYPE_CHECKING:
    from neuroaug.study import Study
    from neuroaug.synthesis.generate import GenerateSummary

SAMPLING = "Sampling"


@command("augment", epilog="Example: neuroaug augment --label AD --n 5000")
def augment(
    label: Label,
    n: Annotated[int, option("--n", "Images the set is to hold.")],
    caps: Caps = None,
    split: SplitName = None,
    model: Annotated[Path | None, option("--model", "A trained model folder.", FILES)] = None,
    out: Annotated[
        Path | None, option("--out", "Synthetic CAPS (default: the study's).", FILES)
    ] = None,
    sampler: Annotated[
        str | None, choice("--sampler", SAMPLERS.names, "Sampler of latent codes", SAMPLING)
    ] = None,
    sampler_profile: Annotated[
        str | None,
        choice(
            "--sampler-profile",
            literals(SynthesisConfig, "profile"),
            "Step sizes and lengths of chains",
            SAMPLING,
        ),
    ] = None,
    seed: Seed = None,
    model_seed: Annotated[
        int | None, option("--model-seed", "Which of the label's generators.")
    ] = None,
    dtype: Annotated[
        str | None, choice("--dtype", literals(SynthesisConfig, "dtype"), "Voxels on disk", FILES)
    ] = None,
    shard: Annotated[
        Part | None, part("--shard", "i/n: this part only, for job arrays.", SAMPLING)
    ] = None,
    age: Annotated[
        str | None,
        option("--age", "Ages of the synthetic people, as 70-80 (a law with age).", SAMPLING),
    ] = None,
    device: Device = "auto",
) -> None:
    """Draw synthetic images as a CAPS; trains the generator if there is none. Resumes, extends."""
    study = start("augment")
    if n < 1:
        raise InputError(f"--n {n}: at least 1 image must be asked for")
    from neuroaug.imaging.caps import require_caps
    from neuroaug.synthesis.generate import generate

    if caps is not None:
        require_caps(caps)
    if model is None:
        model = _model_folder(study, label, caps, split, out, model_seed, device)
    _check_model(model, label, study.config.resolution if study and out is None else None)
    if out is None:
        if study is None:
            raise InputError("--out: needed outside a study")
        out = study.synthetic(_split_name(study, split), label, model_seed)
    _tell_forecast(model)
    config = overlay(
        config_of(study).synthesis, sampler=sampler, profile=sampler_profile, seed=seed, dtype=dtype
    )
    summary = generate(
        model,
        n=n,
        out=out,
        sampler=sampler or _study_sampler(study),
        profile=config.profile,
        seed=config.seed,
        dtype=config.dtype,
        shard=shard or Part(1, 1),
        device=device,
        ranges={} if age is None else {"age": _years(age)},
    )
    _say(summary, out)
    if study is not None and shard is None:
        _say_next(study, split, label, n, model_seed)


def _tell_forecast(model: Path) -> None:
    """Say before drawing what the images can teach, where the model's training found it out."""
    from neuroaug.controls.forecast import read_forecast

    found = read_forecast(model)
    if found is not None:
        log.info("%s", found.line())


def _years(text: str) -> tuple[float, float]:
    """Least and largest age from ``70-80``, or one age twice."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(?:-(\d+(?:\.\d+)?))?", text)
    ends = (float(match[1]), float(match[2] or match[1])) if match else (1.0, 0.0)
    if ends[0] > ends[1]:
        raise InputError(f"--age {text}: expected years as 70-80")
    return ends


def _say_next(study: Study, split: str | None, label: str, n: int, seed: int | None) -> None:
    """The other class, while it has no images; then a comparison of both."""
    if study.config.label_rules is not None and study.config.label_rules.other is None:
        return
    if label not in (classes := study.config.classes):
        return
    name = _split_name(study, split)
    lacking = [c for c in classes if not study.synthetic(name, c, seed).is_dir()]
    if lacking:
        say_next(f"neuroaug augment --label {lacking[0]} --n {n}")
    else:
        say_next(f"neuroaug evaluate --cell real real+synthetic-{n}")


def _study_sampler(study: Study | None) -> str | None:
    """Sampler of the study; None, which is the model's own, where it names none that fits."""
    # The default is the RHVAE's; with another family it stands for that family's own.
    sampler = config_of(study).synthesis.sampler
    return None if sampler == SynthesisConfig().sampler else sampler


def _split_name(study: Study, split: str | None) -> str:
    if split is None:
        return study.config.split.default
    return Path(split).stem if split.endswith(".tsv") else split


def _model_folder(
    study: Study | None,
    label: str,
    caps: Path | None,
    split: str | None,
    out: Path | None,
    model_seed: int | None,
    device: str,
) -> Path:
    """Folder of the label's generator, which is trained where there is none."""
    if study is None:
        if split is None or out is None:
            raise InputError(
                "augment: outside a study, --split and --out are needed (or --model and --out)"
            )
        if caps is None:
            raise InputError("augment: outside a study, a CAPS folder (or --model) is needed")
        folder = out.parent / f"{out.name}_model"
    else:
        if label not in study.config.label_names:
            known = ", ".join(study.config.label_names)
            raise InputError(f"label '{label}': this study's labels are {known}")
        if not (study.splits / "split.json").is_file():
            from neuroaug.cohort.split_cohort import split_cohort

            log.info("no split yet: making the default one in %s", study.splits)
            split_cohort(study, study.config, caps=caps)
        folder = study.model(_split_name(study, split), label, model_seed)
    if not (folder / "config.json").is_file():
        log.info("no generator for %s yet: training one in %s", label, folder)
        from neuroaug.training.label_training import TrainingRequest, train_label

        config = config_of(study)
        request = TrainingRequest(
            resolution=config.resolution,
            caps=caps,
            split=split,
            out=folder if study is None else None,
            seed=model_seed,
            device=device,
        )
        train_label(study, label, config.generator, request)
    return folder


def _check_model(model: Path, label: str, resolution: str | None) -> None:
    """Refuse a model of another label, or of images at another than the study's resolution."""
    from neuroaug.system.files import read_json

    if not (model / "config.json").is_file():
        raise InputError(f"{model}: no trained model there; train one with 'neuroaug train'")
    learned = read_json(model / "config.json")
    learned_label, grid = learned.get("label"), learned.get("grid")
    if learned_label != label:
        raise InputError(
            f"{model}: learned from label '{learned_label}', not '{label}'; "
            "give the model of that label"
        )
    if resolution is not None and grid != resolution:
        raise InputError(
            f"{model}: learned from {grid} images, and this study is at {resolution}; "
            "train a model at that resolution, or give --out"
        )


def _say(summary: GenerateSummary, out: Path) -> None:
    if summary.n_written == 0:
        log.info("%s: %d images are there already; nothing to do", out, summary.n_present)
        return
    log.info("%s: %d images written, %d there", out, summary.n_written, summary.n_present)
    if summary.acceptance_rate is None or math.isnan(summary.acceptance_rate):
        return  # the prior and the mixture draw without chains
    said = "samples: acceptance %.2f, median displacement from the start %.2f"
    log.info(said, summary.acceptance_rate, summary.displacement)
