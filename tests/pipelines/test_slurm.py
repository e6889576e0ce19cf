"""What the Slurm profile asks a cluster for, seen by a stand-in of ``sbatch``."""

import json
import os
import shlex
import subprocess

import pytest
import yaml

from neuroaug.config import parse_config, write_config
from neuroaug.system.packaged_files import shipped
from neuroaug.workflow import run_study
from neuroaug.workflow.protocol import Protocol

CONFIG = {
    "phantom": {"n_participants": 20},
    "bids": "bids",
    "labels": ["AD"],
    "evaluation": {"runs": 1, "cells": ["synthetic-3"]},
}


ODD = "study \"of\" 'mine' $HOME `x` & {them}; 50% #1 *"


@pytest.mark.parametrize("name", ["study", ODD])
def test_a_job_is_sent_with_the_gpu_memory_and_time_of_its_stage(tmp_path, name):
    study, tools, profile = (tmp_path / name for name in (name, "tools", "profile"))
    for folder in (study, tools, profile):
        folder.mkdir()
    # sbatch refuses the job, so that nothing waits for it.
    for tool in ("sbatch", "sacct", "sacctmgr", "scontrol", "sinfo", "squeue", "sshare"):
        script = f'#!/bin/sh\necho "$@" >> {tmp_path}/{tool}.txt\n'
        if tool == "sbatch":
            script += f"case $* in */dev/stdin*) cat > {tmp_path}/script.txt;; esac\n"
        (tools / tool).write_text(script + ("exit 1\n" if tool == "sbatch" else ""))
        (tools / tool).chmod(0o755)
    given = yaml.safe_load((shipped("configs") / "slurm" / "config.v8+.yaml").read_text())
    given["default-resources"] += ["slurm_account=ours", "slurm_partition=gpus"]
    given |= {"slurm-init-seconds-before-status-checks": 1, "seconds-between-status-checks": 1}
    (profile / "config.yaml").write_text(yaml.safe_dump(given))

    write_config(study / "neuroaug.yaml", parse_config(CONFIG))
    protocol = Protocol.open(study)
    for name in ("phantom", "preprocess-1", "split"):
        path = study / protocol.record(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"key": protocol.jobs[name].key}))
    command = run_study._command(study, None, str(profile))
    path = f"{tools}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (tmp_path / "sbatch.txt").is_file(), result.stdout + result.stderr
    (sent,) = (tmp_path / "sbatch.txt").read_text().splitlines()
    for option in ("train_train_AD_0", "--gpus=1", "-t 2880", "--mem 64000", "--cpus-per-task=2"):
        assert option in sent, sent
    assert "-A ours" in sent.replace("'", "")
    assert str(study) in sent  # the folder that the job starts in
    if name == ODD:  # what a shell makes of the script
        words = shlex.split((tmp_path / "script.txt").read_text(), comments=False)
        assert words[words.index("--directory") + 1] == str(study)
        assert f"study=hex-{str(study).encode().hex()}" in words
