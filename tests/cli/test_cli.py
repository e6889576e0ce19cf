"""The command line: help at once, one line for what is wrong, exit 2, nothing left behind."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from neuroaug.cli import app
from neuroaug.registries import SAMPLERS

COMMANDS = (
    "check",
    "preprocess",
    "split",
    "train",
    "augment",
    "evaluate",
    "search",
    "report",
    "run",
    "demo",
    "bench",
)


@pytest.fixture
def cli(tmp_path, monkeypatch):
    """Run the command in an empty folder; returns (exit code, output)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        result = CliRunner().invoke(app, [str(a) for a in arguments])
        return result.exit_code, result.output

    return run


def test_help_loads_neither_torch_nor_ants():
    code = (
        "import sys; from typer.testing import CliRunner; from neuroaug.cli import app;"
        "r = CliRunner().invoke(app, ['--help']); assert r.exit_code == 0, r.output;"
        "heavy = {'torch', 'ants', 'monai', 'clinicadl', 'pandas'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_everything_is_there_without_the_extras():
    code = (
        "import sys, importlib, pkgutil\n"
        "extras = ('pythae', 'pyraug', 'pytest', 'hypothesis', 'build', 'hatchling', 'ruff',"
        " 'mypy', 'importlinter')\n"
        "sys.modules |= dict.fromkeys(extras)\n"
        "import neuroaug\n"
        "names = [m.name for m in pkgutil.walk_packages(neuroaug.__path__, 'neuroaug.')]\n"
        "[importlib.import_module(name) for name in names if not name.endswith('__main__')]\n"
        "from typer.testing import CliRunner\n"
        "for command in ('check', 'split', 'report'):\n"
        "    result = CliRunner().invoke(neuroaug.cli.app, [command, '--help'])\n"
        "    assert result.exit_code == 0, result.output\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_split_and_report_load_no_deep_learning(tmp_path):
    (tmp_path / "neuroaug.yaml").write_text("")
    code = (
        "import sys; from neuroaug.cli import app; from typer.testing import CliRunner;"
        "heavy = ('torch', 'ants', 'monai', 'clinicadl'); sys.modules |= dict.fromkeys(heavy);"
        "run = lambda *arguments: CliRunner().invoke(app, arguments);"
        "report = run('report', '.'); assert report.exit_code == 0, report.output;"
        "split = run('split', 'nowhere'); assert 'no such' in split.output, split.output"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=tmp_path).returncode == 0
    assert (tmp_path / "report.html").is_file()


@pytest.mark.parametrize("command", [*COMMANDS, "phantom"])
def test_every_command_has_help_with_an_example(cli, command):
    code, output = cli(command, "--help")
    assert code == 0
    assert f"Example: neuroaug {command}" in " ".join(output.split())


def test_the_version_is_printed(cli):
    code, output = cli("--version")
    assert code == 0
    assert output.startswith("neuroaug 0.")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("augment", "--label", "AD", "--n", "0"), "--n 0: at least 1 image"),
        (("augment", "--label", "AD", "--n", "5", "--shard", "3/2"), "--shard 3/2: expected i/n"),
        (("preprocess", "caps", "--part", "3/2"), "--part 3/2: expected i/n"),
        (
            ("augment", "--label", "AD", "--n", "5", "--sampler", "nuts"),
            f"--sampler nuts: unknown; choose one of {', '.join(SAMPLERS.names)}",
        ),
        (("augment", "--label", "AD", "--n", "5"), "outside a study, --split and --out are needed"),
        (("augment", "nowhere", "--label", "AD", "--n", "5"), "nowhere"),
        (("train", "--label", "AD"), "--split"),
        (("split", "nowhere", "--tables", "t", "--out", "o"), "nowhere"),
        (("preprocess", "caps", "--bids", "nowhere"), "nowhere"),
        (("preprocess",), "a CAPS folder is needed"),
        (("check", "nowhere"), "nowhere"),
        (("evaluate",), "not a study"),
        (("report", "nowhere"), "nowhere: no such folder"),
        (("run", "nowhere.yaml"), "nowhere.yaml: no such file"),
        (("bench", "nothing"), "bench nothing: unknown"),
    ],
)
def test_bad_usage_is_one_line_and_exit_2(cli, tmp_path, arguments, message):
    code, output = cli(*arguments)
    lines = [line for line in output.splitlines() if line.strip()]
    assert code == 2, output
    assert len(lines) == 1, output
    assert message in lines[0]
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_key_of_the_study_is_refused_with_the_nearest(cli, tmp_path):
    (tmp_path / "neuroaug.yaml").write_text("resolutoin: 2mm\n")
    code, output = cli("augment", "--label", "AD", "--n", "5")
    assert code == 2
    assert "unknown key 'resolutoin'; did you mean 'resolution'?" in output


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (
            "evaluation.cells=[train-7_baseline_2mm_real]",
            "no set 'train-7'; add 7 to split.subsets",
        ),
        ("caps=nowhere", "caps:"),
        ("tables=nowhere", "tables:"),
        ("bids=nowhere", "bids:"),
        ("evaluation.rnus=5", "did you mean 'runs'?"),
    ],
)
def test_a_run_is_refused_before_anything_is_made(cli, tmp_path, typed, message):
    (tmp_path / "caps").mkdir()
    (tmp_path / "tables").mkdir()
    (tmp_path / "c.yaml").write_text("caps: ../caps\ntables: ../tables\n")
    code, output = cli("run", "c.yaml", "--set", typed)
    assert code == 2, output
    assert len(output.strip().splitlines()) == 1
    assert message in output
    assert not (tmp_path / "c").exists()
