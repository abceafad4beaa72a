"""A trained model held in memory, with its data and its run folder."""

import dataclasses
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any

import numpy as np

from isolator_jax.backbones import Encoded
from isolator_jax.data.frames import ids_of
from isolator_jax.data.identified import Identified, known
from isolator_jax.errors import RunError
from isolator_jax.runs.config import RunConfig
from isolator_jax.runs.folder import newest_checkpoint, read_config
from isolator_jax.runs.ids import with_training_items
from isolator_jax.runs.problem import Problem
from isolator_jax.runs.train import strategies_of
from isolator_jax.strategies import Strategy


class Scratch:
    """A folder that is gone with this object."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="isolator-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A trained model, its data and its run folder.

    Attributes:
      checkpoint: the newest of the folder when the model was read, as `newest_checkpoint` has it.
      scratch: keeps a temporary folder there.
    """

    config: RunConfig
    problem: Problem
    encoded: Encoded
    identified: Identified
    folder: Path
    checkpoint: tuple[int, str | None] | None
    scratch: Scratch | None = None

    def __repr__(self) -> str:
        counts = self.problem.dataset.counts()
        return f"fitted on {counts['users']} users and {counts['items']} items"

    @property
    def strategies(self) -> dict[str, Strategy]:
        return strategies_of(self.config, self.problem.content is not None)

    def refuse_another_model(self) -> None:
        """Raises RunError where the folder is gone, or holds a later model of the run."""
        read_config(self.folder)
        if newest_checkpoint(self.folder) != self.checkpoint:
            raise RunError(
                f"{self.folder}: another command has gone on with this run, and what is there is of another model; fit "
                "or load it again"
            )

    def chosen_users(self, users: Any) -> np.ndarray:
        """Dense ids `[N] int32` of users with training items."""
        histories = self.problem.train.histories
        if users is None:
            return histories.users_with_items()
        ids = self.identified.user_ids
        chosen = known("users", ids_of("users", [users] if np.ndim(users) == 0 else users), "userID", ids)
        return with_training_items(chosen, np.asarray(histories.lengths), ids)
