"""What training will take: memory and disk, estimated before anything is allocated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from neuroaug.config import GeneratorConfig
from neuroaug.errors import ResourceError
from neuroaug.models.networks import Networks, build_networks
from neuroaug.system.files import free_bytes, human_bytes
from neuroaug.system.memory import available_memory

FLOAT = 4
ADAM_COPIES = 4
"""Weights, gradients and Adam's two moments."""

WORKING_SHARE = 1.25
"""Measured memory of an image (slope of the peak over the batch, conv3d) over the sum of what is
known to be kept: the convolutions' own buffers.
"""

LARGEST_FACTOR = 100_000
"""Entries d (d + 1) / 2 of a metric factor above which the latent dimension is what does not fit.
"""

CHECKPOINT_COPIES = 7
"""On disk at once: weights and moments twice (the old ones go when the new ones are complete), and
the best weights.
"""


@dataclass(frozen=True)
class Footprint:
    """Estimated bytes of training a generator.

    Attributes
    ----------
    n_parameters : int
        Trained values.
    fixed : int
        Memory whatever the batch: weights, gradients, moments, the best weights.
    per_image : int
        Memory of each image of a batch: activations kept for the backward pass.
    disk : int
        Checkpoints.
    """

    n_parameters: int
    fixed: int
    per_image: int
    disk: int

    def memory(self, batch_size: int) -> int:
        """Bytes for a training step."""
        return self.fixed + batch_size * self.per_image

    def largest_batch(self, available: int) -> int:
        """Images a step that fit into `available` bytes; 0 if none does."""
        return max((available - self.fixed) // max(self.per_image, 1), 0)


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _saved_bytes(network: torch.nn.Module, x: Tensor) -> int:
    """Bytes that automatic differentiation would keep for one pass, found without computing
    anything.
    """
    weights = {_storage(p) for p in network.parameters()}
    saved: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if _storage(tensor) not in weights:
            saved[_storage(tensor)] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = network(x)
    del outputs
    return sum(tensor.untyped_storage().nbytes() for tensor in saved.values())


def estimate(config: GeneratorConfig, shape: Sequence[int]) -> Footprint:
    """Estimate what training takes, on the meta device: nothing is allocated, whatever the size.

    The activations of one decoder pass, of the encoder and of the metric network are alive at once;
    with ``second_order`` those of all K + 1 decoder passes and of their own gradients.

    Parameters
    ----------
    config : GeneratorConfig
        The generator.
    shape : sequence of int
        Voxels of an image.
    """
    with torch.device("meta"):
        networks: Networks = build_networks(config, tuple(shape))
        n = sum(p.numel() for part in networks if part is not None for p in part.parameters())
        x, z = torch.empty(1, 1, *shape), torch.empty(1, config.latent_dim, requires_grad=True)
        decoder = _saved_bytes(networks.decoder, z)
        encoders = sum(
            _saved_bytes(part, x)
            for part in (networks.encoder, networks.metric)
            if part is not None
        )
    passes = 2 * (config.n_leapfrog + 1) if config.second_order and config.model == "rhvae" else 1
    image = FLOAT * x.numel()
    # Beside the activations: the image, and the largest temporaries of the likelihood and its
    # gradient.
    return Footprint(
        n_parameters=n,
        fixed=FLOAT * n * (ADAM_COPIES + 1),
        per_image=int(WORKING_SHARE * (encoders + passes * (decoder + 2 * image) + 6 * image)),
        disk=FLOAT * n * CHECKPOINT_COPIES,
    )


def _advice(config: GeneratorConfig, needed: Footprint, batch_size: int, available: int) -> str:
    fits = needed.largest_batch(available)
    if fits >= batch_size:
        return "close other programs"
    if fits >= 2:
        return f"a batch of {fits} would fit (--batch-size {fits})"
    d = config.latent_dim
    if config.model == "rhvae" and d * (d + 1) // 2 > LARGEST_FACTOR:
        return f"lower --latent-dim: the metric has d (d + 1) / 2 = {d * (d + 1) // 2:,} entries an image"
    if config.network != "conv3d":
        return "use network: conv3d, a machine with more memory, or a coarser resolution"
    return "lower generator.width or use a coarser resolution"


def check_memory(
    config: GeneratorConfig, needed: Footprint, batch_size: int, available: int, where: str
) -> None:
    """Refuse what cannot fit, with the estimate and the batch that would.

    Raises
    ------
    ResourceError
        If the estimate exceeds `available` bytes.
    """
    if needed.memory(batch_size) <= available:
        return
    raise ResourceError(
        f"training network {config.network} ({needed.n_parameters:,} parameters) with batch {batch_size} needs about "
        f"{human_bytes(needed.memory(batch_size))} (parameters and Adam alone "
        f"{human_bytes(FLOAT * ADAM_COPIES * needed.n_parameters)}), {human_bytes(available)} of memory are free on "
        f"{where}; {_advice(config, needed, batch_size, available)}"
    )


def check_disk(needed: Footprint, folder: Path) -> None:
    """Refuse a disk on which the checkpoints would not fit.

    Raises
    ------
    ResourceError
        If they would not.
    """
    free = free_bytes(folder)
    if needed.disk > free:
        raise ResourceError(
            f"{folder}: checkpoints of {needed.n_parameters:,} parameters take up to {human_bytes(needed.disk)}, "
            f"{human_bytes(free)} are free on this disk; free some space or use another --out"
        )


def out_of_memory(
    error: BaseException,
    config: GeneratorConfig,
    needed: Footprint,
    batch_size: int,
    device: torch.device,
) -> ResourceError | None:
    """The message for a training step that ran out of memory; None for any other error."""
    is_cuda = isinstance(error, torch.cuda.OutOfMemoryError)
    text = str(error).lower()
    refused = isinstance(error, RuntimeError) and (
        "can't allocate memory" in text or "not enough memory" in text
    )
    if not (is_cuda or refused or isinstance(error, MemoryError)):
        return None
    if is_cuda:
        torch.cuda.empty_cache()
        available = torch.cuda.mem_get_info(device)[1]
    else:
        available = available_memory() + needed.fixed
    fits = min(needed.largest_batch(int(0.9 * available)), batch_size // 2)
    advice = (
        f"a batch of {fits} would fit (--batch-size {fits})"
        if fits >= 1
        else "lower generator.width"
    )
    return ResourceError(f"out of memory on {device} with a batch of {batch_size}; {advice}")
