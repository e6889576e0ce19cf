"""A visit through t1-linear ends as Clinica would have written it, or leaves nothing."""

import json

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage
from visits import FAST

from neuroaug.errors import InputError, ResourceError
from neuroaug.imaging.bids import Visit
from neuroaug.imaging.caps import (
    t1_linear_affine,
    t1_linear_folder,
    t1_linear_image,
    t1_linear_sidecar,
    write_dataset_description,
)
from neuroaug.imaging.grid import GRIDS, UNCROPPED, block_mean, crop
from neuroaug.imaging.nifti import read_volume, write_volume
from neuroaug.imaging.template import load_template
from neuroaug.preprocessing.steps import bias, registration, t1_linear
from neuroaug.preprocessing.steps.itk import read_affine, single_thread
from neuroaug.preprocessing.steps.t1_linear import complete_visit, process_visit
from neuroaug.system.files import sha256_file

single_thread()
VISIT = Visit("sub-01", "ses-M000")
ALL = FAST.resolutions
VOXEL = np.array([5.5, 6.0, 5.0])


@pytest.fixture(scope="module")
def quick():
    """The real steps with fewer iterations: seconds instead of a minute."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bias, "ITERATIONS", [4] * 4)
        recipe = registration.Recipe(
            double=False, template_mm=2, shrink="4", smoothing_vox="1", iterations="300"
        )
        patch.setitem(registration.RECIPES, "fast, coarse scan", recipe)
        yield


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """The template's head, moved a little: 5-6 mm voxels, LAS, int16 with a scale factor."""
    affine = np.diag([-VOXEL[0], VOXEL[1], VOXEL[2], 1.0])
    affine[:3, 3] = (105, -135, -85)
    matrix = np.linalg.inv(UNCROPPED.affine) @ affine
    matrix[:3, 3] += (6, -4, 5)
    smooth = ndimage.gaussian_filter(load_template().data, 2)
    data = ndimage.affine_transform(
        smooth, matrix[:3, :3], matrix[:3, 3], output_shape=(39, 41, 42), order=1
    )
    path = tmp_path_factory.mktemp("raw") / "sub-01_ses-M000_T1w.nii.gz"
    write_volume(path, data + 1, affine, "int16", space="scanner")
    return path


def new_caps(folder):
    write_dataset_description(folder, name="test")
    return folder


@pytest.fixture(scope="module")
def done(quick, scan, tmp_path_factory):
    caps = new_caps(tmp_path_factory.mktemp("caps"))
    return caps, process_visit(scan, caps, VISIT, FAST)


def contents(caps):
    return {path.name: path.read_bytes() for path in t1_linear_folder(caps, VISIT).iterdir()}


def test_exactly_the_files_of_the_standard_are_written(done):
    caps, result = done
    stem = "sub-01_ses-M000_space-MNI152NLin2009cSym"
    assert sorted(contents(caps)) == sorted(
        [
            f"{stem}_desc-Crop_res-1x1x1_T1w.nii.gz",
            f"{stem}_desc-Crop_res-1x1x1_T1w.json",
            f"{stem}_desc-Crop_res-2x2x2_T1w.nii.gz",
            f"{stem}_desc-Crop_res-4x4x4_T1w.nii.gz",
            f"{stem}_res-1x1x1_T1w.nii.gz",
            f"{stem}_res-1x1x1_affine.mat",
        ]
    )
    assert sorted(path.name for path in result.written) == sorted(contents(caps))
    assert result.written[-1] == t1_linear_sidecar(caps, VISIT)
    assert sorted(path.name for path in caps.iterdir()) == ["dataset_description.json", "subjects"]


def test_every_image_lies_on_its_grid(done):
    caps, _ = done
    for resolution in ALL:
        image = nib.load(t1_linear_image(caps, VISIT, resolution))
        assert image.shape == GRIDS[resolution].shape
        np.testing.assert_array_equal(image.affine, GRIDS[resolution].affine)
        assert image.get_data_dtype() == np.float32
    uncropped = nib.load(t1_linear_image(caps, VISIT, cropped=False))
    assert uncropped.shape == (193, 229, 193)
    np.testing.assert_array_equal(uncropped.affine, UNCROPPED.affine)


