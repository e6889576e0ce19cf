"""``neuroaug bench``: measured speeds, each beside what it is compared with."""

from __future__ import annotations

import importlib
import logging
import platform
from pathlib import Path
from typing import Any

from neuroaug.errors import InputError
from neuroaug.system.files import write_json
from neuroaug.system.provenance import versions
from neuroaug.system.threads import n_cores

log = logging.getLogger("neuroaug")

BENCHMARKS = {
    "sampler": "HMC on the learned metric, beside pythae",
    "training-step": "a training step of the 3D RHVAE, beside pythae and a plain VAE",
    "preprocessing": "seconds a scan, per profile",
    "generate": "images drawn, decoded and written a second",
    "evaluation": "the trainer's step beside a bare PyTorch loop",
    "gpu": "training at 2 mm and 1 mm and 5000 images written, on a GPU",
}
ALL = "all"
"""Every benchmark in turn; `gpu` where there is one."""


def bench(name: str | None, *, json_file: Path | None = None, full: bool = False) -> None:
    """Run one benchmark, or all, and print its figures; without a name, list them.

    Raises
    ------
    InputError
        If there is no benchmark of that name.
    """
    if name is None:
        for known, what in {**BENCHMARKS, ALL: "all of them, in turn"}.items():
            print(f"{known:<16} {what}")
        return
    if name not in (*BENCHMARKS, ALL):
        raise InputError(f"bench {name}: unknown; choose one of {', '.join((*BENCHMARKS, ALL))}")
    rows: list[dict[str, Any]] = []
    for one in _chosen(name):
        module = importlib.import_module(f"neuroaug.bench.{one.replace('-', '_')}_speed")
        found = module.run(full=full)
        _print(one, found)
        rows += [{"bench": one, **row} for row in found]
        if json_file is not None:
            # After each, so that a long night that is cut short leaves what it measured.
            machine = {"cores": n_cores(), "processor": platform.machine()}
            record = {
                "bench": name,
                "full": full,
                "machine": machine,
                "versions": versions(),
                "rows": rows,
            }
            write_json(json_file, record)
    if json_file is not None:
        log.info("%s", json_file)


def _chosen(name: str) -> list[str]:
    if name != ALL:
        return [name]
    import torch

    if torch.cuda.is_available():
        return list(BENCHMARKS)
    log.info("bench gpu: left out, this machine has no GPU that torch can use")
    return [known for known in BENCHMARKS if known != "gpu"]


def _print(name: str, rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"neuroaug bench {name}")
    for column in ("name", "value", "unit", "reference", "ratio", "note"):
        table.add_column(column)
    for row in rows:
        table.add_row(
            str(row["name"]),
            _number(row.get("value")),
            str(row.get("unit", "")),
            _number(row.get("reference_value")),
            _number(row.get("ratio")),
            str(row.get("note", "")),
        )
    Console(width=140).print(table)


def _number(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, int | float) else str(value)
