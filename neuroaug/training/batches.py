"""Batches of images on their way to the device, read ahead in a thread."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuroaug.imaging.intensity import from_stored
from neuroaug.training.random_order import Rows

RESIDENT_SHARE = 0.25
"""A cohort is kept on the GPU when it takes at most this share of the memory that is free there."""

AHEAD = 2
"""Batches read before they are asked for."""


class BatchReader:
    """Batches of images as float32 tensors (B, 1, X, Y, Z) in [0, 1] on a device.

    Parameters
    ----------
    images : array (N, X, Y, Z), float32, float16 or uint8
        Stored intensities, possibly memory-mapped; uint8 means x / 255.
    device : torch.device
        Where batches go.
    resident : bool or None
        Keep all images on the device; None: where a GPU has the memory.
    channels_last : bool
        Memory layout of the batches.
    """

    def __init__(
        self,
        images: NDArray[Any],
        device: torch.device,
        *,
        resident: bool | None = None,
        channels_last: bool = False,
    ) -> None:
        self.images, self.device = images, device
        self.layout = torch.channels_last_3d if channels_last else torch.contiguous_format
        if resident is None:
            resident = (
                device.type == "cuda"
                and images.nbytes <= RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]
            )
        self.resident = torch.from_numpy(np.array(images)).to(device) if resident else None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels of an image."""
        return tuple(self.images.shape[1:])

    def batches(self, order: Sequence[Rows]) -> Generator[Tensor, None, None]:
        """Yield the images of each group of rows, reading ahead in a thread.

        Parameters
        ----------
        order : sequence of arrays of int
            Rows of each batch.
        """
        if self.resident is not None:
            for rows in order:
                yield self._finish(self.resident[torch.from_numpy(rows).to(self.device)])
            return
        with ThreadPoolExecutor(1, thread_name_prefix="batches") as reader:
            waiting: list[Future[Tensor]] = []
            try:
                for i, _ in enumerate(order):
                    for rows in order[i + len(waiting) : i + 1 + AHEAD]:
                        waiting.append(reader.submit(self._read, rows))
                    yield self._finish(waiting.pop(0).result().to(self.device, non_blocking=True))
            finally:
                for future in waiting:
                    future.cancel()

    def _read(self, rows: Rows) -> Tensor:
        stored = torch.from_numpy(np.ascontiguousarray(self.images[rows]))
        # Pinned memory lets the copy to the GPU run beside its arithmetic.
        return stored.pin_memory() if self.device.type == "cuda" else stored

    def _finish(self, stored: Tensor) -> Tensor:
        return from_stored(stored)[:, None].contiguous(memory_format=self.layout)
