"""Generators of the study, on arrays: anatomies with a law, and the papers' two separate ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from neuroaug.config import GeneratorConfig, LawConfig
from neuroaug.law.label_law import FittedLaw, fit_law
from neuroaug.models.generative_model import GenerativeModel
from neuroaug.models.linear import LinearModel
from neuroaug.models.texture import Texture, fit_texture
from neuroaug.proof.people import Values
from neuroaug.proof.study_splits import Draw, Rows
from neuroaug.samplers.latents import sample_latents
from neuroaug.samplers.sampler import fit_samplers
from neuroaug.training.stored_images import image_reader, training_start
from neuroaug.training.train import train

LABELS = ("negative", "positive")
WITHOUT = "without"
N_FIELDS = 32
AT_ONCE = 16


@dataclass(frozen=True)
class LearnedAnatomy:
    """A trained generator of everyone given, before any label.

    Attributes
    ----------
    model : GenerativeModel
        Its networks.
    rows : ndarray of int
        Whose images it learned from.
    texture : Texture
        Mixtures of what it misses of them.
    """

    model: GenerativeModel
    rows: Rows
    texture: Texture

    def codes(self, draw: Draw, rows: Rows) -> Values:
        """Codes of people, (n, d)."""
        return self.model.mean_codes(image_reader(draw.people.images, rows), len(rows)).numpy()


def linear_anatomy(draw: Draw, rows: Rows, d: int) -> LearnedAnatomy:
    """Principal components of some people's images."""
    d = max(1, min(d, len(rows) - 2))
    config = GeneratorConfig(model="linear", latent_dim=d)
    model = LinearModel(config, draw.people.images.shape[1:], "all")
    model.start_from(training_start(draw.people.images, rows))
    return LearnedAnatomy(model.eval(), rows, _texture(draw, rows, model))


def network_anatomy(
    draw: Draw, rows: Rows, settings: dict[str, Any], folder: Path
) -> LearnedAnatomy:
    """A trained network, kept in a folder and trained once."""
    model = trained(draw, rows, settings, folder, "all")
    return LearnedAnatomy(model, rows, _texture(draw, rows, model))


def trained(
    draw: Draw, rows: Rows, settings: dict[str, Any], folder: Path, label: str
) -> GenerativeModel:
    """A generator of some people's images, by the product's own training."""
    lineage = pd.DataFrame(
        {
            "participant_id": [draw.people.ids[i] for i in rows],
            "session_id": "ses-M000",
            "diagnosis": label,
            "image_sha256": [f"{int(i):064x}" for i in rows],
            "split": draw.people.name,
            "split_hash": str(draw.seed),
        }
    )
    return train(
        draw.people.images[rows],
        config=GeneratorConfig(**settings),
        label=label,
        out=folder,
        lineage=lineage,
        split_hash=str(draw.seed),
        seed=draw.seed,
        device="cpu",
        tune=False,
        say=lambda text: None,
    )


def _texture(draw: Draw, rows: Rows, model: GenerativeModel) -> Texture:
    read = image_reader(draw.people.images, rows)
    return fit_texture(read, model.reconstruct, len(rows), N_FIELDS, draw.seed)


class LawfulGenerator:
    """An anatomy with a law of two labels, of whom n people each are known.

    Parameters
    ----------
    anatomy : LearnedAnatomy
        Encoder, decoder, texture.
    draw : Draw
        The split.
    labelled : ndarray of int
        Rows whose label is known.
    config : LawConfig
        Covariates, prior, strength, ridge.
    ages : ndarray, shape (N,)
        Of everyone; shuffled for a null.
    """

    def __init__(
        self, anatomy: LearnedAnatomy, draw: Draw, labelled: Rows, config: LawConfig, ages: Values
    ) -> None:
        self.anatomy, self.draw = anatomy, draw
        known = set(labelled.tolist())
        diagnoses = [
            LABELS[int(draw.labels[i])] if int(i) in known else WITHOUT for i in anatomy.rows
        ]
        # Age is the only covariate that the study's tasks have.
        covariates = ages[anatomy.rows][:, None][:, : len(config.covariates)]
        found: list[FittedLaw] = []

        def to_rests(codes: Tensor) -> Tensor:
            found.append(fit_law(codes.double().numpy(), covariates, diagnoses, LABELS, config))
            return torch.from_numpy(found[0].effects.rests).to(codes)

        model = anatomy.model
        model.law = None
        model.update_metric(self._batches(), to_rests)
        self.law = found[0].of(LABELS[1])
        self._fitted = found[0]
        model.law = self.law
        model.sampler_tensors = {}
        model.sampler_settings = {}
        model.sampler_tensors |= fit_samplers(model.latent_space())

    def _batches(self) -> Iterator[Tensor]:
        images = torch.from_numpy(self.draw.people.images[self.anatomy.rows])[:, None]
        yield from images.split(AT_ONCE)

    def scores(self, rows: Rows) -> Values:
        """Log-odds of the positive class under the law's rule."""
        return self.law.scores(self.anatomy.codes(self.draw, rows), LABELS[1], LABELS[0])

    def draws(self, n: int, seed: int, *, texture: bool = True) -> tuple[Tensor, Tensor, Tensor]:
        """Draw n images of each label.

        Returns
        -------
        images : Tensor, shape (2 n, 1, X, Y, Z)
            Of both labels.
        soft, hard : Tensor, shape (2 n,)
            Probability of the positive class under the law; the label drawn.
        """
        parts, soft, hard = [], [], []
        model = self.anatomy.model
        for k, label in enumerate(LABELS):
            model.law, model.label = self._fitted.of(label), label
            rests, _ = sample_latents(
                model.latent_space(),
                (1, n),
                sampler=model.default_sampler,
                profile="tuned",
                seed=seed,
                label=label,
            )
            codes, placed = model.place(rests, range(1, n + 1), seed)
            assert placed is not None
            images = torch.cat([model.decode(z) for z in codes.split(AT_ONCE)])
            if texture:
                fields = self.anatomy.texture.draw(range(1, n + 1), seed, label)
                images = (images + fields[:, None]).clamp(0, 1)
            parts.append(images)
            soft.append(torch.from_numpy(placed.probabilities[:, 1]).float())
            hard.append(torch.full((n,), float(k)))
        model.law = self.law
        return torch.cat(parts), torch.cat(soft), torch.cat(hard)


def recipe_draws(
    draw: Draw, labelled: Rows, settings: dict[str, Any], folder: Path, n: int
) -> tuple[Tensor, Tensor]:
    """The papers' recipe: a generator per label, on its people alone; images and their labels."""
    parts, hard = [], []
    for k, label in enumerate(LABELS):
        rows = labelled[draw.labels[labelled] == k]
        model = trained(draw, rows, settings, folder / label, label)
        parts.append(model.sample(n, seed=draw.seed))
        hard.append(torch.full((n,), float(k)))
    return torch.cat(parts), torch.cat(hard)
