"""The registries: names that a user may type, and the files that answer to them.

A family of generators, a network or a sampler is one file that registers itself by a decorator,
``@register_sampler("hmc")``. Names are read from the source without running it, so that help, a
configuration and an error message list every choice before torch is loaded; a file is imported when
its name is first used. A new file in a registry's package is found by that alone.
"""

from __future__ import annotations

import ast
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Generic, TypeVar

from neuroaug.errors import InputError

Entry = TypeVar("Entry")


class Registry(Generic[Entry]):
    """Names to entries, each registered by the file that defines it.

    Parameters
    ----------
    what : str
        What is registered, as an error message calls it.
    decorator : str
        Name of the function that registers an entry; its first argument is the name.
    *packages : str
        Packages whose modules are searched, without those of their subpackages.
    """

    def __init__(self, what: str, decorator: str, *packages: str) -> None:
        self.what, self.decorator, self.packages = what, decorator, packages
        self._entries: dict[str, Entry] = {}

    @cached_property
    def modules(self) -> dict[str, str]:
        """The module behind every name, found without importing any."""
        found: dict[str, str] = {}
        for package in self.packages:
            spec = find_spec(package)
            folders = spec.submodule_search_locations if spec is not None else None
            for folder in folders or ():
                for path in sorted(Path(folder).glob("*.py")):
                    for name in self._registered(path):
                        found[name] = f"{package}.{path.stem}"
        return found

    def _registered(self, path: Path) -> list[str]:
        text = path.read_text(encoding="utf-8")
        if f"@{self.decorator}(" not in text:
            return []
        return [
            str(call.args[0].value)
            for node in ast.parse(text).body
            for call in getattr(node, "decorator_list", ())
            if isinstance(call, ast.Call)
            and isinstance(call.func, ast.Name)
            and call.func.id == self.decorator
            and call.args
            and isinstance(call.args[0], ast.Constant)
        ]

    @property
    def names(self) -> tuple[str, ...]:
        """Every name, in alphabetical order."""
        return tuple(sorted(self.modules))

    def require(self, name: str) -> str:
        """Give `name` back if it is registered.

        Raises
        ------
        InputError
            Naming every choice.
        """
        if name not in self.modules:
            raise InputError(f"{self.what} {name}: unknown; choose one of {', '.join(self.names)}")
        return name

    def add(self, name: str, entry: Entry) -> None:
        """Register `entry`; called by the decorator.

        Raises
        ------
        ValueError
            If another file has registered the name.
        """
        known = self._entries.get(name)
        if known is not None and known is not entry:
            raise ValueError(f"{self.what} {name}: registered twice")
        self._entries[name] = entry

    def get(self, name: str) -> Entry:
        """Give the entry of a name, importing its file.

        Raises
        ------
        InputError
            If there is no such name; every choice is named.
        """
        self.require(name)
        if name not in self._entries:
            import_module(self.modules[name])
        return self._entries[name]


FAMILIES: Registry[Any] = Registry("generator", "register_family", "neuroaug.models")
"""Families of models: subclasses of `neuroaug.models.generative_model.GenerativeModel`."""

NETWORKS: Registry[Any] = Registry("network", "register_network", "neuroaug.models.networks")
"""Networks of a generator: `neuroaug.models.networks.registry.NetworkFamily`."""

SAMPLERS: Registry[Any] = Registry(
    "sampler", "register_sampler", "neuroaug.samplers", "neuroaug.models"
)
"""Samplers of latent codes: subclasses of `neuroaug.samplers.sampler.Sampler`; a family's file may
hold one of its own."""
