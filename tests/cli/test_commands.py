"""Commands are found by their files, loaded when typed, and list the choices of their options."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

import neuroaug.cli
from neuroaug.cli import app
from neuroaug.cli.console import COMMANDS, ORDER, VariadicCommand
from neuroaug.config import Resolution
from neuroaug.registries import FAMILIES, NETWORKS, SAMPLERS, Registry

NOT_COMMANDS = {"__init__", "console", "options"}
CHOICES = {
    "preprocess --profile": ("exact", "default", "fast"),
    "preprocess --n4-distance": (200, 600),
    "preprocess --resolution": Resolution.__args__,
    "split --cohort": ("auto", "adni", "aibl", "oasis1", "custom"),
    "train --network": NETWORKS.names,
    "train --model": FAMILIES.names,
    "train --resolution": Resolution.__args__,
    "augment --sampler": SAMPLERS.names,
    "augment --sampler-profile": ("tuned", "paper"),
    "augment --dtype": ("float32", "uint8"),
    "search --resolution": Resolution.__args__,
    "phantom --cohort": ("adni", "aibl", "oasis1"),
    "bench ": ("sampler", "training-step", "preprocessing", "generate", "evaluation", "gpu", "all"),
}
# A new family, network or sampler adds to these lists; none of these names may go.
PROMISED = {
    "train --network": {"conv3d", "mlp", "mlp-toy"},
    "train --model": {"rhvae", "vae", "vamp"},
    "augment --sampler": {"geometric", "hmc", "mixture", "prior", "random-walk", "vamp"},
}
NEEDED = {"train": ["--label", "AD"], "augment": ["--label", "AD", "--n", "1"]}


@pytest.fixture
def cli(tmp_path, monkeypatch):
    """Run the command in an empty folder; returns (exit code, output)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments):
        result = CliRunner().invoke(app, [str(a) for a in arguments])
        return result.exit_code, result.output

    return run


def in_a_process(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_every_file_is_a_command_of_its_name():
    files = {path.stem for path in Path(neuroaug.cli.__file__).parent.glob("*.py")} - NOT_COMMANDS
    assert set(COMMANDS.names) == files
    assert all(COMMANDS.modules[name] == f"neuroaug.cli.{name}" for name in files)
    assert set(ORDER) <= files


def test_the_help_has_the_first_line_of_every_command_and_imports_none(cli):
    listed = cli("--help")[1]
    for name, command in ((name, COMMANDS.get(name)) for name in COMMANDS.names):
        assert (command.help.splitlines()[0] in listed) is not command.hidden, name
    code = (
        "import sys; from typer.testing import CliRunner; from neuroaug.cli import app;"
        "CliRunner().invoke(app, ['--help']);"
        "print(*(m for m in sys.modules if m.startswith(('neuroaug.', 'pydantic'))))"
    )
    loaded = set(in_a_process(code).stdout.split())
    assert loaded == {
        "neuroaug.cli",
        "neuroaug.cli.console",
        "neuroaug.errors",
        "neuroaug.registries",
    }


def test_a_command_imports_no_other_and_nothing_heavy():
    code = (
        "import sys; from typer.testing import CliRunner; from neuroaug.cli import app;"
        "result = CliRunner().invoke(app, ['train', '--help']); assert result.exit_code == 0;"
        "print(*(m for m in sys.modules if m.startswith('neuroaug.cli.')));"
        "heavy = {'torch', 'ants', 'monai', 'clinicadl', 'pandas'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    ended = in_a_process(code)
    assert ended.returncode == 0, ended.stderr
    used = {f"neuroaug.cli.{name}" for name in ("console", "options", "train")}
    assert set(ended.stdout.split()) == used


@pytest.mark.parametrize("option", PROMISED)
def test_names_that_users_know_stay(option):
    assert set(CHOICES[option]) >= PROMISED[option]


@pytest.mark.parametrize("option", CHOICES)
def test_help_names_the_choices_and_a_wrong_one_is_one_line(cli, tmp_path, option):
    command, _, flag = option.partition(" ")
    listed = ", ".join(str(value) for value in CHOICES[option])
    assert listed in cli(command, "--help")[1]
    typed = [flag, "nothing"] if flag else ["nothing"]
    code, output = cli(command, *NEEDED.get(command, []), *typed)
    assert code == 2
    expected = f"neuroaug: {flag or command} nothing: unknown; choose one of {listed}\n"
    assert output == expected
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["train", "augment", "evaluate", "search"])
def test_every_device_is_one_definition(cli, command):
    needed = NEEDED.get(command, [])
    code, output = cli(command, *needed, "--device", "gpus")
    assert (code, len(output.splitlines())) == (2, 1)
    assert "device 'gpus': not understood; choose auto, cpu, cuda or cuda:<number>" in output
    assert "not understood" not in cli(command, *needed, "--device", "cuda:1")[1]


def test_a_misspelt_command_is_answered_with_the_nearest(cli):
    code, output = cli("trian")
    assert code == 2
    assert "Did you mean 'train'?" in output


def test_completion_is_printed_and_completes_commands_and_choices():
    def complete(words, number):
        environment = {
            **os.environ,
            "_NEUROAUG_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(number),
        }
        command = [sys.executable, "-c", "from neuroaug.cli import main; main()"]
        ended = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False
        )
        return ended.stdout.split()

    code = "import os; os.environ['_NEUROAUG_COMPLETE'] = 'source_bash'\n"
    script = in_a_process(code + "from neuroaug.cli import main; main()").stdout
    assert "complete" in script
    assert "neuroaug" in script
    assert complete("neuroaug se", 1) == ["search"]
    assert complete("neuroaug augment --sampler r", 3) == ["random-walk"]


def test_values_of_a_list_option_may_stand_side_by_side():
    command = get_command(app).commands["preprocess"]
    assert isinstance(command, VariadicCommand)
    arguments = ["caps", "--participant-label", "01", "sub-02", "--n-procs", "3"]
    context = command.make_context("preprocess", [*arguments, "--part", "2/3"])
    assert list(context.params["participant_label"]) == ["01", "sub-02"]
    assert context.params["n_procs"] == 3
    assert context.params["part_of_all"] == (2, 3)


def test_the_registry_of_commands_finds_one_by_its_file_alone(tmp_path, monkeypatch):
    (tmp_path / "extra").mkdir()
    (tmp_path / "extra" / "__init__.py").touch()
    source = '@command("follow", epilog="Example: neuroaug follow")\ndef follow():\n    """Do."""\n'
    (tmp_path / "extra" / "follow.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    assert Registry("command", "command", "extra").names == ("follow",)
