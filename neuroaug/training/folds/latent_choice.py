"""How many latents: as many principal components as give people left out the best density.

The density is that of probabilistic components (Tipping and Bishop 1999), in closed form, so the
choice costs no training. More components always bring a reconstruction nearer; their density on
people left out falls again once they follow single training images.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from neuroaug.imaging.intensity import from_stored
from neuroaug.models.principal_components import principal_components
from neuroaug.system.files import write_tsv
from neuroaug.training.random_order import Rows
from neuroaug.training.stored_images import training_start

FILE_NAME = "latents.tsv"
COLUMNS = ("latent_dim", "held_out_log_density", "held_out_rmse")
CANDIDATES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 100)
AT_ONCE = 8


@dataclass(frozen=True)
class LatentChoice:
    """Candidates and what people left out say of them.

    Attributes
    ----------
    latent_dims : ndarray of int, shape (C,)
        Numbers of latents.
    log_density : ndarray, shape (C,)
        Mean log-density of an image left out, nats.
    rmse : ndarray, shape (C,)
        Root mean squared error of its reconstruction.
    """

    latent_dims: NDArray[np.intp]
    log_density: NDArray[np.float64]
    rmse: NDArray[np.float64]

    @property
    def chosen(self) -> int:
        """The number of best density."""
        return int(self.latent_dims[int(np.argmax(self.log_density))])

    def write(self, model_folder: Path) -> None:
        """Write ``latents.tsv`` beside a model."""
        columns = (self.latent_dims, self.log_density, self.rmse)
        table = pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)))
        write_tsv(model_folder / FILE_NAME, table)


def choose_latents(stored: NDArray[Any], fold_of: NDArray[np.intp]) -> LatentChoice:
    """Compare numbers of latents on people left out.

    Parameters
    ----------
    stored : array (N, X, Y, Z)
        All training images, as stored.
    fold_of : ndarray of int, shape (N,)
        Fold of each.
    """
    n_folds = int(fold_of.max()) + 1
    fitted = [np.flatnonzero(fold_of != k) for k in range(n_folds)]
    most = min(len(rows) for rows in fitted) - 2  # something is left for the noise
    dims = np.array([d for d in CANDIDATES if d <= most] or [1])
    density, squares = np.zeros(len(dims)), np.zeros(len(dims))
    for k, rows in enumerate(fitted):
        told = _of_fold(stored, rows, np.flatnonzero(fold_of == k), dims)
        density += told[0].sum(0)
        squares += told[1].sum(0)
    n = len(stored)
    return LatentChoice(dims, density / n, np.sqrt(squares / n))


def _of_fold(
    stored: NDArray[Any], fitted: Rows, held: Rows, dims: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Log-density and mean squared error of each image left out under each number, (H, C)."""
    start = training_start(stored, fitted)
    n_kept = int(min(dims.max(), len(fitted) - 1))
    found = principal_components(start.read, start.mean, len(fitted), n_kept)
    n_voxels = start.mean.numel()
    variances = found.variances.clamp(min=torch.finfo(torch.float64).tiny).numpy()
    total = float(variances.sum()) + found.left_out * (n_voxels - n_kept)
    mean = start.mean.flatten()
    densities, errors = [], []
    for first in range(0, len(held), AT_ONCE):
        rows = held[first : first + AT_ONCE]
        centred = torch.from_numpy(from_stored(stored[rows])).flatten(1) - mean
        scores = (centred @ found.directions).double().numpy()
        whole = centred.double().square().sum(1).numpy()
        inside = np.cumsum(scores**2 / variances + np.log(variances), axis=1)
        explained = np.cumsum(scores**2, axis=1)
        rest = whole[:, None] - explained[:, dims - 1]
        n_rest = n_voxels - dims
        noise = np.maximum((total - np.cumsum(variances)[dims - 1]) / n_rest, 1e-12)
        outside = rest / noise + n_rest * np.log(noise)
        constant = n_voxels * np.log(2 * np.pi)
        densities.append(-0.5 * (inside[:, dims - 1] + outside + constant))
        errors.append(rest / n_voxels)
    return np.concatenate(densities), np.concatenate(errors)
