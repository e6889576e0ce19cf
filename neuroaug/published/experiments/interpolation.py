"""OASIS, SLIDES: geodesics against straight lines in the latent space.

The papers show pictures; a classifier's confidence along the way is measured besides.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neuroaug.geometry import geodesic
from neuroaug.models.generative_model import GenerativeModel
from neuroaug.published import trained_generators
from neuroaug.published.run_scores import PERCENT, Score
from neuroaug.published.table_run import TableRun
from neuroaug.system.randomness import CLASSIFIER

N_POINTS = 33
PATHS = ("straight line", "geodesic")


def table(run: TableRun) -> list[Score]:
    """Confidence of a classifier along paths between images of one class.

    One generator is trained on all classes.
    """
    settings, subset = run.settings, run.subset
    key = {
        "what": "interpolation",
        "model": trained_generators.identity(run.model_settings("rhvae")),
        "classifier": asdict(run.classifier()),
        "train": subset.train.sha256(),
        "n_pairs": settings["n_pairs"],
        "n_farthest": settings["n_farthest"],
        "seed": run.seed,
    }
    found = run.memo.value(key, lambda: _compute(run))
    return run.scores(found.items())


def random_pairs(run: TableRun) -> list[tuple[int, int]]:
    """Pairs of training images of one class, drawn at random."""
    rng = np.random.default_rng(CLASSIFIER.seed(run.seed, "pairs"))
    labels = run.subset.train.labels
    chosen = []
    for i in range(run.settings["n_pairs"]):
        members = np.flatnonzero(labels == i % run.subset.n_classes)
        first, second = rng.choice(members, 2, replace=False)
        chosen.append((int(first), int(second)))
    return chosen


def farthest_pairs(run: TableRun, model: GenerativeModel) -> list[tuple[int, int]]:
    """Of every class, the training images whose codes are farthest apart (Euclidean distance)."""
    chosen = []
    for label in range(run.subset.n_classes):
        members = np.flatnonzero(run.subset.train.labels == label)
        codes = model.centroids[members].double()
        distance = np.triu(torch.cdist(codes, codes).numpy())
        largest = np.argsort(-distance, axis=None, kind="stable")[: run.settings["n_farthest"]]
        first, second = np.unravel_index(largest, distance.shape)
        chosen += [(int(members[i]), int(members[j])) for i, j in zip(first, second, strict=True)]
    return chosen


def paths(model: GenerativeModel, first: int, second: int) -> dict[str, Tensor]:
    """Both ways from one centroid to another, (P, d) each."""
    a, b = model.centroids[first].double(), model.centroids[second].double()
    straight = geodesic.straight_line(a, b, N_POINTS)
    curved = geodesic.shortest_path(model.metric, a, b, n_points=N_POINTS)
    return dict(zip(PATHS, (straight, curved), strict=True))


def decoded(model: GenerativeModel, path: Tensor) -> np.ndarray:
    """Images along a path, (P, X, Y, 1), as stored ones are."""
    return trained_generators.as_stored(model.decode(path.float())[:, 0].numpy())


def _compute(run: TableRun) -> dict[str, Any]:
    subset, model = run.subset, run.model_of_all("rhvae")
    judge = run.train(subset.train, {"test": subset.test}, run.classifier(), "judge")
    groups = {"": random_pairs(run), ", farthest pairs": farthest_pairs(run, model)}

    def measured(path: Tensor, label: int) -> dict[str, float]:
        probability = judge.probabilities(decoded(model, path))
        return {
            "confidence, mean": PERCENT * float(probability.max(1).mean()),
            "confidence, least": PERCENT * float(probability.max(1).min()),
            "own class": PERCENT * float((probability.argmax(1) == label).mean()),
            "length": float(geodesic.length(model.metric, path)),
        }

    found: dict[str, list[dict[str, float]]] = defaultdict(list)
    for group, chosen in groups.items():
        for first, second in chosen:
            for name, path in paths(model, first, second).items():
                found[name + group].append(measured(path, int(subset.train.labels[first])))
    return {
        name: {measure: float(np.mean([row[measure] for row in rows])) for measure in rows[0]}
        for name, rows in found.items()
    }
