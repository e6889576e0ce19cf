"""Phantoms that enter after preprocessing: same people, the grid that preprocessing makes."""

import hashlib

import nibabel as nib
import numpy as np
import pytest

from neuroaug.config import PhantomConfig, StudyConfig, read_config
from neuroaug.errors import InputError
from neuroaug.imaging import caps as caps_names
from neuroaug.imaging.bids import Visit
from neuroaug.imaging.grid import GRIDS, UNCROPPED, block_mean, crop
from neuroaug.imaging.nifti import read_volume
from neuroaug.phantom import on_grid, phantom_cohort, phantom_tables, scanner
from neuroaug.phantom.phantom_cohort import RegisteredFolders, make_cohort
from neuroaug.preprocessing.preprocess import preprocess
from neuroaug.preprocessing.records import accept_unregistered, passed_visits
from neuroaug.preprocessing.steps.registration import warp
from neuroaug.system.files import read_json, read_tsv
from neuroaug.system.packaged_files import shipped

VOXEL_MM = 6.0
N = 4
FOUR = {"n_participants": N, "seed": 3, "voxel_mm": VOXEL_MM, "scanned": 2}


def make(root, **more):
    folders = RegisteredFolders(root / "caps", root / "tables")
    return make_cohort(root / "bids", **(FOUR | more), registered=folders)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("on-grid")
    return root, make(root)


