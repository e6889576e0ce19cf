"""A copy that was saved again is found, and two people are not taken for one."""

import numpy as np
import pandas as pd
import pytest

from neuroaug.audit.cell_proof import check_cell
from neuroaug.audit.near_copies import image_fingerprint, near_copies
from neuroaug.errors import LeakageError

SHAPE = (21, 26, 22)
PEOPLE = [(f"sub-{i}", "ses-M000") for i in range(12)]
OWN, TESTED = PEOPLE[:8], PEOPLE[8:]


def heads(alike=0.9):
    """Images of twelve people, whose voxels correlate by `alike`."""
    rng = np.random.default_rng(0)
    common = rng.standard_normal(SHAPE)
    return {
        p: 300 + 80 * (alike**0.5 * common + (1 - alike) ** 0.5 * rng.standard_normal(SHAPE))
        for p in PEOPLE
    }


def in_bits(image, levels):
    low, high = image.min(), image.max()
    return np.rint((image - low) / (high - low) * levels)


COPIES = {
    "8 bits": lambda image: in_bits(image, 255),
    "16 bits": lambda image: in_bits(image, 65535),
    "other units": lambda image: 2.5 * image + 7,
    "mirrored": lambda image: image[::-1],
    "mirrored, 8 bits": lambda image: in_bits(image[::-1], 255),
    "a little noise": lambda image: image + np.random.default_rng(1).normal(0, 1, SHAPE),
    "one voxel far too bright": lambda image: np.where(image == image.max(), 40 * image, image),
}


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_saved_again_is_found_and_nobody_else(how):
    images = heads()
    images[OWN[3]] = COPIES[how](images[TESTED[1]])
    assert near_copies(
        OWN, TESTED, {p: image_fingerprint(image) for p, image in images.items()}
    ) == [(OWN[3], TESTED[1])]


@pytest.mark.parametrize("alike", [0, 0.9, 0.97, 0.995, 0.9999])
def test_people_are_not_copies_however_alike_a_cohort_is(alike):
    assert (
        near_copies(OWN, TESTED, {p: image_fingerprint(image) for p, image in heads(alike).items()})
        == []
    )


def test_images_that_differ_by_their_label_alone_and_a_little_noise_are_not_copies():
    rng = np.random.default_rng(2)
    fingerprints = {}
    for i, person in enumerate(PEOPLE):
        image = rng.normal(0, 0.001, SHAPE)
        image[4:12, 4:12, 4:12] += 1 + i % 2
        fingerprints[person] = image_fingerprint(image)
    assert near_copies(OWN, TESTED, fingerprints) == []


def test_images_without_contrast_or_with_few_voxels_are_nobodys_copies():
    flat = dict.fromkeys(PEOPLE, image_fingerprint(np.ones(SHAPE)))
    assert near_copies(OWN, TESTED, flat) == []
    rng = np.random.default_rng(3)
    small = {p: image_fingerprint(rng.random((4, 5, 6))) for p in PEOPLE}
    assert near_copies(OWN, TESTED, small) == []
    assert (
        near_copies(OWN, TESTED, {**small, TESTED[0]: image_fingerprint(rng.random(SHAPE))}) == []
    )


def test_a_cell_with_a_copy_in_other_bits_is_refused_by_name():
    images = heads()
    images[OWN[3]] = in_bits(images[TESTED[1]], 255)

    def table(visits):
        return pd.DataFrame(visits, columns=["participant_id", "session_id"]).assign(diagnosis="AD")

    given = {
        "cell_train": table(OWN),
        "forbidden": {"test": table(TESTED)},
        "generators": [],
        "split_hash": "a" * 64,
        "image_sha256": {p: f"image of {p[0]}" for p in PEOPLE},
    }
    assert set(check_cell(**given)["result"]) == {"passed"}
    with pytest.raises(
        LeakageError, match=r"training set: sub-3 is nearly the image of sub-9 .*, who is in test"
    ):
        check_cell(
            **given, fingerprints={p: image_fingerprint(image) for p, image in images.items()}
        )
