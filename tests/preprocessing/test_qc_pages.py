"""The quality pages: pictures that show where the head is, in one file that loads nothing else."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image
from visits import decide

from neuroaug.errors import InputError
from neuroaug.imaging import caps as caps_names
from neuroaug.imaging.bids import Visit
from neuroaug.imaging.grid import GRIDS, crop
from neuroaug.imaging.nifti import write_volume
from neuroaug.imaging.template import load_template
from neuroaug.preprocessing import records
from neuroaug.preprocessing.records import Record
from neuroaug.preprocessing.steps import qc_pages


@pytest.fixture(scope="module")
def head():
    """The template itself, cropped."""
    return crop(load_template().data).astype(np.float32)


def picture(content):
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


def test_three_planes_with_contours_side_by_side(head):
    shown = picture(qc_pages.draw(head))
    x, y, _ = GRIDS["1mm"].shape
    assert shown.shape == (y, y + x + x + 6, 3)
    yellow = (shown[..., 0] > 180) & (shown[..., 1] > 140) & (shown[..., 2] < 90)
    blue = (shown[..., 2] > 180) & (shown[..., 0] < 90)
    for panel in (slice(0, y), slice(y + 2, y + 2 + x), slice(y + x + 4, None)):
        assert yellow[:, panel].sum() > 10
        assert blue[:, panel].sum() > 20


def test_superior_is_up_and_anterior_is_right_in_the_sagittal_slice():
    image = np.zeros(GRIDS["1mm"].shape, np.float32)
    image[:, 180:, 150:] = 100.0  # anterior, superior
    shown = picture(qc_pages.draw(image)).mean(axis=2)
    z, y = GRIDS["1mm"].shape[2], GRIDS["1mm"].shape[1]
    assert shown[5:25, y - 25 : y - 5].mean() > 200
    assert shown[z - 25 : z - 5, 5:25].mean() < 60


def test_equal_images_give_equal_bytes(head):
    assert qc_pages.draw(head) == qc_pages.draw(head.copy())
    assert qc_pages.draw(head) != qc_pages.draw(np.roll(head, 9, axis=2))


def test_another_grid_is_refused():
    with pytest.raises(InputError, match="cropped grid"):
        qc_pages.draw(np.zeros((10, 10, 10)))


@pytest.fixture
def caps(tmp_path, head):
    """Three visits: a sure pass, a failure, and one whose picture was lost."""
    root = tmp_path / "caps"
    caps_names.write_dataset_description(root, name="a phantom & cohort")
    for name, probability in (("sure", 0.99), ("wrong", 0.01), ("lost", 0.7)):
        visit = Visit(f"sub-{name}", "ses-M000")
        path = caps_names.t1_linear_image(root, visit)
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x")
        quality = {"pass_probability": probability, "pass": probability > 0.5}
        records.write_record(root, visit, Record("ok", quality=quality))
        drawn = qc_pages.picture_path(root, visit)
        drawn.parent.mkdir(parents=True, exist_ok=True)
        drawn.write_bytes(qc_pages.draw(head))
    lost = Visit("sub-lost", "ses-M000")
    qc_pages.picture_path(root, lost).unlink()
    write_volume(caps_names.t1_linear_image(root, lost), head, GRIDS["1mm"].affine, level=1)
    return root


def test_one_file_holds_every_visit_the_least_certain_first(caps):
    page = qc_pages.write_pages(caps).read_text()
    assert re.findall(r'id="sub-(\w+)_ses-M000"', page) == ["wrong", "lost", "sure"]
    pictures = re.findall(r"base64,([^\"]+)", page)
    assert all(picture(base64.b64decode(content)).shape[0] == 208 for content in pictures)
    assert len(pictures) == 3
    assert not re.search(r"""(src|href)=["']?(?!["']?data:)""", page)
    assert "3 visits, 1 did not pass" in page
    assert "a phantom &amp; cohort" in page
    assert "phantom: these heads are made" in page
    assert len(page) < 3 * 40_000


def test_a_decision_is_shown_beside_the_verdict_it_overrules(caps):
    decide(caps, Visit("sub-wrong", "ses-M000"), True)
    page = qc_pages.write_pages(caps).read_text()
    assert (
        "<b>pass</b> sub-wrong ses-M000, probability 0.010, decided in qc-decisions.tsv (was FAIL)"
        in page
    )


def test_pages_of_the_same_caps_are_the_same_bytes(caps, tmp_path):
    one = qc_pages.write_pages(caps, tmp_path / "one.html").read_bytes()
    assert qc_pages.write_pages(caps, tmp_path / "two.html").read_bytes() == one
