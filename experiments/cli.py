"""What the commands share: how they start, and how they fail."""

import logging as python_logging
import sys
import time
import warnings
from collections.abc import Callable

from absl import app, logging

from isolator_jax.config import ConfigError
from isolator_jax.data import DataError
from isolator_jax.run import RunError
from isolator_jax.training import EpochRecord, TrainingDiverged


def run(main: Callable[..., None], operands: str | None = None) -> None:
    """Runs a command. Errors a user can mend end it with one line on stderr and exit code 1.

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
        logging.set_verbosity(logging.WARNING)
        python_logging.getLogger("jax").setLevel(python_logging.WARNING)
        warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)
        try:
            main(*given)
        except (ConfigError, DataError, RunError, TrainingDiverged, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)

    app.run(start)


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
