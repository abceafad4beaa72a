"""Checkpoints of the whole fit state, by orbax. The only module that knows orbax."""

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from isolator_jax.errors import CheckpointError
from isolator_jax.files import write_json


class Checkpoints:
    """The checkpoints of one run, numbered by epoch; the newest two are kept.

    Each is written under a temporary name and renamed when complete, so an interrupted
    save leaves the earlier ones as they were. `digests.json` beside them holds the SHA-256
    of their files: what a disk has changed since is not used. Use as a context manager.

    Args:
      folder: where they are.
      read_only: only restore; another process may be saving.
    """

    def __init__(self, folder: str | Path, *, read_only: bool = False):
        self._folder = Path(folder).resolve()
        # Saving is synchronous: the state is donated to the next epoch, whose writes a
        # background save could otherwise pick up.
        options = ocp.CheckpointManagerOptions(
            max_to_keep=None if read_only else 2, enable_async_checkpointing=False, read_only=read_only
        )
        self._manager = ocp.CheckpointManager(self._folder, options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exception: object) -> None:
        self._manager.close()

    def latest_epoch(self) -> int | None:
        """Epoch of the newest complete checkpoint, None where there is none."""
        return self._manager.latest_step()

    def save(self, epoch: int, state: Any) -> None:
        """Saves `state` as the checkpoint of `epoch`.

        Raises:
          OSError: it cannot be written; the earlier checkpoints stay.
        """
        try:
            self._manager.save(epoch, args=ocp.args.StandardSave(state))
            kept = {str(step) for step in self._manager.all_steps()}
            digests = {step: digest for step, digest in self._digests().items() if step in kept}
            write_json(self._folder / "digests.json", {**digests, str(epoch): _digest(self._folder / str(epoch))})
        except Exception as error:  # the writers below orbax have errors of their own
            raise OSError(
                f"{self._folder}: the checkpoint of epoch {epoch} could not be written ({_first_line(error)}); "
                "make room or give another folder: the earlier checkpoints are whole, the same command resumes"
            ) from error

    def restore_latest(self, like: Any) -> Any | None:
        """Restores the newest usable checkpoint into the structure, shapes, types and places of `like`.

        Tables saved on another number of devices have more or fewer rows of padding: what is
        missing is filled with zeros, what is too much is left out. A damaged checkpoint is
        named in a warning and passed over.

        Returns:
          The state; None where there is no checkpoint.

        Raises:
          CheckpointError: there are checkpoints, and all are damaged.
        """
        epochs = sorted(self._manager.all_steps(), reverse=True)
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        for epoch in epochs:
            folder = self._folder / str(epoch)
            try:
                written = self._digests().get(str(epoch))
                if written is not None and written != _digest(folder):
                    raise ValueError("its files have changed since they were written")
                return self._manager.restore(epoch, args=ocp.args.StandardRestore(target, strict=False))
            except Exception as error:  # a damaged file can make any reader below orbax fail
                warnings.warn(f"{folder}: damaged checkpoint, not used ({_first_line(error)})", stacklevel=2)
        if epochs:
            raise CheckpointError(
                f"{self._folder}: no usable checkpoint, all of {', '.join(map(str, epochs))} are damaged; "
                "remove the run folder and train again"
            )
        return None

    def discard_after(self, epoch: int) -> None:
        """Removes the checkpoints after `epoch`: what a resumed run found damaged."""
        for step in self._manager.all_steps():
            if step > epoch:
                self._manager.delete(step)

    def _digests(self) -> dict[str, str]:
        # Written after the checkpoint: a run killed in between has one without a digest.
        try:
            return json.loads((self._folder / "digests.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}


def _digest(folder: Path) -> str:
    """SHA-256 over the names and contents of a folder's files."""
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            total.update(f"{path.relative_to(folder)} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
