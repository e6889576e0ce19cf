"""How much memory a visit will take, and how much there is."""

from __future__ import annotations

from pathlib import Path

from neuroaug.system.memory import available_memory

# Peak of a worker in MB on a scan of about 1 mm; 1.9 GB at 0.9 mm was the most measured.
MEMORY_MB = {"exact": 2500.0, "default": 2200.0, "fast": 2000.0}
# Measured: 1490 MB at 10.5 million voxels, 3730 at 30.7, 9630 at 83.9 (docs/preprocessing.md); a
# line of 327 MB and 111 bytes a voxel, and a tenth more.
_BASE_MB, _MB_PER_VOXEL = 360.0, 122e-6


def expected_mb(profile: str, voxels: int) -> float:
    """Memory (MB) that a visit takes at most.

    Parameters
    ----------
    profile : str
        Of the preprocessing.
    voxels : int
        Of the raw scan; 0 where that is not known.
    """
    by_size = _BASE_MB + _MB_PER_VOXEL * voxels if voxels else 0.0
    return max(MEMORY_MB[profile], by_size)


def memory_for_all(profile: str, mem_mb: float | None) -> float:
    """Memory (MB) for all visits together: what was typed, or most of what is free here.

    Without a number typed, it is enough to try one visit of 1 mm in any case.
    """
    return max(0.9 * available_memory() / 1e6, MEMORY_MB[profile]) if mem_mb is None else mem_mb


def refuse_size(source: Path, voxels: int, profile: str, memory_mb: float) -> str:
    """Say why a large scan cannot be done in this memory (MB); empty where it can be tried."""
    need = expected_mb(profile, voxels)
    if need <= memory_mb or need == MEMORY_MB[profile]:
        return ""
    return (
        f"{source.name}: {voxels / 1e6:.0f} million voxels need about {need / 1e3:.1f} GB of "
        f"memory, there are {memory_mb / 1e3:.1f} GB; use a larger machine, or give "
        f"--mem-mb {need:.0f} to try all the same"
    )
