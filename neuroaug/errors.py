"""What can go wrong, in one clear line each, and the exit code it leads to."""


class NeuroaugError(Exception):
    """Base of every error whose message is meant for the user: one line, no traceback."""

    exit_code = 2


class InputError(NeuroaugError):
    """Bad usage or bad input: which file, what is wrong, what to do (exit 2)."""


class LeakageError(InputError):
    """A generator has seen participants that it is to be evaluated on (exit 2)."""


class ResourceError(NeuroaugError):
    """The machine is too small for what was asked: memory, disk, device (exit 2)."""


class DivergenceError(NeuroaugError):
    """Training diverged; the last good checkpoint is kept (exit 2)."""


class StageError(NeuroaugError):
    """Part of a stage's work failed; where the stage went on, a table lists it (exit 1)."""

    exit_code = 1


class TrainingInterrupted(NeuroaugError):
    """Training was asked to stop, and has kept all of its work in a checkpoint (exit 130)."""

    exit_code = 130
