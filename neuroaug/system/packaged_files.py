"""Files that travel with the package: the workflow, ready-made configurations, the template."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


def shipped(name: str) -> Path:
    """Path of ``pipelines`` or ``configs``: inside the wheel, or at the top of a checkout."""
    for folder in (_PACKAGE / "_shipped", _PACKAGE.parent):
        if (folder / name).exists():
            return folder / name
    raise FileNotFoundError(f"{name} is missing from this installation of neuroaug")


def packaged(*parts: str) -> Path:
    """Path of a data file inside the package."""
    path = _PACKAGE.joinpath(*parts)
    if not path.exists():
        raise FileNotFoundError(f"{'/'.join(parts)} is missing from this installation of neuroaug")
    return path
