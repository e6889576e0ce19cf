"""The frame of every command: found when it is typed, one-line errors with exit codes, logs."""

from __future__ import annotations

import ast
import contextlib
import errno
import inspect
import io
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from neuroaug.errors import InputError, NeuroaugError
from neuroaug.registries import Registry

if TYPE_CHECKING:
    from neuroaug.study import Study

Function = TypeVar("Function", bound=Callable[..., None])

log = logging.getLogger("neuroaug")

COMMANDS: Registry[TyperCommand] = Registry("command", "command", "neuroaug.cli")
"""The commands: each is a file beside this one, imported when it is typed."""

ORDER = (
    "init",
    "check",
    "preprocess",
    "split",
    "train",
    "augment",
    "evaluate",
    "search",
    "report",
    "run",
    "curve",
)
"""The first commands in the help, in the order of their use; the others follow by name."""


NEXT = "next: "  # begins the line with the command to type next
MESSAGES = "Messages"
VERBOSE = Annotated[
    bool, typer.Option("-v", "--verbose", help="Say more.", rich_help_panel=MESSAGES)
]
QUIET = Annotated[
    bool, typer.Option("-q", "--quiet", help="Say only what went wrong.", rich_help_panel=MESSAGES)
]
"""Every command has these, last in its help."""


def command(name: str, *, epilog: str, hidden: bool = False) -> Callable[[Function], Function]:
    """Register a function as a command; its docstring is the help, its first line the short one.

    The options ``--verbose`` and ``--quiet`` are added; the function does not see them.

    Parameters
    ----------
    name : str
        What the user types; the name of the function and of its file.
    epilog : str
        Last line of the help: an example.
    hidden : bool
        Whether `neuroaug --help` leaves it out.
    """

    def register(function: Function) -> Function:
        @wraps(function)
        def run(verbose: bool, quiet: bool, **arguments: Any) -> None:
            configure_messages(verbose=verbose, quiet=quiet)
            function(**arguments)

        own = inspect.signature(function, eval_str=True)
        shared = [
            inspect.Parameter(flag, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=kind)
            for flag, kind in (("verbose", VERBOSE), ("quiet", QUIET))
        ]
        run.__signature__ = own.replace(  # type: ignore[attr-defined]
            parameters=[*own.parameters.values(), *shared]
        )
        alone = typer.Typer(add_completion=False, rich_markup_mode="rich")
        alone.command(name, cls=VariadicCommand, epilog=epilog, hidden=hidden)(run)
        COMMANDS.add(name, typer.main.get_command(alone))  # type: ignore[arg-type]
        return function

    return register


class _LazyCommands(Mapping[str, TyperCommand]):
    """Every command by its name; only the one that is looked up is imported."""

    def __iter__(self) -> Iterator[str]:
        listed = [name for name in ORDER if name in COMMANDS.names]
        return iter([*listed, *(name for name in COMMANDS.names if name not in listed)])

    def __len__(self) -> int:
        return len(COMMANDS.names)

    def __getitem__(self, name: str) -> TyperCommand:
        if name not in COMMANDS.modules:
            raise KeyError(name)
        return COMMANDS.get(name)


def _summary(name: str) -> TyperCommand:
    """Read the help of a command from its source, without importing it."""
    tree = ast.parse(Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8"))
    function = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == name)
    options = [
        o.arg for d in function.decorator_list if isinstance(d, ast.Call) for o in d.keywords
    ]
    return TyperCommand(name, help=ast.get_docstring(function), hidden="hidden" in options)


class VariadicCommand(TyperCommand):
    """A command whose list options take several values, as in BIDS Apps: ``--run 0 1 2``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat the flag before each further value, which is the form click knows."""
        flags = {
            flag
            for parameter in self.params
            if isinstance(parameter, TyperOption) and parameter.multiple
            for flag in parameter.opts
        }
        spread: list[str] = []
        current: str | None = None
        taken = 0
        for token in args:
            if token.startswith("-") and len(token) > 1:
                current, taken = (token if token in flags else None), 0
                spread.append(token)
            elif current is not None and taken > 0:
                spread += [current, token]
            else:
                taken += current is not None
                spread.append(token)
        return super().parse_args(ctx, spread)


