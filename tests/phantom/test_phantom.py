"""The embedded cohort: heads from a seed, tables as Clinica writes them, nothing from a person."""

import gzip
import hashlib
import os
import signal
import subprocess
import sys
import time

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nibabel import orientations
from scipy import ndimage

from neuroaug.errors import InputError
from neuroaug.imaging.bids import sidecar_path
from neuroaug.phantom import anatomy, phantom_cohort, phantom_tables, scanner
from neuroaug.phantom.phantom_cohort import make_cohort, scan_path
from neuroaug.system.files import read_json, write_tsv

VOXEL_MM = 6.0  # seconds instead of minutes; the anatomy is the same


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantom") / "bids"
    return make_cohort(folder, n_participants=5, seed=3, voxel_mm=VOXEL_MM)


def digests(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_same_seed_same_bytes_whatever_the_number_of_processes(cohort, tmp_path):
    again = make_cohort(tmp_path / "bids", n_participants=5, seed=3, voxel_mm=VOXEL_MM, n_procs=2)
    assert again.n_made == 5
    assert digests(again.folder) == digests(cohort.folder)


def test_another_seed_gives_other_heads():
    people = {seed: phantom_tables.make_people(4, seed)[0] for seed in (0, 1)}
    scans = [scanner.scan(people[seed], seed, VOXEL_MM).stored for seed in (0, 1)]
    assert scans[0].shape != scans[1].shape or not np.array_equal(*scans)


def test_finished_scans_are_not_remade_and_missing_ones_come_back_the_same(cohort, tmp_path):
    before = digests(cohort.folder)
    times = {path: path.stat().st_mtime_ns for path in cohort.folder.rglob("*_T1w.nii.gz")}
    lost = next(path for path in sorted(times) if cohort.unreadable[0] not in path.name)
    lost.unlink()
    half_written = lost.with_name(f".tmp-1-{lost.name}")
    half_written.write_bytes(b"half")
    summary = make_cohort(cohort.folder, n_participants=5, seed=3, voxel_mm=VOXEL_MM)
    assert (summary.n_made, summary.n_present) == (1, 4)
    assert digests(cohort.folder) == before
    assert all(path.stat().st_mtime_ns == then for path, then in times.items() if path != lost)


def test_interrupted_generation_is_continued(cohort, tmp_path, monkeypatch):
    folder = tmp_path / "bids"
    whole = phantom_cohort._write_scan

    def interrupted(folder, seed, voxel_mm, person):
        if person.number == 3:
            raise KeyboardInterrupt
        return whole(folder, seed, voxel_mm, person)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(phantom_cohort, "_write_scan", interrupted)
        make_cohort(folder, n_participants=5, seed=3, voxel_mm=VOXEL_MM)
    summary = make_cohort(folder, n_participants=5, seed=3, voxel_mm=VOXEL_MM)
    assert (summary.n_present, summary.n_made) == (2, 3)
    assert digests(folder) == digests(cohort.folder)


@pytest.mark.slow
def test_killed_generation_is_continued(cohort, tmp_path):
    folder = tmp_path / "bids"
    code = (
        "from neuroaug.phantom.phantom_cohort import make_cohort\n"
        f"make_cohort({str(folder)!r}, n_participants=5, seed=3, voxel_mm={VOXEL_MM})\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    deadline = time.monotonic() + 120
    while not list(folder.glob("sub-*/ses-*/anat/sub-*_T1w.nii.gz")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    found = len(list(folder.glob("sub-*/ses-*/anat/sub-*_T1w.nii.gz")))
    assert found < 5
    summary = make_cohort(folder, n_participants=5, seed=3, voxel_mm=VOXEL_MM)
    assert (summary.n_present, summary.n_made) == (found, 5 - found)
    assert digests(folder) == digests(cohort.folder)


def test_the_broken_scan_and_only_it_fails_at_its_last_voxels(cohort):
    broken = []
    for path in sorted(cohort.folder.rglob("*_T1w.nii.gz")):
        try:
            gzip.decompress(path.read_bytes())
        except EOFError:
            broken.append(path.name.split("_")[0])
    assert tuple(broken) == cohort.unreadable
    assert len(broken) == 1


def test_everything_says_phantom(cohort):
    assert "phantom" in (cohort.folder / "dataset_description.json").read_text()
    assert "phantom" in (cohort.folder / "README").read_text().lower()
    for path in cohort.folder.rglob("*_T1w.*"):
        assert path.name.startswith("sub-phantom")
    readable = next(
        p for p in cohort.folder.rglob("*_T1w.nii.gz") if cohort.unreadable[0] not in p.name
    )
    assert b"phantom" in nib.load(readable).header["descrip"].tobytes()


def test_scans_are_raw_int16_with_a_slope_in_several_orientations_off_axis(cohort):
    codes, slopes = set(), set()
    for path in cohort.folder.rglob("*_T1w.nii.gz"):
        image = nib.load(path)
        codes.add("".join(nib.aff2axcodes(image.affine)))
        slopes.add(float(image.dataobj.slope))
        assert image.get_data_dtype() == np.int16
        assert np.count_nonzero(np.abs(image.affine[:3, :3]) > 1e-3) > 3  # oblique
        assert np.allclose(image.get_qform(), image.get_sform(), atol=1e-3)
    assert len(codes) >= 2
    assert len(slopes) == 3


def test_by_default_sites_differ_in_voxel_size_between_2_and_3_mm():
    sizes = {site.voxel_mm for site in scanner.SITES.values()}
    assert len(sizes) == len(scanner.SITES)
    assert all(2 <= size <= 3 for voxel in sizes for size in voxel)
    person = phantom_tables.make_people(4, 0)[0]
    scan = scanner.scan(person, 0)
    stored = np.sort(np.linalg.norm(scan.affine[:3, :3], axis=0))
    assert np.allclose(stored, np.sort(scanner.SITES[person.site].voxel_mm))


@pytest.mark.parametrize("codes", ["LAS", "PSR", "LIA", "PIR"])
def test_reoriented_scan_keeps_every_voxel_in_its_place(codes):
    rng = np.random.default_rng(0)
    volume = rng.random((7, 8, 9))
    affine = np.eye(4)
    affine[:3, :3] = scanner.rotation(np.array([0.1, -0.05, 0.08])) * [2.0, 2.5, 3.0]
    affine[:3, 3] = [-90, -120, -70]
    turned, turned_affine = scanner.reorient(volume, affine, codes)
    assert "".join(orientations.aff2axcodes(turned_affine)) == codes
    for index in ((1, 2, 3), (6, 0, 8), (3, 7, 4)):
        world = affine @ [*index, 1]
        there = np.rint(np.linalg.solve(turned_affine, world))[:3].astype(int)
        assert turned[tuple(there)] == volume[index]


def test_the_head_is_where_the_affine_says(cohort):
    """The bright part of every readable scan is centred on a head's middle, within its poses."""
    for path in cohort.folder.rglob("*_T1w.nii.gz"):
        if cohort.unreadable[0] in path.name:
            continue
        image = nib.load(path)
        data = image.get_fdata()
        centre = np.array(ndimage.center_of_mass(data > 0.3 * np.percentile(data, 98)))
        world = image.affine @ [*centre, 1]
        assert np.linalg.norm(world[:3] - [0, -18, 0]) < 50


@pytest.fixture(scope="module")
def average():
    return anatomy.average_anatomy()


def test_base_structures_have_human_sizes(average):
    still = np.zeros_like(average.flows["cortex"])
    assert 10 < average.volume("ventricles", still) < 40
    assert 4 < average.volume("hippocampus", still) < 12
    assert 300 < average.volume("cortex", still) < 800
    assert 1400 < average.intracranial_volume(still) < 2300


@pytest.mark.parametrize(
    ("name", "ratio"),
    [("ventricles", 1.6), ("ventricles", 2.6), ("hippocampus", 0.8), ("cortex", 0.93)],
)
def test_atrophy_changes_a_volume_by_what_was_prescribed(average, name, ratio):
    still = np.zeros_like(average.flows["cortex"])
    moved = average.atrophy({name: ratio})
    assert average.volume(name, moved) / average.volume(name, still) == pytest.approx(
        ratio, rel=0.02
    )


def test_atrophy_stays_inside_the_skull_and_never_folds(average):
    moved = average.atrophy({"ventricles": 3.5, "hippocampus": 0.7, "cortex": 0.88})
    beyond = ndimage.distance_transform_edt(average.intracranial == 0) > 2
    assert np.abs(moved[:, beyond]).max() == 0
    gradient = np.stack([np.stack(np.gradient(part, anatomy.COARSE_MM)) for part in moved])
    jacobian = np.moveaxis(gradient, (0, 1), (-2, -1)) + np.eye(3)
    assert np.linalg.det(jacobian).min() > 0


@pytest.mark.parametrize("name", anatomy.STRUCTURES)
def test_table_of_growth_is_what_the_flows_do(average, name):
    strengths, ratios = anatomy.GROWTH[name]
    for k in (0, -1):
        displacement = anatomy.exponential(-strengths[k] * average.flows[name], anatomy.COARSE_MM)
        still = np.zeros_like(displacement)
        grown = average.volume(name, displacement) / average.volume(name, still)
        assert grown == pytest.approx(ratios[k], rel=0.01)


def test_balanced_flow_has_the_divergence_asked_for():
    domain = np.zeros((18, 19, 20), bool)
    domain[1:-1, 1:-1, 1:-1] = True
    source = np.zeros(domain.shape)
    source[6:13, 6:13, 6:13] = 1
    flow = anatomy.balanced_flow(source, domain & (source == 0), domain, 2.0)
    divergence = sum(np.gradient(flow[axis], 2.0, axis=axis) for axis in range(3))
    assert divergence[9, 9, 9] == pytest.approx(1, abs=0.05)
    assert divergence[9, 9, 16] == pytest.approx(
        -source.sum() / (domain.sum() - source.sum()), abs=0.02
    )
    assert np.all(flow[:, ~domain] == 0)


def test_ventricles_are_larger_and_hippocampi_smaller_in_ad_with_overlap():
    people = [
        person for person in phantom_tables.make_people(400, 0) if person.course in ("CN", "AD")
    ]
    by = {label: [p.ratios for p in people if p.course == label] for label in ("CN", "AD")}
    ventricles = {
        label: np.array([r["ventricles"] for r in ratios]) for label, ratios in by.items()
    }
    hippocampus = {
        label: np.array([r["hippocampus"] for r in ratios]) for label, ratios in by.items()
    }
    assert ventricles["AD"].mean() > 1.3 * ventricles["CN"].mean()
    assert hippocampus["AD"].mean() < 0.95 * hippocampus["CN"].mean()
    assert np.quantile(ventricles["CN"], 0.9) > np.quantile(ventricles["AD"], 0.2)


def test_the_truth_of_a_scan_follows_the_ratios_drawn(cohort):
    people = phantom_tables.make_people(5, 3)
    sidecars = [sidecar_path(scan_path(cohort.folder, p.participant_id)) for p in people]
    true_ml = [read_json(path)["PhantomTruth"]["ventricles_ml"] for path in sidecars]
    assert np.corrcoef(true_ml, [p.ratios["ventricles"] for p in people])[0, 1] > 0.9


def test_age_and_sex_overlap_between_diagnoses():
    people = phantom_tables.make_people(400, 0)
    ages = {label: np.array([p.age for p in people if p.course == label]) for label in ("CN", "AD")}
    assert abs(ages["CN"].mean() - ages["AD"].mean()) < 4
    assert ages["CN"].std() > 4
    women = {
        label: np.mean([p.sex == "F" for p in people if p.course == label])
        for label in ("CN", "AD")
    }
    assert abs(women["CN"] - women["AD"]) < 0.2


def test_demo_sized_cohort_holds_every_case_the_label_rules_must_meet():
    people = phantom_tables.make_people(48, 0)
    count = pd.Series([person.course for person in people]).value_counts()
    assert abs(count["CN"] - count["AD"]) <= 1
    assert count["CN"] >= 20
    assert (count["SMC"], count["MCI"], count["CN-MCI"], count["MCI-AD"]) == (1, 1, 2, 2)
    assert [p.screening for p in people if p.course == "SMC"] == ["SMC"]
    between = [list(p.diagnoses.values()) for p in people if None in p.diagnoses.values()]
    assert any(
        values[0] == values[2] and values[1] is None for values in between if len(values) > 2
    )
    assert sum(p.unreadable for p in people) == 1
    sites = pd.crosstab([p.course for p in people], [p.site for p in people]).loc[["CN", "AD"]]
    assert (sites.to_numpy() >= 6).all()


COLUMNS = {
    "adni": (
        [
            "participant_id",
            "alternative_id_1",
            "sex",
            "age_bl",
            "diagnosis_sc",
            "site",
            "original_study",
            "mmse_bl",
            "apoe4",
        ],
        ["session_id", "age", "diagnosis", "MMSE", "cdr_global", "cdr_sb"],
    ),
    "aibl": (
        [
            "participant_id",
            "alternative_id_1",
            "sex",
            "date_of_birth",
            "site",
            "apoe_gen1",
            "apoe_gen2",
        ],
        ["session_id", "age", "diagnosis", "MMS", "cdr_global"],
    ),
    "oasis1": (
        [
            "participant_id",
            "alternative_id_1",
            "sex",
            "age_bl",
            "education_level",
            "laterality",
            "diagnosis_bl",
        ],
        ["session_id", "diagnosis", "cdr_global", "MMS"],
    ),
}


@pytest.mark.parametrize("name", phantom_tables.COHORTS)
def test_tables_have_the_columns_of_clinicas_converters(name):
    people = phantom_tables.make_people(48, 0)
    participants, sessions = COLUMNS[name]
    table = phantom_tables.participants_table(people, name)
    assert list(table) == participants
    assert table["participant_id"].is_unique
    assert table["participant_id"].str.fullmatch(r"sub-[A-Za-z0-9]+").all()
    for person in people:
        visits = phantom_tables.sessions_table(person, name)
        assert list(visits) == sessions
        assert visits["session_id"].str.fullmatch(r"ses-M\d{3}").all()
        assert visits["session_id"].iloc[0] == "ses-M000"
        assert set(visits["diagnosis"].dropna()) <= {"CN", "MCI", "AD"}


def test_missing_values_are_written_as_clinica_writes_them(tmp_path):
    people = phantom_tables.make_people(48, 0)
    gap = next(p for p in people if len(p.diagnoses) > 2 and p.diagnoses[12] is None)
    write_tsv(tmp_path / "sessions.tsv", phantom_tables.sessions_table(gap, "adni"))
    second = (tmp_path / "sessions.tsv").read_text().splitlines()[2].split("\t")
    assert second[0] == "ses-M012"
    assert second[2] == "n/a"


def test_a_folder_with_other_settings_or_other_content_is_refused(cohort, tmp_path):
    with pytest.raises(InputError, match="another seed"):
        make_cohort(cohort.folder, n_participants=5, seed=4, voxel_mm=VOXEL_MM)
    (tmp_path / "precious.txt").write_text("x")
    with pytest.raises(InputError, match="not empty"):
        make_cohort(tmp_path, n_participants=4)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


@pytest.mark.parametrize(
    "arguments",
    [{"n_participants": 0}, {"voxel_mm": 0.2}, {"cohort": "ukb"}, {"n_procs": 0}],
    ids=str,
)
def test_senseless_arguments_are_refused_before_anything_is_written(arguments, tmp_path):
    with pytest.raises(InputError):
        make_cohort(tmp_path / "bids", **arguments)
    assert not (tmp_path / "bids").exists()


def test_no_network_is_touched(monkeypatch):
    import socket

    def refuse(*args, **kwargs):
        raise AssertionError("the phantom asked for the network")

    monkeypatch.setattr(socket, "socket", refuse)
    anatomy.average_anatomy.cache_clear()
    assert anatomy.average_anatomy().head.shape == (193, 229, 193)


def test_scan_files_are_where_bids_wants_them(cohort):
    people = phantom_tables.make_people(5, 3)
    for person in people:
        path = scan_path(cohort.folder, person.participant_id)
        assert path.is_file()
        assert path.with_name(path.name.replace(".nii.gz", ".json")).is_file()
