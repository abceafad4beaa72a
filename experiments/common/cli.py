"""What the commands share: how they start, how they stop, and how they fail.

Exit codes: 0 done; 1 an error to mend (flags, data, configuration, files, memory); 3 training
diverged; 75 training was interrupted and saved, and the same command goes on with it; 130
interrupted with nothing saved, and the same command begins anew.
"""

import logging as python_logging
import math
import os
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Collection
from pathlib import Path
from types import TracebackType

import jax
from absl import app, flags, logging

from isolator_jax import processes
from isolator_jax.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    NothingSaved,
    RunError,
    TrainingDiverged,
    TrainingInterrupted,
    brief,
    printable,
)

from . import process
from .help import define_help
from .process import stop_requests

__all__ = ["run", "stop_requests"]

_ERROR, _DIVERGED, _SAVED = 1, 3, 75
# Raised by all processes of a command where by one.
_OF_ALL = (ConfigError, DataError, RunError, CheckpointError, TrainingDiverged, TrainingInterrupted)


def run(main: Callable[..., None], operands: str | None = None, without: Collection[str] = ()) -> None:
    """Runs a command. What a user should know ends it with one line on stderr and an exit code.

    Args:
      main: the command, called without arguments, or with the operands.
      operands: what the command takes beside its flags, at least one; None: nothing.
      without: flags that it shares with other commands and refuses, left out of its help.
    """

    def start(arguments: list[str]) -> None:
        given = arguments[1:]
        if given and operands is None:
            raise app.UsageError(f"unexpected arguments: {' '.join(given)}; values go with --flag=value")
        if not given and operands is not None:
            raise app.UsageError(f"give at least one {operands}")
        logging.set_verbosity(logging.FATAL)
        python_logging.getLogger("jax").setLevel(python_logging.WARNING)
        _silence_saving_threads()
        warnings.showwarning = lambda message, *_: print(f"warning: {printable(message)}", file=sys.stderr)
        with process.shown_streams() as stderr:
            code, message, alone = _outcome(main, given)
            if message and (alone or processes.is_first()):
                print(message, file=stderr)
        if alone:
            process.leave(code, after_seconds=1.0 if processes.is_first() else 0.0)
        sys.exit(code)

    process.begin()
    define_help(Path(sys.argv[0]).stem, sys.modules[main.__module__].__doc__ or "", without)
    app.run(start)


def _outcome(main: Callable[..., None], given: list[str]) -> tuple[int, str, bool]:
    """Runs a command; its exit code, what there is to say, and whether this process ends otherwise than others of it.

    Errors that are not of the user, the data or the machine are raised: they are faults of the program.
    """
    try:
        _refuse_numbers_that_are_none()
        main(*given)
        sys.stdout.flush()
    except Exception as error:
        alone = _befell_this_process_alone(error)
        told = _told(error)
        if told is None and not alone:
            raise
        if told is None:
            traceback.print_exc(file=sys.__stderr__)
            told = _ERROR, "error: a fault of the program"
        code, message = told
        return code, f"process {processes.index()}: {message}" if alone else message, alone
    return 0, "", False


def _befell_this_process_alone(error: Exception) -> bool:
    """Whether an error is not one that all processes raise alike, as they do those of flags, data and folders."""
    if processes.count() == 1:
        return False
    return processes.tells_of_loss(error) or not (isinstance(error, _OF_ALL) or processes.is_of_all(error))


def _told(error: Exception) -> tuple[int, str] | None:
    """The exit code of an error and what to say of it; None of a fault of the program."""
    if processes.tells_of_loss(error):
        return _ERROR, (
            f"error: another process of this run has ended or cannot be reached ({brief(error)}); start all again, or "
            "another number of them: the run goes on from its last checkpoint"
        )
    if isinstance(error, NothingSaved):
        return process.INTERRUPTED, f"interrupted: {printable(error)}; the same command begins anew"
    if isinstance(error, TrainingInterrupted):
        return _SAVED, f"interrupted: {printable(error)}; the same command goes on from there"
    if isinstance(error, TrainingDiverged):
        return _DIVERGED, f"error: {printable(error)}"
    if isinstance(error, BrokenPipeError):
        process.discard(1)
        return _ERROR, "error: standard output was closed before all was written"
    if isinstance(error, ConfigError | DataError | RunError | CheckpointError | OSError):
        return _ERROR, f"error: {printable(error)}"
    message = _of_the_machine(error)
    return None if message is None else (_ERROR, f"error: {message}")


def _of_the_machine(error: Exception) -> str | None:
    """What to say of an error that the machine's limits explain; None of any other."""
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        return (
            f"out of memory ({brief(str(error) or type(error).__name__)}); lower --batch_size, "
            "--similarity_budget_mb or the model's dim, where the command has them, or raise the limit"
        )
    try:
        jax.devices()
    except Exception as failure:  # of many types, by platform
        wanted = os.environ.get("JAX_PLATFORMS") or "any platform"
        reason = str(failure) or "no such accelerator, or JAX was installed without its support"
        return f"JAX finds no device of {brief(wanted)} ({brief(reason)}); set JAX_PLATFORMS=cpu, or mend that"
    return None


def _refuse_numbers_that_are_none() -> None:
    """Refuses NaN and infinity in any flag that is a number."""
    for name, flag in flags.FLAGS._flags().items():
        if isinstance(flag.value, float) and not math.isfinite(flag.value):
            raise ConfigError(f"--{name} must be a finite number, got {flag.value}")


def _silence_saving_threads() -> None:
    """Keeps tracebacks of other threads off the screen.

    Checkpoints are written by threads, of Python and of C++; what fails there is raised again
    where it was asked for.
    """

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if threading.current_thread() is threading.main_thread():
            sys.__excepthook__(kind, error, trace)

    sys.excepthook = show
    threading.excepthook = lambda _: None
    sys.unraisablehook = lambda _: None
