"""Start the workflow of a study, and say how it ended."""

from __future__ import annotations

import json
import logging
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from neuroaug.config import StudyConfig, read_config, write_config
from neuroaug.config.override import override
from neuroaug.errors import InputError, StageError
from neuroaug.imaging.caps import require_described
from neuroaug.preprocessing.records import read_failures
from neuroaug.preprocessing.refusal import tell_refusals
from neuroaug.report.results_table import print_results
from neuroaug.study import CONFIG_NAME, Study
from neuroaug.system.files import visible
from neuroaug.system.locks import exclusive
from neuroaug.system.packaged_files import shipped
from neuroaug.system.parent_death import die_with_parent
from neuroaug.system.threads import n_cores
from neuroaug.workflow.estimate import print_estimate
from neuroaug.workflow.protocol import Protocol
from neuroaug.workflow.rehearse import rehearse

log = logging.getLogger("neuroaug")


def run(
    config: Path,
    study_folder: Path | None = None,
    *,
    cores: int | None = None,
    profile: str | None = None,
    dry_run: bool = False,
    overrides: Sequence[str] = (),
    rehearsal: bool = False,
    quiet: bool = False,
) -> int:
    """Run, or continue, the whole protocol of a study.

    Parameters
    ----------
    config : Path
        A YAML with a study's keys, or a study folder.
    study_folder : Path, optional
        Where the study lies; default: the YAML's folder if it is a ``neuroaug.yaml``, else a folder
        of the YAML's name in the current one.
    cores : int, optional
        Cores of this machine (default: all).
    profile : str, optional
        Snakemake profile: ``slurm`` or a folder.
    dry_run : bool
        Print the jobs and an estimate of their time; write nothing.
    overrides : sequence of str
        ``evaluation.runs=5``: values that replace those of `config`.
    rehearsal : bool
        The same cells on phantoms, cut down to minutes (`neuroaug.workflow.rehearse`).

    Returns
    -------
    int
        0 if all is done, 1 if some visits failed.

    Raises
    ------
    InputError
        If the configuration is wrong, or another run of this study is at work.
    StageError
        If a stage failed; the reasons are printed.
    """
    content, folder = _resolve(config, study_folder)
    if rehearsal:
        if config.is_dir():
            alone = "rehearse its configuration in a folder of its own, from a YAML file"
            raise InputError(f"{config}: a study; {alone}")
        content, notes = rehearse(content)
        for note in notes:
            log.info("%s", note)
    content = override(content, overrides)
    asked = Study(folder, content)
    absent = _absent(asked)
    if dry_run:
        print_estimate(Protocol(asked))
        for line in absent:
            log.info("not there yet: %s", line)
        return 0
    if absent:
        raise InputError(f"{absent[0]}; give it in the YAML file, or with --set")
    _require_sets(asked)
    _require_described(asked)
    _prepare(folder, content)
    busy = f"{folder}: another 'neuroaug run' is at work on this study; wait for it"
    # The lock goes on to the workflow's processes, and cannot outlive them.
    with exclusive(folder / ".neuroaug" / "run.lock", busy) as lock:
        code = _snakemake(folder, cores, profile, lock)
    study = Study.open(folder)
    if code != 0:
        _explain_failure(study)
    if not quiet:
        print_results(study)
    failures = study.caps / "failures.tsv"
    left_out = read_failures(study.caps)
    if left_out:
        log.info("left out: %s: %s", tell_refusals(left_out), failures)
    return 1 if left_out else 0


def _resolve(config: Path, study_folder: Path | None) -> tuple[StudyConfig, Path]:
    if config.is_dir():
        study = Study.open(config)
        if study_folder is not None and study_folder.absolute() != study.root:
            raise InputError(f"{config}: a study already; leave --study out, or give a YAML file")
        return study.config, study.root
    content = read_config(config)
    if study_folder is None:
        study_folder = config.parent if config.name == CONFIG_NAME else Path.cwd() / config.stem
    return content, study_folder.absolute()


def _absent(study: Study) -> list[str]:
    """Lines that name the inputs of the configuration that are not there."""
    if study.config.phantom is not None:
        named = []
    else:
        named = [("bids", study.bids)] if study.bids is not None else [("caps", study.caps)]
        named.append(("tables", study.tables))
    for name, external in study.config.external.items():
        named.append((f"external.{name}.caps", study.path(external.caps)))
        named.append((f"external.{name}.tables", study.path(external.tables)))
    # Without its "..": the study's folder, from which they count, may not be there yet.
    found = [(key, Path(os.path.normpath(path))) for key, path in named]
    return [f"{key}: {path}: no such file or folder" for key, path in found if not path.exists()]


