"""Several processes that act as one: what they exchange for the result of a single one."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from neuroaug.training.random_order import Rows, share


class _GatherRows(torch.autograd.Function):
    """Concatenate every rank's rows; the gradient of a row is the sum of what all ranks send."""

    @staticmethod
    def forward(ctx: Any, local: Tensor, sizes: tuple[int, ...], rank: int) -> Tensor:
        ctx.sizes, ctx.rank = sizes, rank
        padded = local.new_zeros(max(sizes), *local.shape[1:])
        padded[: len(local)] = local
        received = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(received, padded)
        return torch.cat([rows[:size] for rows, size in zip(received, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        start = sum(ctx.sizes[: ctx.rank])
        return total[start : start + ctx.sizes[ctx.rank]], None, None


class Processes:
    """One of `world_size` processes. With one process every exchange is the identity.

    Parameters
    ----------
    rank : int
        This process, from 0.
    world_size : int
        How many there are.
    device : torch.device, optional
        Through which they talk.
    """

    def __init__(
        self, rank: int = 0, world_size: int = 1, device: torch.device | None = None
    ) -> None:
        self.rank, self.world_size, self.device = rank, world_size, device

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def share(self, rows: Rows) -> Rows:
        """Cut this process's part out of `rows`."""
        return share(rows, self.rank, self.world_size)

    def gather(self, local: Tensor, n_rows: int) -> Tensor:
        """Every process's rows, in order; differentiable.

        Parameters
        ----------
        local : Tensor, shape (b, ...)
            This process's part, as `share` cut it.
        n_rows : int
            Rows in all.

        Returns
        -------
        Tensor, shape (n_rows, ...)
        """
        if self.world_size == 1:
            return local
        sizes = tuple(len(part) for part in np.array_split(np.arange(n_rows), self.world_size))
        return _GatherRows.apply(local, sizes, self.rank)  # type: ignore[no-any-return]

    def sum_gradients(self, parameters: list[torch.nn.Parameter]) -> None:
        """Add up the gradients of all processes, in place."""
        if self.world_size == 1:
            return
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
        flat = torch.cat([g.reshape(-1) for g in gradients])
        dist.all_reduce(flat)
        start = 0
        for parameter, gradient in zip(parameters, gradients, strict=True):
            part = flat[start : start + gradient.numel()].view(gradient.shape)
            parameter.grad = gradient.copy_(part)
            start += gradient.numel()

    def totals(self, values: list[float]) -> list[float]:
        """Sums of some numbers over the processes."""
        if self.world_size == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return [float(value) for value in tensor]
