"""Seconds, memory and accuracy of one scan through t1-linear, per profile.

Each profile runs in a process of its own, on one ANTs thread, as in a cohort. The scan is the
template's head under another contrast, with a bias field and noise, in another pose.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from neuroaug.bench.benchmark import in_process, row, temporary_folder

# Throughput on two idle cores with two visits at a time: a visit may take twice as long on its one
# thread.
BUDGET_S = {"default": 2 * 65.0, "fast": 2 * 40.0, "exact": 2 * 115.0}
ACCURACY_MM = {"default": 0.1, "fast": 0.3}


def run(full: bool = False) -> list[dict[str, Any]]:
    """Time the fast profile on a scan of 3 mm.

    Parameters
    ----------
    full : bool
        Whether to take every profile on a scan of 1 mm too, and compare with `exact`.

    Returns
    -------
    list of dict
        Rows of `neuroaug.bench.benchmark.row`.
    """
    rows: list[dict[str, Any]] = []
    with temporary_folder() as folder:
        cases = [(3.0, ("fast",)), (1.0, ("exact", "default", "fast"))]
        for voxel_mm, profiles in cases if full else cases[:1]:
            scan = folder / f"scan-{voxel_mm:g}mm.nii.gz"
            make_scan(scan, voxel_mm)
            exact = None
            for profile in profiles:
                caps = folder / f"{profile}-{voxel_mm:g}"
                found = in_process(
                    "neuroaug.bench.preprocessing_speed", profile, str(scan), str(caps)
                )
                exact = found if profile == "exact" else exact
                rows += _rows(profile, voxel_mm, found, exact)
    return rows


def _rows(
    profile: str, voxel_mm: float, found: dict[str, Any], exact: dict[str, Any] | None
) -> list[dict[str, Any]]:
    what = f"{profile}, scan of {voxel_mm:g} mm"
    budget = BUDGET_S[profile]
    note = (
        f"one thread, {found['cpu_seconds']:.0f} s of processor time; reference: the budget of a "
        "visit"
    )
    seconds = found["seconds"]
    rows = [
        row(f"visit, {what}", seconds, "s", note, reference=budget, ratio=seconds / budget),
        row(f"peak memory, {what}", found["peak_gb"], "GB", reference=2.5),
    ]
    if exact is not None and profile != "exact":
        moved = mean_displacement(np.array(found["matrix"]), np.array(exact["matrix"]))
        name = f"mean displacement from exact, {what}"
        rows.append(row(name, moved, "mm", "over the brain", reference=ACCURACY_MM[profile]))
    return rows


def mean_displacement(first: np.ndarray, second: np.ndarray) -> float:
    """Mean distance in mm over the template's brain of two transforms (4x4, world to world)."""
    from neuroaug.imaging.grid import UNCROPPED
    from neuroaug.imaging.template import load_regions

    index = np.argwhere(load_regions()[1])[::50]
    world = index @ UNCROPPED.affine[:3, :3].T + UNCROPPED.affine[:3, 3]
    points = np.c_[world, np.ones(len(index))]
    return float(np.linalg.norm((points @ (first - second).T)[:, :3], axis=1).mean())


def make_scan(path: Path, voxel_mm: float) -> None:
    """Write a scan of the template's head in another pose and contrast."""
    from scipy.spatial.transform import Rotation

    from neuroaug.imaging.grid import UNCROPPED, Grid
    from neuroaug.imaging.nifti import write_volume
    from neuroaug.imaging.template import load_template
    from neuroaug.preprocessing.steps.registration import warp

    shape = tuple(int(n / voxel_mm) for n in (190, 226, 216))
    affine = np.diag([voxel_mm, voxel_mm, voxel_mm, 1.0])
    affine[:3, 3] = (-95, -130, -100)
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("xyz", (8, -5, 10), degrees=True).as_matrix()
    pose[:3, 3] = (9, -7, 6)
    data = warp(load_template().data, UNCROPPED.affine, pose, Grid(shape, affine))  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    x = np.linspace(-1, 1, shape[0])[:, None, None]
    noise = rng.normal(0, 4, (2, *shape))
    data = np.hypot((data / 255) ** 1.2 * 255 * np.exp(0.3 * x) + noise[0], noise[1])
    write_volume(path, data.astype(np.float32), affine, "int16", space="scanner")


def main(profile: str, scan: str, caps: str) -> None:
    """Take one scan through t1-linear and print what it took, as JSON."""
    from neuroaug.config import PreprocessingConfig
    from neuroaug.imaging.bids import Visit
    from neuroaug.imaging.caps import t1_linear_affine, write_dataset_description
    from neuroaug.preprocessing.steps.itk import read_affine
    from neuroaug.preprocessing.steps.t1_linear import process_visit

    start, cpu = time.perf_counter(), time.process_time()
    visit = Visit("sub-01", "ses-M000")
    write_dataset_description(caps, name="benchmark")
    process_visit(scan, caps, visit, PreprocessingConfig(profile=profile))  # type: ignore[arg-type]
    took = {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - cpu,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "matrix": read_affine(t1_linear_affine(caps, visit)).tolist(),
    }
    print(json.dumps(took))


if __name__ == "__main__":
    main(*sys.argv[1:4])
