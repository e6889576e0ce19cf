"""Which device works: the one reading of ``--device`` for every command."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from neuroaug.errors import InputError, ResourceError
from neuroaug.system.memory import available_memory


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
        return torch.device(self.kind, self.indices[0]) if self.indices else torch.device(self.kind)

    @property
    def name(self) -> str:
        """The device as its maker calls it."""
        return torch.cuda.get_device_name(self.indices[0]) if self.kind == "cuda" else "cpu"

    def free_memory(self) -> int:
        """Bytes that each process may take."""
        if self.kind == "cuda":
            return min(torch.cuda.mem_get_info(i)[0] for i in self.indices)
        return available_memory() // self.n_devices


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
    name, _, index = device.partition(":")
    if n_devices < 1:
        raise InputError(f"{n_devices} devices: at least 1 is needed")
    if name not in ("auto", "cpu", "cuda", "gpu") or (
        index and not (name in ("cuda", "gpu") and index.isdigit())
    ):
        raise InputError(
            f"device '{device}': not understood; choose auto, cpu, cuda or cuda:<number>"
        )
    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cpu" or (name == "auto" and not n_gpus):
        return Devices("cpu", (), n_devices)
    if not n_gpus:
        raise ResourceError(
            f"device '{device}': this machine has no GPU that torch can use; "
            "take --device cpu or auto"
        )
    first = int(index or 0)
    if first + n_devices > n_gpus:
        raise ResourceError(
            f"device '{device}', {n_devices} of them: this machine has {n_gpus} GPU(s)"
        )
    return Devices("cuda", tuple(range(first, first + n_devices)), n_devices)
