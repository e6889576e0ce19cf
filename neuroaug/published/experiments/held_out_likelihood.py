"""THESIS Table 1.1: does the Hamiltonian posterior raise the likelihood of held-out images."""

from __future__ import annotations

from typing import Any

import torch

from neuroaug.models.generative_model import GenerativeModel
from neuroaug.published import trained_generators
from neuroaug.published.run_scores import Score
from neuroaug.published.table_run import TableRun
from neuroaug.samplers.sampler import SAMPLING_THREADS
from neuroaug.system.randomness import CLASSIFIER
from neuroaug.system.threads import torch_threads

AT_ONCE = 50


def table(run: TableRun) -> list[Score]:
    """Log-likelihood of held-out images, the bound, and their difference, in nats per image.

    The likelihood is estimated by importance sampling. An HVAE is an RHVAE whose metric is the
    identity: no kernel reaches anything (temperature ~ 0) and lambda = 1.
    """
    settings, subset = run.settings, run.subset
    scores = []
    for name in settings["models"]:
        key = {
            "what": "likelihood",
            "model": trained_generators.identity(run.model_settings(name)),
            "train": subset.train.sha256(),
            "test": subset.test.sha256(),
            "n_importance": settings["n_importance"],
            "seed": run.seed,
        }

        def compute(name: str = name) -> dict[str, Any]:
            images = torch.from_numpy(subset.test.floats())[:, None]
            return evaluated(run.model_of_all(name), images, settings["n_importance"], run.seed)

        found = run.memo.value(key, compute)
        scores += [run.score(name, measure, found[measure]) for measure in ("log p(x)", "ELBO")]
        scores.append(run.score(name, "KL(q || p(z|x))", found["log p(x)"] - found["ELBO"]))
    return scores


def evaluated(
    model: GenerativeModel, images: torch.Tensor, n_samples: int, seed: int
) -> dict[str, float]:
    """Mean log-likelihood and bound of images (B, 1, X, Y, 1)."""
    generator = torch.Generator().manual_seed(CLASSIFIER.seed(seed, "importance"))
    likelihood, bound = [], []
    with torch_threads(SAMPLING_THREADS):
        for x in images.split(AT_ONCE):
            likelihood.append(model.log_likelihood(x, n_samples, generator))
            bound.append(model.elbo(x, generator=generator))
    return {"log p(x)": float(torch.cat(likelihood).mean()), "ELBO": float(torch.cat(bound).mean())}
