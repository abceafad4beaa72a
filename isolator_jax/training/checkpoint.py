"""Checkpoints of the whole fit state, by orbax. The only module that knows orbax."""

import errno
import math
import os
import shutil
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from isolator_jax import processes
from isolator_jax.errors import CheckpointError, RunError, brief
from isolator_jax.files import draft_beside, write_json
from isolator_jax.training.digests import DIGESTS, digest_of, read_digests, saved_epochs

# What a file system may hold and the writers below orbax cannot: they read these as patterns or separators.
_UNUSABLE = "*?[]\\"

# Errors that say nothing about a file's content.
_OF_THE_SYSTEM = (errno.EACCES, errno.EPERM, errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ESTALE)
_SIGNS_OF_THE_SYSTEM = ("RESOURCE_EXHAUSTED", "PERMISSION_DENIED", *map(os.strerror, _OF_THE_SYSTEM))


# A checkpoint's arrays may have this much more than twice the model's bytes: padding for other numbers of devices.
_MARGIN = 1_000_000

# So often one that only reads looks again where a training has replaced the checkpoints meanwhile.
_READINGS = 20


class _Replaced(Exception):
    """Checkpoints were replaced while they were read."""


class Checkpoints:
    """The checkpoints of one run, numbered by epoch; the newest two are kept.

    Each is written under a temporary name and renamed when complete, so an interrupted
    save leaves the earlier ones as they were; a folder's first is read back once.
    `digests.json` beside them holds the SHA-256 of their files: what a disk has changed since
    is not used. Of several processes each writes and reads its own part of the arrays, in one
    folder that all of them see, and all call each method. Use as a context manager.

    Args:
      folder: where they are.
      read_only: only restore; another process may be saving.

    Raises:
      RunError: the folder's path is none that checkpoints can be written below.
    """

    def __init__(self, folder: str | Path, *, read_only: bool = False):
        check_path(folder)
        self._folder = Path(folder).resolve()
        self._read_only = read_only
        self._manager = self._opened()

    def _opened(self) -> ocp.CheckpointManager:
        # Saving is synchronous: the state is donated to the next epoch, whose writes a
        # background save could otherwise pick up.
        options = ocp.CheckpointManagerOptions(
            max_to_keep=None if self._read_only else 2, enable_async_checkpointing=False, read_only=self._read_only
        )
        left = _READINGS if self._read_only else 1
        while True:
            left -= 1
            try:
                return ocp.CheckpointManager(self._folder, options=options)
            except FileNotFoundError:  # orbax looks at each checkpoint of its list, and one is gone by then
                if not left:
                    raise

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exception: object) -> None:
        self._manager.close()

    def latest_epoch(self) -> int | None:
        """Epoch of the newest complete checkpoint, None where there is none."""
        return processes.first(self._manager.latest_step)

    def save(self, epoch: int, state: Any) -> None:
        """Saves `state` as the checkpoint of `epoch`.

        Raises:
          OSError: it cannot be written, or the first one not read back and so removed; the earlier checkpoints stay.
        """
        first = self.latest_epoch() is None
        try:
            with _interruptible():
                self._manager.save(epoch, args=ocp.args.StandardSave(state))
                if first:
                    self._read_back(epoch, state)
            self._write_digests(epoch)
        except Exception as error:  # the writers below orbax have errors of their own
            left = "the earlier checkpoints are whole, the same command resumes"
            if first:
                self._discard(epoch)
                left = "nothing is saved, the same command begins anew"
            raise OSError(
                f"{self._folder}: the checkpoint of epoch {epoch} could not be written ({_first_line(error)}); "
                f"make room or give another folder: {left}"
            ) from error

    def _discard(self, epoch: int) -> None:
        """Removes a first checkpoint that is not what was saved: no run goes on from it."""
        path = self._folder / str(epoch)
        if processes.is_first() and path.exists():
            draft = path.rename(draft_beside(path))  # at once: what is half removed would count as damaged
            shutil.rmtree(draft, ignore_errors=True)
        self._manager.reload()

    def restore_latest(self, like: Any) -> Any | None:
        """Restores the newest usable checkpoint into the structure, shapes, types and places of `like`.

        Tables saved on another number of devices have more or fewer rows of padding: what is
        missing is filled with zeros, what is too much is left out. A damaged checkpoint is
        named in a warning and passed over; where another process has replaced them meanwhile,
        the newer ones are read.

        Returns:
          The state; None where there is no checkpoint.

        Raises:
          CheckpointError: there are checkpoints, and all are damaged; or the system does not let
            one be read, which says nothing about it; or they are replaced too often to be read.
        """
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        for _ in range(_READINGS):
            epochs = self._saved()
            try:
                return self._restore_newest(epochs, target)
            except _Replaced:  # by the half of a checkpoint orbax may have taken its form for another
                self._manager.close()
                self._manager = self._opened()
        raise CheckpointError(
            f"{self._folder}: a training replaces its checkpoints faster than they can be read; give the command again "
            "when it has ended, or let it save less often"
        )

    def _restore_newest(self, epochs: list[int], target: Any) -> Any | None:
        """As `restore_latest`, of the checkpoints of these epochs.

        Raises:
          _Replaced: another process saves, and there are other checkpoints by now.
        """
        for epoch in epochs:
            folder = self._folder / str(epoch)
            sound = False
            try:
                sound = self._is_as_written(epoch)
                return self._restore(epoch, target)
            except Exception as error:  # a damaged file can make any reader below orbax fail
                lost = processes.tells_of_loss(error)
                if self._read_only and not lost and self._saved() != epochs:
                    raise _Replaced from None
                if sound or lost or _of_the_system(error):
                    raise CheckpointError(
                        f"{folder}: cannot be read ({_first_line(error)}); the checkpoint was left as it is: mend the "
                        "cause (rights, memory, open files, the disk), and the same command goes on"
                    ) from error
                warnings.warn(f"{folder}: damaged checkpoint, not used ({_first_line(error)})", stacklevel=3)
        if epochs:
            raise CheckpointError(
                f"{self._folder}: no usable checkpoint, all of {', '.join(map(str, epochs))} are damaged; "
                "put a copy of one back, or train in another folder"
            )
        return None

    @processes.by_first
    def _saved(self) -> list[int]:
        """Epochs of the checkpoints that are there now, falling."""
        return saved_epochs(self._folder)[::-1]

    def set_aside_after(self, epoch: int) -> None:
        """Renames the checkpoints after `epoch`, which a resumed run found damaged, to `NUMBER.damaged`."""
        self._rename_after(epoch)
        self._manager.reload()

    @processes.by_first
    def _rename_after(self, epoch: int) -> None:
        above = [step for step in saved_epochs(self._folder) if step > epoch]
        for step in above:
            damaged = self._folder / str(step)
            names = (damaged.with_name(f"{step}.damaged{end}") for end in ("", *(f"-{n}" for n in range(2, 1000))))
            damaged.rename(next(name for name in names if not name.exists()))
        digests = read_digests(self._folder)
        if gone := digests.keys() & set(map(str, above)):  # epochs that will be saved anew
            write_json(self._folder / DIGESTS, {step: digests[step] for step in digests if step not in gone})

    @processes.by_first
    def _write_digests(self, epoch: int) -> None:
        """Notes the digest of a new checkpoint, and forgets those of checkpoints that are gone."""
        kept = {str(step) for step in self._manager.all_steps()}
        digests = {step: digest for step, digest in read_digests(self._folder).items() if step in kept}
        write_json(self._folder / DIGESTS, {**digests, str(epoch): digest_of(self._folder / str(epoch))})

    @processes.by_first
    def _is_as_written(self, epoch: int) -> bool:
        """Whether a checkpoint's files are those that were written; False where no digest tells.

        Raises:
          ValueError: they have changed.
        """
        written, found = read_digests(self._folder).get(str(epoch)), digest_of(self._folder / str(epoch))
        if written is not None and written != found:
            raise ValueError("its files have changed since they were written")
        return written == found

    def _restore(self, epoch: int, target: Any) -> Any:
        def restore() -> Any:
            with _interruptible():
                _refuse_larger_arrays(self._folder / str(epoch) / "default", target)
                return self._manager.restore(epoch, args=ocp.args.StandardRestore(target, strict=False))

        return processes.each(restore)

    @processes.by_first
    def digest(self, epoch: int) -> str:
        """SHA-256 of a checkpoint's files, as `digests.json` holds it or should."""
        return read_digests(self._folder).get(str(epoch)) or digest_of(self._folder / str(epoch))

    def _read_back(self, epoch: int, state: Any) -> None:
        """Raises where a checkpoint that was just written does not hold the state."""
        if not all(getattr(leaf, "is_fully_addressable", True) for leaf in jax.tree.leaves(state)):
            return  # other processes hold the rest
        # Of no size themselves, such arrays ask for the values on the host.
        like = jax.tree.map(lambda leaf: np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape), state)
        found = self._manager.restore(epoch, args=ocp.args.StandardRestore(like))
        if not jax.tree.all(
            jax.tree.map(lambda a, b: np.asarray(a).tobytes() == np.asarray(b).tobytes(), found, state)
        ):
            raise ValueError("read back, it holds other values")


