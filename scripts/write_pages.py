"""Write the parts of the pages that the source decides: what is registered, and the layers.

    python scripts/write_pages.py

A test fails where a page is not as this writes it. Nothing of the package is run but its
registries: names and first lines of docstrings are read from the source.
"""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path
from typing import Any

from neuroaug.registries import FAMILIES, NETWORKS, SAMPLERS, Registry

ROOT = Path(__file__).parents[1]
REGISTERED, ARCHITECTURE = Path("docs/generators-and-samplers.md"), Path("docs/architecture.md")


def first_line(registry: Registry[Any], name: str) -> str:
    """First line of the docstring of what is registered under a name."""
    source = ROOT / Path(*registry.modules[name].split(".")).with_suffix(".py")
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        for call in getattr(node, "decorator_list", ()):
            if (
                isinstance(call, ast.Call)
                and getattr(call.func, "id", None) == registry.decorator
                and getattr(call.args[0], "value", None) == name
            ):
                return (ast.get_docstring(node) or "").partition("\n")[0]
    raise ValueError(f"{source}: nothing registers {name}")


def listed(registry: Registry[Any]) -> str:
    """One line per name: the file that answers to it, and what it is.

    What a family brings beside itself is told in the family's line.
    """
    rows = ["| name | file | what it is |", "|---|---|---|"]
    for name in registry.names:
        if registry is not FAMILIES and registry.modules[name] in FAMILIES.modules.values():
            continue
        file = "/".join(registry.modules[name].split(".")) + ".py"
        rows.append(f"| `{name}` | `{file}` | {first_line(registry, name)} |")
    return "\n".join(rows)


def layers() -> str:
    """The layers that import-linter checks, from the top."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    (found,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    # ":" and "|" stand between packages of one layer that may, and may not, import each other.
    lines = [re.sub(r" [:|] ", ", ", layer.replace("neuroaug.", "")) for layer in found]
    return "\n".join(["```", *lines, "```"])


def filled(page: str, part: str, content: str) -> str:
    """Put new content between ``<!-- part -->`` and ``<!-- end of part -->``.

    Raises
    ------
    ValueError
        If the page has no such part.
    """
    pattern = rf"(<!-- {part} -->\n).*?(<!-- end of {part} -->)"
    new, n = re.subn(pattern, lambda m: f"{m[1]}{content}\n{m[2]}", page, flags=re.DOTALL)
    if n != 1:
        raise ValueError(f"the page has {n} parts called {part}")
    return new


def pages() -> dict[Path, str]:
    """Every page with a part of this kind, as it should be."""
    registered = (ROOT / REGISTERED).read_text(encoding="utf-8")
    for part, registry in (("families", FAMILIES), ("networks", NETWORKS), ("samplers", SAMPLERS)):
        registered = filled(registered, part, listed(registry))
    architecture = (ROOT / ARCHITECTURE).read_text(encoding="utf-8")
    return {REGISTERED: registered, ARCHITECTURE: filled(architecture, "layers", layers())}


def main() -> None:
    """Write the pages."""
    for path, content in pages().items():
        (ROOT / path).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
