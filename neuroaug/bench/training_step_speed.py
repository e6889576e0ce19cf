"""What a training step costs, side by side with pythae's on the very same networks.

Every measurement runs in a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from importlib.util import find_spec
from typing import Any

from neuroaug.bench.benchmark import THREADS, in_process, row
from neuroaug.imaging.grid import GRIDS

GRID = GRIDS["4mm"].shape
BATCH = 25
SMALL_BATCH = 5
"""Memory per image is the slope of the peak between this batch and `BATCH`."""


def _model_of_ours(kind: str, shape: tuple[int, ...], network: str, second_order: bool) -> Any:
    from neuroaug.config import GeneratorConfig
    from neuroaug.models import RHVAE, VAE

    config = GeneratorConfig(network=network, latent_dim=10, second_order=second_order)  # type: ignore[arg-type]
    return (RHVAE if kind == "rhvae" else VAE)(config, shape)


def _model_of_pythae(shape: tuple[int, ...], network: str) -> Any:
    import torch
    from pythae.models import RHVAE, RHVAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder, BaseMetric

    from neuroaug.config import GeneratorConfig
    from neuroaug.models.networks.registry import build_networks

    ours = build_networks(GeneratorConfig(network=network, latent_dim=10), shape, metric=True)  # type: ignore[arg-type]
    assert ours.metric is not None
    metric_network = ours.metric

    class PythaeEncoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.inner = ours.encoder

        def forward(self, x: torch.Tensor) -> Any:
            mean, log_variance = self.inner(x)
            return ModelOutput(embedding=mean, log_covariance=log_variance)

    class PythaeDecoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.inner = ours.decoder

        def forward(self, z: torch.Tensor) -> Any:
            return ModelOutput(reconstruction=self.inner(z).sigmoid())

    class PythaeMetric(BaseMetric):
        def __init__(self) -> None:
            super().__init__()
            self.inner = metric_network

        def forward(self, x: torch.Tensor) -> Any:
            return ModelOutput(L=self.inner(x))

    config = RHVAEConfig(input_dim=(1, *shape), latent_dim=10, reconstruction_loss="bce")
    model = RHVAE(config, encoder=PythaeEncoder(), decoder=PythaeDecoder(), metric=PythaeMetric())
    return model.train()


def _work(task: dict[str, Any]) -> dict[str, float]:
    """Take a warm-up step, then the timed ones; the fastest counts. Runs in the child process."""
    import resource

    import torch

    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    shape, network = tuple(task["shape"]), task["network"]
    x = torch.rand(task["batch"], 1, *shape)
    if task["kind"] == "pythae":
        model = _model_of_pythae(shape, network)
    else:
        model = _model_of_ours(task["kind"], shape, network, task["second_order"])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-5)
    times, work = [], []
    for _ in range(task["n_steps"] + 1):
        start, start_work = time.perf_counter(), time.process_time()
        optimizer.zero_grad()
        loss = model({"data": x}).loss if task["kind"] == "pythae" else model.loss(x).loss
        loss.backward()
        optimizer.step()
        times.append(time.perf_counter() - start)
        work.append(time.process_time() - start_work)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": min(times[1:]), "cpu_seconds": min(work[1:]), "peak_bytes": float(peak)}


def measure(
    kind: str,
    shape: tuple[int, ...] = GRID,
    batch: int = BATCH,
    *,
    network: str = "conv3d",
    n_steps: int = 2,
    second_order: bool = False,
) -> dict[str, float]:
    """Time training steps in a process of their own.

    Parameters
    ----------
    kind : {"rhvae", "vae", "pythae"}
        Model whose step is timed.
    shape : tuple of int
        Shape of an image.
    batch : int
        Images per step.
    network : str
        Network, as in `GeneratorConfig`; the same modules for all three kinds.
    n_steps : int
        Timed steps after one that is not; the fastest counts.
    second_order : bool
        Whether training differentiates twice, as in `GeneratorConfig`.

    Returns
    -------
    dict
        ``seconds`` per step, ``cpu_seconds`` of all threads together (steady where a machine is
        shared), and ``peak_bytes`` of the process.

    Raises
    ------
    RuntimeError
        If the process fails.
    """
    task = {"kind": kind, "shape": shape, "batch": batch, "network": network, "n_steps": n_steps}
    words = json.dumps({**task, "second_order": second_order})
    environment = {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": str(THREADS)}
    return in_process("neuroaug.bench.training_step_speed", words, environment=environment)


def _has_pythae() -> bool:
    return find_spec("pythae") is not None


def _against_pythae() -> list[dict[str, Any]]:
    size = "x".join(map(str, GRID))
    ours, small = measure("rhvae"), measure("rhvae", batch=SMALL_BATCH)
    plain = measure("vae")
    exact = measure("rhvae", second_order=True, n_steps=1)
    theirs = measure("pythae", n_steps=1) if _has_pythae() else None
    their_small = measure("pythae", batch=SMALL_BATCH, n_steps=1) if theirs else None

    def per_image(large: dict[str, float], little: dict[str, float]) -> float:
        return (large["peak_bytes"] - little["peak_bytes"]) / (BATCH - SMALL_BATCH)

    def compared(
        name: str, this: dict[str, float], other: dict[str, float] | None, note: str
    ) -> dict[str, Any]:
        """Row whose ratio is of processor time, which other processes disturb less."""
        if other is None:
            return row(name, this["seconds"], "s", note)
        mine, theirs = this["cpu_seconds"], other["cpu_seconds"]
        note = f"{note}; processor time {mine:.2f} s, reference {theirs:.2f} s"
        beside = {"reference": other["seconds"], "ratio": theirs / mine}
        return row(name, this["seconds"], "s", note, **beside)

    step = f"training step, conv3d {size}, batch {BATCH}"
    memory = per_image(ours, small)
    their_memory = per_image(theirs, their_small) if theirs and their_small else None
    first = "first order; reference: pythae, same networks; ratio at least 5"
    second = "second_order=True; reference: pythae"
    vae = "reference: our VAE, same networks; ratio at least 1/3"
    slope = "slope of the peak over the batch; reference: pythae, same networks; ratio at least 3"
    beside = {}
    if their_memory:
        beside = {"reference": their_memory / 1e6, "ratio": their_memory / memory}
    return [
        compared(step, ours, theirs, first),
        compared(f"{step}, second order", exact, theirs, second),
        compared(f"{step}, against a plain VAE", ours, plain, vae),
        row(f"memory per image, conv3d {size}", memory / 1e6, "MB", slope, **beside),
    ]


def run(full: bool = False) -> list[dict[str, Any]]:
    """Measure training steps on two threads.

    Parameters
    ----------
    full : bool
        Whether to measure at 2 mm (batch 8) and 1 mm (batch 1) too: minutes and several gigabytes.

    Returns
    -------
    list of dict
        Rows of `neuroaug.bench.benchmark.row`.
    """
    rows = _against_pythae()
    digits = partial(measure, shape=(28, 28, 1), batch=50, network="mlp-toy", n_steps=20)
    ours = 1e3 * digits("rhvae")["seconds"]
    theirs = 1e3 * digits("pythae")["seconds"] if _has_pythae() else None
    name, ratio = "training step, mlp-toy 28x28, batch 50", theirs / ours if theirs else None
    rows.append(row(name, ours, "ms", reference=theirs, ratio=ratio))
    if full:
        for resolution, batch, limit in (("2mm", 8, 12), ("1mm", 1, 24)):
            shape = GRIDS[resolution].shape
            found = measure("rhvae", shape, batch, n_steps=1)
            name = f"conv3d {'x'.join(map(str, shape))}, batch {batch}"
            rows.append(row(f"training step, {name}", found["seconds"], "s"))
            peak = found["peak_bytes"] / 1e9
            rows.append(row(f"peak memory, {name}", peak, "GB", f"limit {limit} GB"))
    return rows


if __name__ == "__main__":
    print(json.dumps(_work(json.loads(sys.argv[1]))))
