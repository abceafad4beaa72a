"""A command as a process: its signals and standard streams, from before the heavy imports on.

It imports nothing beyond the standard library.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

INTERRUPTED = 130

_CHILDREN: set[subprocess.Popen] = set()


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
    for child in list(_CHILDREN):
        child.terminate()
    if files := sys.modules.get("isolator_jax.files"):
        files.remove_own_drafts()
    try:
        os.write(2, f"interrupted by {signal.Signals(number).name}\n".encode())
    except OSError:
        pass
    os._exit(INTERRUPTED)


def run_child(command: list[str]) -> "subprocess.CompletedProcess[str]":
    """Another command, what it prints captured; a signal that ends this one ends it too (but for SIGKILL)."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        _CHILDREN.add(child)
        try:
            out, err = child.communicate()
        finally:
            child.kill()
            _CHILDREN.discard(child)
    return subprocess.CompletedProcess(command, child.returncode, out, err)


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
def shown_streams() -> Iterator[Shown]:
    """Shows what is printed as `Shown` does; what is said on standard error never ends a command.

    A letter that the terminal's encoding lacks appears as its escape. Gives standard error, also
    for one that has fallen silent since.
    """
    previous = sys.stdout, sys.stderr
    for stream in previous:
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    sys.stdout = Shown(sys.stdout, "\n\t", forgiving=False)
    sys.stderr = errors = Shown(sys.stderr, "\n\t\r", forgiving=True)
    try:
        yield errors
    finally:
        sys.stdout, sys.stderr = previous
        try:
            sys.stderr.flush()
        except (OSError, ValueError):
            discard(2)


def keep_stdout_for_python() -> None:
    """Sends to standard error what C++ libraries print, as gloo does about its connections."""
    sys.stdout.flush()
    stream = open(os.dup(1), "w", encoding=sys.stdout.encoding, errors="backslashreplace")
    os.dup2(2, 1)
    sys.stdout = Shown(stream, "\n\t", forgiving=False)


def fall_silent() -> None:
    """Prints nothing from here on: another process of this command does. Tracebacks still come."""
    sys.stdout.flush()
    discard(1)
    sys.stdout = sys.stderr = open(os.devnull, "w")


def leave(code: int, *, after_seconds: float) -> NoReturn:
    """Ends the process without waiting for the others of its command, which then end too.

    Args:
      code: exit code.
      after_seconds: the first process, whose end is the others' at once, leaves them time for what they have to say.
    """
    time.sleep(after_seconds)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass
    os._exit(code)


def discard(descriptor: int) -> None:
    """Sends what a standard stream still holds, and could not write, to nowhere: it would fail again at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
