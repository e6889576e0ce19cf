"""The study's settings, from a YAML: plans, and what is the same in all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from neuroaug.errors import InputError
from neuroaug.proof.jobs import Plan
from neuroaug.proof.people import Task, make_task
from neuroaug.proof.strided_cnn import CnnSettings
from neuroaug.proof.study_arms import ARMS
from neuroaug.proof.study_bench import StudySettings


def read_study(path: Path) -> tuple[list[Plan], StudySettings]:
    """Read plans and settings.

    Raises
    ------
    InputError
        Not readable, an unknown arm or task, or a key that is none.
    """
    try:
        content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"{path}: not readable ({' '.join(str(error).split())})") from None
    try:
        given = dict(content["settings"])
        cnn = dict(given.pop("cnn", {}))
        if "learning_rates" in cnn:
            cnn["learning_rates"] = tuple(cnn["learning_rates"])
        settings = StudySettings(cnn=CnnSettings(**cnn), **given)
        tasks = {name: _task(name, one or {}) for name, one in content["tasks"].items()}
        plans = [_plan(one, tasks, path) for one in content["plans"]]
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: {error}") from None
    for plan in plans:
        if strange := [arm for arm in (*plan.arms, *plan.minor_arms) if arm not in ARMS]:
            raise InputError(f"{path}: arm '{strange[0]}'; choose one of {', '.join(ARMS)}")
    return plans, settings


def _task(name: str, given: dict[str, Any]) -> Task:
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    return make_task(name, **values)


def _plan(given: dict[str, Any], tasks: dict[str, Task], path: Path) -> Plan:
    if given["task"] not in tasks:
        raise InputError(f"{path}: task '{given['task']}'; choose one of {', '.join(tasks)}")
    lists = ("ns", "arms", "minor_arms", "minor_ns")
    values: dict[str, Any] = {k: tuple(v) if k in lists else v for k, v in given.items()}
    return Plan(**{**values, "task": tasks[given["task"]]})
