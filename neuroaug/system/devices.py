"""Which device works: the one reading of ``--device`` for every command."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from neuroaug.errors import InputError, ResourceError
from neuroaug.system.memory import available_memory

if TYPE_CHECKING:
    import torch


_NAME = re.compile(r"(?P<plain>auto|cpu)|(?:cuda|gpu)(?::(?P<index>\d+))?")


@dataclass(frozen=True)
class Devices:
    """The devices that something runs on.

    Attributes
    ----------
    kind : {"cpu", "cuda"}
        Kind of device.
    indices : tuple of int
        Numbers of the GPUs; empty on the CPU.
    n_devices : int
        Number of processes, one per device.
    """

    kind: str
    indices: tuple[int, ...]
    n_devices: int

    @property
    def first(self) -> torch.device:
        """The device of the first process."""
        import torch

        return torch.device(self.kind, self.indices[0]) if self.indices else torch.device(self.kind)

    @property
    def name(self) -> str:
        """The device as its maker calls it."""
        import torch

        return torch.cuda.get_device_name(self.indices[0]) if self.kind == "cuda" else "cpu"

    def free_memory(self) -> int:
        """Bytes that each process may take."""
        if self.kind == "cuda":
            import torch

            return min(torch.cuda.mem_get_info(i)[0] for i in self.indices)
        return available_memory() // self.n_devices


def parse_device(device: str) -> tuple[str, int | None]:
    """Read the name of a device, without looking whether it is there (and without torch).

    Returns
    -------
    kind : {"auto", "cpu", "cuda"}
        Kind of device.
    index : int or None
        Number of the GPU, where the name has one.

    Raises
    ------
    InputError
        If the name is not understood.
    """
    match = _NAME.fullmatch(device)
    if match is None:
        raise InputError(
            f"device '{device}': not understood; choose auto, cpu, cuda or cuda:<number>"
        )
    kind = match["plain"] or "cuda"
    return kind, int(match["index"]) if match["index"] else None


def find_devices(device: str = "auto", n_devices: int = 1) -> Devices:
    """Read the name of a device and check that it is there.

    Parameters
    ----------
    device : str
        Name of a device: ``auto`` (a GPU where there is one), ``cpu``, ``cuda`` or ``gpu``,
        ``cuda:<number>``.
    n_devices : int
        Number of devices, from the one that is named on.

    Raises
    ------
    InputError
        If the name is not understood, or `n_devices` is less than 1.
    ResourceError
        If the machine has fewer devices.

    Examples
    --------
    >>> find_devices("cpu", 2)
    Devices(kind='cpu', indices=(), n_devices=2)
    """
    kind, index = parse_device(device)
    if n_devices < 1:
        raise InputError(f"{n_devices} devices: at least 1 is needed")
    import torch

    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind == "cpu" or (kind == "auto" and not n_gpus):
        return Devices("cpu", (), n_devices)
    if not n_gpus:
        raise ResourceError(
            f"device '{device}': this machine has no GPU that torch can use; "
            "take --device cpu or auto"
        )
    first = index or 0
    if first + n_devices > n_gpus:
        raise ResourceError(
            f"device '{device}', {n_devices} of them: this machine has {n_gpus} GPU(s)"
        )
    return Devices("cuda", tuple(range(first, first + n_devices)), n_devices)
