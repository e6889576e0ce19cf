"""A study may lie in a folder of any name: no part of it is run, filled in, or read as YAML."""

import os
import string
import subprocess

import pytest

from neuroaug.config import parse_config, write_config
from neuroaug.workflow import run_study
from neuroaug.workflow.protocol import Protocol

CONFIG = {
    "phantom": {"n_participants": 10, "scanned": 1},
    "bids": "bids",
    "tables": "tables",
    "resolution": "4mm",
    "evaluation": {"runs": 1, "cells": ["real"]},
}
PRINTABLE = "".join(c for c in string.printable if c != "/")
# YAML, Snakemake's braces, Python's and the shell's: each alone, where another could hide it.
NAMES = [PRINTABLE, "a: b é", "{job}$(touch hit)"]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_the_workflow_runs_in_a_folder_of_any_name(tmp_path, name):
    study = tmp_path / "studies" / name
    study.mkdir(parents=True)
    write_config(study / "neuroaug.yaml", parse_config(CONFIG))
    command = [*run_study._command(study, 1, None), "--until", "phantom"]
    if name != PRINTABLE:
        command.append("--dry-run")
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    result = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    protocol = Protocol.open(study)
    done = (study / protocol.record("phantom")).is_file()
    assert done == (name == PRINTABLE)
    if done:
        assert (study / "bids" / "participants.tsv").is_file()
    assert sorted(p.name for p in (tmp_path / "studies").iterdir()) == [name]
    assert not list(tmp_path.rglob("hit"))
