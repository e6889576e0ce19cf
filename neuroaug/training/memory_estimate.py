"""What training will take: memory and disk, estimated before anything is allocated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from neuroaug.config import GeneratorConfig
from neuroaug.errors import ResourceError
from neuroaug.models.generative_model import GenerativeModel
from neuroaug.models.networks.heads import n_parameters
from neuroaug.registries import FAMILIES, NETWORKS
from neuroaug.system.files import free_bytes, human_bytes
from neuroaug.system.memory import available_memory

FLOAT = 4
ADAM_COPIES = 4
"""Weights, gradients and Adam's two moments."""

WORKING_SHARE = 1.25
"""Measured memory per image (slope of the peak over the batch, conv3d) over the sum of what is
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
class MemoryEstimate:
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
    n_factor_entries : int
        Entries of a metric factor, per image; 0 for a family without one.
    """

    n_parameters: int
    fixed: int
    per_image: int
    disk: int
    n_factor_entries: int = 0

    def memory(self, batch_size: int) -> int:
        """Bytes for a training step."""
        return self.fixed + batch_size * self.per_image

    def largest_batch(self, available: int) -> int:
        """Images per step that fit into `available` bytes; 0 if none does."""
        return max((available - self.fixed) // max(self.per_image, 1), 0)


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _saved_bytes(network: torch.nn.Module, x: Tensor) -> int:
    """Bytes that automatic differentiation would keep for one pass; nothing is computed."""
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


def estimate(config: GeneratorConfig, shape: Sequence[int]) -> MemoryEstimate:
    """Estimate what training takes, on the meta device: nothing is allocated, whatever the size.

    The activations of one decoder pass, of the encoder and of the metric network are kept at once;
    with ``second_order`` those of all K + 1 decoder passes and of their own gradients.

    Parameters
    ----------
    config : GeneratorConfig
        The generator.
    shape : sequence of int
        Voxels of an image.
    """
    kind: type[GenerativeModel] = FAMILIES.get(config.model)
    with torch.device("meta"):
        networks = kind.networks(config, tuple(shape))
        n = n_parameters(networks)
        x, z = torch.empty(1, 1, *shape), torch.empty(1, config.n_latents, requires_grad=True)
        decoder = _saved_bytes(networks.decoder, z)
        encoder = _saved_bytes(networks.encoder, x)
        metric = _saved_bytes(networks.metric, x) if networks.metric is not None else 0
    passes = kind.decoder_passes(config)
    beside = kind.encoded_beside(config)  # parameters of the model, like weights
    n += beside * x.numel()
    image = FLOAT * x.numel()
    d = config.n_latents
    # Beside the activations: the image, and the largest temporaries of the likelihood and its
    # gradient.
    return MemoryEstimate(
        n_parameters=n,
        fixed=FLOAT * n * (ADAM_COPIES + 1) + int(WORKING_SHARE * beside * encoder),
        per_image=int(
            WORKING_SHARE * (encoder + metric + passes * (decoder + 2 * image) + 6 * image)
        ),
        disk=FLOAT * n * CHECKPOINT_COPIES,
        n_factor_entries=d * (d + 1) // 2 if kind.learns_metric else 0,
    )


def _advice(
    config: GeneratorConfig, needed: MemoryEstimate, batch_size: int, available: int
) -> str:
    fits = needed.largest_batch(available)
    if fits >= batch_size:
        return "close other programs"
    if fits >= 2:
        return f"a batch of {fits} would fit (--batch-size {fits})"
    if needed.n_factor_entries > LARGEST_FACTOR:
        return (
            "lower --latent-dim: the metric has d (d + 1) / 2 = "
            f"{needed.n_factor_entries:,} entries per image"
        )
    advice: str = NETWORKS.get(config.network).when_short
    return advice


def check_memory(
    config: GeneratorConfig, needed: MemoryEstimate, batch_size: int, available: int, where: str
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
        f"training network {config.network} ({needed.n_parameters:,} parameters) with batch "
        f"{batch_size} needs about {human_bytes(needed.memory(batch_size))} (parameters and Adam "
        f"alone {human_bytes(FLOAT * ADAM_COPIES * needed.n_parameters)}), "
        f"{human_bytes(available)} of memory are free on {where}; "
        f"{_advice(config, needed, batch_size, available)}"
    )


def check_disk(needed: MemoryEstimate, folder: Path) -> None:
    """Refuse a disk on which the checkpoints would not fit.

    Raises
    ------
    ResourceError
        If they would not.
    """
    free = free_bytes(folder)
    if needed.disk > free:
        raise ResourceError(
            f"{folder}: checkpoints of {needed.n_parameters:,} parameters take up to "
            f"{human_bytes(needed.disk)}, {human_bytes(free)} are free on this disk; free some "
            "space or use another --out"
        )


def out_of_memory(
    error: BaseException,
    config: GeneratorConfig,
    needed: MemoryEstimate,
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
