"""``neuroaug search``: random search of the classifier on the study's training set."""

from __future__ import annotations

import logging
from pathlib import Path

from neuroaug.study import Study
from neuroaug.verbs.inputs import open_split

log = logging.getLogger("neuroaug")


def search(
    study: Study,
    *,
    trials: int | None = None,
    folds: int | None = None,
    epochs: int | None = None,
    device: str = "auto",
) -> Path:
    """Draw architectures, score each by cross-validation on the training set, keep the best.

    Returns
    -------
    Path
        ``search/<resolution>/best.json``, which cells of the network ``optimised`` use.
    """
    from neuroaug.evaluation import search as engine
    from neuroaug.evaluation.clinicadl import LabelledFolder

    split = open_split(study)
    typed = {"draws": trials, "folds": folds, "epochs": epochs}
    config = study.config.search.model_copy(update={k: v for k, v in typed.items() if v is not None})
    return engine.search(
        LabelledFolder(study.caps, split.table("train")),
        out=study.root / "search" / study.config.resolution,
        config=config,
        evaluation=study.config.evaluation,
        resolution=study.config.resolution,
        labels=study.config.labels,
        device=device,
        cache_folder=study.cache / "evaluation",
    )
