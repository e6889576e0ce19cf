"""Leaks through a shared anatomy: planted among the unlabelled or in another label, named."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import tiny_caps
import yaml
from test_own_labels import people, write_study
from test_shared_anatomy import config
from typer.testing import CliRunner

from neuroaug.cli import app
from neuroaug.imaging import caps
from neuroaug.system.files import read_tsv, write_tsv

pytestmark = pytest.mark.timeout(900)


def tell(root, monkeypatch, *arguments):
    monkeypatch.chdir(root)
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    return result.exit_code, " ".join(result.output.split())


def image(root, participant, session="ses-M000"):
    return caps.t1_linear_image(root / "caps", caps.Visit(participant, session), "4mm")


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A study with a split, one spare person without label, and images of a smooth anatomy."""
    root = tmp_path / "study"
    spare = [(f"sub-x{i}", "unknown") for i in range(4)]
    generator = {"model": "linear", "latent_dim": 3, "shared": True, "unlabelled": "others.tsv"}
    write_study(root, people("control", "depr", n=12), config(generator=generator))
    rng = np.random.default_rng(5)
    example = nib.load(image(root, "sub-00"))
    for name, _ in spare:
        volume = rng.random(example.shape, dtype=np.float32)
        tiny_caps.write_volume(image(root, name), volume, example.affine, level=1)
    write_unlabelled(root, [name for name, _ in spare])
    assert tell(root, monkeypatch, "split")[0] == 0
    return root


def write_unlabelled(root, names):
    rows = {"participant_id": names, "session_id": "ses-M000", "age": "50"}
    write_tsv(root / "others.tsv", pd.DataFrame(rows))


def in_set(root, name, k=0):
    return read_tsv(root / "splits" / f"{name}.tsv")["participant_id"][k]


def draw_and_evaluate(root, monkeypatch):
    for label in ("HC", "MDD"):
        code, said = tell(root, monkeypatch, "augment", "--label", label, "--n", 2)
        if code:
            return code, said
    return tell(root, monkeypatch, "evaluate", "--cell", "synthetic-2", "--dry-run")


def test_without_a_plant_it_passes_and_the_unlabelled_were_looked_at(study, monkeypatch):
    code, said = draw_and_evaluate(study, monkeypatch)
    assert code == 0, said
    proof = read_tsv(study / "evaluation" / "train_baseline_4mm_synthetic-2" / "leakage.tsv")
    looked = proof[
        (proof["check"] == "no image nearly the same") & (proof["generator"] != "training set")
    ]
    assert len(looked)
    assert set(looked["result"]) == {"passed"}


@pytest.mark.parametrize("name", ["test", "validation"])
def test_a_tested_person_among_the_unlabelled_is_refused_before_training(study, monkeypatch, name):
    who = in_set(study, name)
    write_unlabelled(study, ["sub-x0", who])
    code, said = tell(study, monkeypatch, "train", "--label", "HC")
    assert code == 2
    assert f"{who}: in the {name} set" in said
    assert not (study / "models").exists()


@pytest.mark.parametrize("kind", ["same voxels", "8 bits", "mirrored"])
def test_the_image_of_a_tested_person_under_another_name_is_refused(study, monkeypatch, kind):
    who = in_set(study, "test")
    source = nib.load(image(study, who))
    data = np.asarray(source.dataobj, dtype=np.float32)
    if kind == "8 bits":
        data = np.rint(data / data.max() * 255).astype(np.float32)
    if kind == "mirrored":
        data = data[::-1].copy()
    tiny_caps.write_volume(image(study, "sub-x1"), data, source.affine, level=1)
    code, said = draw_and_evaluate(study, monkeypatch)
    assert code == 2
    nearly = "is a copy of the image of" if kind == "same voxels" else "is nearly the image of"
    assert f"sub-x1 {nearly} {who}" in said
    proof = read_tsv(study / "evaluation" / "train_baseline_4mm_synthetic-2" / "leakage.tsv")
    assert "refused" in set(proof["result"])


