"""Phantoms that enter a study after preprocessing: images made on the cropped 4 mm grid, as a CAPS.

A registered phantom costs a second; its way through N4 and ANTs costs twenty. So a cohort large
enough to be tested on shows preprocessing on a few visits and makes the others here. Each sidecar
says which kind its image is.
"""

from __future__ import annotations

from pathlib import Path

from threadpoolctl import threadpool_limits

from neuroaug.imaging import caps as caps_names
from neuroaug.imaging.bids import Visit
from neuroaug.imaging.grid import GRIDS
from neuroaug.imaging.nifti import write_volume
from neuroaug.phantom import scanner
from neuroaug.phantom.phantom_tables import Person
from neuroaug.system.files import remove_leftovers, sha256_file, write_json

RESOLUTION = "4mm"
PIPELINE = "phantom made on the grid, not preprocessed"


def image_path(caps: Path, visit: Visit) -> Path:
    """Path of a visit's image on the cropped 4 mm grid."""
    return caps_names.t1_linear_image(caps, visit, RESOLUTION)


def write_registered(caps: Path, visit: Visit, person: Person, seed: int) -> None:
    """Write the image of a phantom and its sidecar, which comes last: with it both are complete.

    Parameters
    ----------
    caps : Path
        A CAPS, with its description.
    visit : Visit
        Participant and session that the image stands for.
    person : Person
        The phantom.
    seed : int
        Seed of the cohort.
    """
    path = image_path(caps, visit)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent)
    with threadpool_limits(1):
        made = scanner.registered(person, seed)
    write_volume(path, made.image, GRIDS[RESOLUTION].affine)
    write_json(
        sidecar_path(caps, visit),
        {
            "pipeline": PIPELINE,
            "Description": "phantom, not a patient; made directly on the cropped 4 mm grid: "
            "no raw scan, no N4, no registration; aligned by the affine map nearest to its own "
            "displacement",
            "SeriesDescription": "phantom T1w, not a patient",
            "InstitutionName": f"phantom site {person.site}",
            "files": {path.name: sha256_file(path)},
            "PhantomTruth": made.truth,
        },
    )


def sidecar_path(caps: Path, visit: Visit) -> Path:
    """Path of the JSON beside the image."""
    image = image_path(caps, visit)
    return image.with_name(image.name.removesuffix(".nii.gz") + ".json")
