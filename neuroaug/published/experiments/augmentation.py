"""TPAMI Tables 2 and 3: does a classifier learn from synthetic images, and recognise them."""

from __future__ import annotations

import numpy as np

from neuroaug.published.digits.digit_images import LabelledImages
from neuroaug.published.measures import NEAREST, nearest_distances
from neuroaug.published.run_scores import PERCENT, Score
from neuroaug.published.table_run import BOTH, ONLY, TableRun, arms


def table_3(run: TableRun) -> list[Score]:
    """Accuracy on real test images: real, classical, and every arm with every number of samples.

    The same table over data sets of different size is the curve that shows where augmentation
    begins to help.
    """
    settings, kind = run.settings, run.classifier()
    scores = [run.score("Baseline", "accuracy", PERCENT * run.real(kind)["test"])]
    for factor in settings.get("classical", ()):
        found = run.enlarged(factor, kind)
        scores.append(run.score(f"Aug. (x{factor})", "accuracy", PERCENT * found["test"]))
    for arm in arms(settings):
        for n in settings["n_synthetic"]:
            if not run.wants(arm, n):
                continue
            for mode in (BOTH, ONLY):
                found = run.augmented(arm, n, mode, kind)
                row = f"{arm.name} - {n} ({mode})"
                scores.append(run.score(row, "accuracy", PERCENT * found["test"]))
    return scores


def table_2(run: TableRun) -> list[Score]:
    """GAN-train, GAN-test, and how near synthetic images are to the training images."""
    settings, kind, subset = run.settings, run.classifier(), run.subset
    n = settings["n_synthetic"][0]
    synthetic = {arm.name: run.synthetic(arm, n) for arm in arms(settings)}
    tests = {"test": subset.test, **synthetic}
    real = run.train(subset.train, tests, kind, "real, tested on synthetic")
    scores = [run.score("Baseline", "accuracy", PERCENT * real.accuracy["test"])]
    held_out = same_class_distances(subset.test, subset.train)
    near = float(np.quantile(held_out, 0.05))
    scores.append(run.score("Held-out real images", NEAREST, float(np.median(held_out))))
    for arm in arms(settings):
        distances = same_class_distances(synthetic[arm.name], subset.train)
        measures = {
            "GAN-train": PERCENT * run.augmented(arm, n, ONLY, kind)["test"],
            "GAN-test": PERCENT * real.accuracy[arm.name],
            NEAREST: float(np.median(distances)),
            "nearer than 95 % of held-out": PERCENT * float(np.mean(distances < near)),
        }
        scores += run.scores([(arm.name, measures)])
    return scores


def same_class_distances(images: LabelledImages, training: LabelledImages) -> np.ndarray:
    """Distance of each image to the nearest training image of its own class, (N,), in any order."""
    distances = []
    for label in np.unique(images.labels):
        own = training.images[training.labels == label]
        distances.append(nearest_distances(images.images[images.labels == label], own))
    return np.concatenate(distances)
