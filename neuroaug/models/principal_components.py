"""Principal components of more voxels than fit into memory: images are read in blocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK_BYTES = 256 * 2**20
"""Of images in float32, held at a time; two such blocks are."""

SLICE = 65536
"""Voxels whose products are summed at a time, in float64."""

Reader = Callable[[int, int], Tensor]
"""From the first and one past the last image to these images, (B, 1, X, Y, Z)."""


AT_ONCE = 16
"""Images whose sum is taken at a time."""


def mean_image(read: Reader, n_images: int) -> Tensor:
    """Mean (X, Y, Z) of images 0..n-1, summed in float64."""
    starts = range(0, n_images, AT_ONCE)
    parts = [read(i, min(i + AT_ONCE, n_images)).double().sum(0)[0] for i in starts]
    return (torch.stack(parts).sum(0) / n_images).float()


@dataclass(frozen=True)
class Components:
    """The principal components of some images.

    Attributes
    ----------
    directions : Tensor, shape (V, K)
        Orthonormal, by falling variance; the largest entry of each is positive.
    variances : Tensor, shape (K,)
        Variance of the images along each, float64; N in the denominator.
    left_out : float
        Mean variance of the directions that are left out, V - K of them.
    """

    directions: Tensor
    variances: Tensor
    left_out: float


def principal_components(read: Reader, mean: Tensor, n_images: int, n_kept: int) -> Components:
    """Find the components of largest variance, from the images' inner products.

    Parameters
    ----------
    read : callable
        Gives images first..last.
    mean : Tensor, shape (X, Y, Z)
        Mean image.
    n_images : int
        N.
    n_kept : int
        K, at most N - 1.
    """
    flat = mean.flatten()
    block = max(1, BLOCK_BYTES // (4 * flat.numel()))
    bounds = [(i, min(i + block, n_images)) for i in range(0, n_images, block)]

    def centred(first: int, last: int) -> Tensor:
        return read(first, last).flatten(1).float() - flat

    products = torch.zeros(n_images, n_images, dtype=torch.float64)
    for a, b in bounds:
        rows = centred(a, b)
        for c, d in bounds:
            if c < a:
                continue
            columns = rows if c == a else centred(c, d)
            slices = zip(rows.split(SLICE, 1), columns.split(SLICE, 1), strict=True)
            part = torch.stack([x.double() @ y.double().T for x, y in slices]).sum(0)
            products[a:b, c:d] = part
            products[c:d, a:b] = part.T
    values, vectors = torch.linalg.eigh(products)
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
    kept = values[:n_kept]
    scale = kept.clamp(min=torch.finfo(torch.float64).tiny).rsqrt()
    weights = vectors[:, :n_kept] * torch.where(kept > 1e-12 * values[0], scale, 0.0)
    directions = torch.zeros(flat.numel(), n_kept)
    for a, b in bounds:
        directions += centred(a, b).T @ weights[a:b].float()
    largest = directions.abs().argmax(0)
    directions *= directions[largest, torch.arange(n_kept)].sign()
    rest = float(values[n_kept:].sum()) / n_images
    return Components(directions, kept / n_images, rest / max(flat.numel() - n_kept, 1))
