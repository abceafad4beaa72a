"""A command as a process: its signals and standard streams, from before the heavy imports on.

It imports nothing beyond the standard library.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

INTERRUPTED = 130


def begin() -> None:
    """Takes the signals, and opens standard streams that are closed: no file of the command may take their place."""
    for number in stop_signals():
        signal.signal(number, _end)
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))


def stop_signals() -> list[signal.Signals]:
    """What asks a command to stop: Ctrl-C, a scheduler, a closed terminal unless `nohup` told to ignore that."""
    names = ["SIGINT", "SIGTERM"]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        names.append("SIGHUP")
    return [getattr(signal, name) for name in names]


def _end(number: int, *_: object) -> NoReturn:
    # Not by an exception: where a library catches or drops it, or prints its traceback, nothing would end.
    # Nothing is half written: files are renamed when whole.
    try:
        os.write(2, f"interrupted by {signal.Signals(number).name}\n".encode())
    except OSError:
        pass
    os._exit(INTERRUPTED)


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Notes what asks the command to stop instead of ending; gives what says whether something did.

    Python sees a signal when a compiled epoch returns, so training ends with its epoch.
    """
    requested = False

    def note(*_: object) -> None:
        nonlocal requested
        requested = True

    previous = {number: signal.signal(number, note) for number in stop_signals()}
    try:
        yield lambda: requested
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class Shown:
    """A text stream on which control characters appear as their escapes.

    Names of foreign files, columns and items reach tables and messages; none may steer the terminal.

    Args:
      stream: where the text goes.
      allowed: control characters that pass.
      forgiving: whether text that cannot be written is dropped: nobody reads it any more.
    """

    def __init__(self, stream: Any, allowed: str, *, forgiving: bool):
        self._stream, self._allowed, self._forgiving = stream, allowed, forgiving

    def write(self, text: str) -> int:
        if not text.isprintable():
            text = "".join(map(self._shown, text))
        self._try(self._stream.write, text)
        return len(text)

    def flush(self) -> None:
        self._try(self._stream.flush)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _shown(self, character: str) -> str:
        return character if character.isprintable() or character in self._allowed else ascii(character)[1:-1]

    def _try(self, action: Callable[..., object], *arguments: str) -> None:
        try:
            action(*arguments)
        except (OSError, ValueError):  # the reader is gone, the disk is full, the stream is closed
            if not self._forgiving:
                raise


@contextmanager
def shown_streams() -> Iterator[None]:
    """Shows what is printed as `Shown` does; what is said on standard error never ends a command.

    A letter that the terminal's encoding lacks appears as its escape.
    """
    previous = sys.stdout, sys.stderr
    for stream in previous:
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    sys.stdout = Shown(sys.stdout, "\n\t", forgiving=False)
    sys.stderr = Shown(sys.stderr, "\n\t\r", forgiving=True)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = previous
        try:
            sys.stderr.flush()
        except (OSError, ValueError):
            discard(2)


def discard(descriptor: int) -> None:
    """Sends what a standard stream still holds, and could not write, to nowhere: it would fail again at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
