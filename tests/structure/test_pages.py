"""The pages are true: lists are those of the source, examples run, commands and options exist."""

import importlib.util
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer
from repository import ROOT, documents, files, lines, module_name, python_files, text

ARCHITECTURE = Path("docs/architecture.md")


# Written by the source ---------------------------------------------------------------------------


def write_pages():
    spec = importlib.util.spec_from_file_location(
        "write_pages", ROOT / "scripts" / "write_pages.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_lists_are_those_of_the_source():
    stale = [str(path) for path, content in write_pages().pages().items() if content != text(path)]
    assert not stale, f"{', '.join(stale)}: run python scripts/write_pages.py"


def test_the_tree_names_every_package():
    tree = re.search(r"## The tree\n+```\n(.*?)```", text(ARCHITECTURE), re.DOTALL)[1]
    top = {path.parts[1] for path in python_files("neuroaug")} - {"__init__.py", "__main__.py"}
    named = {f"{name}/" if not name.endswith(".py") else name for name in top}
    folders = {f"{path.parts[0]}/" for path in files() if len(path.parts) > 1}
    missing = [name for name in sorted(named | folders) if name not in tree and name[0] != "."]
    assert not missing, lines(missing)
    listed = re.findall(r"^  (\w+)(/|\.py) ", tree, re.MULTILINE)
    gone = [name for name, end in listed if f"{name}{end}" not in named]
    assert not gone, lines(gone)


# How one input travels ---------------------------------------------------------------------------


def steps():
    """Rows of the table: number, dotted name, numbers of the callers."""
    rows = re.findall(r"^\| (\d+) \| `([\w.]+)` \| ([^|]+) \|", text(ARCHITECTURE), re.MULTILINE)
    return {int(n): (name, re.findall(r"\d+", callers)) for n, name, callers in rows}


def module_of(dotted):
    known = {module_name(path): path for path in python_files("neuroaug")}
    while dotted not in known:
        dotted = dotted.rpartition(".")[0]
    return dotted, known[dotted]


def layer_numbers():
    settings = tomllib.loads(text(Path("pyproject.toml")))
    contracts = settings["tool"]["importlinter"]["contracts"]
    (found,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    return {
        package.strip(): number
        for number, layer in enumerate(found)
        for package in re.split("[:|]", layer)
    }


def test_one_input_travels_as_the_table_says():
    from test_imports import imported

    layers = layer_numbers()
    known = {module_name(path) for path in python_files("neuroaug")}
    faults = []
    assert len(steps()) > 5, f"{ARCHITECTURE} has no table of steps"
    for number, (name, callers) in steps().items():
        module, _ = module_of(name)
        for caller in map(int, callers):
            above, path = module_of(steps()[caller][0])
            if module != above and module not in set(imported(path, known)):
                faults.append(f"step {number}: {above} does not import {module}")
            levels = [layers[".".join(m.split(".")[:2])] for m in (above, module)]
            if levels[0] > levels[1]:
                faults.append(f"step {number}: {above} calls upward, {module}")
    assert not faults, lines(faults)


# Commands ----------------------------------------------------------------------------------------

_SHOWN = re.compile(r"^(?: {4}|\t)?(?:\$ )?neuroaug (.+)$|`neuroaug ([^`]+)`", re.MULTILINE)
PLACEHOLDERS = {"VERB", "COMMAND", "NAME"}


def group():
    from neuroaug.cli import app

    return typer.main.get_command(app)


def option_names(command):
    return {
        name
        for parameter in command.params
        for name in (*parameter.opts, *parameter.secondary_opts)
    }


def shown(path):
    """Commands that a page shows, as words."""
    joined = text(path).replace("\\\n", " ")
    for match in _SHOWN.finditer(joined):
        words = (match[1] or match[2]).partition("#")[0]
        yield shlex.split(words.replace("...", ""), posix=False)


@pytest.mark.parametrize("path", [path for path in documents() if any(shown(path))], ids=str)
def test_commands_and_options_that_a_page_shows_exist(path):
    top = group()
    made = set(re.findall(r"<!-- write neuroaug/cli/(\w+)\.py -->", text(path)))
    faults = []
    for words in shown(path):
        name = words[0] if words else ""
        if name.startswith("-") or name in PLACEHOLDERS | made or not name:
            continue
        command = top.get_command(None, name)
        if command is None:
            faults.append(f"neuroaug {name}: no such command")
            continue
        known = option_names(command) | {"--help", "-h"}
        faults += [
            f"neuroaug {name} {word}: no such option"
            for word in words
            if word.startswith("--") and word.partition("=")[0] not in known
        ]
    assert not faults, lines(sorted(set(faults)))


@pytest.mark.parametrize("path", documents(), ids=str)
def test_make_targets_that_a_page_shows_exist(path):
    targets = set(re.findall(r"^([a-z-]+):", text(Path("Makefile")), re.MULTILINE))
    shown = re.findall(r"^(?: {4}|\t)make ([a-z-]+)|`make ([a-z-]+)", text(path), re.MULTILINE)
    assert {a or b for a, b in shown} <= targets


# Examples ----------------------------------------------------------------------------------------


def test_the_example_of_the_readme_runs(tmp_path, monkeypatch):
    import nibabel
    from untrained import make_model

    from neuroaug.imaging.grid import GRIDS

    (example,) = re.findall(
        r"^```python\n(.*?)^```$", text(Path("README.md")), re.DOTALL | re.MULTILINE
    )
    make_model(tmp_path / "models" / "train" / "AD", GRIDS["4mm"].shape)
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "README.md", "exec"), {})
    image = nibabel.load("sub-synAD00001_T1w.nii.gz")
    assert image.shape == GRIDS["4mm"].shape
    assert GRIDS["4mm"].matches(image.shape, image.affine)


def test_hooks_are_local_and_their_programs_are_those_of_lint():
    import yaml

    configuration = yaml.safe_load(text(Path(".pre-commit-config.yaml")))
    assert {repository["repo"] for repository in configuration["repos"]} == {"local"}
    entries = {hook["entry"] for r in configuration["repos"] for hook in r["hooks"]}
    lint = re.search(r"^lint:.*\n((?:\t.+\n)+)", text(Path("Makefile")), re.MULTILINE)[1]
    wanted = {line.strip().replace("$(BIN)", ".venv/bin") for line in lint.splitlines()}
    assert entries == {line.removesuffix(" .") for line in wanted}
