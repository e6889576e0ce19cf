"""Seconds, memory and displacement of the three profiles over heads in varied poses.

    python scripts/displacement.py HEADS_FOLDER OUT_FOLDER [--heads 01 02] [--at-a-time 2]

HEADS_FOLDER holds label maps head-NN.nii.gz. Of each, one scan in a pose of its own is made and
taken through t1-linear under each profile, in processes of one thread, so many at a time.
OUT_FOLDER receives one JSON per visit (a visit that has one is left as it is) and displacement.tsv:
the mean distance over the template's brain between a profile's transform and that of `exact`, and
what the visit cost.
"""

from __future__ import annotations

import argparse
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from head_scans import Pose, read_labels, scan

from neuroaug.bench.benchmark import in_process
from neuroaug.bench.preprocessing_speed import mean_displacement
from neuroaug.system.files import read_json, write_json, write_tsv

PROFILES = ("exact", "default", "fast")
# By number: rotations to 15 degrees, shifts, oblique slabs, three orders of axes, 0.9 to 1.2 mm,
# weak and strong coils.
POSES = {
    "01": Pose((8, -5, 10), (12, -7, 9)),
    "02": Pose((-6, 12, 5), (5, -10, 14), axes="LAS"),
    "03": Pose((15, 0, -8), (-20, 4, 0), voxel_mm=(1, 1, 1.2), axes="LAS"),
    "06": Pose((3, -14, 6), (0, 15, -25), axes="PSR", bias=0.4),
    "07": Pose((0, 0, 0), (2, 3, 4), tilt=(14, -6, 9), voxel_mm=(0.94, 0.94, 1.2)),
    "08": Pose((-12, 7, -10), (30, 0, 10), axes="LIA", bias=0.3, noise=7),
    "11": Pose((5, 9, 13), (-6, -6, 40), tilt=(-10, 0, 5), voxel_mm=(1.2, 1, 1), axes="PSR"),
    "12": Pose((-15, -3, 4), (8, 20, -8), voxel_mm=(0.9, 0.9, 0.9), noise=6),
}


def make_scan(labels: Path, number: str, path: Path) -> None:
    """Draw the scan of a head, as int16 with a scale factor, unless it is there."""
    from neuroaug.imaging.nifti import write_volume

    if not path.exists():
        data, affine, _ = scan(*read_labels(labels), POSES[number], seed=int(number))
        write_volume(path, data, affine, "int16", space="scanner")


def preprocess_visit(profile: str, scan_path: Path, found: Path) -> None:
    """Preprocess one scan in a process of its own; its figures go to `found`."""
    if found.exists():
        return
    caps = found.with_suffix("")
    shutil.rmtree(caps, ignore_errors=True)
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    start = time.monotonic()
    figures = in_process(
        "neuroaug.bench.preprocessing_speed",
        profile,
        str(scan_path),
        str(caps),
        environment=threads,
    )
    figures["process_seconds"] = round(time.monotonic() - start, 1)
    (sidecar,) = caps.glob("subjects/*/*/t1_linear/*_desc-Crop_res-1x1x1_T1w.json")
    content = read_json(sidecar)
    write_json(found, {**figures, "quality": content["quality"], "input": content["input"]})
    shutil.rmtree(caps)


def table(out: Path, heads: list[str]) -> pd.DataFrame:
    """One row per visit that is done."""
    rows: list[dict[str, Any]] = []
    for number in heads:
        known = {
            p: read_json(out / f"{number}-{p}.json")
            for p in PROFILES
            if (out / f"{number}-{p}.json").exists()
        }
        for profile, figures in known.items():
            moved = None
            if "exact" in known:
                moved = mean_displacement(
                    np.array(figures["matrix"]), np.array(known["exact"]["matrix"])
                )
            rows.append(
                {
                    "head": number,
                    "profile": profile,
                    "shape": "x".join(map(str, figures["input"]["shape"])),
                    "voxel_mm": "x".join(f"{size:g}" for size in figures["input"]["voxel_mm"]),
                    "orientation": figures["input"]["orientation"],
                    "seconds": round(figures["process_seconds"], 1),
                    "cpu_seconds": round(figures["cpu_seconds"], 1),
                    "peak_gb": round(figures["peak_gb"], 2),
                    "displacement_mm": None if moved is None else round(moved, 3),
                    "pass_probability": round(figures["quality"]["pass_probability"], 3),
                }
            )
    return pd.DataFrame(rows)


def main() -> None:
    """Preprocess the visits that are left, write the table and print the means."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("heads_folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--heads", nargs="+", default=sorted(POSES), choices=sorted(POSES))
    parser.add_argument("--profiles", nargs="+", default=list(PROFILES), choices=PROFILES)
    parser.add_argument("--at-a-time", type=int, default=2)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for number in options.heads:
        make_scan(
            options.heads_folder / f"head-{number}.nii.gz", number, options.out / f"{number}.nii.gz"
        )
    start = time.monotonic()
    with ThreadPoolExecutor(options.at_a_time) as pool:
        jobs = [
            pool.submit(
                preprocess_visit,
                profile,
                options.out / f"{number}.nii.gz",
                options.out / f"{number}-{profile}.json",
            )
            for number in options.heads
            for profile in options.profiles
        ]
        for job in jobs:
            job.result()
            write_tsv(options.out / "displacement.tsv", table(options.out, sorted(POSES)))
    found = table(options.out, options.heads)
    print(found.to_string(index=False))
    for profile, rows in found.groupby("profile"):
        seconds, moved = rows.seconds.mean(), rows.displacement_mm
        print(
            f"{profile}: {len(rows)} visits, {seconds / options.at_a_time:.1f} s per scan of "
            f"throughput ({seconds:.0f} s per visit, {rows.cpu_seconds.mean():.0f} s of CPU), "
            f"peak {rows.peak_gb.max()} GB, "
            f"displacement: mean {moved.mean():.3f}, worst {moved.max():.3f} mm"
        )
    print(f"wall {time.monotonic() - start:.0f} s now")


if __name__ == "__main__":
    main()
