"""What the commands share: how they start, how they stop, and how they fail.

Exit codes: 0 done; 1 an error to mend (flags, data, configuration, files); 3 training
diverged; 75 training was interrupted and saved, and the same command goes on with it.
"""

import logging as python_logging
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from absl import app, logging

from isolator_jax.errors import CheckpointError, ConfigError, DataError, RunError, TrainingDiverged, TrainingInterrupted
from isolator_jax.training import EpochRecord

_DIVERGED, _INTERRUPTED = 3, 75


def run(main: Callable[..., None], operands: str | None = None) -> None:
    """Runs a command. What a user should know ends it with one line on stderr and an exit code.

    Args:
      main: the command, called without arguments, or with the operands.
      operands: what the command takes beside its flags, at least one; None: nothing.
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
        warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)
        try:
            main(*given)
        except TrainingInterrupted as error:
            print(f"interrupted: {one_line(error)}; the same command goes on from there", file=sys.stderr)
            sys.exit(_INTERRUPTED)
        except TrainingDiverged as error:
            print(f"error: {one_line(error)}", file=sys.stderr)
            sys.exit(_DIVERGED)
        except (ConfigError, DataError, RunError, CheckpointError, OSError) as error:
            print(f"error: {one_line(error)}", file=sys.stderr)
            sys.exit(1)

    app.run(start)


def one_line(error: Exception) -> str:
    """A message on one line, whatever the paths it names are made of."""
    return " ".join(str(error).splitlines())


def _silence_saving_threads() -> None:
    """Keeps tracebacks of other threads off the screen.

    Checkpoints are written by threads, of Python and of C++; what fails there is raised again
    where it was asked for.
    """

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if threading.current_thread() is threading.main_thread():
            sys.__excepthook__(kind, error, trace)

    sys.excepthook = show
    threading.excepthook = sys.unraisablehook = lambda _: None


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Notes SIGTERM and Ctrl-C instead of dying of them; gives what says whether one came.

    Python sees a signal when a compiled epoch returns, so training ends with its epoch.
    """
    requested = False

    def note(*_: object) -> None:
        nonlocal requested
        requested = True

    previous = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: requested
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def time_to_save(seconds: float) -> Callable[[EpochRecord], bool]:
    """Says after an epoch whether so many seconds have passed since it last said yes, or since now."""
    last = time.monotonic()

    def due(record: EpochRecord) -> bool:
        nonlocal last
        if time.monotonic() - last < seconds:
            return False
        last = time.monotonic()
        return True

    return due
