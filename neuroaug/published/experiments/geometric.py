"""GEO: the geometric sampler of a plain VAE against its prior and a mixture, and with few
centroids.
"""

from __future__ import annotations

import copy
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from neuroaug.geometry import PosteriorMetric
from neuroaug.geometry.metrics.posterior import nearest_neighbour_temperature
from neuroaug.models.vae import DECAY, REGULARIZATION, VAE, medoids
from neuroaug.published.arms import ArmBench, arms
from neuroaug.published.parts import trained_generators
from neuroaug.published.parts.measures import kernel_mmd, nearest_distances, precision_recall
from neuroaug.published.run_scores import Score

FLOOR = 0.1
"""Least deviation that a feature is divided by, in median deviations."""


def table(bench: ArmBench) -> list[Score]:
    """MMD and PRD on features of a classifier of our own (FID needs a network that is not ours to
    ship).

    The classifier learns from the generator's training images; the reference is the real test
    images. A row of held-out real images shows what perfect draws would get.
    """
    settings, subset = bench.settings, bench.subset
    model = trained_generators.fitted(
        bench.memo, subset.train, bench.model_settings("vae"), label="all", seed=bench.seed
    )
    assert isinstance(model, VAE)
    found = bench.memo.value(
        {
            "what": "geometric, deviations from a tenth of the median",
            "model": trained_generators.identity(bench.model_settings("vae")),
            "arms": settings["arms"],
            "n_drawn": settings["n_drawn"],
            "n_centroids": settings["n_centroids"],
            "classifier": asdict(bench.classifier()),
            "train": subset.train.sha256(),
            "test": subset.test.sha256(),
            "seed": bench.seed,
        },
        lambda: _compute(bench, model),
    )
    return [
        bench.score(row, measure, value)
        for row, measures in found
        for measure, value in measures.items()
    ]


def _compute(bench: ArmBench, model: VAE) -> list[Any]:
    settings, subset = bench.settings, bench.subset
    kind = bench.classifier()
    classifier = bench.train(subset.train, {"test": subset.test}, kind, "features")
    half = np.random.default_rng(bench.seed).permutation(len(subset.test))
    reference, other = (subset.test.images[part] for part in np.array_split(half, 2))

    real = classifier.features(reference)
    centre, spread = real.mean(0), real.std(0)
    # Units that are all but silent on real images have no scale of their own: one that speaks would
    # drown the others.
    spread = np.maximum(spread, FLOOR * np.median(spread))
    real = (real - centre) / spread

    def measured(images: NDArray[np.uint8]) -> dict[str, float]:
        features = (classifier.features(images) - centre) / spread
        recall, precision = precision_recall(real, features, seed=bench.run)
        distances = nearest_distances(images, subset.train.images)
        return {
            "mmd": kernel_mmd(real, features),
            "PRD recall": recall,
            "PRD precision": precision,
            "nearest training image, median": float(np.median(distances)),
        }

    rows: list[Any] = [("Held-out real images", measured(other))]
    n = settings["n_drawn"]
    for arm in arms(settings):
        rows.append(
            (
                arm.name,
                measured(
                    trained_generators.drawn(
                        model, n, arm.sampler, seed=bench.seed, profile=arm.profile
                    )
                ),
            )
        )
    for k in settings["n_centroids"]:
        few = with_centroids(model, subset.train.floats(), k)
        rows.append(
            (
                f"VAE - geometric, {k} centroids",
                measured(trained_generators.drawn(few, n, "geometric", seed=bench.seed)),
            )
        )
    return rows


def with_centroids(model: VAE, images: NDArray[np.float32], k: int) -> VAE:
    """The same model with the metric of `k` medoids of its training codes (GEO F.1); its chains are
    tuned anew.
    """
    few = copy.copy(model)
    mean, log_variance = model.encode(torch.from_numpy(images)[:, None])
    chosen = medoids(mean, k)
    means = mean[chosen]
    few.metric = PosteriorMetric(
        means,
        log_variance[chosen].exp(),
        temperature=nearest_neighbour_temperature(means),
        regularization=REGULARIZATION,
        decay=DECAY,
    )
    few.sampler_settings = {}
    return few
