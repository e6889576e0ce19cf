"""What made a file: versions of the software, never the user, the host or a path."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Any

from neuroaug import __version__

PACKAGES = (
    "torch",
    "monai",
    "clinicadl",
    "antspyx",
    "nibabel",
    "numpy",
    "scipy",
    "pandas",
    "scikit-learn",
    "snakemake",
)


def package_version(name: str) -> str | None:
    """Version of an installed package, without importing it; None if absent."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def versions(*names: str) -> dict[str, str]:
    """Versions of `names` (default: everything a result may depend on)."""
    found = {"neuroaug": __version__, "python": platform.python_version()}
    for name in names or PACKAGES:
        if (version := package_version(name)) is not None:
            found[name] = version
    return found


def generated_by() -> list[dict[str, Any]]:
    """The BIDS ``GeneratedBy`` field."""
    return [{"Name": "neuroaug", "Version": __version__}]
