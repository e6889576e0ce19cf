"""Laws that every stage keeps, and the workflow that Snakemake plans from them."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
import typer

from neuroaug.cli import app
from neuroaug.config import parse_config, read_config, write_config
from neuroaug.study import Study
from neuroaug.system.packaged_files import shipped
from neuroaug.workflow.protocol import Protocol
from neuroaug.workflow.stage import Job, Stage
from neuroaug.workflow.stages import STAGES

# Keys as the first released version wrote them: a study that it began goes on.
FROZEN = json.loads((Path(__file__).parent / "frozen_keys.json").read_text())
EVERYTHING = {
    **FROZEN["every section"]["config"],
    "phantom": {"n_participants": 20},
    "external": {},
}


def make_protocol(folder, content):
    write_config(folder / "neuroaug.yaml", parse_config(content))
    return Protocol.open(folder)


@pytest.mark.parametrize("name", sorted(FROZEN))
def test_keys_stay_what_they_were(tmp_path, name):
    for path, text in FROZEN[name]["files"].items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    protocol = make_protocol(tmp_path, FROZEN[name]["config"])
    assert {job.name: job.key for job in protocol.jobs.values()} == FROZEN[name]["keys"]


def test_no_name_of_a_stage_begins_another():
    names = [stage.name for stage in STAGES]
    assert not [(a, b) for a in names for b in names if a != b and b.startswith(a)]


def test_jobs_are_named_by_their_stage_and_wait_for_earlier_ones(tmp_path):
    known = set()
    protocol = make_protocol(tmp_path, EVERYTHING)
    for stage in protocol.stages:
        jobs = protocol.by_stage[stage.name]
        assert jobs, stage.name
        for job in jobs:
            assert re.fullmatch(f"{stage.name}([-_].+)?", job.name)
            assert set(job.after) <= known
        known |= {job.name for job in jobs}
    assert len(known) == len(protocol.jobs)
    assert [job.name for job in protocol.last] == ["report"]


def test_the_command_line_understands_every_job(tmp_path):
    group = typer.main.get_command(app)
    context = click.Context(group)
    jobs = make_protocol(tmp_path, EVERYTHING).jobs.values()
    assert jobs
    for job in jobs:
        name, *words = (word.format(threads=2) for word in job.command)
        command = group.get_command(context, name)
        assert command is not None, f"{job.name}: no command {name}"
        parsed = command.make_context(name, words)  # an option or a value it lacks is raised
        assert not parsed.args, f"{job.name}: {parsed.args} left over"


def test_a_new_stage_is_waited_for(tmp_path):
    class Audit(Stage):
        name = "audit"

        def jobs(self, study, earlier):
            return [
                Job(f"audit_{made.name}", ("audit",), f"key of {made.key}", (made.name,))
                for made in earlier["augment"]
            ]

    study = Study(tmp_path, parse_config(EVERYTHING))
    last = {job.name for job in Protocol(study, (*STAGES, Audit())).last}
    assert "report" in last
    assert len(last) == 1 + len(Protocol(study).by_stage["augment"])


def test_the_estimate_says_how_much_there_is_to_do(tmp_path, monkeypatch, capsys):
    from neuroaug.workflow import estimate
    from neuroaug.workflow.stages import evaluate_stage, search_stage, train_stage

    monkeypatch.setattr(train_stage, "generator_step_seconds", lambda study: (36.0, "timed"))
    monkeypatch.setattr(search_stage, "_measured", lambda *a: 1.0)
    monkeypatch.setattr(evaluate_stage, "classifier_step_seconds", lambda *a: 3.6)
    content = {
        "phantom": {"n_participants": 30},
        "generator": {"batch_size": 5, "max_epochs": 10},
        "evaluation": {
            "runs": 2,
            "epochs": 100,
            "optimised_epochs": 50,
            "batch_size": 10,
            "cells": ["real", "synthetic-100", "train_optimised_4mm_real"],
        },
        "search": {"draws": 9, "folds": 5, "epochs": 100},
    }
    estimate.print_estimate(make_protocol(tmp_path, content))
    said = {line[:26].strip(): line[27:].strip() for line in capsys.readouterr().out.splitlines()}
    # 10 images per label, 2 steps an epoch of 36 s, two generators
    assert said["generators to train"].startswith("2   at most 0.4 h (timed")
    assert said["synthetic sets to draw"] == "2"
    # 16 of 20 images, 2 steps an epoch of 1 s
    assert said["search, trainings at 4mm"].startswith("45   about 2.5 h; 9 trials x 5 folds")
    # 2 runs of (2 + 20) x 100 + 2 x 50 steps of 3.6 s
    assert said["CNN runs"] == "6   about 4.6 h"
    assert said["visits to preprocess"].startswith("30   about 0.2 core hours")
    assert int(said["jobs of the workflow"]) == len(Protocol.open(tmp_path).jobs)
    assert next(v for k, v in said.items() if k.endswith("PU hours")).startswith("7.5")


def test_snakemake_plans_every_job_with_what_its_stage_asks_for(tmp_path):
    protocol = make_protocol(tmp_path, EVERYTHING)
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--nolock", "--cores", "8"]
    command += ["--snakefile", str(shipped("pipelines") / "Snakefile")]
    command += ["--directory", str(tmp_path), "--config", f"study={tmp_path}"]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    planned = {}
    for block in re.findall(r"^rule \w+:\n(?:    .*\n)+", result.stdout, re.MULTILINE):
        fields = dict(re.findall(r"^    (\w+): (.*)$", block, re.MULTILINE))
        if "output" in fields:
            planned[Path(fields["output"]).stem] = fields
    assert planned.keys() == protocol.jobs.keys()
    for name, fields in planned.items():
        before = {Path(record).stem for record in fields.get("input", "").split(", ")} - {""}
        assert before == set(protocol.jobs[name].after)
    train = planned["train_train-20_AD_0"]
    assert {"gpu=1", "mem_mb=64000", "runtime=2880"} <= set(train["resources"].split(", "))
    assert train["threads"] == "4"


@pytest.mark.parametrize("path", sorted(shipped("configs").glob("*.yaml")), ids=lambda p: p.stem)
def test_a_shipped_configuration_has_jobs_for_all_its_cells(tmp_path, path):
    protocol = Protocol(Study(tmp_path, read_config(path)))
    evaluated = " ".join(job.name for job in protocol.by_stage["evaluate"])
    assert all(
        f"evaluate_{cell.name}_runs-0" in evaluated for cell in protocol.study.config.cells()
    )
