"""Runs of the controls: classifiers that are fitted at once, on the images of a cell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from neuroaug.config import Control
from neuroaug.controls.brain_age import BrainAge, fit_brain_age
from neuroaug.controls.linear_classifier import fit_linear, log_loss
from neuroaug.controls.linear_score import ImageComponents, LinearScore, Reader, Values
from neuroaug.errors import InputError
from neuroaug.evaluation.cell_images import Images
from neuroaug.evaluation.run_folder import MAPS
from neuroaug.evaluation.runs import CellImages, ClassifierSettings, Fitted, Run, RunState
from neuroaug.imaging.intensity import from_stored
from neuroaug.models.generative_model import GenerativeModel, load_model
from neuroaug.statistics.scores import rates
from neuroaug.system.tensors import save_tensors
from neuroaug.system.threads import torch_threads

Scorer = Callable[[Images], Values]
"""From images to log-odds of the positive class, (n,)."""


@dataclass(frozen=True)
class _Found:
    """A fitted control.

    Attributes
    ----------
    score : callable
        Its log-odds of images.
    tensors : dict of Tensor
        All that it consists of.
    record : dict
        What the run's record says of it.
    """

    score: Scorer
    tensors: dict[str, torch.Tensor]
    record: dict[str, Any]


def fit_control(run: Run, images: CellImages, settings: ClassifierSettings) -> Fitted:
    """Fit the control that a run's cell names, and score its sets.

    Raises
    ------
    InputError
        If it needs what the images do not have (ages, a generator with a law).
    """
    n_threads = settings.n_threads or torch.get_num_threads()
    with torch_threads(n_threads):
        found = _FITS[run.cell.network](run, images)
        tests = {name: _rows(found.score, test, run.classes) for name, test in images.tests.items()}
        validation = _rows(found.score, images.validation, run.classes)
        training = log_loss(found.score(images.train), _targets(images.train))
    state = _state(found, images, validation, run.classes[1], training)
    weights = run.out / MAPS / "control.safetensors"
    weights.parent.mkdir(parents=True, exist_ok=True)
    save_tensors(weights, found.tensors)
    record = {"class": run.cell.network, **found.record}
    return Fitted(state, settings, record, len(images.train), n_threads, weights, tests)


def reader(images: Images) -> Reader:
    """Images by first and one past the last, (B, 1, X, Y, Z), floats in [0, 1]."""

    def read(first: int, last: int) -> torch.Tensor:
        stored = images.stored(np.arange(first, last))
        return torch.from_numpy(np.asarray(from_stored(stored)))[:, None]

    return read


def _targets(images: Images) -> Values:
    targets = images.targets
    return images.labels if targets is None else targets


def _linear(run: Run, images: CellImages) -> _Found:
    train, validation = images.train, images.validation

    def loss(score: LinearScore) -> float:
        return log_loss(score.of(reader(validation), len(validation)), validation.labels)

    components = ImageComponents.of(reader(train), len(train))
    score, strength = fit_linear(components, _targets(train), loss)
    return _Found(
        lambda some: score.of(reader(some), len(some)),
        _tensors(score),
        {"inverse_penalty": strength, "n_components": components.scores.shape[1]},
    )


def _brain_age(run: Run, images: CellImages) -> _Found:
    train = images.train
    components = ImageComponents.of(reader(train), len(train))
    everyone: NDArray[np.bool_] = np.ones(len(train), dtype=bool)
    found: BrainAge = fit_brain_age(components, train.ages, train.labels, everyone)

    def score(some: Images) -> Values:
        return found.log_odds(found.age.of(reader(some), len(some)), some.ages)

    n_known = int((~np.isnan(train.ages)).sum())
    record = {"slope": found.slope, "offset": found.offset, "n_with_age": n_known}
    gap = torch.tensor([found.slope, found.offset, found.mean_age], dtype=torch.float64)
    return _Found(score, {**_tensors(found.age), "gap": gap}, record)


def law_scores(folder: Path, classes: tuple[str, str]) -> Scorer:
    """Log-odds of the positive class under the law of a generator.

    Raises
    ------
    InputError
        If it has no law.
    """
    model: GenerativeModel = load_model(folder)
    law = model.law
    if law is None:
        raise InputError(
            f"{folder}: a generator without a law, which has no Bayes rule; give the study "
            "a law and train it again"
        )
    negative, positive = classes

    def score(some: Images) -> Values:
        codes = model.mean_codes(reader(some), len(some)).numpy()
        return law.scores(codes, positive, negative)

    return score


def _bayes_rule(run: Run, images: CellImages) -> _Found:
    if run.law_model is None:
        raise InputError(f"cell '{run.cell.name}': no generator with a law was given")
    score = law_scores(run.law_model, run.classes)
    model = load_model(run.law_model)
    assert model.law is not None  # or it would have no score
    weight = {"shifts": torch.from_numpy(model.law.drawn_from.shifts)}
    return _Found(score, weight, {"model": model.name, "n_settings": len(model.law.settings)})


_FITS: dict[str, Callable[[Run, CellImages], _Found]] = {
    Control.LINEAR: _linear,
    Control.BRAIN_AGE: _brain_age,
    Control.BAYES_RULE: _bayes_rule,
}


def _tensors(score: LinearScore) -> dict[str, torch.Tensor]:
    intercept = torch.tensor([score.intercept], dtype=torch.float64)
    return {"weights": torch.from_numpy(score.weights), "intercept": intercept}


def _rows(score: Scorer, images: Images, classes: tuple[str, str]) -> list[dict[str, Any]]:
    """Score rows of some images, as a trained classifier's are."""
    probabilities = (1 / (1 + np.exp(-score(images)))).tolist()
    visits = zip(images.table["participant_id"], images.table["session_id"], strict=True)
    return [
        {
            "participant_id": participant,
            "session_id": session,
            "label": classes[int(label > 0.5)],
            "score": p,
            "prediction": classes[int(p > 0.5)],
        }
        for (participant, session), label, p in zip(
            visits, images.labels.tolist(), probabilities, strict=True
        )
    ]


def _state(
    found: _Found,
    images: CellImages,
    validation: list[dict[str, Any]],
    positive: str,
    training_loss: float,
) -> RunState:
    """One row of history: there are no epochs."""
    import pandas as pd

    measured = rates(pd.DataFrame(validation), positive)
    row = {
        "epoch": 1,
        "steps": 0,
        "training_loss": training_loss,
        "validation_loss": log_loss(found.score(images.validation), images.validation.labels),
        **{f"validation_{name}": value for name, value in measured.items()},
    }
    return RunState([row], 1, measured["balanced_accuracy"], {}, validation)
