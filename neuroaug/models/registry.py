"""Families of generative models by name: one file registers a name, a class and its settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from neuroaug.registries import FAMILIES

if TYPE_CHECKING:
    from neuroaug.config import FamilySettings
    from neuroaug.models.generative_model import GenerativeModel

__all__ = ["FAMILIES", "register_family"]

Family = TypeVar("Family", bound="type[GenerativeModel]")


def register_family(name: str, *, settings: type[FamilySettings]) -> Callable[[Family], Family]:
    """Register a class of models under the name that users type.

    Parameters
    ----------
    name : str
        As in ``--model`` and ``generator.model``.
    settings : type
        Every setting of the family, a subclass of `neuroaug.config.FamilySettings`.
    """

    def register(family: Family) -> Family:
        family.name, family.Settings = name, settings
        FAMILIES.add(name, family)
        return family

    return register
