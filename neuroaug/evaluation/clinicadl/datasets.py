"""ClinicaDL's side of the images: a `Dataset`, and batches that hold one tensor instead of many.

ClinicaDL's own datasets search their table at every item and clone every image twice when a batch
is read, which at 2 mm costs as much as the network on a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from clinicadl.data.dataloader import Batch, CollateFn
from clinicadl.data.datasets import Dataset
from numpy.typing import NDArray

from neuroaug.evaluation.cell_images import Images
from neuroaug.evaluation.run_order import epoch_order
from neuroaug.imaging.intensity import from_stored

IMAGE, LABEL, TARGET = "image", "label", "target"
MAPPED_BYTES = 256 * 2**20  # read before mapped pages are given back


class Item(dict):
    """One image of a batch: its visit and label. The voxels are with the batch."""

    def get_images_names(self) -> tuple[str, ...]:
        """ClinicaDL asks which fields are images."""
        return ()


class VolumeBatch(Batch):
    """A batch whose images are one tensor.

    Attributes
    ----------
    voxels : Tensor (B, 1, X, Y, Z)
        Stored numbers (uint8 counts 255ths); made float32 in [0, 1] on the device they are sent to.
    """

    def __init__(self, items: Sequence[Item], voxels: torch.Tensor) -> None:
        super().__init__(items)
        self.voxels = voxels

    def get_field(
        self, field_name: str, dtype: torch.dtype | None = None, ensure_channel_dim: bool = False
    ) -> torch.Tensor | list[Any]:
        """As `Batch.get_field`; images come from the tensor, floats in [0, 1]."""
        if field_name != IMAGE:
            return super().get_field(field_name, dtype=dtype, ensure_channel_dim=ensure_channel_dim)
        stored = self.voxels.to(device=self.device, non_blocking=self._non_blocking)
        images = from_stored(stored)
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last_3d)
        return images if dtype is None else images.to(dtype)


class VolumeCollate(CollateFn):
    """Puts what `VolumeDataset` read together."""

    def __call__(self, samples: Sequence[Any]) -> VolumeBatch:
        """Collate one batch; the dataset has done the work (`VolumeDataset.__getitems__`)."""
        (batch,) = samples
        return batch

    def to_dict(self) -> dict[str, Any]:
        """Describe it for a MAPS."""
        return {"name_": type(self).__name__}


class VolumeDataset(Dataset):
    """Images for ClinicaDL's loaders and trainer, in an order that is ours.

    A loader must not shuffle: `set_epoch`, which the trainer calls at the start of every epoch,
    fixes the order of that epoch from (seed, epoch), see `steps.epoch_order`.

    Parameters
    ----------
    images : Images
        Images of the data set.
    seed : int, optional
        Seed of the run; None keeps the table's order in every epoch (validation, test).
    n_items : int, optional
        Images shown in an epoch, where this is not a whole pass (`steps.matched_items`).
    batch_size : int
        Images per batch of the loader, for reading ahead.
    read_ahead : bool
        Read the next batch in a thread while the network works on this one.
    pin_memory : bool
        Put batches in page-locked memory, for transfers to a GPU that do not wait.
    """

    def __init__(
        self,
        images: Images,
        *,
        seed: int | None = None,
        n_items: int | None = None,
        batch_size: int = 1,
        read_ahead: bool = False,
        pin_memory: bool = False,
    ) -> None:
        self._df = images.table[["participant_id", "session_id", "diagnosis", LABEL]].reset_index(
            drop=True
        )
        self._rows: list[dict[str, Any]] = [
            {
                "participant_id": participant,
                "session_id": session,
                LABEL: label,
                "synthetic": bool(synthetic),
            }
            for participant, session, label, synthetic in zip(
                self._df["participant_id"],
                self._df["session_id"],
                images.labels.tolist(),
                images.synthetic,
                strict=True,
            )
        ]
        if (targets := images.targets) is not None:
            for row, target in zip(self._rows, targets.tolist(), strict=True):
                row[TARGET] = target
        self.images = images
        self.seed, self.n_items, self.batch_size = seed, n_items, batch_size
        self.pin_memory = pin_memory
        self.eval_mode = False
        self.epoch = 0
        self.order: NDArray[np.int64] = np.arange(len(images))
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="images") if read_ahead else None
        self._next: tuple[tuple[int, ...], Future[VolumeBatch]] | None = None
        self._mapped = 0
        if seed is not None:
            self.set_epoch(1)

    def eval(self) -> None:
        """Set evaluation mode: no augmentation."""
        self.eval_mode = True

    def train(self) -> None:
        """Set training mode."""
        self.eval_mode = False

    def set_epoch(self, epoch: int) -> None:
        """Fix the order of an epoch (from 1). A last batch of one image gets a second one.

        Batch normalisation has no variance on a single image of a small grid, so the epoch's first
        image is shown once more beside it; the number of steps does not change.
        """
        if self.seed is None:
            return
        self.epoch, self._next = epoch, None
        order = epoch_order(len(self.images), self.seed, epoch, self.n_items)
        if self.batch_size > 1 and len(order) % self.batch_size == 1:
            order = np.append(order, order[0])
        self.order = order

    def get_sample_info(self, idx: int, column: str) -> Any:
        """A value of the table for the image shown at place `idx`."""
        self._check_column(column)
        return self._df.at[int(self.order[idx]), column]

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, idx: int) -> VolumeBatch:
        """Read the image shown at place `idx`, as a batch of one."""
        return self._read((idx,))

    def __getitems__(self, places: Sequence[int]) -> list[VolumeBatch]:
        """Read a batch; torch's loader asks for all its places at once."""
        asked = tuple(places)
        ready = self._next
        batch = ready[1].result() if ready is not None and ready[0] == asked else self._read(asked)
        self._next = None
        if self._reader is not None:
            following = tuple(range(asked[-1] + 1, min(asked[-1] + 1 + self.batch_size, len(self))))
            if following:
                self._next = (following, self._reader.submit(self._read, following))
        return [batch]

    def _read(self, places: tuple[int, ...]) -> VolumeBatch:
        positions = self.order[list(places)]
        stored = self.images.stored(positions)
        self._mapped += stored.nbytes
        if self._mapped > MAPPED_BYTES:
            self.images.release()
            self._mapped = 0
        voxels = torch.from_numpy(stored).unsqueeze(1)
        if self.pin_memory:
            voxels = voxels.pin_memory()
        items = [
            Item(**self._rows[position], epoch=self.epoch, place=place)
            for position, place in zip(positions, places, strict=True)
        ]
        return VolumeBatch(items, voxels)

    def __repr__(self) -> str:
        n_synthetic = int(self.images.synthetic.sum())
        return f"{type(self).__name__}({len(self.images)} images, {n_synthetic} synthetic)"
