"""A run killed without warning in every stage completes, and redoes no finished stage."""

import os
import signal
import subprocess
import sys
import time

import pytest
import yaml
from test_miniature import CONFIG
from untrained import make_model

from neuroaug.imaging.grid import GRIDS
from neuroaug.workflow.stages import STAGES

# No cell of the miniature needs a search.
NAMES = [stage.name for stage in STAGES if stage.name != "search"]


def start(study, config):
    command = [sys.executable, "-u", "-m", "neuroaug", "run", str(config)]
    command += ["--study", str(study), "--cores", "2"]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def finished(study):
    return {p.name: p.stat().st_mtime_ns for p in (study / ".neuroaug" / "records").glob("*.json")}


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_run_killed_in_each_stage_completes(tmp_path):
    config, study = tmp_path / "mini.yaml", tmp_path / "study"
    config.write_text(yaml.safe_dump(CONFIG))
    done = {}
    for stage in NAMES:
        process = start(study, config)
        for line in process.stdout:
            if line.startswith(stage) and line.rstrip().endswith("started"):
                break
        # Into the work, or past its end where the stage is short: both must be survived.
        time.sleep(2.0)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        now = finished(study)
        assert {name: now[name] for name in done} == done, (
            f"killed in {stage}: a finished stage was done again"
        )
        done = now
    process = start(study, config)
    output, _ = process.communicate()
    assert process.returncode == 1, output  # the unreadable scan
    now = finished(study)
    assert {name: now[name] for name in done} == done
    assert (study / "report.html").is_file()
    assert len(list((study / "evaluation").glob("*/run-*/run.json"))) == 6


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_set_killed_half_way_ends_in_the_same_bytes(tmp_path):
    model = make_model(tmp_path / "AD", GRIDS["4mm"].shape)
    command = [sys.executable, "-m", "neuroaug", "augment", "-q", "--model", str(model)]
    command += ["--label", "AD", "--n", "1500"]
    subprocess.run([*command, "--out", str(tmp_path / "whole")], check=True)
    process = subprocess.Popen([*command, "--out", str(tmp_path / "killed")])
    while len(list((tmp_path / "killed").rglob("*.nii.gz"))) < 400:
        time.sleep(0.02)
        assert process.poll() is None
    process.kill()
    process.wait()
    subprocess.run([*command, "--out", str(tmp_path / "killed")], check=True)
    whole, killed = (
        {
            p.relative_to(tmp_path / name): p.read_bytes()
            for p in (tmp_path / name).rglob("*")
            if p.is_file()
        }
        for name in ("whole", "killed")
    )
    assert killed == whole
