"""No import circle between files, whoever imports: at the top, for types, or in a function."""

import ast
from pathlib import PurePosixPath

import networkx
import pytest
from repository import lines, module_name, modules, python_files, tree


def resolve(name, known):
    """The module that a dotted name is, or is defined in; None for other people's."""
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name or None


def imported(path, known):
    """Modules of `known` that a file imports, wherever in it."""
    own = module_name(path)
    package = own if path.stem == "__init__" else own.rpartition(".")[0]
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (module for name in names if (module := resolve(name, known)))


def circles(graph):
    """Groups of modules that import each other, each with one way round."""
    groups = [g for g in networkx.strongly_connected_components(graph) if len(g) > 1]
    ways = [networkx.find_cycle(graph.subgraph(group)) for group in groups]
    return [" -> ".join([*(a for a, _ in way), way[0][0]]) for way in ways]


def test_the_package_has_no_circle():
    known = modules()
    graph = networkx.DiGraph()
    for name, path in known.items():
        graph.add_edges_from((name, other) for other in imported(path, known) if other != name)
    assert not circles(graph), lines(circles(graph))


@pytest.mark.parametrize("folder", ["pipelines", "scripts"])
def test_a_folder_of_scripts_has_no_circle(folder):
    known = {path.stem: path for path in python_files(folder)}
    graph = networkx.DiGraph()
    for name, path in known.items():
        graph.add_edges_from((name, other) for other in imported(path, known) if other != name)
    assert not circles(graph), lines(circles(graph))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import neuroaug.config", ["neuroaug.config"]),
        ("from neuroaug import config", ["neuroaug.config"]),
        ("from neuroaug.config import StudyConfig", ["neuroaug.config"]),
        ("def f():\n    from .config import StudyConfig", ["neuroaug.config"]),
        ("from . import errors", ["neuroaug.errors"]),
        ("import numpy", []),
    ],
)
def test_imports_are_found_wherever_they_stand(source, expected, monkeypatch):
    known = {"neuroaug", "neuroaug.config", "neuroaug.errors"}
    monkeypatch.setattr("test_imports.tree", lambda _: ast.parse(source))
    assert list(imported(PurePosixPath("neuroaug/here.py"), known)) == expected
