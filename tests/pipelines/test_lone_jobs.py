"""Two cores run two jobs, also after jobs that ran alone."""

import os
import subprocess
import sys

import pytest

from neuroaug.system.packaged_files import shipped

SNAKEFILE = """
import sys
sys.path.insert(0, {pipelines!r})
from lone_jobs import count_lone_jobs
count_lone_jobs()

rule all:
    input: expand("{{i}}.done", i=range(4))

rule alone:
    output: "alone"
    threads: 2
    resources: gpu=1
    shell: "touch {{output}}"

rule work:
    input: "alone"
    output: "{{i}}.done"
    resources: gpu=1
    shell: "echo start >> log; sleep 1; echo end >> log; touch {{output}}"
"""


@pytest.mark.parametrize(
    ("limits", "most"), [(["--cores", "2"], 2), (["--cores", "4", "--resources", "gpu=1"], 1)]
)
def test_no_more_jobs_at_a_time_than_cores_or_gpus(tmp_path, limits, most):
    (tmp_path / "Snakefile").write_text(SNAKEFILE.format(pipelines=str(shipped("pipelines"))))
    command = [sys.executable, "-m", "snakemake", *limits, "--nolock", "--quiet", "all"]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    result = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    running, seen = 0, 0
    for line in (tmp_path / "log").read_text().split():
        running += 1 if line == "start" else -1
        seen = max(seen, running)
    assert seen == most
