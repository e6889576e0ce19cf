"""Devices and processes, by Lightning Fabric."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from neuroaug import errors
from neuroaug.errors import InputError, NeuroaugError, ResourceError
from neuroaug.system import interruption
from neuroaug.system.files import write_json
from neuroaug.system.memory import available_memory

_REPORT = ".error.json"


@dataclass(frozen=True)
class Hardware:
    """Where training runs.

    Attributes
    ----------
    kind : {"cpu", "cuda"}
        Kind of device.
    indices : tuple of int
        Which GPUs; empty on CPU.
    n_devices : int
        Processes.
    """

    kind: str
    indices: tuple[int, ...]
    n_devices: int

    @property
    def device_name(self) -> str:
        """What a reader calls it."""
        return torch.cuda.get_device_name(self.indices[0]) if self.kind == "cuda" else "cpu"

    def free_memory(self) -> int:
        """Bytes that each process may take."""
        if self.kind == "cuda":
            return min(torch.cuda.mem_get_info(i)[0] for i in self.indices)
        return available_memory() // self.n_devices


def find_hardware(device: str = "auto", n_devices: int = 1) -> Hardware:
    """Check that what was asked for is there.

    Parameters
    ----------
    device : str
        ``auto`` (a GPU where there is one), ``cpu``, ``cuda`` or ``gpu``, ``cuda:<i>``.
    n_devices : int
        How many.

    Raises
    ------
    InputError
        If the name is not understood.
    ResourceError
        If there are not as many.
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
        return Hardware("cpu", (), n_devices)
    if not n_gpus:
        raise ResourceError(
            f"device '{device}': this machine has no GPU that torch can use; take --device cpu or auto"
        )
    first = int(index or 0)
    if first + n_devices > n_gpus:
        raise ResourceError(
            f"device '{device}', {n_devices} of them: this machine has {n_gpus} GPU(s)"
        )
    return Hardware("cuda", tuple(range(first, first + n_devices)), n_devices)


def _fabric(hardware: Hardware, precision: str) -> Any:
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments import LightningEnvironment

    chosen = "bf16" if precision == "auto" and hardware.kind == "cuda" else precision
    return Fabric(
        accelerator=hardware.kind,
        devices=list(hardware.indices) or hardware.n_devices,
        strategy="ddp_spawn" if hardware.n_devices > 1 else "auto",
        precision="bf16-mixed" if chosen == "bf16" else "32-true",
        # One machine, processes of our own: a Slurm job's variables must not turn this into one of
        # its tasks.
        plugins=[LightningEnvironment()],
    )


def _report(error: NeuroaugError, path: Path) -> None:
    write_json(path, {"kind": type(error).__name__, "message": str(error)})


def _raise_reported(path: Path) -> None:
    if not path.is_file():
        return
    content = json.loads(path.read_text(encoding="utf-8"))
    path.unlink()
    kinds = {**vars(errors), **vars(interruption)}
    error: NeuroaugError = kinds.get(content["kind"], NeuroaugError)(content["message"])
    raise error


class _Work:
    """What a spawned process does. Not a dataclass: Fabric takes those apart, and refuses frozen
    ones.
    """

    def __init__(
        self, function: Callable[[Any, Any], None], task: Any, report: Path, n_threads: int
    ) -> None:
        self.function, self.task, self.report, self.n_threads = function, task, report, n_threads


def _in_process(fabric: Any, work: _Work) -> None:
    if fabric.device.type == "cpu":
        torch.set_num_threads(work.n_threads)
    try:
        work.function(fabric, work.task)
    except NeuroaugError as error:
        _report(error, work.report)
        raise


@contextmanager
def _pass_on_signals() -> Iterator[None]:
    """Hand SIGINT and SIGTERM on to the processes that train, and let them end by themselves."""
    import psutil

    def handle(number: int, frame: Any) -> None:
        for child in psutil.Process().children(recursive=True):
            try:
                child.send_signal(number)
            except psutil.NoSuchProcess:
                continue

    before = {number: signal.signal(number, handle) for number in interruption.SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def launch(
    function: Callable[[Any, Any], None],
    task: Any,
    hardware: Hardware,
    folder: Path,
    precision: str,
) -> None:
    """Run ``function(fabric, task)`` in one process, or in one a device.

    Parameters
    ----------
    function : callable
        Of a module, so that spawned processes find it.
    task : object
        Picklable where there are several processes.
    hardware : Hardware
        Where.
    folder : Path
        For the message of a process that fails.
    precision : {"auto", "32", "bf16"}
        Of the networks; ``auto`` is bf16 on a GPU, float32 elsewhere.

    Raises
    ------
    NeuroaugError
        Whatever the function raised, in whichever process.
    """
    fabric = _fabric(hardware, precision)
    if hardware.n_devices == 1:
        function(fabric, task)
        return
    folder.mkdir(parents=True, exist_ok=True)
    report = folder / _REPORT
    report.unlink(missing_ok=True)
    n_threads = max(torch.get_num_threads() // hardware.n_devices, 1)
    try:
        with _pass_on_signals():
            fabric.launch(_in_process, _Work(function, task, report, n_threads))
    except (ProcessRaisedException, ProcessExitedException) as error:
        _raise_reported(report)
        raise ResourceError(
            f"a process of training died ({' '.join(str(error).split())[-300:]})"
        ) from error
    finally:
        report.unlink(missing_ok=True)
        os.environ.pop("MASTER_PORT", None)
