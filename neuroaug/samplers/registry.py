"""Samplers by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from neuroaug.registries import SAMPLERS

if TYPE_CHECKING:
    from neuroaug.samplers.sampler import Sampler

__all__ = ["SAMPLERS", "register_sampler"]

Kind = TypeVar("Kind", bound="type[Sampler]")


def register_sampler(name: str) -> Callable[[Kind], Kind]:
    """Register a class of samplers under the name that users type."""

    def register(kind: Kind) -> Kind:
        kind.name = name
        SAMPLERS.add(name, kind)
        return kind

    return register
