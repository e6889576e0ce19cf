"""Preprocessing a cohort: what is done, what is left alone, what is told; and that nothing is lost or half-written.

The registration is ANTs' own in the tests that say so. In those of the bookkeeping a stand-in writes the files.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from neuroaug.config import PreprocessingConfig
from neuroaug.errors import InputError
from neuroaug.imaging import caps as layout
from neuroaug.imaging import records
from neuroaug.imaging.caps import Visit
from neuroaug.imaging.grid import GRIDS, UNCROPPED, block_mean
from neuroaug.imaging.nifti import write_volume
from neuroaug.imaging.preprocess import preprocess
from neuroaug.imaging.request import known_distance
from neuroaug.imaging.template import load_template

FAST = PreprocessingConfig(profile="fast", resolutions=("1mm", "2mm", "4mm"))
SMALL = PreprocessingConfig(profile="fast", timeout_s=60)

# Writes, for every file of a visit, bytes that depend on the scan alone, slowly enough to be interrupted.
STAND_IN = """
import os, signal, time
from pathlib import Path
from neuroaug.errors import InputError
from neuroaug.files import write_bytes
from neuroaug.imaging import caps
from neuroaug.imaging.caps import Visit

def work(payload):
    visit = Visit(payload["participant_id"], payload["session_id"])
    target = Path(payload["target"])
    with open(os.environ["STAND_IN_LOG"], "a") as log:
        log.write(f"{visit} {payload['kind']}\\n")
    content = Path(payload["source"]).read_bytes()
    if b"broken" in content:
        raise InputError(f"{payload['source']}: broken")
    if b"hang" in content:
        time.sleep(600)
    paths = [caps.t1_linear_affine(target, visit)]
    paths += [caps.t1_linear_image(target, visit, cropped=False)]
    paths += [caps.t1_linear_image(target, visit, r) for r in payload["resolutions"]]
    for i, path in enumerate(paths):
        write_bytes(path, content * (i + 1))
        (path.parent / ".tmp-1-torn").write_bytes(b"half")
        time.sleep(float(os.environ.get("STAND_IN_SECONDS", "0")) / len(paths))
        if b"crash" in content and i == 1:
            os.kill(os.getpid(), signal.SIGSEGV)
        (path.parent / ".tmp-1-torn").unlink()
    write_bytes(caps.t1_linear_sidecar(target, visit), b"{}")
    quality = {"score": 1.2, "pass_probability": 0.9, "pass": True}
    write_bytes(target / ".neuroaug" / "pictures" / f"{visit.stem}.webp", b"picture")
    return {"quality": quality, "notes": [], "seconds": 0.0}
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Keyword arguments that put the stand-in in the place of ANTs; `.log()` says what it did."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "visit_stand_in.py").write_text(STAND_IN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "code"))
    monkeypatch.setenv("STAND_IN_LOG", str(tmp_path / "stand-in.log"))
    return {"target": "visit_stand_in:work", "config": SMALL}


@pytest.fixture
def done(tmp_path):
    """What the stand-in worked on since the last call."""
    log, seen = tmp_path / "stand-in.log", []

    def since():
        lines = log.read_text().splitlines() if log.exists() else []
        new = lines[len(seen) :]
        seen.extend(new)
        return sorted(new)

    return since


def scan(root, participant, session="ses-M000", content=b"scan"):
    path = root / participant / session / "anat" / f"{participant}_{session}_T1w.nii.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def bids(tmp_path):
    """A BIDS folder of four visits, the content of each its name."""
    root = tmp_path / "bids"
    for participant in ("sub-A", "sub-B", "sub-C"):
        scan(root, participant, content=participant.encode())
    scan(root, "sub-A", "ses-M012", b"later")
    (root / "dataset_description.json").write_text('{"Name": "a phantom cohort", "BIDSVersion": "1.7.0"}')
    return root


