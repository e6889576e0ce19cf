"""Before an image is drawn: what the law's rule and a linear classifier read on validation people.

The forecast is computed once for an anatomy with a law, lies as ``forecast.json`` in the folder of
every label, and is printed by ``train`` and ``augment`` and shown in the report.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from neuroaug.controls.forecast import FILE_NAME, Forecast, forecast, read_forecast
from neuroaug.controls.linear_classifier import fit_linear
from neuroaug.controls.linear_score import ImageComponents
from neuroaug.imaging.cache import CohortCache
from neuroaug.models.generative_model import load_model
from neuroaug.system.devices import find_devices
from neuroaug.system.files import read_json, sha256_json, write_json
from neuroaug.training.shared_training import Everyone
from neuroaug.training.stored_images import image_reader

if TYPE_CHECKING:
    from neuroaug.study import Study

log = logging.getLogger("neuroaug")

LEAST_OF_A_CLASS = 2
"""Validation people of a class below which there is no interval."""


def told_apart(study: Study) -> tuple[str, str] | None:
    """The two classes that a study tells apart; None where it names one label only."""
    rules = study.config.label_rules
    if rules is not None and rules.other is None:
        return None
    return study.config.classes


def forecast_label(
    model_folder: Path,
    everyone: Everyone,
    validation: CohortCache,
    classes: tuple[str, str],
    device: str = "auto",
    others: Sequence[Path] = (),
) -> Forecast | None:
    """Write the forecast of a label's model, where it has a law of both classes.

    Parameters
    ----------
    model_folder : Path
        The label's trained model.
    everyone : Everyone
        Whom its anatomy learned from; the linear classifier learns from those of the two classes.
    validation : CohortCache
        Images of validation people, `LEAST_OF_A_CLASS` or more of each class, with column
        diagnosis.
    classes : (str, str)
        Negative and positive class.
    device : str
        Where images are encoded.
    others : sequence of Path
        Folders of other labels; of the same anatomy and law, their forecast is the same.

    Returns
    -------
    Forecast or None
        None where the model has no law of both classes.
    """
    model = load_model(model_folder)
    law = model.law
    truth = np.array(validation.index["diagnosis"] == classes[1])
    if law is None or not set(classes) <= set(law.labels):
        return None
    asked = [
        model.training_record.get("anatomy_identity"),
        validation.sha256,
        [[setting.shifts.tolist(), float(setting.spread.trace())] for setting in law.settings],
        classes,
    ]
    identity = sha256_json(asked)
    for folder in (model_folder, *others):
        if _identity(folder) == identity:
            found = read_forecast(folder)
            break
    else:
        found = None
    if found is None:
        model.to(find_devices(device).first)
        codes = model.mean_codes(image_reader(validation.images), len(validation)).numpy()
        rule = law.scores(codes, classes[1], classes[0])
        control = _linear_scores(everyone, validation, classes)
        found = forecast(rule, control, truth)
    write_json(model_folder / FILE_NAME, {"identity": identity, **asdict(found)})
    return found


def _identity(folder: Path) -> str | None:
    path = folder / FILE_NAME
    return read_json(path).get("identity") if path.is_file() else None


def _linear_scores(
    everyone: Everyone, validation: CohortCache, classes: tuple[str, str]
) -> np.ndarray:
    rows = np.flatnonzero(everyone.table["diagnosis"].isin(classes))
    targets = np.array(everyone.table["diagnosis"].iloc[rows] == classes[1], dtype=np.float64)
    components = ImageComponents.of(image_reader(everyone.cache.images, rows), len(rows))
    score, _ = fit_linear(components, targets)
    return score.of(image_reader(validation.images), len(validation))
