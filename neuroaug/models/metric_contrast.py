"""Whether a metric has learned anything (METHOD 2).

The published objective keeps it so; the bound as printed does not.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from neuroaug.geometry.metrics.learned import LearnedMetric
from neuroaug.geometry.metrics.posterior import PosteriorMetric

N_PRIOR_POINTS = 1024


class MetricContrast(NamedTuple):
    """The log-density that is sampled from, at the data against elsewhere.

    Attributes
    ----------
    contrast : float
        Mean at the centroids minus mean at samples of the prior, nats.
    at_centroids, at_prior : float
        The two means.
    floor : float
        Its value far from all data, d log(lambda) / 2.
    collapsed : bool
        The centroids stand less than a doubling of every eigenvalue above the floor: the metric
        network's matrices have fallen below lambda, and draws would not follow the data.
    """

    contrast: float
    at_centroids: float
    at_prior: float
    floor: float
    collapsed: bool


def metric_contrast(metric: LearnedMetric | PosteriorMetric, centroids: Tensor) -> MetricContrast:
    """Compare the log-density that is sampled at centroids (N, d) and at points of the prior."""
    d = centroids.shape[-1]
    prior = torch.randn(N_PRIOR_POINTS, d, generator=torch.Generator().manual_seed(0))
    at_centroids = float(metric.log_density(centroids).mean())
    at_prior = float(metric.log_density(prior.to(centroids)).mean())
    floor = 0.5 * d * math.log(metric.regularization)
    collapsed = not at_centroids - floor >= 0.5 * d * math.log(2)
    return MetricContrast(at_centroids - at_prior, at_centroids, at_prior, floor, collapsed)
