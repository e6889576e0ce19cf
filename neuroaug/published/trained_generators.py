"""One generator per class, trained by `neuroaug.training.train.train`, and what it generates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import ValidationError

from neuroaug.config import GeneratorConfig
from neuroaug.errors import InputError
from neuroaug.models.generative_model import GenerativeModel
from neuroaug.published.digits.digit_images import LabelledImages
from neuroaug.published.memo import Memo
from neuroaug.training.train import train


def configuration(settings: dict[str, Any]) -> GeneratorConfig:
    """Settings of a table's configuration file, checked.

    Raises
    ------
    InputError
        Unknown names or values out of range.
    """
    try:
        return GeneratorConfig(**settings)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"generator: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def spelled_out(config: GeneratorConfig) -> dict[str, Any]:
    """All settings of a generator, defaults and seeds included, as they enter the memo's keys."""
    return {**config.fingerprint(), "seeds": list(config.seeds)}


def identity(settings: dict[str, Any]) -> dict[str, Any]:
    """What a generator is in the memo's keys, whatever the number of its training images."""
    one_batch = not settings.get("batch_size")
    config = configuration({**settings, "batch_size": 1} if one_batch else settings)
    return {**spelled_out(config), "one_batch": one_batch}


def _lineage(n: int, label: str) -> pd.DataFrame:
    names = [f"sub-{i:06d}" for i in range(n)]
    same = {"session_id": "ses-M000", "diagnosis": label, "image_sha256": "n/a", "split": "train"}
    return pd.DataFrame({"participant_id": names, **same, "split_hash": "n/a"})


def fitted(
    memo: Memo, images: LabelledImages, settings: dict[str, Any], *, label: str, seed: int
) -> GenerativeModel:
    """Train the generator of the given images, or load it.

    Parameters
    ----------
    memo : Memo
        Where the generator is kept.
    images : LabelledImages
        Images to learn from, all of them.
    settings : dict
        Settings as `GeneratorConfig` takes them; ``batch_size`` 0 is all images in one batch.
    label : str
        The class; ``all`` for a generator of every class.
    seed : int
        Seed of weights, order and noise.
    """
    config = configuration({**settings, "batch_size": settings.get("batch_size") or len(images)})
    out = memo.model_folder(
        {"images": images.sha256(), "config": spelled_out(config), "label": label, "seed": seed}
    )
    with memo.alone(out):
        return train(
            images.floats(),
            config=config,
            label=label,
            out=out,
            lineage=_lineage(len(images), label),
            split_hash="n/a",
            grid="pixels",
            device="cpu",
            seed=seed,
            checkpoint_seconds=60.0,
            tune=False,
            say=lambda _: None,
        )


def each_class(
    memo: Memo, images: LabelledImages, settings: dict[str, Any], *, seed: int
) -> dict[int, GenerativeModel]:
    """Train one generator for every class, or load it."""
    models = {}
    for label in np.unique(images.labels):
        own = images.take(np.flatnonzero(images.labels == label))
        models[int(label)] = fitted(memo, own, settings, label=str(label), seed=seed)
    return models


def as_stored(images: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Intensities in [0, 1] as real images have them, times 255 and rounded."""
    return np.rint(images * 255).astype(np.uint8)


def sampled(
    model: GenerativeModel, n: int, sampler: str, *, seed: int, profile: str = "tuned"
) -> NDArray[np.uint8]:
    """Images 1..n of a generator, stored as the real ones are, (n, X, Y, 1)."""
    return as_stored(model.sample(n, sampler=sampler, seed=seed, profile=profile)[:, 0].numpy())


def sampled_set(
    models: dict[int, GenerativeModel], n: int, sampler: str, *, seed: int, profile: str = "tuned"
) -> LabelledImages:
    """`n` images of every class."""
    parts = [sampled(model, n, sampler, seed=seed, profile=profile) for model in models.values()]
    labels = np.repeat(np.array(list(models), dtype=np.int64), n)
    return LabelledImages(np.concatenate(parts), labels)
