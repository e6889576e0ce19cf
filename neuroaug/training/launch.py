"""Devices and processes, by Lightning Fabric."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from neuroaug import errors
from neuroaug.errors import NeuroaugError, ResourceError
from neuroaug.system.devices import Devices
from neuroaug.system.files import write_json
from neuroaug.system.interruption import handled_by

_REPORT = ".error.json"


def _fabric(devices: Devices, precision: str) -> Any:
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments import LightningEnvironment

    chosen = "bf16" if precision == "auto" and devices.kind == "cuda" else precision
    return Fabric(
        accelerator=devices.kind,
        devices=list(devices.indices) or devices.n_devices,
        strategy="ddp_spawn" if devices.n_devices > 1 else "auto",
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
    kinds = vars(errors)
    error: NeuroaugError = kinds.get(content["kind"], NeuroaugError)(content["message"])
    raise error


class _Work:
    """What a spawned process does; no dataclass, since Fabric takes apart and refuses those."""

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


def _pass_on_signals(number: int, _: Any) -> None:
    """Hand a signal on to the processes that train, and let them end by themselves."""
    import psutil

    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            child.send_signal(number)


def launch(
    function: Callable[[Any, Any], None],
    task: Any,
    devices: Devices,
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
    devices : Devices
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
    fabric = _fabric(devices, precision)
    if devices.n_devices == 1:
        function(fabric, task)
        return
    folder.mkdir(parents=True, exist_ok=True)
    report = folder / _REPORT
    report.unlink(missing_ok=True)
    n_threads = max(torch.get_num_threads() // devices.n_devices, 1)
    try:
        with handled_by(_pass_on_signals):
            fabric.launch(_in_process, _Work(function, task, report, n_threads))
    except (ProcessRaisedException, ProcessExitedException) as error:
        _raise_reported(report)
        raise ResourceError(
            f"a process of training died ({' '.join(str(error).split())[-300:]})"
        ) from error
    finally:
        report.unlink(missing_ok=True)
        os.environ.pop("MASTER_PORT", None)
