"""A label's law as arrays and words, for the model folder, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from neuroaug.law.anatomy_law import AnatomyLaw, Values
from neuroaug.law.covariates import CovariateLaw
from neuroaug.law.label_law import LabelLaw


def law_to_store(law: LabelLaw) -> tuple[dict[str, Values], dict[str, Any]]:
    """Arrays by name, and what JSON holds."""
    arrays = {
        part.name: np.stack([getattr(one, part.name) for one in law.settings])
        for part in fields(AnatomyLaw)
    }
    arrays["people"] = law.covariates.people
    words = {
        "labels": list(law.labels),
        "label": law.label,
        "covariates": list(law.covariates.names),
    }
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}, words


def law_from_store(arrays: Mapping[str, Values], words: Mapping[str, Any]) -> LabelLaw:
    """Read what `law_to_store` gave."""
    n_settings = len(arrays["centre"])
    settings = tuple(
        AnatomyLaw(**{part.name: arrays[part.name][k] for part in fields(AnatomyLaw)})
        for k in range(n_settings)
    )
    names = tuple(words["covariates"])
    people = np.asarray(arrays["people"]).reshape(-1, len(names))
    return LabelLaw(tuple(words["labels"]), words["label"], settings, CovariateLaw(names, people))
