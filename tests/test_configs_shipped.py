"""The ready-made configurations are valid and hold the papers' grids."""

import pytest

from neuroaug.config import read_config
from neuroaug.system.packaged_files import packaged, shipped

NUMBERS = (500, 1000, 2000, 3000, 5000, 10000)


def load(name):
    return read_config(shipped("configs") / f"{name}.yaml")


def grid(split, network="baseline"):
    """The fourteen rows of one of TPAMI's Tables 14 to 17."""
    head = f"{split}_{network}"
    names = {f"{head}_2mm_real", f"{head}_1mm_real"}
    return names | {
        f"{head}_2mm_{kind}-{n}" for kind in ("synthetic", "real+synthetic") for n in NUMBERS
    }


@pytest.mark.parametrize(
    "path", sorted(shipped("configs").glob("*.yaml")), ids=lambda path: path.stem
)
def test_every_configuration_is_valid(path):
    config = read_config(path)
    assert config.cells()
    for cell in config.cells():
        if cell.split != "train":
            assert int(cell.split.removeprefix("train-")) in config.split.subsets


@pytest.mark.parametrize(
    ("name", "split"), [("adni-train50", "train-50"), ("adni-trainfull", "train")]
)
def test_adni_grids_are_the_papers_with_the_controls_that_they_lack(name, split):
    config = load(name)
    names = {cell.name for cell in config.cells()}
    assert grid(split) | grid(split, "optimised") <= names
    assert f"{split}_baseline_2mm_real+classical" in names
    assert f"{split}_baseline_2mm_real+classical+synthetic-5000" in names
    assert {f"{split}_baseline_2mm_real+synthetic-{n}_steps-matched" for n in NUMBERS} <= names
    assert (config.cohort, config.split.n_test, config.split.validation) == ("adni", 100, 0.2)
    assert (config.evaluation.runs, config.evaluation.epochs) == (20, 100)
    assert (config.evaluation.epochs_of("baseline"), config.evaluation.epochs_of("optimised")) == (
        100,
        50,
    )
    assert (config.search.draws, config.search.folds, config.search.epochs) == (100, 5, 50)
    assert not config.external


def test_aibl_is_tested_on_and_never_trained_on():
    config = load("aibl")
    expected = [
        grid(split, network)
        for split in ("train-50", "train")
        for network in ("baseline", "optimised")
    ]
    assert {cell.name for cell in config.cells()} == set.union(*expected)
    assert set(config.external) == {"aibl"}
    assert config.cohort == "adni"


def test_oasis_keeps_the_old_and_walks_at_random():
    config = load("oasis")
    assert (config.cohort, config.split.min_age, config.synthesis.sampler) == (
        "oasis1",
        62,
        "random-walk",
    )
    assert {cell.n_synthetic for cell in config.cells()} == {0, 200, 500, 1000, 2000}
    assert (config.generator.latent_dim, config.generator.temperature) == (2, 0.8)


def test_published_figures_stand_beside_every_cell_of_the_adni_grids():
    from neuroaug.system.files import read_tsv

    published = set(read_tsv(packaged("report", "published.tsv"))["cell"])
    for split in ("train-50", "train"):
        assert grid(split) | grid(split, "optimised") <= published


def test_every_published_cell_has_a_name_that_a_study_could_have():
    from neuroaug.config import Cell
    from neuroaug.system.files import read_tsv

    for name in set(read_tsv(packaged("report", "published.tsv"))["cell"]):
        assert Cell.parse(name).name == name