def test_the_copies_are_block_means_and_the_crop_a_cut(done):
    caps, _ = done
    images = {r: read_volume(t1_linear_image(caps, VISIT, r)).data for r in ALL}
    np.testing.assert_array_equal(images["2mm"], block_mean(images["1mm"]))
    np.testing.assert_array_equal(images["4mm"], block_mean(images["2mm"]))
    whole = read_volume(t1_linear_image(caps, VISIT, cropped=False)).data
    np.testing.assert_array_equal(images["1mm"], crop(whole))


def test_the_head_lands_on_the_template(done, scan):
    caps, result = done
    image = read_volume(t1_linear_image(caps, VISIT, "2mm")).data
    template = block_mean(crop(load_template().data))
    assert np.corrcoef(image.ravel(), template.ravel())[0, 1] > 0.95
    matrix = read_affine(t1_linear_affine(caps, VISIT))
    expected = np.eye(4)
    expected[:3, 3] = (-6, 4, -5)
    np.testing.assert_allclose(matrix @ [0, -20, 10, 1], expected @ [0, -20, 10, 1], atol=2)
    assert result.quality.passed
    assert result.quality.moved_mm <= 4


def test_the_sidecar_tells_how_it_was_made_and_nothing_of_whom(done, scan):
    caps, result = done
    sidecar = json.loads(t1_linear_sidecar(caps, VISIT).read_text())
    assert sidecar["parameters"]["profile"] == "fast"
    assert sidecar["parameters"]["n4"]["spline_distance_mm"] == 200
    assert sidecar["parameters"]["registration"]["transform"] == "affine"
    assert "SyN" not in sidecar["parameters"]["registration"]["arguments"]
    assert sidecar["input"]["sha256"] == sha256_file(scan)
    assert sidecar["input"]["orientation"] == "LAS"
    assert sidecar["template"]["sha256"] == load_template().sha256
    assert sidecar["versions"]["antspyx"]
    assert sidecar["registration_score"] == result.quality.score
    assert sidecar["seconds"] > 0
    for name, checksum in sidecar["files"].items():
        assert sha256_file(t1_linear_folder(caps, VISIT) / name) == checksum
    assert str(scan.parent) not in json.dumps(sidecar)


def test_the_same_scan_gives_the_same_bytes(done, quick, scan, tmp_path):
    caps, _ = done
    other = new_caps(tmp_path)
    work = tmp_path / "work"
    work.mkdir()
    process_visit(scan, other, VISIT, FAST, work_dir=work)
    assert list(work.iterdir()) == []
    first, second = contents(caps), contents(other)
    name = t1_linear_sidecar(caps, VISIT).name
    one, two = json.loads(first.pop(name)), json.loads(second.pop(name))
    assert first == second
    one.pop("seconds"), two.pop("seconds")
    assert one == two


def test_a_scan_whose_header_names_the_wrong_axes_is_registered_from_a_second_start(
    done, quick, scan, tmp_path
):
    volume = read_volume(scan)
    turn = np.array(
        [[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]]
    )  # on its back by the header
    turned = tmp_path / "turned.nii.gz"
    write_volume(turned, volume.data, turn @ volume.affine, space="scanner")
    caps = new_caps(tmp_path / "caps")
    result = process_visit(turned, caps, VISIT, FAST.model_copy(update={"resolutions": ("1mm",)}))
    assert result.quality.passed
    assert any("second start" in note for note in result.notes)
    start = json.loads(t1_linear_sidecar(caps, VISIT).read_text())["parameters"]["registration"][
        "start"
    ]
    assert np.linalg.det(np.array(start)[:3, :3]) == pytest.approx(1, abs=1e-4)
    upright = json.loads(t1_linear_sidecar(done[0], VISIT).read_text())
    assert upright["parameters"]["registration"]["start"] == "centres of mass"
    found = np.linalg.inv(turn) @ read_affine(t1_linear_affine(caps, VISIT))
    centre = np.array([0, -20, 10, 1.0])
    np.testing.assert_allclose(
        found @ centre, read_affine(t1_linear_affine(done[0], VISIT)) @ centre, atol=1
    )


def test_clinicadl_reads_every_resolution(done, tmp_path):
    import clinicadl.io.bids as bids

    caps, _ = done
    cropped = bids.T1Linear(use_uncropped_image=False)
    for resolution, size in (("1mm", "1x1x1"), ("2mm", "2x2x2")):
        kind = (
            cropped
            if resolution == "1mm"
            else bids.BidsFileType(
                data_type="t1_linear",
                suffix="T1w",
                with_entities={"space": "MNI152NLin2009cSym", "desc": "Crop", "res": size},
            )
        )
        from clinicadl.data.datasets import BidsDataset

        dataset = BidsDataset(caps, kind)
        assert len(dataset) == 1
        np.testing.assert_allclose(
            np.asarray(dataset[0].image)[0],
            read_volume(t1_linear_image(caps, VISIT, resolution)).data,
        )