@contextmanager
def _interruptible() -> Iterator[None]:
    """Raises KeyboardInterrupt where Ctrl-C came meanwhile; orbax may drop it, or raise another error in its place.

    Handlers that are not Python's own stay: who has set them knows what to do.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    interrupted = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if interrupted:
            raise KeyboardInterrupt


def check_path(folder: str | Path) -> None:
    """Refuses a folder below which checkpoints cannot be written and read back.

    Raises:
      RunError: names the characters.
    """
    path = str(Path(folder).resolve())
    found = [character for character in _UNUSABLE if character in path]
    found += [":/"] if ":/" in f"{path}/" else []  # a name before it is taken for a scheme
    if found:
        raise RunError(
            f"{brief(path)}: checkpoints cannot be kept below a path with {' '.join(found)} in it; "
            "choose another folder"
        )
    if any("\ud800" <= character <= "\udfff" for character in path):
        raise RunError(f"{brief(path)}: checkpoints need a path of UTF-8 text; choose another folder")


def _refuse_larger_arrays(folder: Path, target: Any) -> None:
    """Raises where a checkpoint declares pieces of arrays, each unpacked whole, far beyond what is wanted of it."""
    declared = ocp.PyTreeCheckpointHandler().metadata(folder).tree
    pieces = [
        math.prod(array.storage.chunk_shape or ()) * np.dtype(array.dtype).itemsize
        for array in jax.tree.leaves(declared)
        if array.storage is not None
    ]
    wanted = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(target))
    if sum(pieces) > 2 * wanted + _MARGIN:
        raise ValueError(f"it declares arrays that unpack to {sum(pieces):,} bytes, and the model has {wanted:,}")


def _of_the_system(error: Exception) -> bool:
    """Whether an error tells of the system at the moment, and not of a file's content."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _OF_THE_SYSTEM):
        return True
    return any(sign in str(error) for sign in _SIGNS_OF_THE_SYSTEM)


def _first_line(error: Exception) -> str:
    return brief(f"{type(error).__name__}: {error}".splitlines()[0], 400)
