"""GEO Table 1: the geometric sampler of a plain VAE against its prior and a mixture.

GEO App. F.1 asks besides how few centroids its metric needs.
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
from neuroaug.published import trained_generators
from neuroaug.published.measures import NEAREST, kernel_mmd, nearest_distances, precision_recall
from neuroaug.published.run_scores import Score
from neuroaug.published.table_run import TableRun, arms

FLOOR = 0.1
"""Least deviation that a feature is divided by, in median deviations."""


def table(run: TableRun) -> list[Score]:
    """MMD and PRD on the features of a classifier that learns from the generator's images.

    FID would need a network that cannot be shipped. The reference is half of the real test images;
    a row with the other half shows what perfect samples would get.
    """
    settings, subset = run.settings, run.subset
    model = run.model_of_all("vae")
    assert isinstance(model, VAE)
    found = run.memo.value(
        {
            "what": "geometric, deviations from a tenth of the median",
            "model": trained_generators.identity(run.model_settings("vae")),
            "arms": settings["arms"],
            "n_drawn": settings["n_drawn"],
            "n_centroids": settings["n_centroids"],
            "classifier": asdict(run.classifier()),
            "train": subset.train.sha256(),
            "test": subset.test.sha256(),
            "seed": run.seed,
        },
        lambda: _compute(run, model),
    )
    return run.scores(found)


def _compute(run: TableRun, model: VAE) -> list[Any]:
    settings, subset = run.settings, run.subset
    classifier = run.train(subset.train, {"test": subset.test}, run.classifier(), "features")
    half = np.random.default_rng(run.seed).permutation(len(subset.test))
    reference, other = (subset.test.images[part] for part in np.array_split(half, 2))

    real = classifier.features(reference)
    centre, spread = real.mean(0), real.std(0)
    # Units that are all but silent on real images have no scale of their own: one that speaks would
    # drown the others.
    spread = np.maximum(spread, FLOOR * np.median(spread))
    real = (real - centre) / spread

    def measured(images: NDArray[np.uint8]) -> dict[str, float]:
        features = (classifier.features(images) - centre) / spread
        recall, precision = precision_recall(real, features, seed=run.index)
        distances = nearest_distances(images, subset.train.images)
        return {
            "mmd": kernel_mmd(real, features),
            "PRD recall": recall,
            "PRD precision": precision,
            NEAREST: float(np.median(distances)),
        }

    rows: list[Any] = [("Held-out real images", measured(other))]
    n = settings["n_drawn"]
    for arm in arms(settings):
        rows.append((arm.name, measured(run.sampled(model, arm, n))))
    for k in settings["n_centroids"]:
        few = with_centroids(model, subset.train.floats(), k)
        images = trained_generators.sampled(few, n, "geometric", seed=run.seed)
        rows.append((f"VAE - geometric, {k} centroids", measured(images)))
    return rows


def with_centroids(model: VAE, images: NDArray[np.float32], k: int) -> VAE:
    """The same model with the metric of `k` medoids of its training codes (GEO App. F.1).

    Its chains are tuned anew.
    """
    few = copy.copy(model)
    mean, log_variance = model.encode(torch.from_numpy(images)[:, None])
    chosen = medoids(mean, k)
    means = mean[chosen]
    variances, temperature = log_variance[chosen].exp(), nearest_neighbour_temperature(means)
    few.metric = PosteriorMetric(
        means, variances, temperature=temperature, regularization=REGULARIZATION, decay=DECAY
    )
    few.sampler_settings = {}
    return few
