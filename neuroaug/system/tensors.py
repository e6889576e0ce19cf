"""Tensors on disk: safetensors, written whole or not at all, and never pickle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from neuroaug.system.files import atomic_path, reading, sha256_file


def save_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None
) -> str:
    """Write tensors as safetensors, atomically.

    Parameters
    ----------
    path : Path
        File to write.
    tensors : mapping of str to Tensor
        Tensors by name, on any device.
    metadata : dict of str to str, optional
        Text that is stored with them.

    Returns
    -------
    str
        Hex sha256 of the file.
    """
    stored = {name: t.detach().to("cpu", copy=True).contiguous() for name, t in tensors.items()}
    with atomic_path(path) as temporary:
        save_file(stored, temporary, metadata=metadata)
        return sha256_file(temporary)


def load_tensors(path: Path, advice: str) -> dict[str, Tensor]:
    """Read safetensors.

    Parameters
    ----------
    path : Path
        File to read.
    advice : str
        What the user should do where the file is absent or broken.

    Returns
    -------
    dict of str to Tensor
        Tensors by name, on the CPU.

    Raises
    ------
    InputError
        If the file is absent, truncated or not safetensors.
    """
    with reading(path, "safetensors", advice, (SafetensorError,)):
        return load_file(path)
