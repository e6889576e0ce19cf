"""The tree can be surveyed: small folders, short files, every name for one thing."""

import ast
from collections import defaultdict

import pytest
from repository import PROGRAMS, areas, files, lines, python_files, text, tree, within

MOST_FILES = 16
MOST_LINES = 400
REASON = "Longer than 400 lines because"

IN_EVERY_PACKAGE = {"__init__", "__main__", "registry"}
"""Modules that several packages have by design: a `registry` is its package's own."""

PYTHON = [path for path in files() if path.suffix == ".py"]


def folders():
    counts = defaultdict(int)
    for path in files():
        counts[path.parent.as_posix()] += 1
    return sorted(counts.items())


@pytest.mark.parametrize(("folder", "n_files"), folders())
def test_a_folder_has_at_most_sixteen_files(folder, n_files):
    assert n_files <= MOST_FILES, (
        f"{folder}: {n_files} files; make packages of what belongs together"
    )


@pytest.mark.parametrize("part", areas(PYTHON))
def test_a_long_file_gives_its_reason(part):
    faults = [
        f"{path}: {n} lines; divide it, or say '{REASON} ...' in its docstring"
        for path in within(part, PYTHON)
        if (n := len(text(path).splitlines())) > MOST_LINES
        and REASON not in " ".join((ast.get_docstring(tree(path)) or "").split())
    ]
    assert not faults, lines(faults)


def registered(path):
    """Whether a module adds an entry to a registry, by a decorator ``register_...``."""
    return any(
        isinstance(call, ast.Call) and getattr(call.func, "id", "").startswith("register_")
        for node in tree(path).body
        for call in getattr(node, "decorator_list", ())
    )


def called_as_the_user_types(path):
    """Whether a module has its name from the user.

    A file of the command line is called like its command, and a file of a registry like its entry;
    the stage or the algorithm behind it may be called the same.
    """
    return path.parts[:2] == ("neuroaug", "cli") or registered(path)


def shared(places):
    """Names that stand for several things, one line each."""
    return [
        f"{name}: {', '.join(sorted(found))}"
        for name, found in sorted(places.items())
        if len(found) > 1
    ]


def test_no_two_modules_have_one_name():
    places = defaultdict(set)
    for path in python_files():
        if path.stem == "__init__":
            places[path.parent.name].add(f"{path.parent.as_posix()}/")
        elif path.stem not in IN_EVERY_PACKAGE and not called_as_the_user_types(path):
            places[path.stem].add(path.as_posix())
    assert not shared(places), lines(shared(places))


def test_no_two_classes_have_one_name():
    places = defaultdict(list)
    for path in python_files():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(f"{path.as_posix()}:{node.lineno}")
    assert not shared(places), lines(shared(places))


def test_programs_lie_in_known_folders():
    assert {path.parts[0] for path in PYTHON} == {*PROGRAMS, "tests"}
