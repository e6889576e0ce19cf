"""TPAMI Tables 2 and 3: does a classifier learn from synthetic images, and does it recognise them."""

from __future__ import annotations

import numpy as np

from neuroaug.published.arms import BOTH, ONLY, ArmBench, arms
from neuroaug.published.parts.digit_images import LabelledImages
from neuroaug.published.parts.measures import nearest_distances
from neuroaug.published.run_scores import Score

PERCENT = 100.0


def table_3(bench: ArmBench) -> list[Score]:
    """Accuracy on real test images: real, classical, and every arm with every number of synthetic
    images.
    """
    settings, kind = bench.settings, bench.classifier()
    scores = [bench.score("Baseline", "accuracy", PERCENT * bench.real(kind)["test"])]
    for factor in settings.get("classical", ()):
        scores.append(
            bench.score(
                f"Aug. (x{factor})", "accuracy", PERCENT * bench.enlarged(factor, kind)["test"]
            )
        )
    for arm in arms(settings):
        for n in settings["n_synthetic"]:
            if not bench.wants(arm, n):
                continue
            for mode in (BOTH, ONLY):
                found = bench.augmented(arm, n, mode, kind)
                scores.append(
                    bench.score(f"{arm.name} - {n} ({mode})", "accuracy", PERCENT * found["test"])
                )
    return scores


def table_2(bench: ArmBench) -> list[Score]:
    """GAN-train, GAN-test, and how near synthetic images are to the training images."""
    settings, kind, subset = bench.settings, bench.classifier(), bench.subset
    n = settings["n_synthetic"][0]
    drawn = {arm.name: bench.synthetic(arm, n) for arm in arms(settings)}
    real = bench.train(
        subset.train, {"test": subset.test, **drawn}, kind, "real, tested on synthetic"
    )
    scores = [bench.score("Baseline", "accuracy", PERCENT * real.accuracy["test"])]
    held_out = same_class_distances(subset.test, subset.train)
    near = float(np.quantile(held_out, 0.05))
    scores.append(
        bench.score(
            "Held-out real images", "nearest training image, median", float(np.median(held_out))
        )
    )
    for arm in arms(settings):
        found = bench.augmented(arm, n, ONLY, kind)
        distances = same_class_distances(drawn[arm.name], subset.train)
        scores += [
            bench.score(arm.name, "GAN-train", PERCENT * found["test"]),
            bench.score(arm.name, "GAN-test", PERCENT * real.accuracy[arm.name]),
            bench.score(arm.name, "nearest training image, median", float(np.median(distances))),
            bench.score(
                arm.name, "nearer than 95 % of held-out", PERCENT * float(np.mean(distances < near))
            ),
        ]
    return scores


def same_class_distances(images: LabelledImages, training: LabelledImages) -> np.ndarray:
    """Distance of each image to the nearest training image of its own class, (N,), in any order."""
    return np.concatenate(
        [
            nearest_distances(
                images.images[images.labels == label], training.images[training.labels == label]
            )
            for label in np.unique(images.labels)
        ]
    )


def curve(bench: ArmBench) -> list[Score]:
    """Accuracy against the number of real images a class, to see where augmentation begins to help."""
    settings, kind = bench.settings, bench.classifier()
    n = settings["n_synthetic"][0]
    scores = [bench.score("Baseline", "accuracy", PERCENT * bench.real(kind)["test"])]
    for factor in settings.get("classical", ()):
        scores.append(
            bench.score(
                f"Aug. (x{factor})", "accuracy", PERCENT * bench.enlarged(factor, kind)["test"]
            )
        )
    for arm in arms(settings):
        for mode in (BOTH, ONLY):
            value = bench.augmented(arm, n, mode, kind)["test"]
            scores.append(bench.score(f"{arm.name} - {n} ({mode})", "accuracy", PERCENT * value))
    return scores
