"""Which of our choices matter: one changed at a time, judged by a classifier and by the chains."""

from __future__ import annotations

import copy
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np

from neuroaug.errors import DivergenceError
from neuroaug.geometry.metrics.learned import LearnedMetric
from neuroaug.models.generative_model import GenerativeModel
from neuroaug.published import trained_generators
from neuroaug.published.digits.digit_images import LabelledImages
from neuroaug.published.experiments.augmentation import same_class_distances
from neuroaug.published.measures import NEAREST
from neuroaug.published.reference_gradient import with_reference_gradient
from neuroaug.published.run_scores import DIVERGED, PERCENT, Score
from neuroaug.published.table_run import TableRun
from neuroaug.samplers.latents import sample_latents


def table(run: TableRun) -> list[Score]:
    """One row per variant; the first is what users get with the papers' toy settings."""
    kind, n = run.classifier(), run.settings["n_synthetic"][0]
    scores = []
    for variant in run.settings["variants"]:
        base = run.model_settings(variant.get("model", "rhvae"))
        settings = {**base, **variant.get("settings", {})}
        key = {
            "what": "ablation",
            "model": trained_generators.identity(settings),
            "sampler": variant.get("sampler", "hmc"),
            "profile": variant.get("profile", "tuned"),
            "gradient": variant.get("gradient", "true"),
            "n": n,
            "classifier": asdict(kind),
            "train": run.subset.train.sha256(),
            "test": run.subset.test.sha256(),
            "seed": run.seed,
        }
        found = run.memo.value(key, partial(_measured, run, settings, key))
        scores.append(run.score(variant["name"], DIVERGED, 0.0 if found else PERCENT))
        scores += [run.score(variant["name"], measure, value) for measure, value in found.items()]
    return scores


def _measured(run: TableRun, settings: dict[str, Any], key: dict[str, Any]) -> dict[str, float]:
    """Measures of one variant; none where a generator's training diverged."""
    try:
        models = trained_generators.each_class(run.memo, run.subset.train, settings, seed=run.seed)
    except DivergenceError:
        return {}
    if key["gradient"] == "reference":
        models = {label: _with_reference_gradient(model) for label, model in models.items()}
    images, acceptance, displacement = [], [], []
    for model in models.values():
        z, info = sample_latents(
            model.latent_space(),
            (1, key["n"]),
            sampler=key["sampler"],
            profile=key["profile"],
            seed=run.seed,
            label=model.label,
        )
        images.append(trained_generators.as_stored(model.decode(z)[:, 0].numpy()))
        centred = model.centroids - model.centroids.mean(0)
        spread = float(centred.norm(dim=1).square().mean().sqrt())
        acceptance.append(info.acceptance_rate)
        displacement.append(info.displacement / spread)
    labels = np.repeat(np.array(list(models), dtype=np.int64), key["n"])
    synthetic = LabelledImages(np.concatenate(images), labels)
    subset = run.subset
    found = run.train(synthetic, {"test": subset.test}, run.classifier(), "ablation")
    return {
        "accuracy": PERCENT * found.accuracy["test"],
        "validation accuracy": PERCENT * found.validation,
        "acceptance": PERCENT * float(np.mean(acceptance)),
        "displacement": float(np.median(displacement)),
        NEAREST: float(np.median(same_class_distances(synthetic, subset.train))),
    }


def _with_reference_gradient(model: GenerativeModel) -> GenerativeModel:
    changed = copy.copy(model)
    assert isinstance(model.metric, LearnedMetric)
    changed.metric = with_reference_gradient(model.metric)
    changed.sampler_settings = {}
    return changed