def _require_sets(study: Study) -> None:
    """Refuse a cell whose training set the split will not hold, before hours of preprocessing."""
    made = {"train", *(f"train-{k}" for k in study.config.split.subsets)}
    made |= {path.stem for path in visible(study.splits, "train-*.tsv")}
    for cell in study.config.cells():
        if cell.split not in made:
            k = cell.split.removeprefix("train-")
            raise InputError(f"cell {cell.name}: no set '{cell.split}'; add {k} to split.subsets")


def _require_described(study: Study) -> None:
    """Refuse a CAPS that no classifier will be able to read, before hours of training."""
    if not study.config.cells():
        return
    if study.config.phantom is None and study.bids is None:
        require_described(study.caps)
    for external in study.config.external.values():
        require_described(study.path(external.caps))


def _prepare(folder: Path, content: StudyConfig) -> None:
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: a file, where the study's folder is to be")
    if folder.is_dir() and not (folder / CONFIG_NAME).exists() and visible(folder):
        raise InputError(f"{folder}: not empty and not a study; give another folder with --study")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / CONFIG_NAME
    if not path.exists() or read_config(path) != content:
        write_config(path, content)


def _command(folder: Path, cores: int | None, profile: str | None) -> list[str]:
    command = [sys.executable, "-m", "snakemake"]
    command += ["--snakefile", str(shipped("pipelines") / "Snakefile")]
    command += ["--directory", str(folder)]
    command += ["--config", f"study=hex-{os.fsencode(folder).hex()}"]
    command += ["--rerun-incomplete", "--rerun-triggers", "mtime", "--keep-going"]
    command += ["--nolock"]  # our own decides, see `run`
    if profile is not None:
        own = shipped("configs") / profile
        command += ["--profile", str(own if own.is_dir() else profile)]
        if shlex.quote(str(folder)) != str(folder):
            # The Slurm executor puts a job's command between double quotes, where a shell still
            # reads $, `, " and \ in the study's path; as a script it is left alone.
            command += ["--slurm-pass-command-as-script"]
        if cores is not None:
            command += ["--cores", str(cores)]
    else:
        command += ["--cores", str(cores or n_cores()), "--resources", f"gpu={_n_gpu_slots()}"]
    return command


def _n_gpu_slots() -> int:
    """Jobs that may use a device at a time: the number of GPUs, or no limit where there is none."""
    smi = shutil.which("nvidia-smi")
    if smi is None:
        return 1000
    listed = subprocess.run([smi, "-L"], capture_output=True, text=True, check=False).stdout
    return listed.count("GPU ") or 1000


def _snakemake(folder: Path, cores: int | None, profile: str | None, lock: int) -> int:
    for record in (folder / ".neuroaug" / "failed").glob("*.json"):
        record.unlink()
    # Snakemake keeps a cache in the home folder, which need not exist for an unprivileged user in a
    # container.
    own = {"XDG_CACHE_HOME": str(folder / ".neuroaug" / "cache"), "OMP_WAIT_POLICY": "PASSIVE"}
    log_path = folder / "logs" / "workflow.log"
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with open(log_path, "w", encoding="utf-8") as stream:
        process = subprocess.Popen(
            [*_command(folder, cores, profile), "--quiet", "all"],
            env={**os.environ, **own},
            stderr=stream,
            pass_fds=(lock,),
            preexec_fn=die_with_parent,
        )
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
            process.wait()
            raise


def _explain_failure(study: Study) -> None:
    paths = sorted((study.root / ".neuroaug" / "failed").glob("*.json"))
    records = [json.loads(path.read_text()) for path in paths]
    if not records:
        path = study.logs / "workflow.log"
        tail = path.read_text(errors="replace").strip().splitlines()[-3:]
        raise StageError(f"the workflow stopped ({' '.join(tail)}); see {path}")
    first = records[0]
    reason = first["message"].removeprefix("neuroaug: ")
    message = f"{first['job']}: {reason} (log: {study.root / first['log']})"
    if any(r["exit"] == InputError.exit_code for r in records):
        raise InputError(message)
    raise StageError(message)
