"""Generative models: the Riemannian Hamiltonian VAE, the plain VAE, and what they are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neuroaug.models.generative_model import load_model
    from neuroaug.models.rhvae import RHVAE
    from neuroaug.models.vae import VAE

__all__ = ["RHVAE", "VAE", "load_model"]

_HOMES = {"RHVAE": "rhvae", "VAE": "vae", "load_model": "generative_model"}


def __getattr__(name: str) -> Any:  # torch loads when a model is asked for, not before
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
