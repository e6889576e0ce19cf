"""What a stage of the protocol is: its jobs, and everything that running them takes.

All that is particular to a stage stands in one file of `neuroaug.workflow.stages`. The workflow
(``pipelines/Snakefile``), completion records, rehearsals, estimates and the Slurm profile take it
from there.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from neuroaug.config import StudyConfig
from neuroaug.study import Study
from neuroaug.system.files import sha256_json

Resources = Mapping[str, int | Callable[..., int]]
Earlier = Mapping[str, Sequence["Job"]]
"""Jobs of every earlier stage, by the stage's name."""


@dataclass(frozen=True)
class Job:
    """One job of a study's workflow: one command of neuroaug.

    Attributes
    ----------
    name : str
        Name of its record and its log: the stage's name alone, or continued by ``-`` or ``_``.
    command : tuple of str
        Words after ``neuroaug`` on the command line; ``{threads}`` stands for the job's threads.
    key : str
        Hash of what is asked of this job and of all before it; it runs again if its key changes.
    after : tuple of str
        Names of the jobs that must have ended before.
    product : str
        Hash of what later keys depend on, where that is less than `key` (else empty).
    exit_codes : tuple of int
        Exit codes of the command after which later jobs may go on.
    """

    name: str
    command: tuple[str, ...]
    key: str
    after: tuple[str, ...] = ()
    product: str = ""
    exit_codes: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class EstimateLine:
    """One line of ``neuroaug run --dry-run``.

    Attributes
    ----------
    what : str
        What is counted.
    number : int or str
        The count.
    note : str
        The time it may take, and what that rests on.
    device_hours : float
        Hours of this kind of device; NaN where unknown.
    """

    what: str
    number: int | str
    note: str = ""
    device_hours: float = 0.0


class Stage(ABC):
    """One stage of the protocol.

    Attributes
    ----------
    name : str
        Name of the stage and of its Snakemake rule; no other stage's name begins with it.
    resources : mapping
        Snakemake's resources of one job: ``gpu``, ``mem_mb``, ``runtime`` (minutes). A function of
        the wildcards and threads is allowed as a value. Only a cluster limits memory and time.
    """

    name: ClassVar[str]
    resources: ClassVar[Resources] = {}

    @abstractmethod
    def jobs(self, study: Study, earlier: Earlier) -> list[Job]:
        """Jobs of this stage in a study; none if the study does not need it.

        Parameters
        ----------
        study : Study
            The study; only its configuration and the names and sizes of its inputs are read.
        earlier : mapping of str to sequence of Job
            Jobs of every earlier stage, by the stage's name.
        """

    def threads(self, config: StudyConfig, available: int) -> int:
        """Threads of one job, of those that are available to all jobs together."""
        return 1

    def rehearsal(self, config: StudyConfig) -> dict[str, Any]:
        """Sections of a configuration as a rehearsal has them: cut down to minutes."""
        return {}

    def estimate(self, study: Study, jobs: Sequence[Job]) -> list[EstimateLine]:
        """How much work there is, and how long it may take on this machine's device."""
        return []


def key_of(*asked: Any) -> str:
    """Hash of what is asked of a job."""
    return sha256_json(asked)


def listing(folder: Path, pattern: str) -> list[tuple[str, int]]:
    """Names and sizes of files, which stand for their content in a key.

    Empty where the folder is absent: a dry run may come before the data, a run is refused before.
    """
    found = []
    for path in folder.glob(pattern):
        if not path.name.startswith("."):  # macOS writes ._X beside X
            with suppress(OSError):  # a dangling link: preprocessing refuses it by name
                found.append((str(path.relative_to(folder)), path.stat().st_size))
    return sorted(found)


def hours_text(hours: float) -> str:
    """``1.5 h``; ``unknown`` for NaN."""
    return "unknown" if math.isnan(hours) else f"{hours:.1f} h" if hours < 100 else f"{hours:.0f} h"
