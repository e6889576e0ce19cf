"""``neuroaug bench``: measured speeds, each beside what it is compared with."""

from __future__ import annotations

import importlib
import platform
from pathlib import Path
from typing import Annotated, Any

import typer

from neuroaug.cli.console import command, log
from neuroaug.cli.options import FILES, choice, option

BENCHMARKS = {
    "sampler": "HMC on the learned metric, beside pythae",
    "training-step": "a training step of the 3D RHVAE, beside pythae and a plain VAE",
    "preprocessing": "seconds per scan, per profile",
    "generate": "images drawn, decoded and written per second",
    "evaluation": "the trainer's step beside a bare PyTorch loop",
    "gpu": "training at 2 mm and 1 mm and 5000 images written, on a GPU",
}
ALL = "all"
"""Every benchmark in turn; `gpu` where there is one."""


@command("bench", epilog="Example: neuroaug bench sampler --json sampler.json")
def bench(
    name: Annotated[
        str | None, choice("bench", (*BENCHMARKS, ALL), "Which benchmark (default: list them)")
    ] = None,
    json_file: Annotated[
        Path | None, option("--json", "Write the figures here too.", FILES)
    ] = None,
    full: Annotated[bool, option("--full", "Sizes of the papers: long.")] = False,
) -> None:
    """Measure speeds on this machine, beside the reference code where it is installed."""
    if name is None:
        for known, what in {**BENCHMARKS, ALL: "all of them, in turn"}.items():
            typer.echo(f"{known:<16} {what}")
        return
    from neuroaug.system.files import write_json
    from neuroaug.system.provenance import versions
    from neuroaug.system.threads import n_cores

    rows: list[dict[str, Any]] = []
    for one in _chosen(name):
        module = importlib.import_module(f"neuroaug.bench.{one.replace('-', '_')}_speed")
        found = module.run(full=full)
        _print(one, found)
        rows += [{"bench": one, **row} for row in found]
        if json_file is not None:
            # After each, so that a long night that is cut short leaves what it measured.
            machine = {"cores": n_cores(), "processor": platform.machine()}
            record = {"bench": name, "full": full, "machine": machine, "versions": versions()}
            write_json(json_file, {**record, "rows": rows})
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
    keys = ("name", "value", "unit", "reference_value", "ratio", "note")
    for key in keys:
        table.add_column(key.removesuffix("_value"))
    for row in rows:
        table.add_row(*(_text(row.get(key)) for key in keys))
    Console(width=140).print(table)


def _text(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, int | float) else str(value)
