"""Progress bars on a terminal; in a log file, a line now and then."""

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

from isolator_jax import processes

_LOG_SECONDS = 30.0
_LOG_LINE = "{desc}: {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"


class _Log:
    """Standard error, with each state of a bar on a line of its own."""

    def write(self, text: str) -> None:
        if line := text.strip():
            print(line, file=sys.stderr, flush=True)

    def flush(self) -> None:
        sys.stderr.flush()


def progress(iterable: Iterable[Any] | None = None, **options: Any) -> tqdm:
    """A tqdm bar; where standard error is no terminal, its state as a line at most every half minute, and at the end.

    Of several processes the first shows it. Options are tqdm's.
    """
    if not processes.is_first():
        return tqdm(iterable, disable=True, **options)
    if sys.stderr.isatty():
        return tqdm(iterable, mininterval=0.2, **options)
    return tqdm(
        iterable,
        file=_Log(),
        mininterval=_LOG_SECONDS,
        maxinterval=2 * _LOG_SECONDS,
        bar_format=_LOG_LINE,
        ascii=True,
        **options,
    )
