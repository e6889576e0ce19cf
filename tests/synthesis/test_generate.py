"""Synthetic images: a function of (model, seed, label, index) alone, whole or absent, traceable."""

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file
from untrained import make_model

from neuroaug.cohort import lineage
from neuroaug.errors import InputError, ResourceError
from neuroaug.imaging import grid as grids
from neuroaug.imaging.nifti import read_volume
from neuroaug.samplers import latents
from neuroaug.synthesis import generate as generation
from neuroaug.synthesis import synthetic_caps as layout
from neuroaug.synthesis.generate import generate

SHAPE = (10, 12, 9)
AFFINE = np.diag([4.0, 4.0, 4.0, 1.0])


@pytest.fixture(autouse=True)
def small_grid(monkeypatch):
    """A grid of 10x12x9 voxels in place of the 4 mm one, and blocks of 8 draws."""
    small = grids.Grid(SHAPE, AFFINE)
    monkeypatch.setitem(grids.GRIDS, "4mm", small)
    monkeypatch.setattr(latents, "BLOCK", 8)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model") / "AD", SHAPE)


def images(folder):
    return {p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob("*.nii.gz"))}


def test_a_set_reads_as_a_caps_with_the_affine_of_real_images(model, tmp_path):
    summary = generate(model, n=5, out=tmp_path / "AD")
    assert (summary.n_written, summary.n_present) == (5, 5)
    path = layout.image_path(tmp_path / "AD", "AD", 5, "4mm")
    assert (
        path.name
        == "sub-synAD00005_ses-M000_space-MNI152NLin2009cSym_desc-Crop_res-4x4x4_T1w.nii.gz"
    )
    volume = read_volume(path)
    assert volume.data.shape == SHAPE
    np.testing.assert_allclose(volume.affine, AFFINE)
    assert volume.data.min() >= 0
    assert volume.data.max() <= 1
    table = pd.read_csv(tmp_path / "AD" / "participants.tsv", sep="\t")
    assert table["participant_id"].tolist() == [f"sub-synAD{i:05d}" for i in range(1, 6)]
    assert set(table["diagnosis"]) == {"AD"}
    assert table["index"].tolist() == [1, 2, 3, 4, 5]
    assert lineage.read_lineage(tmp_path / "AD")["participant_id"].tolist() == [
        f"sub-{i:02d}" for i in range(6)
    ]


def test_the_files_hold_what_the_model_samples(model, tmp_path):
    from neuroaug.models import load_model

    generate(model, n=3, out=tmp_path / "AD")
    sampled = load_model(model).sample(3, sampler="hmc", seed=0)[:, 0].numpy()
    written = [
        read_volume(layout.image_path(tmp_path / "AD", "AD", i, "4mm")).data for i in (1, 2, 3)
    ]
    np.testing.assert_array_equal(written, sampled)


def test_extending_sharding_and_interrupting_change_no_byte(model, tmp_path):
    generate(model, n=20, out=tmp_path / "whole")
    generate(model, n=3, out=tmp_path / "parts")
    generate(model, n=20, out=tmp_path / "parts", shard=(2, 2))
    generate(model, n=20, out=tmp_path / "parts", shard=(1, 2))
    assert images(tmp_path / "parts") == images(tmp_path / "whole")
    lost = layout.image_path(tmp_path / "parts", "AD", 11, "4mm")
    lost.unlink()
    (lost.parent / ".tmp-123-half.nii.gz").write_bytes(b"half")
    summary = generate(model, n=20, out=tmp_path / "parts")
    assert summary.n_written == 1
    assert images(tmp_path / "parts") == images(tmp_path / "whole")
    for name in ("participants.tsv", "draws.tsv"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_fewer_than_present_is_nothing_to_do(model, tmp_path):
    generate(model, n=4, out=tmp_path / "AD")
    before = images(tmp_path / "AD")
    assert generate(model, n=2, out=tmp_path / "AD").n_written == 0
    assert images(tmp_path / "AD") == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "seed 0, not 1"),
        ({"sampler": "prior"}, "sampler hmc"),
        ({"dtype": "uint8"}, "dtype float32"),
    ],
)
def test_a_set_is_never_mixed(model, tmp_path, change, message):
    generate(model, n=2, out=tmp_path / "AD")
    before = images(tmp_path / "AD")
    with pytest.raises(InputError, match=message):
        generate(model, n=4, out=tmp_path / "AD", **change)
    assert images(tmp_path / "AD") == before


def test_draws_of_another_model_are_refused(model, tmp_path):
    generate(model, n=2, out=tmp_path / "AD")
    other = make_model(tmp_path / "other", SHAPE, seed=1)
    with pytest.raises(InputError, match="another folder with --out"):
        generate(other, n=4, out=tmp_path / "AD")


def test_another_seed_gives_other_images(model, tmp_path):
    generate(model, n=2, out=tmp_path / "a", seed=0)
    generate(model, n=2, out=tmp_path / "b", seed=1)
    assert set(images(tmp_path / "a").values()).isdisjoint(images(tmp_path / "b").values())


def test_uint8_holds_the_same_image_to_half_a_level(model, tmp_path):
    generate(model, n=1, out=tmp_path / "f")
    generate(model, n=1, out=tmp_path / "u", dtype="uint8")
    exact, coarse = (
        read_volume(layout.image_path(tmp_path / d, "AD", 1, "4mm")).data for d in ("f", "u")
    )
    np.testing.assert_allclose(coarse, exact, atol=0.5 / 255 + 1e-6)


def test_nothing_is_written_where_the_disk_is_too_small(model, tmp_path, monkeypatch):
    monkeypatch.setattr(generation, "free_bytes", lambda folder: 10)
    with pytest.raises(ResourceError, match=r"need up to .* are free"):
        generate(model, n=2, out=tmp_path / "AD")
    assert not (tmp_path / "AD").exists()


def test_a_folder_of_something_else_is_left_alone(model, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(InputError, match="not a synthetic CAPS"):
        generate(model, n=2, out=tmp_path / "mine")
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_zero_images_and_a_missing_model_are_refused(model, tmp_path):
    with pytest.raises(InputError, match="--n 0"):
        generate(model, n=0, out=tmp_path / "AD")
    with pytest.raises(InputError, match="no trained model"):
        generate(tmp_path / "nothing", n=1, out=tmp_path / "AD")


def test_a_model_without_lineage_draws_nothing(model, tmp_path):
    other = make_model(tmp_path / "other", SHAPE)
    (other / "lineage.tsv").unlink()
    with pytest.raises(InputError, match=r"lineage\.tsv"):
        generate(other, n=1, out=tmp_path / "AD")
    assert not (tmp_path / "AD").exists()


def test_clinicadl_reads_the_set(model, tmp_path):
    from clinicadl.data.datasets import BidsDataset
    from clinicadl.io.bids import BidsFileType

    generate(model, n=2, out=tmp_path / "AD")
    entities = {"space": "MNI152NLin2009cSym", "desc": "Crop", "res": "4x4x4"}
    dataset = BidsDataset(
        tmp_path / "AD", BidsFileType(data_type="t1_linear", suffix="T1w", with_entities=entities)
    )
    assert len(dataset) == 2


def test_the_weights_on_disk_are_safetensors(model):
    assert load_file(model / "weights.safetensors")
