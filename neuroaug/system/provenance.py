"""What made a file: versions of the software, never the user, the host or a path."""

from __future__ import annotations

import platform
from contextlib import suppress
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


def versions(*names: str) -> dict[str, str]:
    """Versions of the installed ones of `names` (default: everything a result may depend on)."""
    found = {"neuroaug": __version__, "python": platform.python_version()}
    for name in names or PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)  # without importing the package
    return found


def generated_by() -> list[dict[str, Any]]:
    """The BIDS ``GeneratedBy`` field."""
    return [{"Name": "neuroaug", "Version": __version__}]