def test_a_broken_scan_leaves_nothing(quick, tmp_path):
    caps = new_caps(tmp_path / "caps")
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(b"\x1f\x8bnot gzip at all")
    with pytest.raises(InputError) as error:
        process_visit(bad, caps, VISIT, FAST)
    assert error.value.stage == "read"
    negative = tmp_path / "negative.nii.gz"
    write_volume(negative, -np.arange(1.0, 1729).reshape(12, 12, 12), np.diag([2.0, 2, 2, 1]))
    with pytest.raises(InputError, match="no positive intensity"):
        process_visit(negative, caps, VISIT, FAST)
    assert not (caps / "subjects").exists()


def test_a_full_disk_leaves_nothing_of_the_visit(done, scan, tmp_path, monkeypatch):
    caps = new_caps(tmp_path / "caps")
    # What is computed does not matter here, only what is left: the alignment is the one found
    # before.
    matrix = t1_linear_affine(done[0], VISIT)
    known = registration.Alignment(matrix.read_bytes(), read_affine(matrix))
    monkeypatch.setattr(bias, "correct_bias", lambda data, *_, **__: data)
    monkeypatch.setattr(registration, "align", lambda *_, **__: known)

    def full(path, content):
        raise ResourceError(f"{path}: the disk is full")

    monkeypatch.setattr(t1_linear, "write_json", full)
    with pytest.raises(ResourceError):
        process_visit(scan, caps, VISIT, FAST)
    assert contents(caps) == {}


def clinica_caps(folder, done, cropped=True):
    """A CAPS as Clinica leaves it: 1 mm images and the affine, no copies, no sidecar."""
    caps, _ = done
    write_dataset_description(folder, name="clinica")
    names = [t1_linear_affine, lambda f, v: t1_linear_image(f, v, cropped=cropped)]
    for name in names:
        name(folder, VISIT).parent.mkdir(parents=True, exist_ok=True)
        name(folder, VISIT).write_bytes(name(caps, VISIT).read_bytes())
    return folder


def test_a_caps_that_clinica_wrote_gets_only_what_it_lacks(done, tmp_path):
    theirs = clinica_caps(tmp_path, done)
    before = contents(theirs)
    result = complete_visit(theirs, VISIT, FAST)
    after = contents(theirs)
    assert {name: after[name] for name in before} == before
    for resolution in ("2mm", "4mm"):
        path = t1_linear_image(theirs, VISIT, resolution)
        assert path.read_bytes() == t1_linear_image(done[0], VISIT, resolution).read_bytes()
    sidecar = json.loads(t1_linear_sidecar(theirs, VISIT).read_text())
    assert sidecar["pipeline"] == "t1-linear, not by neuroaug"
    assert result.quality == done[1].quality
    assert complete_visit(theirs, VISIT, FAST).written == ()


def test_copies_can_go_to_another_caps(done, tmp_path):
    theirs = clinica_caps(tmp_path / "theirs", done)
    before = contents(theirs)
    ours = new_caps(tmp_path / "ours")
    complete_visit(theirs, VISIT, out=ours)
    assert contents(theirs) == before
    assert sorted(contents(ours)) == sorted(
        [t1_linear_image(ours, VISIT, "2mm").name, t1_linear_sidecar(ours, VISIT).name]
    )


def test_an_uncropped_image_is_enough(done, tmp_path):
    theirs = clinica_caps(tmp_path, done, cropped=False)
    complete_visit(theirs, VISIT)
    np.testing.assert_array_equal(
        read_volume(t1_linear_image(theirs, VISIT)).data,
        read_volume(t1_linear_image(done[0], VISIT)).data,
    )


def test_an_image_on_another_grid_is_refused(tmp_path):
    caps = new_caps(tmp_path)
    data = np.random.default_rng(0).random((20, 21, 22), np.float32)
    write_volume(t1_linear_image(caps, VISIT), data, np.eye(4))
    with pytest.raises(InputError, match="t1-linear has"):
        complete_visit(caps, VISIT)
    with pytest.raises(InputError, match="no such file"):
        complete_visit(caps, Visit("sub-02", "ses-M000"))
