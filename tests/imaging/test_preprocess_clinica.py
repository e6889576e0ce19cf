"""A CAPS that Clinica wrote is completed and never changed."""

import hashlib
import json
import shutil

import nibabel as nib
import numpy as np
from visits import FAST, clinica_caps, tree

from neuroaug.imaging import caps as layout
from neuroaug.imaging.caps import Visit
from neuroaug.imaging.grid import GRIDS, block_mean
from neuroaug.imaging.preprocess import preprocess
from neuroaug.imaging.request import known_distance
from neuroaug.imaging.template import load_template


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
