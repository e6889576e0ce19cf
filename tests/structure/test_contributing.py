"""CONTRIBUTING.md, followed as it stands in a copy of the package, does what it says."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from repository import ROOT, text

PAGE = Path("CONTRIBUTING.md")
_BLOCK = re.compile(
    r"<!-- (?P<order>(?:write|insert into|run, and see:) .+?) -->\n```\w+\n(?P<code>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)

EXAMPLES = {
    "add a sampler": ["Add a sampler"],
    "add a generator": ["Add a generator"],
    "add a command": ["Add a command"],
    "add a stage": ["Add a command", "Add a stage"],  # the stage runs that command
}


def section(title):
    """The text of a section of the page."""
    found = re.search(rf"^## {title}$(.*?)(?=^## |\Z)", text(PAGE), re.DOTALL | re.MULTILINE)
    assert found, f"{PAGE} has no section '{title}'"
    return found[1]


def blocks(title):
    """What a section asks for: pairs of an order and a block of code."""
    found = [(match["order"], match["code"]) for match in _BLOCK.finditer(section(title))]
    assert found, f"section '{title}' of {PAGE} has nothing to do"
    return found


@pytest.fixture
def copy(tmp_path):
    """The repository as a newcomer has it, without what no example needs."""
    for name in ("neuroaug", "pipelines", "configs", "docs", "scripts", "tests"):
        shutil.copytree(
            ROOT / name,
            tmp_path / name,
            ignore=shutil.ignore_patterns("__pycache__", "*.png", "published"),
        )
    published = ROOT / "neuroaug" / "published"  # no example of code, but a package of the whole
    shutil.copytree(published, tmp_path / "neuroaug" / "published")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def insert(path, after, code):
    """Put lines after the one line that contains `after`."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    places = [i for i, line in enumerate(lines) if after in line]
    assert len(places) == 1, f"{path}: {len(places)} lines contain '{after}'"
    lines.insert(places[0] + 1, code)
    path.write_text("".join(lines), encoding="utf-8")


def run(folder, command):
    """Run a command as a newcomer types it, in the copy and with its package."""
    programs = Path(sys.executable).parent
    environment = {
        **os.environ,
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
    }
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_example_works_as_it_stands(example, copy):
    for title in EXAMPLES[example]:
        for order, code in blocks(title):
            kind, _, rest = order.partition(" ")
            if kind == "write":
                path = copy / rest
                assert not path.exists(), f"{rest} is in the package already"
                path.write_text(code, encoding="utf-8")
            elif kind == "insert":
                name, after = re.fullmatch(r"into (\S+) after: (.+)", rest).groups()
                insert(copy / name, after, code)
            else:
                seen = rest.removeprefix("and see: ")
                assert seen in run(copy, code), f"{code} does not print '{seen}'"


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_example_is_in_the_style_of_the_package(example, copy):
    written = []
    for title in EXAMPLES[example]:
        for order, code in blocks(title):
            if order.startswith("write "):
                written.append(order.removeprefix("write "))
                (copy / written[-1]).write_text(code, encoding="utf-8")
    ruff = [sys.executable, "-m", "ruff"]
    for check in (["check"], ["format", "--check"]):
        done = subprocess.run([*ruff, *check, *written], cwd=copy, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