def tree(root):
    """Every file and its bytes (their hash), the time in sidecars apart."""
    found = {}
    for path in sorted(root.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            if path.name.endswith("_T1w.json") and content != b"{}":
                content = json.dumps({k: v for k, v in json.loads(content).items() if k != "seconds"}).encode()
            found[path.relative_to(root).as_posix()] = hashlib.sha256(content).hexdigest()
    return found


def failures(caps):
    return {(r.participant_id, r.session_id): (r.stage, r.reason) for r in records.read_failures(caps)}


# What is done and what is left alone (stand-in)


def test_every_visit_is_done_once_and_the_caps_is_one(tmp_path, bids, stand_in, done):
    caps = tmp_path / "caps"
    summary = preprocess(caps, bids=bids, n_procs=2, **stand_in)
    assert (summary.n_ok, summary.n_failed, summary.n_skipped) == (4, 0, 0)
    assert len(done()) == 4
    assert [str(v) for v in layout.list_visits(caps)] == [
        "sub-A ses-M000", "sub-A ses-M012", "sub-B ses-M000", "sub-C ses-M000",
    ]  # fmt: skip
    description = json.loads((layout.require_caps(caps) / "dataset_description.json").read_text())
    assert description["Name"] == "t1-linear of a phantom cohort"
    assert not {str(tmp_path), os.uname().nodename} & set(json.dumps(description).split('"'))
    before = tree(caps)
    again = preprocess(caps, bids=bids, n_procs=2, **stand_in)
    assert (again.n_ok, again.n_failed, again.n_skipped) == (0, 0, 4)
    assert done() == []
    assert tree(caps) == before


def test_no_file_of_the_caps_names_the_machine_or_its_folders(tmp_path, bids, stand_in):
    scan(bids, "sub-B", content=b"broken")
    caps = tmp_path / "caps"
    preprocess(caps, bids=bids, **stand_in)
    text = b"".join(path.read_bytes() for path in caps.rglob("*") if path.is_file())
    assert str(tmp_path).encode() not in text
    assert os.uname().nodename.encode() not in text


def test_bytes_do_not_depend_on_how_many_work_at_a_time(tmp_path, bids, stand_in):
    for name, n in (("one", 1), ("three", 3)):
        preprocess(tmp_path / name, bids=bids, n_procs=n, **stand_in)
    assert tree(tmp_path / "one") == tree(tmp_path / "three")


def test_a_failed_visit_is_told_and_the_others_go_on(tmp_path, bids, stand_in, done):
    scan(bids, "sub-B", content=b"broken")
    scan(bids, "sub-C", content=b"crash")
    caps = tmp_path / "caps"
    summary = preprocess(caps, bids=bids, n_procs=2, **stand_in)
    assert (summary.n_ok, summary.n_failed) == (2, 2)
    found = failures(caps)
    assert found["sub-B", "ses-M000"][1] == "sub-B/ses-M000/anat/sub-B_ses-M000_T1w.nii.gz: broken"
    assert found["sub-C", "ses-M000"][0] == "crash"
    assert "SIGSEGV" in found["sub-C", "ses-M000"][1]
    assert sorted(path.name for path in (caps / "subjects").iterdir()) == ["sub-A"]
    assert not list(caps.rglob(".tmp-*"))


def test_a_failed_visit_is_tried_again_when_asked_or_when_its_scan_changes(tmp_path, bids, stand_in, done):
    caps = tmp_path / "caps"
    scan(bids, "sub-B", content=b"broken")
    preprocess(caps, bids=bids, **stand_in)
    done()
    summary = preprocess(caps, bids=bids, **stand_in)
    assert (summary.n_ok, summary.n_failed, summary.n_skipped) == (0, 1, 3)
    assert done() == []
    assert preprocess(caps, bids=bids, rerun_failed=True, **stand_in).n_failed == 1
    assert done() == ["sub-B ses-M000 process"]
    scan(bids, "sub-B", content=b"mended")
    summary = preprocess(caps, bids=bids, **stand_in)
    assert (summary.n_ok, summary.n_failed, summary.n_skipped) == (1, 0, 3)
    assert failures(caps) == {}


def test_a_visit_is_done_again_when_scan_or_request_change_or_a_file_is_lost(tmp_path, bids, stand_in, done):
    caps = tmp_path / "caps"
    preprocess(caps, bids=bids, **stand_in)
    done()
    scan(bids, "sub-B", content=b"another scan")
    layout.t1_linear_image(caps, Visit("sub-C", "ses-M000")).unlink()
    os.utime(scan(bids, "sub-A", content=b"sub-A"))
    preprocess(caps, bids=bids, **stand_in)
    assert done() == ["sub-B ses-M000 process", "sub-C ses-M000 process"]
    other = {**stand_in, "config": SMALL.model_copy(update={"profile": "exact"})}
    preprocess(caps, bids=bids, **other)
    assert len(done()) == 4


def test_files_without_their_record_are_done_again(tmp_path, bids, stand_in, done):
    caps = tmp_path / "caps"
    preprocess(caps, bids=bids, **stand_in)
    done()
    records.remove_record(caps, Visit("sub-B", "ses-M000"))
    preprocess(caps, bids=bids, **stand_in)
    assert done() == ["sub-B ses-M000 process"]


def test_a_resolution_asked_for_later_is_added_without_registering_again(tmp_path, bids, stand_in, done):
    caps = tmp_path / "caps"
    preprocess(caps, bids=bids, **stand_in)
    done()
    preprocess(caps, bids=bids, **{**stand_in, "config": SMALL.model_copy(update={"resolutions": ("1mm", "4mm")})})
    assert {line.split()[-1] for line in done()} == {"complete"}
    preprocess(caps, **stand_in)
    assert done() == []


def test_labels_parts_and_tables_choose_visits(tmp_path, bids, stand_in, done):
    caps = tmp_path / "caps"
    preprocess(caps, bids=bids, participants=["A"], sessions=["M012"], **stand_in)
    assert done() == ["sub-A ses-M012 process"]
    table = tmp_path / "visits.tsv"
    table.write_text("participant_id\tsession_id\nsub-B\tses-M000\n")
    preprocess(caps, bids=bids, visits_tsv=table, **stand_in)
    assert done() == ["sub-B ses-M000 process"]
    for i in (1, 2, 3):
        preprocess(caps, bids=bids, part=(i, 3), **stand_in)
    assert done() == ["sub-A ses-M000 process", "sub-C ses-M000 process"]


def test_parts_do_not_remove_each_others_failures(tmp_path, bids, stand_in):
    caps = tmp_path / "caps"
    for participant in ("sub-A", "sub-B", "sub-C"):
        scan(bids, participant, content=b"broken")
    (bids / "sub-D").mkdir()
    (bids / "participants.tsv").write_text("participant_id\nsub-A\nsub-B\nsub-C\nsub-E\n../F\n")
    for i in (1, 2, 3):
        preprocess(caps, bids=bids, part=(i, 3), **stand_in)
    assert set(failures(caps)) == {
        ("sub-A", "ses-M000"), ("sub-B", "ses-M000"), ("sub-C", "ses-M000"),
        ("sub-D", "n/a"), ("sub-E", "n/a"), ("../F", "n/a"),
    }  # fmt: skip


def test_a_dry_run_tells_and_writes_nothing(tmp_path, bids, stand_in, capsys):
    scan(bids, "sub-B", content=b"x")
    (bids / "sub-B" / "ses-M000" / "anat" / "sub-B_ses-M000_run-2_T1w.nii.gz").write_bytes(b"")
    before = tree(tmp_path)
    summary = preprocess(tmp_path / "caps", bids=bids, dry_run=True, **stand_in)
    assert tree(tmp_path) == before
    assert not (tmp_path / "caps").exists()
    assert summary.hours > 0
    output = capsys.readouterr().out
    assert "4 visits to preprocess" in output
    assert "hours" in output
    assert "took the first" in output


def test_a_time_limit_costs_one_visit(tmp_path, bids, stand_in):
    scan(bids, "sub-B", content=b"hang")
    config = SMALL.model_copy(update={"timeout_s": 1.5})
    summary = preprocess(tmp_path / "caps", bids=bids, **{**stand_in, "config": config})
    assert (summary.n_ok, summary.n_failed) == (3, 1)
    assert failures(tmp_path / "caps")["sub-B", "ses-M000"][0] == "timeout"


def test_the_quality_pages_show_every_visit(tmp_path, bids, stand_in):
    preprocess(tmp_path / "caps", bids=bids, **stand_in)
    page = (tmp_path / "caps" / "qc.html").read_text()
    assert page.count("<figure") == 4
    assert "phantom" in page


# What is refused


def bad_requests(tmp_path, bids):
    caps = tmp_path / "caps"
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").touch()
    (tmp_path / "file").touch()
    return [
        ((caps,), {"bids": tmp_path / "absent"}, "no such folder"),
        ((caps,), {}, "no such folder"),
        ((caps,), {"bids": bids, "participants": ["Z"]}, "no participant sub-Z"),
        ((caps,), {"bids": bids, "sessions": ["M999"]}, "no session ses-M999"),
        ((bids,), {"bids": bids}, "are one"),
        ((bids / "sub-A" / "caps",), {"bids": bids}, "inside a participant's folder"),
        ((tmp_path,), {"bids": bids}, "inside the CAPS"),
        ((tmp_path / "folder",), {"bids": bids}, "not a CAPS"),
        ((tmp_path / "file",), {"bids": bids}, "not a folder"),
        ((caps,), {"bids": bids, "visits_tsv": tmp_path / "no.tsv"}, "no.tsv: no such file"),
        ((caps,), {"bids": bids, "bids_filter": bids / "sub-A"}, "sub-A"),
        ((caps,), {"bids": bids, "config": FAST.model_copy(update={"template": "no.nii"})}, "no.nii: no such file"),
    ]


def test_a_request_that_makes_no_sense_is_one_line_and_writes_nothing(tmp_path, bids):
    for arguments, options, message in bad_requests(tmp_path, bids):
        before = tree(tmp_path)
        with pytest.raises(InputError, match=message) as caught:
            preprocess(*arguments, **options)
        assert "\n" not in str(caught.value)
        assert tree(tmp_path) == before
        assert not (tmp_path / "caps").exists()


def test_a_caps_inside_itself_is_refused(tmp_path, bids, stand_in):
    preprocess(tmp_path / "caps", bids=bids, **stand_in)
    with pytest.raises(InputError, match="lies inside another CAPS"):
        preprocess(tmp_path / "caps" / "subjects" / "caps", bids=bids, **stand_in)


def test_two_n4_distances_are_never_mixed(tmp_path, bids, stand_in):
    caps = tmp_path / "caps"
    preprocess(caps, bids=bids, participants=["A"], **stand_in)
    assert known_distance(caps) == 200
    other = {**stand_in, "config": SMALL.model_copy(update={"n4_distance": 600})}
    with pytest.raises(InputError, match=r"200 mm.*600 mm"):
        preprocess(caps, bids=bids, **other)


@pytest.mark.parametrize(("version", "distance"), [("0.11.3", 600), ("0.7.2", 600), ("0.12.0", 200), ("1.0.1", 200)])
def test_the_n4_distance_of_clinicas_caps_is_known_by_its_version(tmp_path, bids, version, distance):
    caps = clinica_caps(tmp_path / "caps", version)
    assert known_distance(caps) == distance
    config = FAST.model_copy(update={"n4_distance": 800 - distance})
    with pytest.raises(InputError, match=f"{distance} mm.*{800 - distance} mm"):
        preprocess(caps, bids=bids, config=config)


# Sharing and being killed (stand-in)


def command(caps, bids):
    code = (
        "from neuroaug.config import PreprocessingConfig as C; from neuroaug.imaging.preprocess import preprocess;"
        f"s = preprocess({str(caps)!r}, bids={str(bids)!r}, config=C(profile='fast', timeout_s=60), n_procs=2,"
        " target='visit_stand_in:work'); print(s.n_ok, s.n_failed, s.n_skipped)"
    )
    return [sys.executable, "-c", code]


def many(root, n):
    for i in range(n):
        scan(root, f"sub-{i:03d}", content=b"broken" if i % 7 == 3 else f"scan {i}".encode())
    return root


def test_two_processes_share_a_caps_and_do_every_visit_once(tmp_path, stand_in, done, monkeypatch):
    monkeypatch.setenv("STAND_IN_SECONDS", "0.2")
    bids = many(tmp_path / "bids", 20)
    both = [subprocess.Popen(command(tmp_path / "caps", bids), stdout=subprocess.PIPE, text=True) for _ in range(2)]
    counts = [list(map(int, process.communicate(timeout=120)[0].split()[-3:])) for process in both]
    work = done()
    assert len(work) == len(set(work)) == 20
    assert sum(n_ok for n_ok, _, _ in counts) == 17
    assert [n_failed for _, n_failed, _ in counts] == [3, 3]
    preprocess(tmp_path / "alone", bids=bids, **stand_in)
    assert tree(tmp_path / "caps") == tree(tmp_path / "alone")


def test_killed_at_random_moments_it_ends_with_the_same_bytes(tmp_path, stand_in, monkeypatch):
    monkeypatch.setenv("STAND_IN_SECONDS", "0.15")
    bids = many(tmp_path / "bids", 16)
    caps, moments = tmp_path / "caps", random.Random(5)
    for _ in range(3):
        process = subprocess.Popen(command(caps, bids), stdout=subprocess.DEVNULL)
        time.sleep(1.0 + moments.random())
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert subprocess.run(command(caps, bids), check=False, stdout=subprocess.DEVNULL).returncode == 0
    preprocess(tmp_path / "alone", bids=bids, **stand_in)
    assert tree(caps) == tree(tmp_path / "alone")
    assert not list((caps / ".neuroaug" / "work").iterdir())
    assert not list(caps.rglob(".tmp-*"))


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 1), (signal.SIGTERM, 143)])
def test_an_interrupt_leaves_whole_visits_only(tmp_path, stand_in, monkeypatch, number, status):
    monkeypatch.setenv("STAND_IN_SECONDS", "0.4")
    bids = many(tmp_path / "bids", 30)
    caps = tmp_path / "caps"
    process = subprocess.Popen(command(caps, bids), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not any('"ok"' in path.read_text() for path in caps.glob(".neuroaug/visits/sub-*")):
        time.sleep(0.05)
    time.sleep(0.2)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode in (status, -number)
    if number == signal.SIGINT:
        assert "finishing" in error
    assert not list(caps.rglob(".tmp-*"))
    begun = layout.list_visits(caps)
    assert 0 < len(begun) < 25
    assert all(records.read_record(caps, visit).status == "ok" for visit in begun)
    assert {p.name for p in caps.glob("subjects/*")} == {visit.participant_id for visit in begun}
    assert not list((caps / ".neuroaug" / "locks").iterdir())


# Clinica's CAPS


def clinica_caps(root, version="0.11.0", n=1):
    """A CAPS laid out as Clinica writes it, smooth blobs for heads."""
    (root / "subjects").mkdir(parents=True)
    processing = [{"Name": "t1-linear", "ClinicaVersion": version, "Author": "a", "Machine": "m", "InputPath": "/i"}]
    (root / "dataset_description.json").write_text(
        json.dumps(
            {"Name": "x", "BIDSVersion": "1.7.0", "CAPSVersion": "1.0.0", "DatasetType": "derivative",
             "Processing": processing}
        )
    )  # fmt: skip
    grid = GRIDS["1mm"]
    axes = np.meshgrid(*(np.linspace(-1, 1, length) for length in grid.shape), indexing="ij")
    for i in range(n):
        visit = Visit(f"sub-C{i}", "ses-M000")
        data = np.exp(-3 * sum(axis**2 for axis in axes)) * (100 + i)
        write_volume(layout.t1_linear_image(root, visit), data.astype(np.float32), grid.affine, level=1)
        layout.t1_linear_affine(root, visit).write_bytes(b"affine")
    return root


def test_clinicas_caps_gets_what_it_lacks_and_keeps_what_it_has(tmp_path):
    caps = clinica_caps(tmp_path / "caps")
    before = tree(caps)
    summary = preprocess(caps, config=FAST)
    assert (summary.n_ok, summary.n_failed) == (1, 0)
    after = tree(caps)
    assert {name: after[name] for name in before} == before
    visit = Visit("sub-C0", "ses-M000")
    one, two, four = (nib.load(layout.t1_linear_image(caps, visit, r)) for r in ("1mm", "2mm", "4mm"))
    np.testing.assert_array_equal(two.get_fdata(dtype=np.float32), block_mean(one.get_fdata(dtype=np.float32)))
    assert GRIDS["2mm"].matches(two.shape, two.affine)
    assert GRIDS["4mm"].matches(four.shape, four.affine)
    assert (caps / "qc.tsv").exists()
    again = preprocess(caps, config=FAST)
    assert (again.n_ok, again.n_skipped) == (0, 1)


def test_clinicas_read_only_caps_is_completed_elsewhere(tmp_path):
    caps = clinica_caps(tmp_path / "caps")
    before = tree(caps)
    out = tmp_path / "out"
    assert preprocess(caps, out=out, config=FAST).n_ok == 1
    assert tree(caps) == before
    assert [str(v) for v in layout.list_visits(layout.require_caps(out), "2mm")] == ["sub-C0 ses-M000"]
    assert preprocess(caps, out=out, config=FAST).n_skipped == 1


def test_a_caps_copied_without_its_hidden_folder_is_taken_over_by_its_sidecars(tmp_path, bids, stand_in, done):
    caps = tmp_path / "caps"
    preprocess(caps, bids=bids, **stand_in)
    done()
    shutil.rmtree(caps / ".neuroaug")
    visit = Visit("sub-B", "ses-M000")
    layout.t1_linear_sidecar(caps, visit).write_text(
        json.dumps(
            {
                "parameters": {"profile": "fast", "n4": {"spline_distance_mm": 200}},
                "template": {"sha256": load_template().sha256},
                "input": {"sha256": hashlib.sha256(b"sub-B").hexdigest()},
            }
        )
    )
    assert known_distance(caps) == 200
    preprocess(caps, bids=bids, participants=["B", "C"], **stand_in)
    assert done() == ["sub-B ses-M000 complete", "sub-C ses-M000 process"]
    preprocess(caps, bids=bids, participants=["B", "C"], **stand_in)
    assert done() == []


# ANTs itself


def head(root, participant, data=None, affine=None, **header):
    """A scan of the phantom cohort's kind, or voxels given, as a NIfTI file."""
    path = root / participant / "ses-M000" / "anat" / f"{participant}_ses-M000_T1w.nii.gz"
    path.parent.mkdir(parents=True)
    nib.save(nib.Nifti1Image(data, affine if affine is not None else np.diag([4.0, 4.0, 4.0, 1.0])), path)
    return path


@pytest.fixture(scope="module")
def raw_head(tmp_path_factory):
    """One phantom head, 4 mm voxels, in a pose."""
    from neuroaug.imaging.phantom import make_cohort, scan_path

    root = tmp_path_factory.mktemp("phantom")
    make_cohort(root, n_participants=1, voxel_mm=4.0)
    return scan_path(root, next(root.glob("sub-*")).name)


def broken_visits(root, good):
    """Beside each other, every kind of scan and row that must be refused: (participant, session) to its reason."""
    image = nib.load(good)
    data, affine = image.get_fdata(dtype=np.float32), image.affine
    raw = good.read_bytes()

    def put(participant, content):
        scan(root, participant, content=content)

    put("sub-truncated", raw[: len(raw) // 2])
    put("sub-corrupt", raw[:5000] + bytes(500) + raw[5500:])
    put("sub-empty", b"")
    put("sub-text", b"not an image")
    head(root, "sub-4D", np.stack([data, data], axis=3), affine)
    nan = data.copy()
    nan[5, 5, 5] = np.nan
    head(root, "sub-nan", nan, affine)
    head(root, "sub-constant", np.zeros_like(data), affine)
    head(root, "sub-thin", data[:, :, :5], affine)
    head(root, "sub-coarse", data, affine @ np.diag([3, 3, 3, 1]))
    singular = affine.copy()
    singular[:3, 1] = singular[:3, 0]
    flat = head(root, "sub-singular", data, np.eye(4) * 4)
    broken = nib.load(flat)
    broken.header.set_sform(singular, 2)
    broken.header.set_qform(None, 0)
    content = bytearray(nib.Nifti1Image(data, None, broken.header).to_bytes())
    flat.with_suffix("").with_suffix(".nii").write_bytes(bytes(content))
    flat.unlink()
    (root / "sub-nothing" / "ses-M000" / "anat").mkdir(parents=True)
    scan(root, "sub-session", "ses-M_00")
    (root / "sub-nosession" / "anat").mkdir(parents=True)
    shutil.copy(good, root / "sub-nosession" / "anat" / "sub-nosession_T1w.nii.gz")
    (root / "participants.tsv").write_text("participant_id\nsub-absent\n../../outside\n")
    return {
        ("sub-truncated", "ses-M000"): "truncated",
        ("sub-corrupt", "ses-M000"): "corrupt",
        ("sub-empty", "ses-M000"): "empty",
        ("sub-text", "ses-M000"): "gz",
        ("sub-4D", "ses-M000"): "not a 3D image",
        ("sub-nan", "ses-M000"): "non-finite",
        ("sub-constant", "ses-M000"): "constant",
        ("sub-thin", "ses-M000"): "fewer than 8",
        ("sub-coarse", "ses-M000"): "voxel size",
        ("sub-singular", "ses-M000"): "singular",
        ("sub-nothing", "ses-M000"): "no T1w",
        ("sub-session", "ses-M_00"): "ses-M_00",
        ("sub-nosession", "n/a"): "outside a session folder",
        ("sub-absent", "n/a"): "no T1w",
        ("../../outside", "n/a"): "not a participant",
    }


def test_every_kind_of_broken_visit_is_told_by_its_reason(tmp_path, raw_head, caplog, capfd):
    bids, caps = tmp_path / "bids", tmp_path / "caps"
    reasons = broken_visits(bids, raw_head)
    around, here = {path.name for path in tmp_path.iterdir()}, sorted(Path.cwd().iterdir())
    summary = preprocess(caps, bids=bids, config=FAST, n_procs=2)
    assert (summary.n_ok, summary.n_failed) == (0, len(reasons))
    found = failures(caps)
    assert set(found) == set(reasons)
    for key, reason in reasons.items():
        assert reason in found[key][1], (key, found[key])
    assert "Traceback" not in "".join(capfd.readouterr()) + caplog.text
    assert {path.name for path in tmp_path.iterdir()} == around | {"caps"}
    assert sorted(Path.cwd().iterdir()) == here
    assert not list(caps.glob("subjects/*"))


@pytest.mark.slow
def test_beside_broken_visits_the_good_one_is_done_by_ants(tmp_path, raw_head):
    bids, caps = tmp_path / "bids", tmp_path / "caps"
    reasons = broken_visits(bids, scan(bids, "sub-good", content=raw_head.read_bytes()))
    summary = preprocess(caps, bids=bids, config=FAST)
    assert (summary.n_ok, summary.n_failed) == (1, len(reasons))
    assert [path.name for path in (caps / "subjects").iterdir()] == ["sub-good"]
    visit = Visit("sub-good", "ses-M000")
    folder = layout.t1_linear_folder(caps, visit)
    stem = "sub-good_ses-M000_space-MNI152NLin2009cSym"
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        f"{stem}_{rest}"
        for rest in (
            "desc-Crop_res-1x1x1_T1w.nii.gz", "desc-Crop_res-1x1x1_T1w.json", "desc-Crop_res-2x2x2_T1w.nii.gz",
            "desc-Crop_res-4x4x4_T1w.nii.gz", "res-1x1x1_T1w.nii.gz", "res-1x1x1_affine.mat",
        )
    )  # fmt: skip
    for resolution, grid in GRIDS.items():
        image = nib.load(layout.t1_linear_image(caps, visit, resolution))
        assert grid.matches(image.shape, image.affine)
    uncropped = nib.load(layout.t1_linear_image(caps, visit, cropped=False))
    assert UNCROPPED.matches(uncropped.shape, uncropped.affine)
    assert (caps / "qc.html").read_text().count("<figure") == 1
    assert records.passed_visits(caps) is not None
    assert preprocess(caps, bids=bids, config=FAST).n_skipped == 1


@pytest.mark.slow
def test_killed_at_random_moments_ants_ends_with_the_same_bytes(tmp_path, raw_head):
    bids, caps, moments = tmp_path / "bids", tmp_path / "caps", random.Random(2)
    for name in ("A", "B"):
        scan(bids, f"sub-{name}", content=raw_head.read_bytes())
    code = (
        "from neuroaug.config import PreprocessingConfig as C; from neuroaug.imaging.preprocess import preprocess;"
        f"preprocess({str(caps)!r}, bids={str(bids)!r}, config=C(profile='fast'), n_procs=2)"
    )
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", code])
        time.sleep(5 + 60 * moments.random())
        process.kill()
        process.wait()
    preprocess(caps, bids=bids, config=PreprocessingConfig(profile="fast"), n_procs=1)
    preprocess(tmp_path / "alone", bids=bids, config=PreprocessingConfig(profile="fast"), n_procs=2)
    assert tree(caps) == tree(tmp_path / "alone")


VALIDATOR = Path(sys.executable).with_name("bids-validator-deno")


def bids_errors(folder):
    """What the BIDS validator calls an error, offline."""
    result = subprocess.run([VALIDATOR, folder, "--json"], capture_output=True, text=True, check=False)
    issues = json.loads(result.stdout)["issues"]["issues"]
    return [issue for issue in issues if issue.get("severity") == "error"]


@pytest.mark.skipif(not VALIDATOR.exists(), reason="bids-validator-deno is not installed")
def test_the_bids_validator_finds_no_error_in_the_derivative(tmp_path, bids, stand_in):
    scan(bids, "sub-B", content=b"broken")
    preprocess(tmp_path / "caps", bids=bids, **stand_in)
    assert bids_errors(tmp_path / "caps") == []


@pytest.mark.slow
def test_clinicadl_reads_the_result(tmp_path):
    bids_module = pytest.importorskip("clinicadl.io.bids")
    from clinicadl.data.datasets import BidsDataset

    caps = clinica_caps(tmp_path / "caps", n=2)
    preprocess(caps, config=FAST)
    entities = {"space": "MNI152NLin2009cSym", "desc": "Crop", "res": "2x2x2"}
    kind = bids_module.BidsFileType(data_type="t1_linear", suffix="T1w", with_entities=entities)
    dataset = BidsDataset(caps, kind)
    assert len(dataset) == 2
    assert tuple(dataset[0]["image"].shape[-3:]) == GRIDS["2mm"].shape
