"""Which of our choices matter: one changed at a time, measured by synthetic-only accuracy and by
the chains.
"""

from __future__ import annotations

import copy
from dataclasses import asdict
from typing import Any

import numpy as np

from neuroaug.errors import DivergenceError
from neuroaug.geometry.metrics.learned import LearnedMetric
from neuroaug.models.generative_model import GenerativeModel
from neuroaug.published.arms import ArmBench
from neuroaug.published.experiments.augmentation import same_class_distances
from neuroaug.published.parts import trained_generators
from neuroaug.published.parts.digit_images import LabelledImages
from neuroaug.published.parts.reference_gradient import with_reference_gradient
from neuroaug.published.run_scores import DIVERGED, Score
from neuroaug.samplers.latents import sample_latents

PERCENT = 100.0


def table(bench: ArmBench) -> list[Score]:
    """One row a variant; the first is what users get with the papers' toy settings."""
    kind, n = bench.classifier(), bench.settings["n_synthetic"][0]
    scores = []
    for variant in bench.settings["variants"]:
        base = bench.model_settings(variant.get("model", "rhvae"))
        settings = {**base, **variant.get("settings", {})}
        key = {
            "what": "ablation",
            "model": trained_generators.identity(settings),
            "sampler": variant.get("sampler", "hmc"),
            "profile": variant.get("profile", "tuned"),
            "gradient": variant.get("gradient", "true"),
            "n": n,
            "classifier": asdict(kind),
            "train": bench.subset.train.sha256(),
            "test": bench.subset.test.sha256(),
            "seed": bench.seed,
        }
        found = bench.memo.value(
            key,
            lambda settings=settings, key=key: _measured(bench, settings, key),  # type: ignore[misc]
        )
        scores.append(bench.score(variant["name"], DIVERGED, 0.0 if found else PERCENT))
        scores += [bench.score(variant["name"], measure, value) for measure, value in found.items()]
    return scores


def _measured(bench: ArmBench, settings: dict[str, Any], key: dict[str, Any]) -> dict[str, float]:
    """Measures of one variant; none where a generator's training diverged."""
    try:
        models = trained_generators.each_class(
            bench.memo, bench.subset.train, settings, seed=bench.seed
        )
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
            seed=bench.seed,
            label=model.label,
        )
        images.append(np.rint(model.decode(z)[:, 0].numpy() * 255).astype(np.uint8))
        spread = float(
            (model.centroids - model.centroids.mean(0)).norm(dim=1).square().mean().sqrt()
        )
        acceptance.append(info.acceptance_rate)
        displacement.append(info.displacement / spread)
    labels = np.repeat(np.array(list(models), dtype=np.int64), key["n"])
    drawn = LabelledImages(np.concatenate(images), labels)
    subset = bench.subset
    found = bench.train(drawn, {"test": subset.test}, bench.classifier(), "ablation")
    return {
        "accuracy": PERCENT * found.accuracy["test"],
        "validation accuracy": PERCENT * found.validation,
        "acceptance": PERCENT * float(np.mean(acceptance)),
        "displacement": float(np.median(displacement)),
        "nearest training image, median": float(
            np.median(same_class_distances(drawn, subset.train))
        ),
    }


def _with_reference_gradient(model: GenerativeModel) -> GenerativeModel:
    changed = copy.copy(model)
    assert isinstance(model.metric, LearnedMetric)
    changed.metric = with_reference_gradient(model.metric)
    changed.sampler_settings = {}
    return changed
