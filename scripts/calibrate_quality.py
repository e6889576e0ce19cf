"""Calibrate the registration score on deliberately wrong poses of real heads.

    python scripts/calibrate_quality.py measure head-01.nii.gz out/head-01.json --seed 1
    python scripts/calibrate_quality.py measure scan.nii.gz out/scan.json --scan
    python scripts/calibrate_quality.py fit out/head-0[1-6].json --test out/head-0[7-9].json

A head is a label map (FreeSurfer's numbers, 5xx for skull and soft tissue), from which a T1w-like
image is drawn with random contrast, bias field and noise; or, with --scan, a real scan. It is
registered once, which the labels check, and then measured in good and in wrong poses. `fit` prints
the constants of `neuroaug.preprocessing.steps.quality` and what they catch on heads that were not
used.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from head_scans import SOFT_TISSUE, T1W, read_labels
from scipy import ndimage
from scipy.spatial.transform import Rotation

from neuroaug.imaging.grid import GRIDS, UNCROPPED, block_mean, crop
from neuroaug.imaging.nifti import read_volume
from neuroaug.imaging.template import load_regions, load_template
from neuroaug.preprocessing.steps import quality
from neuroaug.preprocessing.steps.registration import RECIPES, align, warp

LIMIT_MM, LIMIT_DEG = 10.0, 10.0


@dataclass
class Head:
    """A head at 2 mm, and its registration.

    Attributes
    ----------
    name : str
        Stem of the file.
    data : array (X, Y, Z)
        Intensities.
    affine : array (4, 4)
        Voxel indices to world.
    template_to_scan : array (4, 4)
        Registration, world to world.
    brain_dice : float
        Overlap of the labelled brain with the template's; NaN for a real scan.
    """

    name: str
    data: np.ndarray
    affine: np.ndarray
    template_to_scan: np.ndarray
    brain_dice: float


def draw(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a T1w-like head at 2 mm from labels at 1 mm: contrast, texture, bias field, noise."""
    table = np.zeros(labels.max() + 1, np.float32)
    gamma = rng.uniform(0.7, 1.4)
    for label in np.unique(labels[labels > 0]):
        level = T1W.get(int(label), 60) / 110
        table[label] = 110 * level**gamma * (1 + 0.08 * rng.normal())
    image = block_mean(table[labels])
    texture = ndimage.gaussian_filter(rng.normal(size=image.shape), 2)
    soft = block_mean((labels == SOFT_TISSUE).astype(np.float32)) > 0.5
    image[soft] *= 1 + 0.3 * texture[soft] / texture.std()
    x, y, z = (
        np.linspace(-1, 1, n).reshape(np.roll([n, 1, 1], axis))
        for axis, n in enumerate(image.shape)
    )
    linear = rng.normal(0, 0.15, 6)
    field = linear[0] * x + linear[1] * y + linear[2] * z
    field = field + linear[3] * x * x + linear[4] * y * y + linear[5] * z * z
    image *= np.exp(field)
    noise = rng.normal(0, rng.uniform(1, 6), (2, *image.shape))
    return np.hypot(image + noise[0], noise[1]).astype(np.float32)


