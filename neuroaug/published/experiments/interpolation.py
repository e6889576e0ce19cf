"""OASIS, SLIDES: geodesics against straight lines in the latent space, by pictures and by a
classifier's confidence.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neuroaug.geometry import geodesic
from neuroaug.models.generative_model import GenerativeModel
from neuroaug.published.arms import ArmBench
from neuroaug.published.parts import trained_generators
from neuroaug.published.run_scores import Score
from neuroaug.system.randomness import CLASSIFIER

PERCENT = 100.0
N_POINTS = 33
PATHS = ("straight line", "geodesic")


def table(bench: ArmBench) -> list[Score]:
    """Confidence of a classifier along paths between images of one class; the generator knows all
    classes.
    """
    settings, subset = bench.settings, bench.subset
    key = {
        "what": "interpolation",
        "model": trained_generators.identity(bench.model_settings("rhvae")),
        "classifier": asdict(bench.classifier()),
        "train": subset.train.sha256(),
        "n_pairs": settings["n_pairs"],
        "n_farthest": settings["n_farthest"],
        "seed": bench.seed,
    }
    found = bench.memo.value(key, lambda: _compute(bench))
    return [
        bench.score(row, measure, value)
        for row, measures in found.items()
        for measure, value in measures.items()
    ]


def trained(bench: ArmBench) -> GenerativeModel:
    """The generator of all the run's training images."""
    return trained_generators.fitted(
        bench.memo, bench.subset.train, bench.model_settings("rhvae"), label="all", seed=bench.seed
    )


def random_pairs(bench: ArmBench) -> list[tuple[int, int]]:
    """Pairs of training images of one class, drawn at random."""
    rng = np.random.default_rng(CLASSIFIER.seed(bench.seed, "pairs"))
    labels = bench.subset.train.labels
    chosen = []
    for i in range(bench.settings["n_pairs"]):
        members = np.flatnonzero(labels == i % bench.subset.n_classes)
        first, second = rng.choice(members, 2, replace=False)
        chosen.append((int(first), int(second)))
    return chosen


def farthest_pairs(bench: ArmBench, model: GenerativeModel) -> list[tuple[int, int]]:
    """Of every class, the pairs of training images whose codes are farthest apart by Euclidean
    distance.
    """
    chosen = []
    for label in range(bench.subset.n_classes):
        members = np.flatnonzero(bench.subset.train.labels == label)
        codes = model.centroids[members].double()
        distance = np.triu(torch.cdist(codes, codes).numpy())
        largest = np.argsort(-distance, axis=None, kind="stable")[: bench.settings["n_farthest"]]
        first, second = np.unravel_index(largest, distance.shape)
        chosen += [(int(members[i]), int(members[j])) for i, j in zip(first, second, strict=True)]
    return chosen


def paths(model: GenerativeModel, first: int, second: int) -> dict[str, Tensor]:
    """Both ways from one centroid to another, (P, d) each."""
    a, b = model.centroids[first].double(), model.centroids[second].double()
    line = geodesic.straight_line(a, b, N_POINTS)
    return dict(
        zip(
            PATHS,
            (line, geodesic.shortest_path(model.metric, a, b, n_points=N_POINTS)),
            strict=True,
        )
    )


def decoded(model: GenerativeModel, path: Tensor) -> np.ndarray:
    """Images along a path, (P, X, Y, 1), as stored ones are."""
    return np.rint(model.decode(path.float())[:, 0].numpy() * 255).astype(np.uint8)


def _compute(bench: ArmBench) -> dict[str, Any]:
    subset, model = bench.subset, trained(bench)
    judge = bench.train(subset.train, {"test": subset.test}, bench.classifier(), "judge")
    groups = {"": random_pairs(bench), ", farthest pairs": farthest_pairs(bench, model)}
    found: dict[str, list[dict[str, float]]] = {
        name + group: [] for group in groups for name in PATHS
    }
    for group, first, second in [
        (group, *pair) for group, chosen in groups.items() for pair in chosen
    ]:
        label = int(subset.train.labels[first])
        for name, path in paths(model, first, second).items():
            probability = judge.probabilities(decoded(model, path))
            found[name + group].append(
                {
                    "confidence, mean": PERCENT * float(probability.max(1).mean()),
                    "confidence, least": PERCENT * float(probability.max(1).min()),
                    "own class": PERCENT * float((probability.argmax(1) == label).mean()),
                    "length": float(geodesic.length(model.metric, path)),
                }
            )
    return {
        name: {measure: float(np.mean([row[measure] for row in rows])) for measure in rows[0]}
        for name, rows in found.items()
    }