class CommandGroup(TyperGroup):
    """All commands. Every expected error becomes one clear line and its exit code."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _LazyCommands()  # type: ignore[assignment]

    def list_commands(self, ctx: Any) -> list[str]:
        """Give the names in the order of the help, without importing a command."""
        return list(self.commands)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help of all commands, from their sources: no command is imported for it."""
        self.commands = {name: _summary(name) for name in self.list_commands(ctx)}
        super().format_help(ctx, formatter)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except NeuroaugError as error:
            _fail(f"neuroaug: {error}", error.exit_code)
        except KeyboardInterrupt:
            _fail("neuroaug: interrupted; the same command goes on where this one stopped", 130)
        except BrokenPipeError:  # as ``| head`` does: no fault, and nobody to tell
            _silence_output()
            sys.exit(128 + signal.SIGPIPE)
        except OSError as error:
            if (told := _told(error)) is None:
                raise
            _fail(f"neuroaug: {told}", 2)


_ADVICE = {
    errno.ENOSPC: "the disk is full; free some space and start again",
    errno.EDQUOT: "the disk is full; free some space and start again",
    errno.EACCES: "permission denied; choose a folder that you may write",
    errno.EPERM: "operation not permitted; choose a folder that you may write",
    errno.EROFS: "read-only file system; choose a folder that you may write",
    errno.ENOENT: "not there any more; was it moved or deleted meanwhile?",
    errno.ENAMETOOLONG: "the name is too long for this file system; use a shorter path",
    errno.ESTALE: "the file server has lost it (stale file handle); mount it again",
    errno.EIO: "input/output error; the disk or its connection is at fault",
    errno.EMFILE: "too many open files; raise the limit (ulimit -n)",
    errno.ENFILE: "too many open files on this machine",
}


def _told(error: OSError) -> str | None:
    """One line for an error of the operating system; None where it is none of ours to explain."""
    where = error.filename if isinstance(error.filename, (str, bytes)) else None
    if where is None and error.errno == errno.ENOENT:
        try:
            os.getcwd()
        except OSError:
            return "the current folder does not exist any more; go to another one"
    if error.errno not in _ADVICE and where is None:
        return None
    shown = os.fsdecode(where) if where is not None else "output"
    return f"{shown}: {_ADVICE.get(error.errno or 0, error.strerror or 'cannot be used')}"


def _silence_output() -> None:
    """Let the interpreter flush its output into nothing, where nobody reads it."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def any_terminal() -> None:
    """Write what the terminal's encoding lacks as escapes, instead of failing on it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _fail(message: str, code: int) -> None:
    typer.echo(" ".join(str(message).split()), err=True)
    log.debug("failed", exc_info=True)
    sys.exit(code)


def start(stage: str) -> Study | None:
    """The study of the current folder, if it is one; the stage's log is kept in it."""
    from neuroaug.study import Study

    study = Study.here()
    if study is not None:
        log_to(study.logs / f"{stage}.log")
    return study


def start_in_study(stage: str, folder: Path | None) -> Study:
    """As `start`, for commands that work on a study: the one in `folder`, or the current one.

    Raises
    ------
    InputError
        If there is none.
    """
    from neuroaug.study import Study

    study = Study.open(folder) if folder is not None else Study.here()
    if study is None:
        raise InputError(
            f"{Path.cwd()}: not a study (no neuroaug.yaml in it); give the study's folder"
        )
    log_to(study.logs / f"{stage}.log")
    return study


class _Console(logging.Handler):
    """Messages to the terminal: warnings on standard error, the rest on standard output."""

    def emit(self, record: logging.LogRecord) -> None:
        stream = sys.stderr if record.levelno >= logging.WARNING else sys.stdout
        print(record.getMessage(), file=stream, flush=True)


def configure_messages(*, verbose: bool = False, quiet: bool = False) -> None:
    """Send our messages, as plain lines, to the terminal: all, the usual, or warnings only."""
    from neuroaug.system import progress

    progress.quiet = quiet
    for handler in list(log.handlers):
        handler.close()
        log.removeHandler(handler)
    console = _Console()
    console.setLevel(logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO)
    log.addHandler(console)
    log.setLevel(logging.DEBUG)
    log.propagate = False


def log_to(path: Path) -> None:
    """Keep a dated copy of all messages in `path`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        log.warning("%s: no log is kept (%s)", path, error.strerror)
        return
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    log.debug("neuroaug %s", " ".join(sys.argv[1:]))


def say_next(command: str) -> None:
    """Tell a newcomer what to type next; a job of the workflow does not show it."""
    log.info("%s%s", NEXT, command)
