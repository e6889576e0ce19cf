"""Riemannian geometry of latent spaces, as pure functions and small frozen objects on tensors.

`LearnedMetric` is an RHVAE's metric, `PosteriorMetric` a plain VAE's; `hmc.sample` and `random_walk.sample`
draw from their densities; `geodesic` has exponential map, lengths and shortest paths; `leapfrog` is the
generalised integrator of RHVAE training; `diagnostics` tells whether chains mixed. Nothing here knows of
images, networks or files.
"""

from neuroaug.geometry import diagnostics, functional, geodesic, hmc, leapfrog, random_walk
from neuroaug.geometry.chains import ChainInfo
from neuroaug.geometry.conformal import ConformalMetric
from neuroaug.geometry.metric import LearnedMetric
from neuroaug.geometry.posterior import PosteriorMetric, nearest_neighbour_temperature

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
