"""Did the chains mix? Rank-normalised split R-hat and effective sample size (Vehtari et al. 2021).

Both take samples of shape (n_chains, n_samples, d) and answer for each coordinate. Samples are
replaced by the normal scores of their ranks, so heavy tails do no harm; each chain is cut in two,
so a drift within chains shows.
"""

from __future__ import annotations

import torch
from torch import Tensor

MIN_SAMPLES = 4


def _checked(chains: Tensor) -> Tensor:
    if chains.ndim != 3 or chains.shape[1] < MIN_SAMPLES or not chains.shape[0]:
        raise ValueError(
            f"chains: expected shape (n_chains, n_samples, d) with at least {MIN_SAMPLES} samples, "
            f"got {tuple(chains.shape)}"
        )
    return chains.detach().to("cpu", torch.float64)


def _split(chains: Tensor) -> Tensor:
    """Halve every chain, without the middle sample of an odd number: (2 n_chains, n // 2, d)."""
    half = chains.shape[1] // 2
    return torch.cat([chains[:, :half], chains[:, -half:]])


def _normal_scores(values: Tensor) -> Tensor:
    """Normal quantiles of (rank - 3/8) / (n + 1/4), ties averaged, over all chains together."""
    from scipy.stats import rankdata

    flat = values.reshape(-1, values.shape[-1])
    ranks = torch.from_numpy(rankdata(flat.numpy(), axis=0))
    return torch.special.ndtri((ranks - 0.375) / (len(flat) + 0.25)).reshape(values.shape)


def _variances(chains: Tensor) -> tuple[Tensor, Tensor]:
    """Mean within-chain variance W and estimate of the marginal variance, of each coordinate."""
    n = chains.shape[1]
    within = chains.var(1).mean(0)
    between = chains.mean(1).var(0) if chains.shape[0] > 1 else torch.zeros_like(within)
    return within, (n - 1) / n * within + between


def _r_hat(chains: Tensor) -> Tensor:
    within, marginal = _variances(chains)
    # Chains that never moved: no variance within, some between, is the opposite of convergence.
    ratio = torch.where(within > 0, marginal / within, torch.where(marginal > 0, torch.inf, 1.0))
    return ratio.sqrt()


def split_r_hat(chains: Tensor) -> Tensor:
    """Rank-normalised split R-hat: the larger of the one for location and the one for scale.

    Parameters
    ----------
    chains : Tensor, shape (n_chains, n_samples, d)
        Samples, at least 4 per chain.

    Returns
    -------
    Tensor, shape (d,)
        Near 1 when chains agree (1.01 is the usual bound for long chains); infinite for chains that
        never moved.

    Raises
    ------
    ValueError
        If there are no chains, or fewer than 4 samples per chain.

    Examples
    --------
    >>> import torch
    >>> chains = torch.randn(4, 500, 1, generator=torch.Generator().manual_seed(0))
    >>> apart = chains + torch.arange(0.0, 12.0, 3.0)[:, None, None]
    >>> bool(split_r_hat(chains) < 1.02), bool(split_r_hat(apart) > 1.5)
    (True, True)
    """
    chains = _split(_checked(chains))
    folded = (chains - chains.reshape(-1, chains.shape[-1]).median(0).values).abs()
    return torch.maximum(_r_hat(_normal_scores(chains)), _r_hat(_normal_scores(folded)))


def _autocovariance(chains: Tensor) -> Tensor:
    """Autocovariance at lags 0..n-1 of every chain and coordinate, by FFT; divisor n."""
    n = chains.shape[1]
    centred = chains - chains.mean(1, keepdim=True)
    spectrum = torch.fft.rfft(centred, n=2 * n, dim=1)
    return torch.fft.irfft(spectrum.abs().square(), n=2 * n, dim=1)[:, :n] / n


def _ess(chains: Tensor) -> Tensor:
    m, n, d = chains.shape
    within, marginal = _variances(chains)
    autocovariance = _autocovariance(chains).mean(0)
    rho = 1.0 - (within - autocovariance * (n / (n - 1))) / marginal
    rho[0] = 1.0
    pairs = rho[: n - n % 2].reshape(-1, 2, d).sum(1)
    # Geyer: sum the pairs while they are positive, each capped by the one before.
    positive = torch.cumprod((pairs > 0).to(pairs.dtype), 0)
    monotone = torch.cummin(pairs, 0).values.clamp_min(0.0) * positive
    tau = (2.0 * monotone.sum(0) - 1.0).clamp_min(1.0 / torch.log10(torch.tensor(float(m * n))))
    # Chains that never moved hold one sample each at most; nothing says that even these are
    # independent.
    return torch.where(within > 0, m * n / tau, torch.tensor(float("nan"), dtype=chains.dtype))


def effective_sample_size(chains: Tensor) -> Tensor:
    """Bulk effective sample size of all chains together (rank-normalised, split).

    Parameters
    ----------
    chains : Tensor, shape (n_chains, n_samples, d)
        Samples, at least 4 per chain.

    Returns
    -------
    Tensor, shape (d,)
        Number of independent samples that would estimate a mean as well; NaN for chains that never
        moved.

    Raises
    ------
    ValueError
        If there are no chains, or fewer than 4 samples per chain.

    Examples
    --------
    A random walk is worth few of its 2000 samples.

    >>> import torch
    >>> noise = torch.randn(4, 500, 1, generator=torch.Generator().manual_seed(0))
    >>> bool(effective_sample_size(noise) > 1500), bool(effective_sample_size(noise.cumsum(1)) < 50)
    (True, True)
    """
    return _ess(_normal_scores(_split(_checked(chains))))
