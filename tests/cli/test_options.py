"""What is typed on the command line, laid over the settings of a study."""

import pytest

from neuroaug.cli.options import Part, overlay, part
from neuroaug.config import GeneratorConfig, SearchConfig, SplitConfig
from neuroaug.errors import InputError


def test_what_is_typed_replaces_and_the_rest_stays():
    study = GeneratorConfig(latent_dim=4, batch_size=3)
    config = overlay(study, latent_dim=8, max_epochs=None)
    assert (config.latent_dim, config.batch_size) == (8, 3)
    assert overlay(study, latent_dim=None) is study


@pytest.mark.parametrize(
    ("section", "flags", "typed", "message"),
    [
        (SearchConfig(), {"draws": "--trials"}, {"draws": 0}, "--trials 0: "),
        (SearchConfig(), {}, {"folds": 1}, "--folds 1: "),
        (GeneratorConfig(), {"max_epochs": "--epochs"}, {"max_epochs": 0}, "--epochs 0: "),
        (GeneratorConfig(), {}, {"learning_rate": -1.0}, "--learning-rate -1.0: "),
        (SplitConfig(), {}, {"validation": 2.0}, "--validation 2.0: "),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_the_name_of_its_option(
    section, flags, typed, message
):
    with pytest.raises(InputError, match=message):
        overlay(section, flags, **typed)


@pytest.mark.parametrize("flag", ["--part", "--shard"])
@pytest.mark.parametrize("text", ["0/2", "3/2", "a/b", "1", "1/2/3", "-1/2", ""])
def test_a_part_that_is_none_is_refused_by_the_name_of_its_option(flag, text):
    parse = part(flag, "i/n.").parser
    assert parse("2/8") == Part(2, 8) == (2, 8)
    with pytest.raises(InputError, match=f"{flag} {text}: expected i/n"):
        parse(text)
