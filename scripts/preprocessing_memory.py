"""Peak memory of one visit at several voxel sizes, from one real head resampled.

python scripts/preprocessing_memory.py HEAD.nii.gz --mm 0.7 --profile default
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from scipy import ndimage

from neuroaug.config import PreprocessingConfig
from neuroaug.imaging.bids import Visit
from neuroaug.imaging.caps import write_dataset_description
from neuroaug.imaging.nifti import read_volume, write_volume
from neuroaug.preprocessing.steps.itk import single_thread
from neuroaug.preprocessing.steps.t1_linear import process_visit


def main() -> None:
    """Resample, preprocess, and print what the process took at most."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("head", type=Path)
    parser.add_argument("--mm", type=float, required=True)
    parser.add_argument("--profile", default="default")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if not (pid := os.fork()):  # so that resampling does not count
            volume = read_volume(arguments.head)
            factors = np.asarray(volume.voxel_mm) / arguments.mm
            data = ndimage.zoom(volume.data, factors, order=1)
            affine = volume.affine.copy()
            affine[:3, :3] /= factors
            write_volume(folder / "head.nii", data, affine, "int16", space="scanner")
            os._exit(0)
        os.waitpid(pid, 0)
        single_thread()
        write_dataset_description(folder / "caps", name="memory")
        visit = Visit("sub-01", "ses-M000")
        config = PreprocessingConfig(profile=arguments.profile)
        result = process_visit(folder / "head.nii", folder / "caps", visit, config)
        shape = read_volume(folder / "head.nii").data.shape
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(
        json.dumps(
            {
                "mm": arguments.mm,
                "profile": arguments.profile,
                "million_voxels": round(float(np.prod(shape)) / 1e6, 1),
                "peak_mb": round(peak),
                "seconds": round(result.seconds),
            }
        )
    )


if __name__ == "__main__":
    main()
