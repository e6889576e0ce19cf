"""The names of the papers' labels stand where the rules of their cohorts are, and nowhere else."""

import ast
import re

import pytest
from repository import ROOT

ALLOWED = {
    "neuroaug/cohort/rules.py": "rules of ADNI, AIBL and OASIS",
    "neuroaug/config/section.py": "labels of the papers' cohorts, the default",
    "neuroaug/config/stage_settings.py": "the setting of the phantoms' disease",
    "neuroaug/phantom/phantom_tables.py": "phantoms imitate those cohorts",
}
FILES = sorted([*(ROOT / "neuroaug").rglob("*.py"), *(ROOT / "pipelines").rglob("*.py")])
WORD = re.compile(r"\b(AD|CN)\b")


def named(path):
    """Lines on which a string that is no docstring names a label of the papers."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            continue
        # A command's example shows what a user of a published cohort types.
        text = re.sub(r"Example: .*|--label \w+", "", node.value)
        if id(node) not in docs and WORD.search(text):
            found.append(node.lineno)
    return found


@pytest.mark.parametrize("path", FILES, ids=[str(p.relative_to(ROOT)) for p in FILES])
def test_no_label_of_the_papers_is_written_into_code(path):
    name = path.relative_to(ROOT).as_posix()
    if name not in ALLOWED:
        assert not named(path), f"{name}: lines {named(path)}"


@pytest.mark.parametrize("name", ALLOWED)
def test_the_exceptions_are_needed(name):
    assert named(ROOT / name)