def register(data: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Lay a head on the template as the fast profile does with scans of 2 mm.

    The score is calibrated on good registrations: a start at 4 mm may leave a head 6 degrees off,
    which the score is right to refuse.
    """
    RECIPES["fast"] = RECIPES["fast, coarse scan"]
    return align(data, affine, load_template(), profile="fast").template_to_scan


def head_from_labels(path: Path, rng: np.random.Generator) -> Head:
    """Draw a head, register it, and measure how its labelled brain overlaps the template's."""
    labels, fine = read_labels(path)
    affine = fine @ np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = fine[:3, 3] + fine[:3, :3] @ np.full(3, 0.5)
    data = draw(labels, rng)
    found = register(data, affine)
    brain = block_mean(
        ((labels > 0) & (labels < 500) & (labels != 24) & (labels != 16)).astype(np.float32)
    )
    warped = warp(brain, affine, found) > 0.5
    expected = load_regions()[1]
    dice = 2 * (warped & expected).sum() / (warped.sum() + expected.sum())
    return Head(path.name.split(".")[0], data, affine, found, float(dice))


def head_from_scan(path: Path) -> Head:
    """Read a real scan and register it."""
    volume = read_volume(path)
    found = register(volume.data, volume.affine)
    return Head(path.name.split(".")[0], volume.data, volume.affine, found, float("nan"))


@lru_cache(maxsize=1)
def brain_centre() -> np.ndarray:
    """World coordinates of the centre of the template's brain."""
    return (
        UNCROPPED.affine[:3, :3] @ np.argwhere(load_regions()[1]).mean(axis=0)
        + UNCROPPED.affine[:3, 3]
    )


def about_centre(rotation: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Motion (4, 4) of the world: `rotation` (3, 3) about the brain's centre, `shift` in mm."""
    centre = brain_centre()
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    matrix[:3, 3] = centre + shift - rotation @ centre
    return matrix


def error_of(motion: np.ndarray) -> tuple[float, float]:
    """Shift of the brain's centre in mm and rotation in degrees; a reflection counts as 180."""
    centre = brain_centre()
    shift = float(np.linalg.norm(motion[:3, :3] @ centre + motion[:3, 3] - centre))
    u, _, vt = np.linalg.svd(motion[:3, :3])
    if np.linalg.det(u @ vt) < 0:
        return shift, 180.0
    return shift, float(np.degrees(Rotation.from_matrix(u @ vt).magnitude()))


def good_motion(rng: np.random.Generator) -> np.ndarray:
    """A residual of at most 2 mm and 2 degrees, 2 % of scale."""
    axis = rng.normal(size=3)
    rotation = Rotation.from_rotvec(
        np.radians(rng.uniform(0, 2)) * axis / np.linalg.norm(axis)
    ).as_matrix()
    shift = rng.normal(size=3)
    return about_centre(
        rotation * rng.uniform(0.98, 1.02), rng.uniform(0, 2) * shift / np.linalg.norm(shift)
    )


def wrong_motion(rng: np.random.Generator) -> tuple[str, np.ndarray]:
    """Draw a residual beyond the limits: shift, rotation, both, an axis turned or reflected."""
    kind = rng.choice(
        ["shift", "rotation", "both", "turned", "reflected"], p=[0.3, 0.3, 0.2, 0.1, 0.1]
    )
    axis, direction = rng.normal(size=3), rng.normal(size=3)
    axis, direction = axis / np.linalg.norm(axis), direction / np.linalg.norm(direction)
    angle, distance = 0.0, 0.0
    if kind in ("shift", "both"):
        distance = LIMIT_MM + rng.exponential(10)
    if kind in ("rotation", "both"):
        angle = min(LIMIT_DEG + rng.exponential(15), 180)
    rotation = Rotation.from_rotvec(np.radians(angle) * axis).as_matrix() * rng.uniform(0.9, 1.1)
    if kind == "turned":
        rotation = Rotation.from_euler(
            rng.choice(["x", "y", "z"]), rng.choice([90, 180, 270]), degrees=True
        ).as_matrix()
        distance = rng.uniform(0, 10)
    if kind == "reflected":
        # Left and right look alike to a symmetric template: only the other two can be seen.
        rotation = np.diag([[1.0, -1.0, 1.0], [1.0, 1.0, -1.0]][rng.integers(2)])
        distance = rng.uniform(0, 10)
    return str(kind), about_centre(rotation, distance * direction)


def coarse(head: Head, motion: np.ndarray) -> np.ndarray:
    """The 4 mm image of a head registered with that residual."""
    return block_mean(warp(head.data, head.affine, head.template_to_scan @ motion, GRIDS["2mm"]))


def is_good(row: dict[str, object]) -> bool:
    """Whether the row is of a registration that should pass."""
    return str(row["kind"]).startswith("good")


def deface(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blank all but the brain in front of and below a random plane, as defacing tools do."""
    grid = GRIDS["4mm"].affine
    _, y, z = (grid[i, i] * axis + grid[i, 3] for i, axis in enumerate(np.indices(image.shape)))
    brain = block_mean(block_mean(crop(load_regions()[1]).astype(np.float32))) > 0.2
    kept = ndimage.binary_dilation(brain, iterations=int(rng.integers(1, 4)))
    slope, y_at_eyes = rng.uniform(0.8, 1.6), rng.uniform(55, 80)
    return np.where((z < 5 + slope * (y - y_at_eyes)) & ~kept, 0, image).astype(np.float32)


def poses(
    head: Head, rng: np.random.Generator, n_good: int, n_wrong: int
) -> list[dict[str, object]]:
    """Measure the figures at random residuals.

    Every fifth good one is defaced; every second wrong one is first led to its own local optimum.
    """
    rows: list[dict[str, object]] = []

    def add(kind: str, motion: np.ndarray) -> None:
        shift, angle = error_of(motion)
        image = coarse(head, motion)
        figures = quality.measure_coarse(deface(image, rng) if kind == "good, defaced" else image)
        rows.append(
            {"head": head.name, "kind": kind, "shift_mm": shift, "angle_deg": angle, **figures}
        )

    for i in range(n_good):
        add("good" if i % 5 else "good, defaced", good_motion(rng))
    while sum(not is_good(row) for row in rows) < n_wrong:
        kind, motion = wrong_motion(rng)
        if rng.random() < 0.5:
            parameters, _, _ = quality.refine(coarse(head, motion), rounds=12)
            motion = motion @ quality.motion_matrix(parameters)
            kind = f"{kind}, settled"
            if error_of(motion)[0] <= LIMIT_MM and error_of(motion)[1] <= LIMIT_DEG:
                continue
        add(kind, motion)
    return rows


def fit(rows: list[dict[str, object]]) -> dict[str, object]:
    """Set each criterion's limit half way from the worst good pose to the median wrong one.

    The worst good pose gets .98 from each factor. A fit by maximum likelihood drops the criteria
    that these poses do not need, and with them what protects against other mistakes; half way keeps
    all four.
    """
    x = np.array([quality.features(row) for row in rows])  # type: ignore[arg-type]
    good = np.array([is_good(row) for row in rows])
    worst = x[good].min(axis=0)
    limits = (worst + np.median(x[~good], axis=0)) / 2
    slopes = np.log(0.98 / 0.02) / (worst - limits)
    return {
        "LIMITS": tuple(np.round(limits, 4).tolist()),
        "SLOPES": tuple(np.round(slopes, 3).tolist()),
    }


def judge(rows: list[dict[str, object]], name: str) -> None:
    """Print how many wrong poses are caught and how many good ones are refused."""
    p = np.array([quality.probability(row) for row in rows])  # type: ignore[arg-type]
    good = np.array([is_good(row) for row in rows])
    caught, refused = (p[~good] < quality.THRESHOLD).sum(), (p[good] < quality.THRESHOLD).sum()
    print(
        f"{name}: {caught}/{(~good).sum()} wrong poses caught, "
        f"{refused}/{good.sum()} good ones refused"
    )
    print(
        f"  lowest good probabilities {np.sort(p[good])[:4].round(4)}; "
        f"highest wrong {np.sort(p[~good])[-4:].round(4)}"
    )
    for row, value in zip(rows, p, strict=True):
        if (value < quality.THRESHOLD) == is_good(row):
            print(
                "  mistaken:",
                {k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()},
                round(value, 3),
            )


def read_rows(paths: list[Path]) -> list[dict[str, object]]:
    """Join the rows of several files of `measure`."""
    return [row for path in paths for row in json.loads(path.read_text())]


def main() -> None:
    """Measure one head, or fit on some and test on others."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    measuring = commands.add_parser("measure")
    measuring.add_argument("head", type=Path)
    measuring.add_argument("out", type=Path)
    measuring.add_argument("--scan", action="store_true", help="a real scan, not labels")
    measuring.add_argument("--seed", type=int, default=0)
    measuring.add_argument(
        "--poses", type=int, nargs=2, default=[25, 50], help="good and wrong ones"
    )
    fitting = commands.add_parser("fit")
    fitting.add_argument("used", type=Path, nargs="+")
    fitting.add_argument("--test", type=Path, nargs="+", default=[])
    options = parser.parse_args()
    if options.command == "measure":
        rng = np.random.default_rng(options.seed)
        head = head_from_scan(options.head) if options.scan else head_from_labels(options.head, rng)
        rows = poses(head, rng, *options.poses)
        options.out.write_text(json.dumps(rows, indent=1))
        nmi = np.median([row["nmi"] for row in rows if is_good(row)])
        print(
            f"{head.name}: Dice of the labelled brain {head.brain_dice:.3f}, "
            f"median NMI of good poses {nmi:.4f}"
        )
        return
    used = read_rows(options.used)
    for name, value in fit(used).items():
        print(f"{name} = {value}")
        setattr(quality, name, value)
    judge(used, "used to fit")
    if options.test:
        judge(read_rows(options.test), "not used")


if __name__ == "__main__":
    main()
