"""Configurations cut down, and values typed over a configuration's."""

import pytest

from neuroaug.config import StudyConfig, parse_config, read_config
from neuroaug.config.override import override
from neuroaug.errors import InputError
from neuroaug.system.packaged_files import shipped
from neuroaug.workflow.rehearse import rehearse

PAPERS = ("adni-train50", "adni-trainfull", "aibl", "oasis")


@pytest.mark.parametrize("name", PAPERS)
def test_a_rehearsal_has_as_many_cells_each_of_the_same_kind(name):
    config = read_config(shipped("configs") / f"{name}.yaml")
    small, _ = rehearse(config)
    cells = list(zip(config.cells(), small.cells(), strict=True))
    for before, after in cells:
        assert (before.network, before.steps) == (after.network, after.steps)
        assert (before.uses_real, before.uses_classical, before.n_synthetic > 0) == (
            after.uses_real,
            after.uses_classical,
            after.n_synthetic > 0,
        )
    pairs = [(before.n_synthetic, after.n_synthetic) for before, after in cells]
    assert all((a > c) == (b > d) for a, b in pairs for c, d in pairs), (
        "the order of the numbers is kept"
    )
    assert max(after.n_synthetic for _, after in cells) <= 12
    assert (small.resolution, small.evaluation.runs, small.search.draws) == ("4mm", 2, 2)
    assert small.phantom is not None
    assert small.cohort == small.phantom.cohort == config.cohort
    assert not small.external


def test_typed_values_replace_those_of_the_file():
    config = override(
        StudyConfig(),
        ["evaluation.runs=5", "split.subsets=[20, 30]", "caps=/data/caps", "bids=null"],
    )
    assert (config.evaluation.runs, config.split.subsets, config.caps, config.bids) == (
        5,
        (20, 30),
        "/data/caps",
        None,
    )
    assert config.evaluation.epochs == StudyConfig().evaluation.epochs
    assert override(config, ["phantom.n_participants=9"]).phantom.n_participants == 9


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("evaluation.runs", "expected KEY=VALUE"),
        ("evaluation.rnus=5", "unknown key 'evaluation.rnus'; did you mean 'runs'?"),
        ("evalution.runs=5", "unknown key 'evalution'; did you mean 'evaluation'?"),
        ("evaluation.runs=many", "evaluation.runs"),
        ("evaluation.runs.more=1", "'runs' holds a value, not keys"),
        ("evaluation.runs=[1", "not readable as YAML"),
    ],
)
def test_a_typed_value_that_does_not_fit_is_one_line(typed, message):
    with pytest.raises(InputError) as error:
        override(parse_config({}), [typed])
    assert message in str(error.value)
    assert "\n" not in str(error.value)
