"""Remake the packaged template from the wheel of afids-cnn 0.2.1 and nilearn's packaged brain.

    python -m pip download afids-cnn==0.2.1 --no-deps --dest wheels
    python scripts/make_template.py wheels/afids_cnn-0.2.1-py3-none-any.whl neuroaug/imaging/data

The template is the mean of MNI152NLin2009cAsym (full head) and its left-right mirror. Only the left
half and the midline are stored, as 8-bit integers; `neuroaug.imaging.template` unfolds them.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from neuroaug.imaging.grid import UNCROPPED
from neuroaug.imaging.nifti import write_volume

MEMBER = "afids_cnn/resources/tpl-MNI152NLin2009cAsym_res-01_T1w.nii.gz"
BRAIN = "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
WHEEL_SHA256 = "55434c4203e3950fd3f2069806c17b3e60a36bffdcc3753212858282124cc12d"
MIDLINE = 96  # index of x = 0 on the template's grid


def read_wheel(wheel: Path) -> np.ndarray:
    """Read the asymmetric template, on Clinica's grid."""
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != WHEEL_SHA256:
        raise SystemExit(f"{wheel}: sha256 {found}, expected {WHEEL_SHA256}")
    with zipfile.ZipFile(wheel) as archive:
        image = nib.Nifti1Image.from_bytes(gzip.decompress(archive.read(MEMBER)))
    if not UNCROPPED.matches(image.shape, image.affine):
        raise SystemExit(f"{MEMBER}: not on the expected grid")
    return np.asarray(image.dataobj, dtype=np.float64)


def brain_mask() -> np.ndarray:
    """Lay nilearn's MNI152 2009a brain on the template's grid: symmetric, one filled component."""
    import nilearn

    image = nib.Nifti1Image.from_filename(Path(nilearn.__path__[0]) / BRAIN)
    data = np.asarray(image.dataobj, dtype=np.float32)
    # Both grids are 1 mm and aligned with the axes: the step between them is a whole number of
    # voxels.
    offset = np.asarray(UNCROPPED.affine[:3, 3] - image.affine[:3, 3])
    sampled = ndimage.affine_transform(data, np.eye(3), offset, UNCROPPED.shape, order=1)
    mask = sampled > 0.2 * data.max()
    mask = (mask.astype(int) + mask[::-1]) >= 1
    return ndimage.binary_fill_holes(largest_component(mask))


def head_mask(template: np.ndarray) -> np.ndarray:
    """Find the head: above a tenth of the bright level, closed, filled slice by slice."""
    mask = ndimage.gaussian_filter(template, 1) > 0.1 * np.percentile(template, 99)
    mask = largest_component(ndimage.binary_closing(mask, iterations=3))
    for axis in range(3):
        planes = np.moveaxis(mask, axis, 0)
        for plane in planes:
            plane[:] = ndimage.binary_fill_holes(plane)
    return mask


def largest_component(mask: np.ndarray) -> np.ndarray:
    """Keep the largest connected part."""
    parts, _ = ndimage.label(mask)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return parts == sizes.argmax()


def main() -> None:
    """Write the two files and print their checksums."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("wheel", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    template = read_wheel(options.wheel)
    template = (template + template[::-1]) / 2
    head, brain = head_mask(template), brain_mask()
    regions = (head | brain).astype(np.float32) + brain
    for name, volume in (
        ("template_T1w.nii.gz", template / template.max()),
        ("template_regions.nii.gz", regions / 255),
    ):
        path = options.out / name
        write_volume(path, volume[: MIDLINE + 1], UNCROPPED.affine, "uint8", level=9)
        print(hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size, path)
    print(
        f"head {head.mean():.3f}, brain {brain.mean():.3f} of the grid; "
        f"{int(brain.sum()) / 1e6:.2f} litres of brain"
    )


if __name__ == "__main__":
    main()
