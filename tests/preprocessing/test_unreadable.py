"""What a user has no right to read costs a visit, through the command line: its reason is told, the
others go on.
"""

import json
import subprocess
import sys

import pytest
from visits import clinica_caps, failures, obey_modes, scan

from neuroaug.imaging import caps as caps_names
from neuroaug.imaging.bids import Visit


def neuroaug(*arguments):
    """The command, without root's rights over what modes forbid."""
    command = [sys.executable, "-c", "from neuroaug.cli import main; main()", *map(str, arguments)]
    return subprocess.run(
        command, preexec_fn=obey_modes, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.fixture
def forbid():
    """Take a folder's or file's rights away, until the end of the test."""
    forbidden = []

    def take(path):
        forbidden.append((path, path.stat().st_mode))
        path.chmod(0)

    yield take
    for path, mode in reversed(forbidden):
        path.chmod(mode)


def test_raw_folders_that_cannot_be_read_are_rows_and_lines(tmp_path, forbid):
    bids, caps = tmp_path / "bids", tmp_path / "caps"
    image = scan(bids, "sub-image")
    scan(bids, "sub-broken", content=b"broken")
    for participant in ("sub-anat", "sub-session", "sub-folder"):
        scan(bids, participant)
    forbid(image)
    forbid(bids / "sub-anat" / "ses-M000" / "anat")
    forbid(bids / "sub-session" / "ses-M000")
    forbid(bids / "sub-folder")
    done = neuroaug("preprocess", caps, "--bids", bids, "--profile", "fast")
    assert done.returncode == 1, done.stderr
    rows = failures(caps)
    assert set(rows) == {
        ("sub-image", "ses-M000"), ("sub-broken", "ses-M000"), ("sub-anat", "ses-M000"),
        ("sub-session", "ses-M000"), ("sub-folder", "n/a"),
    }  # fmt: skip
    lines = done.stderr.splitlines()
    for (participant, session), (stage, reason) in rows.items():
        assert [line for line in lines if line == f"{participant} {session}: {stage}: {reason}"]
    del rows["sub-broken", "ses-M000"]
    assert all("no permission to read it" in reason for _, reason in rows.values())
    assert not [reason for _, reason in rows.values() if str(tmp_path) in reason]
    looked = neuroaug("check", bids, "--json")
    assert looked.returncode == 1
    told = {
        finding["path"].split("/")[0]
        for finding in json.loads(looked.stdout)
        if finding["severity"] == "error"
    }
    assert {"sub-image", "sub-anat", "sub-session", "sub-folder"} <= told
    assert "Traceback" not in done.stderr + looked.stderr


def test_visits_of_clinicas_caps_that_cannot_be_read_are_rows_and_lines(tmp_path, forbid):
    caps, out = clinica_caps(tmp_path / "caps", n=4), tmp_path / "out"
    forbid(caps_names.t1_linear_image(caps, Visit("sub-C1", "ses-M000")))
    forbid(caps_names.t1_linear_folder(caps, Visit("sub-C2", "ses-M000")))
    forbid(caps / "subjects" / "sub-C3")
    done = neuroaug("preprocess", caps, "--out", out, "--resolution", "4mm")
    assert done.returncode == 1, done.stderr
    rows = failures(out)
    assert {participant for participant, _ in rows} == {"sub-C1", "sub-C2", "sub-C3"}
    assert caps_names.list_visits(out, "4mm") == [Visit("sub-C0", "ses-M000")]
    looked = neuroaug("check", caps, "--json")
    assert looked.returncode == 1
    told = " ".join(
        finding["path"] for finding in json.loads(looked.stdout) if finding["severity"] == "error"
    )
    assert all(f"sub-C{i}" in told for i in (1, 2, 3))
    assert "Traceback" not in done.stderr + looked.stderr
