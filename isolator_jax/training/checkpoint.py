"""Checkpoints of the whole fit state, by orbax. The only module that knows orbax."""

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp


class Checkpoints:
    """The checkpoints of one run, numbered by epoch; the newest two are kept.

    Each is written under a temporary name and renamed when complete, so an interrupted
    save leaves the earlier ones as they were. Use as a context manager.
    """

    def __init__(self, folder: str | Path):
        # Saving is synchronous: the state is donated to the next epoch, whose writes a
        # background save could otherwise pick up.
        options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(Path(folder).resolve(), options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exception: object) -> None:
        self._manager.close()

    def latest_epoch(self) -> int | None:
        """Epoch of the newest complete checkpoint, None where there is none."""
        return self._manager.latest_step()

    def save(self, epoch: int, state: Any) -> None:
        """Saves `state` as the checkpoint of `epoch`."""
        self._manager.save(epoch, args=ocp.args.StandardSave(state))

    def restore(self, epoch: int, like: Any) -> Any:
        """Restores the checkpoint of `epoch` into the structure, shapes, types and places of `like`.

        Tables saved on another number of devices have more or fewer rows of padding: what is
        missing is filled with zeros, what is too much is left out.
        """
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        return self._manager.restore(epoch, args=ocp.args.StandardRestore(target, strict=False))
