"""The examples in docstrings are true."""

import doctest
import importlib

import pytest
from repository import module_name, python_files, text

WITH_EXAMPLES = [module_name(path) for path in python_files("neuroaug") if ">>> " in text(path)]


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples_in_docstrings(module):
    results = doctest.testmod(
        importlib.import_module(module), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    )
    assert results.attempted
    assert not results.failed


def test_some_module_has_an_example():
    assert WITH_EXAMPLES
