"""Seeds are a function of names and numbers, and stay what published results were made with."""

import pytest

from neuroaug.system import randomness


@pytest.mark.parametrize(
    ("scheme", "seed"),
    [
        ("KEYED", 4001512033354140519),
        ("SAMPLES", 4008425701319456927),
        ("CLASSIFIER", 2228942681),
        ("RESAMPLING", 275929295879036545003009296782660933896),
    ],
)
def test_a_scheme_is_never_altered(scheme, seed):
    assert getattr(randomness, scheme).seed("hmc", "tuned", 0, "AD", 3) == seed


def test_the_numbers_depend_on_the_names_alone():
    first, again, other = (randomness.KEYED.numpy("a", i).random(3) for i in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).all()