def digests(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_few_are_scanned_and_the_others_are_images_on_the_grid(made):
    root, summary = made
    scanned = sorted(path.name for path in (root / "bids").glob("sub-*"))
    assert len(scanned) == 2
    assert set(summary.unreadable) <= set(scanned)  # the broken one has a scan to break
    images = caps_names.list_visits(root / "caps", "4mm")
    assert sorted(images) == sorted(summary.on_grid)
    assert len(images) == 2
    assert not {visit.participant_id for visit in images} & set(scanned)


def test_the_image_lies_on_the_grid_that_preprocessing_makes(made):
    root, summary = made
    for visit in summary.on_grid:
        volume = read_volume(on_grid.image_path(root / "caps", visit))
        assert GRIDS["4mm"].matches(volume.data.shape, volume.affine)
        header = nib.load(on_grid.image_path(root / "caps", visit)).header
        assert (int(header["qform_code"]), int(header["sform_code"])) == (4, 4)
        assert not volume.notes


def test_every_participant_has_tables_and_those_scanned_have_the_raw_folders(made):
    root, _ = made
    everyone = read_tsv(root / "tables" / "participants.tsv")["participant_id"].tolist()
    assert len(everyone) == N
    listed = read_tsv(root / "bids" / "participants.tsv")["participant_id"].tolist()
    assert sorted(listed) == sorted(path.name for path in (root / "bids").glob("sub-*"))
    alone = phantom_tables.make_people(N, 3)
    assert everyone == [person.participant_id for person in alone]


def test_same_seed_same_bytes(made, tmp_path):
    root, _ = made
    make(tmp_path)
    for folder in ("bids", "caps", "tables"):
        assert digests(tmp_path / folder) == digests(root / folder)


def test_what_is_missing_comes_back_the_same(made):
    root, summary = made
    before = digests(root / "caps")
    visit = summary.on_grid[0]
    on_grid.sidecar_path(root / "caps", visit).unlink()
    again = make(root)
    assert (again.n_made, again.n_present) == (1, 3)
    assert digests(root / "caps") == before


def test_the_sidecar_says_that_the_image_was_made_and_not_preprocessed(made):
    root, summary = made
    for visit in summary.on_grid:
        sidecar = read_json(on_grid.sidecar_path(root / "caps", visit))
        assert "not preprocessed" in sidecar["pipeline"]
        assert "phantom" in sidecar["SeriesDescription"]
        assert set(sidecar["PhantomTruth"]) == {
            "ventricles_ml",
            "hippocampus_ml",
            "cortex_ml",
            "intracranial_ml",
        }


def test_the_truth_is_that_of_the_scan_of_the_same_person():
    person = phantom_tables.make_people(N, 3)[0]
    assert scanner.registered(person, 3).truth == scanner.scan(person, 3, VOXEL_MM).truth


def registered_scan(person, seed):
    """The scan of a person laid onto the grid by the affine that its true pose implies."""
    from neuroaug.phantom.anatomy import average_anatomy

    scan = scanner.scan(person, seed, 2.5)
    rng = np.random.default_rng([seed, person.number, 1])
    anatomy = average_anatomy()
    displacement = scanner._displacement(person, rng)
    scale = (0.99 if person.sex == "M" else 0.95) * np.exp(0.03 * rng.standard_normal())
    angles = np.clip(rng.normal(0, [0.09, 0.05, 0.06]), -0.26, 0.26)
    pose = np.eye(4)
    pose[:3, :3] = scanner.rotation(angles) * scale
    pose[:3, 3] = np.clip(rng.normal(0, 9, 3), -25, 25)
    fitted = scanner._nearest_affine(displacement, anatomy.intracranial > 0.5)
    to_head = anatomy.coarse_affine @ fitted @ np.linalg.inv(anatomy.coarse_affine)
    volume = scan.stored.astype(np.float32) * scan.slope
    whole = warp(volume, scan.affine, pose @ to_head)
    assert whole.shape == UNCROPPED.shape
    return block_mean(block_mean(crop(whole)))


def test_the_image_is_the_persons_own_scan_brought_onto_the_grid():
    people = phantom_tables.make_people(N, 3)
    images = np.stack([scanner.registered(person, 3).image.ravel() for person in people[:3]])
    scan = registered_scan(people[1], 3).ravel()
    alike = np.array([np.corrcoef(scan, image)[0, 1] for image in images])
    assert alike[1] > 0.9
    assert alike[1] > np.delete(alike, 1).max() + 0.03


@pytest.mark.slow
def test_the_image_is_what_preprocessing_makes_of_the_scan(tmp_path):
    """N4 and ANTs on the person's own scan end near the image made on the grid."""
    scans = make_cohort(tmp_path / "bids", n_participants=3, seed=3)
    people = phantom_tables.make_people(3, 3)
    from neuroaug.config import PreprocessingConfig

    config = PreprocessingConfig(profile="fast", resolutions=("4mm",))
    preprocess(tmp_path / "caps", bids=scans.folder, config=config)
    images = [scanner.registered(person, 3).image.ravel() for person in people]
    for i, person in enumerate(people):
        visit = Visit(person.participant_id, phantom_cohort.SESSION)
        volume = read_volume(caps_names.t1_linear_image(tmp_path / "caps", visit, "4mm"))
        assert GRIDS["4mm"].matches(volume.data.shape, volume.affine)
        alike = np.array([np.corrcoef(volume.data.ravel(), image)[0, 1] for image in images])
        assert alike[i] > 0.9
        assert alike.argmax() == i


def test_later_stages_take_the_images_and_the_table_says_what_they_are(made, tmp_path):
    _, summary = made
    accept_unregistered(tmp_path, summary.on_grid, "phantom made on the grid")
    accept_unregistered(tmp_path, summary.on_grid, "phantom made on the grid")
    table = read_tsv(tmp_path / "qc.tsv")
    assert len(table) == len(summary.on_grid)
    assert set(table["kind"]) == {"phantom made on the grid"}
    assert table["pass_probability"].isna().all()
    assert passed_visits(tmp_path) == sorted(summary.on_grid)


def test_severity_moves_the_diagnoses_apart_and_2_2_is_what_it_was():
    before, same = phantom_tables.make_people(60, 0), phantom_tables.make_people(60, 0, 2.2)
    assert before == same
    further = phantom_tables.make_people(60, 0, 4.4)

    def hippocampus(people, course):
        return np.mean([np.log(p.ratios["hippocampus"]) for p in people if p.course == course])

    gap = hippocampus(before, "CN") - hippocampus(before, "AD")
    wider = hippocampus(further, "CN") - hippocampus(further, "AD")
    assert 1.5 * gap < wider < 2.2 * gap
    for old, new in zip(before, further, strict=True):
        assert (old.age, old.sex, old.diagnoses, old.mmse) == (
            new.age,
            new.sex,
            new.diagnoses,
            new.mmse,
        )
        assert old.course != "CN" or old.ratios == new.ratios


def test_settings_left_at_their_defaults_are_written_as_before():
    assert set(PhantomConfig().model_dump()) == {"n_participants", "seed", "cohort"}
    assert PhantomConfig(scanned=8, severity=3).model_dump()["scanned"] == 8
    spelled = StudyConfig(phantom=PhantomConfig(severity=3)).model_dump()["phantom"]
    assert spelled == {"n_participants": 48, "seed": 0, "cohort": "adni", "severity": 3}


@pytest.mark.parametrize(
    ("more", "said"),
    [({"scanned": 7}, "7 of 4"), ({"scanned": 0}, "0 of 4"), ({"severity": 3.0}, "severity")],
)
def test_what_makes_no_sense_is_refused(made, more, said):
    root, _ = made
    with pytest.raises(InputError, match=said):
        make(root, **more)


def test_without_a_study_or_with_one_folder_for_both_tables_it_is_refused(tmp_path):
    with pytest.raises(InputError, match="run the command in a study"):
        make_cohort(tmp_path / "bids", **FOUR)
    both = RegisteredFolders(tmp_path / "caps", tmp_path / "bids")
    with pytest.raises(InputError, match="tables: tables"):
        make_cohort(tmp_path / "bids", **FOUR, registered=both)
    assert not list(tmp_path.iterdir())


def test_check_finds_nothing_wrong_with_the_images(made):
    from neuroaug.dataset_check.check_files import check

    root, _ = made
    assert check(root / "caps") == []


def test_the_demo_tests_on_twenty_a_label_and_shows_preprocessing_on_a_few():
    demo = read_config(shipped("configs") / "demo.yaml")
    assert demo.phantom is not None
    assert demo.phantom.scanned is not None
    assert demo.phantom.scanned <= 10 < demo.phantom.n_participants
    assert demo.split.n_test == 20
    assert demo.tables != demo.bids  # those of everybody; the raw folder has a few
    assert demo.resolution == on_grid.RESOLUTION
    people = phantom_tables.make_people(demo.phantom.n_participants, demo.phantom.seed)
    for course in ("CN", "AD"):  # left to learn from, of each label
        stable = sum(person.course == course for person in people)
        assert stable - demo.split.n_test >= 40
