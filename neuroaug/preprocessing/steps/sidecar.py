"""What a visit's sidecar says of the scan and of the parameters that it was made with."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroaug.config import PreprocessingConfig
from neuroaug.imaging.grid import CROP
from neuroaug.imaging.nifti import Volume
from neuroaug.preprocessing.steps import bias, registration
from neuroaug.system.files import sha256_file


def parameters(
    config: PreprocessingConfig,
    volume: Volume,
    start: NDArray[np.float64] | None,
    *,
    is_brain: bool = False,
) -> dict[str, Any]:
    """Every parameter of bias correction and registration, as they were used."""
    recipe = registration.recipe_of(config.profile, volume.voxel_mm)
    command = registration.arguments(
        recipe, "PREFIX", "TEMPLATE", "SCAN", None if start is None else "START"
    )
    return {
        "profile": config.profile,
        "n4": {
            "spline_distance_mm": config.n4_distance,
            "shrink_factor": bias.shrink_factor(config.profile, volume.voxel_mm),
            "iterations": bias.ITERATIONS,
            "mask": "voxels above zero" if is_brain else None,
        },
        "registration": {
            "arguments": " ".join(command),
            "precision": "double" if recipe.double else "single",
            "template_mm": recipe.template_mm,
            "transform": "affine",
            "start": "centres of mass" if start is None else np.round(start, 6).tolist(),
        },
        "interpolation": "linear",
        **({"aligned_to": "the template's brain"} if is_brain else {}),
        "crop": [[axis.start, axis.stop] for axis in CROP],
    }


def describe(scan: str | Path, volume: Volume, choice: str = "") -> dict[str, Any]:
    """The scan that was read; `choice` says by which rule it was taken among several."""
    import nibabel as nib

    found = {
        "sha256": sha256_file(scan),
        "shape": list(volume.data.shape),
        "voxel_mm": [round(size, 4) for size in volume.voxel_mm],
        "orientation": "".join(nib.aff2axcodes(volume.affine)),
        "notes": [re.sub(r"\s+", " ", note) for note in volume.notes],
    }
    return {**found, "choice": choice} if choice else found
