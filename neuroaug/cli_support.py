"""What the command line needs besides its verbs: BIDS-App lists, one-line errors, logs."""

from __future__ import annotations

import errno
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from neuroaug.errors import InputError, NeuroaugError

if TYPE_CHECKING:
    from neuroaug.study import Study

log = logging.getLogger("neuroaug")


class VariadicCommand(TyperCommand):
    """A command whose list options take several values after one flag: ``--participant-label 01
    02``.
    """

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


def _fail(message: str, code: int) -> None:
    typer.echo(" ".join(str(message).split()), err=True)
    log.debug("failed", exc_info=True)
    sys.exit(code)


class NeuroaugGroup(TyperGroup):
    """Turns every expected error into one clear line and its exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the verb."""
        try:
            return super().invoke(ctx)
        except NeuroaugError as error:
            _fail(f"neuroaug: {error}", error.exit_code)
        except KeyboardInterrupt:
            _fail("neuroaug: interrupted; the same command goes on where this one stopped", 130)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                _fail(
                    f"neuroaug: {error.filename or 'output'}: the disk is full; free some space and start again",
                    2,
                )
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                why = (error.strerror or "not allowed").lower()
                _fail(f"neuroaug: {error.filename}: {why}; choose a folder that you may write", 2)
            raise


def typed_options(ctx: typer.Context) -> frozenset[str]:
    """Names of the parameters that the user typed (as opposed to defaults)."""
    # By name: typer may carry a click of its own, whose enumeration is another object.
    sources = {name: getattr(ctx.get_parameter_source(name), "name", "") for name in ctx.params}
    return frozenset(name for name, source in sources.items() if source == "COMMANDLINE")


def start(stage: str, verbose: bool, quiet: bool, *, use_study: bool = True) -> Study | None:
    """Set up messages, and the stage's log where the current folder is a study; returns that study."""
    from neuroaug.system import progress

    progress.quiet = quiet
    configure_logging(logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO)
    if not use_study:
        return None
    from neuroaug.study import Study

    study = Study.here()
    if study is not None:
        log_to(study.logs / f"{stage}.log")
    return study


def start_in_study(stage: str, verbose: bool, quiet: bool, folder: Path | None) -> Study:
    """As `start`, for verbs that work on a study: the one in `folder`, or the current one.

    Raises
    ------
    InputError
        If there is none.
    """
    start(stage, verbose, quiet, use_study=False)
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


def configure_logging(level: int) -> None:
    """Send our messages, as plain lines, to the terminal."""
    for handler in list(log.handlers):
        handler.close()
        log.removeHandler(handler)
    console = _Console()
    console.setLevel(level)
    log.addHandler(console)
    log.setLevel(logging.DEBUG)
    log.propagate = False


def log_to(path: Path) -> None:
    """Keep a dated copy of all messages in `path`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        log.warning("%s: no log is kept (%s)", path, error.strerror)
        return
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    log.debug("neuroaug %s", " ".join(sys.argv[1:]))
