"""Files that are either whole or not there: written under a temporary name, then renamed."""

import contextlib
import errno
import json
import math
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_DRAFT = ".draft-"
_OWN_DRAFTS: set[Path] = set()  # what this process is writing
_LONG_SECONDS = 3600.0
_STANDARD = ("stdin", "stdout", "stderr")


def write_atomically(path: str | Path, write: Callable[[Path], object]) -> None:
    """Calls `write(temporary path)` and renames the result to `path`.

    The temporary file lies beside the target and keeps its suffix. Where `write` fails,
    it is removed, and what was at `path` stays. A new file's mode follows the umask, a
    replaced one keeps its mode. A link to a file is replaced, never followed; a device, a
    pipe or a socket is not replaced, but written to.
    """
    path = Path(path)
    if _is_stream(path):
        _write_through(path, write)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = draft_beside(path)
    replaced = path.stat().st_mode if path.is_file() and not path.is_symlink() else None
    try:
        with begun(draft), _held_draft(draft, 0o666 if replaced is None else 0o600):
            write(draft)
            if replaced is not None:
                draft.chmod(stat.S_IMODE(replaced))
            os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def write_text(path: str | Path, text: str) -> None:
    """Writes a text file atomically."""
    write_atomically(path, lambda draft: draft.write_text(text, encoding="utf-8"))


def write_json(path: str | Path, value: Any) -> None:
    """Writes a JSON file atomically; NaN becomes null, which JSON can hold."""
    write_text(path, json.dumps(_without_nan(value), indent=2) + "\n")


def draft_beside(path: Path) -> Path:
    """A name of its own for what is to be renamed to `path`; nothing is made."""
    return path.with_name(f"{_DRAFT}{secrets.token_hex(8)}{path.suffix}")


@contextlib.contextmanager
def begun(draft: Path) -> Iterator[None]:
    """Meanwhile `remove_own_drafts` removes this file or folder."""
    _OWN_DRAFTS.add(draft)
    try:
        yield
    finally:
        _OWN_DRAFTS.discard(draft)


def remove_own_drafts() -> None:
    """Removes what this process is writing, before it ends without unwinding."""
    for draft in list(_OWN_DRAFTS):
        shutil.rmtree(draft, ignore_errors=True)
        with contextlib.suppress(OSError):
            draft.unlink()


def is_draft(path: Path) -> bool:
    """Whether it is named as the temporary files here: what a killed process leaves behind."""
    return re.fullmatch(rf"{re.escape(_DRAFT)}[0-9a-f]{{16}}(\..*)?", path.name, re.DOTALL) is not None


def remove_drafts(folder: Path) -> None:
    """Removes the temporary files that killed processes left in a folder, and none that is being written."""
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # renamed, or removed by another
            if is_draft(path) and path.is_file() and not path.is_symlink() and _is_abandoned(path):
                path.unlink()


@contextlib.contextmanager
def _held_draft(draft: Path, mode: int) -> Iterator[None]:
    """Makes a temporary file and holds its lock meanwhile, where the file system has locks: it is in use."""
    # O_EXCL follows no link; the system takes the umask off the mode.
    descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
    try:
        _take_lock(descriptor)
    except OSError:  # systems without these locks may not rename what is open
        os.close(descriptor)
        yield
        return
    try:
        yield
    finally:
        os.close(descriptor)


def _is_abandoned(draft: Path) -> bool:
    """Whether nobody holds a temporary file's lock; where that cannot be told, whether it has not changed for long."""
    try:
        descriptor = os.open(draft, os.O_RDWR)
        try:
            return _take_lock(descriptor)
        finally:
            os.close(descriptor)
    except OSError:
        return time.time() - draft.stat().st_mtime > _LONG_SECONDS


def _take_lock(descriptor: int) -> bool:
    """Takes a file's lock, which the system frees with the descriptor; False where another has it.

    Raises:
      OSError: there are no locks here.
    """
    if sys.platform == "win32":
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_stream(path: Path) -> bool:
    """Whether a path is there and no regular file, or is one of a process's own streams."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    # /dev/stdout and /dev/fd/1 may stand for a regular file, which the shell has opened.
    return _own_descriptor(path) is not None or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _write_through(path: Path, write: Callable[[Path], object]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder, "draft" + path.suffix)
        write(draft)
        with draft.open("rb") as source, open(_opened(path), "wb") as target:
            with contextlib.suppress(BrokenPipeError):  # the reader has seen enough
                while block := source.read(1 << 20):
                    target.write(block)


def _opened(path: Path) -> int:
    """A stream's file descriptor; a process's own streams go on where they are."""
    own = _own_descriptor(path)
    if own is None:
        return os.open(path, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    return os.dup(own)


def _own_descriptor(path: Path) -> int | None:
    folder, _, name = str(path.absolute()).rpartition("/")
    if folder == "/dev" and name in _STANDARD:
        return _STANDARD.index(name)
    return int(name) if folder in ("/dev/fd", "/proc/self/fd") and name.isdecimal() else None


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
