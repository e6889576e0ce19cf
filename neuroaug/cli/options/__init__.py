"""What several commands share: options, their parsers, and typed values laid over a section."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeVar, get_args

import typer
from pydantic import BaseModel, ValidationError

from neuroaug.config import Resolution, StudyConfig
from neuroaug.errors import InputError
from neuroaug.system.devices import parse_device

if TYPE_CHECKING:
    from neuroaug.study import Study

Section = TypeVar("Section", bound=BaseModel)

FILES, HARDWARE = "Input and output", "Hardware"
"""Panels of the help that several commands have."""

_PART = re.compile(r"(\d+)/(\d+)")


class Part(NamedTuple):
    """The i-th of n parts of some work, from 1."""

    i: int
    n: int


def option(flag: str, help: str, panel: str | None = None, **more: Any) -> Any:
    """Option as typed, its help, and the panel of the help that lists it."""
    return typer.Option(flag, help=help, rich_help_panel=panel, **more)


def choice(flag: str, known: Sequence[Any], help: str, panel: str | None = None) -> Any:
    """Option, or argument, whose value is one of `known`; help and completion list them.

    Parameters
    ----------
    flag : str
        The option as typed; of an argument, what an error calls it.
    known : sequence
        Values to choose from, in the order of the help.
    help : str
        What is chosen; the values are added.
    panel : str, optional
        Panel of the help.

    Raises
    ------
    InputError
        When another value is parsed; every choice is named.
    """
    by_name = {str(value): value for value in known}
    listed = ", ".join(by_name)

    def parse(text: str) -> Any:
        if text not in by_name:
            raise InputError(f"{flag} {text}: unknown; choose one of {listed}")
        return by_name[text]

    more: dict[str, Any] = {"parser": parse, "autocompletion": lambda: list(by_name)}
    if flag.startswith("-"):
        return option(flag, f"{help}: {listed}.", panel, **more)
    return typer.Argument(help=f"{help}: {listed}.", **more)


def part(flag: str, help: str, panel: str | None = None) -> Any:
    """Option that takes one part of the work, for arrays of jobs: ``i/n`` becomes a `Part`.

    Raises
    ------
    InputError
        When a value is parsed that is not i/n with 1 <= i <= n.
    """

    def parse(text: str) -> Part:
        match = _PART.fullmatch(text)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise InputError(f"{flag} {text}: expected i/n with 1 <= i <= n, for instance 2/8")
        return Part(int(match[1]), int(match[2]))

    return option(flag, help, panel, parser=parse)


def literals(section: type[BaseModel], field: str) -> tuple[Any, ...]:
    """Values that a field of the configuration may have."""
    return get_args(section.model_fields[field].annotation)


def _device(text: str) -> str:
    parse_device(text)
    return text


Device = Annotated[
    str,
    option(
        "--device",
        "auto (a GPU where there is one), cpu, cuda, cuda:1 ...",
        HARDWARE,
        parser=_device,
        autocompletion=lambda: ["auto", "cpu", "cuda", "cuda:1"],
    ),
]
Threads = Annotated[int | None, option("--omp-nthreads", "CPU threads.", HARDWARE)]
Processes = Annotated[int | None, option("--n-procs", "Processes.", HARDWARE)]
Cores = Annotated[
    int | None, option("--cores", "Cores of this machine to use (default: all).", HARDWARE)
]
Caps = Annotated[Path | None, typer.Argument(help="CAPS folder (default: the study's).")]
StudyFolder = Annotated[
    Path | None, typer.Argument(help="Study folder (default: the current one).")
]
Seed = Annotated[int | None, option("--seed", "Seed of everything random.")]
Label = Annotated[str, option("--label", "Label of the study, as its split has it.")]
SplitName = Annotated[
    str | None,
    option("--split", "Training set: a name in a study (train, train-50), else a TSV's path."),
]
ImageResolution = Annotated[
    str | None, choice("--resolution", get_args(Resolution), "Voxel size of the images")
]


def config_of(study: Study | None) -> StudyConfig:
    """Configuration of a study; outside one, the defaults."""
    return study.config if study is not None else StudyConfig()


def overlay(section: Section, flags: Mapping[str, str] | None = None, /, **typed: Any) -> Section:
    """Lay typed values over a section of the configuration.

    Parameters
    ----------
    section : pydantic model
        The study's settings, or the defaults.
    flags : mapping of str to str, optional
        Options that are not called like their setting, by setting.
    **typed
        Settings; None stands for what was not typed.

    Raises
    ------
    InputError
        If a value does not fit; the option is named.
    """
    values = {name: value for name, value in typed.items() if value is not None}
    if not values:
        return section
    try:
        return type(section).model_validate({**section.model_dump(), **values})
    except ValidationError as error:
        first = error.errors()[0]
        # A check of the whole section names its setting in the context.
        field = str(next(iter(first["loc"]), first.get("ctx", {}).get("name", "")))
        if field not in values:
            raise InputError(f"{field}: {first['msg']}".removeprefix(": ")) from None
        flag = (flags or {}).get(field, f"--{field.replace('_', '-')}")
        raise InputError(f"{flag} {first.get('input')}: {first['msg']}") from None