def test_a_validation_person_in_another_labels_training_is_refused(study, monkeypatch):
    """The anatomy of all labels was trained when the person was still a training person."""
    who = in_set(study, "validation")
    for label in ("HC", "MDD"):
        assert tell(study, monkeypatch, "augment", "--label", label, "--n", 2)[0] == 0
    for folder in (study / "synthetic" / "train" / "HC", study / "models" / "train" / "HC"):
        path = folder / "lineage.tsv"
        table = read_tsv(path)
        row = table.iloc[[0]].assign(participant_id=who)
        write_tsv(path, pd.concat([table, row], ignore_index=True))
    code, said = tell(study, monkeypatch, "evaluate", "--cell", "synthetic-2", "--dry-run")
    assert code == 2
    assert f"{who} is in validation" in said


def test_an_unlabelled_image_that_was_replaced_since_is_refused(study, monkeypatch):
    for label in ("HC", "MDD"):
        assert tell(study, monkeypatch, "augment", "--label", label, "--n", 2)[0] == 0
    affine = nib.load(image(study, "sub-x2")).affine
    volume = np.random.default_rng(1).random(nib.load(image(study, "sub-x2")).shape)
    tiny_caps.write_volume(image(study, "sub-x2"), volume.astype(np.float32), affine, level=1)
    code, said = tell(study, monkeypatch, "evaluate", "--cell", "synthetic-2", "--dry-run")
    assert code == 2
    assert "the image of sub-x2 is not the one that the generator learned from" in said


def test_the_law_of_a_bayes_rule_is_proved_too(study, monkeypatch):
    assert tell(study, monkeypatch, "train", "--label", "MDD")[0] == 0
    who = in_set(study, "test")
    path = study / "models" / "train" / "MDD" / "lineage.tsv"
    table = read_tsv(path)
    write_tsv(path, pd.concat([table, table.iloc[[0]].assign(participant_id=who)]))
    cell = "train_bayes-rule_4mm_real"
    code, said = tell(study, monkeypatch, "evaluate", "--cell", cell, "--dry-run")
    assert code == 2
    assert f"{who} is in test" in said


def test_unlabelled_scans_are_trained_on_with_the_probability_of_the_law(study, monkeypatch):
    from neuroaug.config import Cell
    from neuroaug.evaluation.image_store import ImageStore
    from neuroaug.evaluation.prepare_runs import prepare
    from neuroaug.evaluation.run_cells import read_images
    from neuroaug.models import load_model
    from neuroaug.study import Study

    for label in ("HC", "MDD"):
        assert tell(study, monkeypatch, "train", "--label", label)[0] == 0
    cell = Cell.parse("train_baseline_4mm_soft-unlabelled")
    (run,) = prepare(Study.open(study), [cell], [0])
    train = read_images(run, ImageStore(study / "cache", "4mm")).train
    assert list(train.table["participant_id"]) == [f"sub-x{i}" for i in range(4)]
    assert not train.synthetic.any()
    model = load_model(study / "models" / "train" / "MDD")
    import torch

    x = torch.from_numpy(train.stored(np.arange(4)).astype(np.float32) / 255)[:, None]
    codes = model.encode(x)[0].double().numpy()
    expected = model.law.probabilities(codes)[:, model.law.labels.index("MDD")]
    np.testing.assert_allclose(train.targets, expected, atol=1e-9)
    both = "train_baseline_4mm_real+soft-unlabelled"
    code, said = tell(study, monkeypatch, "evaluate", "--cell", cell.name, both)
    assert code == 0, said
    scores = read_tsv(study / "evaluation" / both / "run-0" / "scores.tsv")
    assert len(scores) == 6


def test_unlabelled_scans_without_a_law_are_refused(study, monkeypatch):
    (study / "others.tsv").unlink()
    generator = {"model": "linear", "latent_dim": 3, "shared": True}
    (study / "neuroaug.yaml").write_text(yaml.safe_dump(config(generator=generator)))
    assert tell(study, monkeypatch, "train", "--label", "MDD")[0] == 0
    cell = "train_baseline_4mm_soft-unlabelled"
    code, said = tell(study, monkeypatch, "evaluate", "--cell", cell)
    assert code == 2
    assert "its generator learned from no visit without a label" in said


def test_unlabelled_images_that_are_gone_are_counted(study, monkeypatch, caplog):
    for label in ("HC", "MDD"):
        assert tell(study, monkeypatch, "augment", "--label", label, "--n", 2)[0] == 0
    image(study, "sub-x3").unlink()
    code, said = tell(study, monkeypatch, "evaluate", "--cell", "synthetic-2", "--dry-run")
    assert code == 0, said
    assert "1 of 4 unlabelled visits have no 4mm image any more" in caplog.text + said
