"""How long a gradient step takes in a plain PyTorch loop, for estimates.

Imports no ClinicaDL, so that a dry run does not wait for it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from neuroaug.config import ClassifierSpec, EvaluationConfig
from neuroaug.evaluation import classifiers
from neuroaug.system.devices import find_devices

_STEPS = 2  # timed, after one that warms up


def bare_step_seconds(
    network: str,
    shape: Sequence[int],
    config: EvaluationConfig,
    device: str = "auto",
    spec: ClassifierSpec | None = None,
) -> float:
    """Seconds of one step on random images: forward, backward, Adam.

    Parameters
    ----------
    network : str
        Name of the classifier.
    shape : (X, Y, Z)
        Grid of the images.
    config : EvaluationConfig
        Batch size and precision.
    device : str
        Device to time, as `find_devices` reads it. On a CPU two images are timed and scaled to the
        batch.
    spec : ClassifierSpec, optional
        Layers of the network ``optimised``.
    """
    where = find_devices(device).first
    on_gpu = where.type == "cuda"
    n_images = config.batch_size if on_gpu else min(2, config.batch_size)
    layout = torch.channels_last_3d
    model = classifiers.build(network, shape, spec).to(where).to(memory_format=layout)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(model.parameters(), config.learning_rate)
    images = torch.rand(n_images, 1, *shape, device=where).contiguous(memory_format=layout)
    labels = torch.arange(n_images, device=where) % 2
    times = []
    for _ in range(_STEPS + 1):
        start = time.perf_counter()
        with torch.autocast(
            where.type, torch.bfloat16, enabled=on_gpu and config.precision != "32"
        ):
            loss = torch.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if on_gpu:
            torch.cuda.synchronize(where)
        times.append(time.perf_counter() - start)
    return min(times[1:]) * config.batch_size / n_images
