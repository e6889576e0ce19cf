"""Riemannian geometry of latent spaces, as pure functions and small frozen objects on tensors.

`LearnedMetric` is an RHVAE's metric, `PosteriorMetric` a plain VAE's; `hmc.sample` and
`random_walk.sample` draw from their densities; `geodesic` has exponential map, lengths and shortest
paths; `leapfrog` is the generalised integrator of RHVAE training; `diagnostics` tells whether
chains mixed. Nothing here knows of images, networks or files.
"""

from neuroaug.geometry import geodesic, leapfrog
from neuroaug.geometry.mcmc import diagnostics, hmc, random_walk
from neuroaug.geometry.mcmc.chains import ChainInfo
from neuroaug.geometry.metrics import functional
from neuroaug.geometry.metrics.conformal import ConformalMetric
from neuroaug.geometry.metrics.learned import LearnedMetric
from neuroaug.geometry.metrics.posterior import PosteriorMetric, nearest_neighbour_temperature

__all__ = [
    "ChainInfo",
    "ConformalMetric",
    "LearnedMetric",
    "PosteriorMetric",
    "diagnostics",
    "functional",
    "geodesic",
    "hmc",
    "leapfrog",
    "nearest_neighbour_temperature",
    "random_walk",
]
