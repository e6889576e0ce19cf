"""A raw data set of four visits, and a stand-in that writes what ANTs would."""

import pytest
from visits import SMALL, STAND_IN, scan


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


@pytest.fixture
def bids(tmp_path):
    """A BIDS folder of four visits, the content of each its name."""
    root = tmp_path / "bids"
    for participant in ("sub-A", "sub-B", "sub-C"):
        scan(root, participant, content=participant.encode())
    scan(root, "sub-A", "ses-M012", b"later")
    (root / "dataset_description.json").write_text(
        '{"Name": "a phantom cohort", "BIDSVersion": "1.7.0"}'
    )
    return root
