"""Where raw scores f(u, i) come from: inner products of embeddings, or stored scores.

Ranking asks for a block of f at a time, so neither source is ever a whole matrix on the
device unless it is given as one.
"""

from typing import Protocol

import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array, lax

from isolator_jax.backbones import Encoded
from isolator_jax.precision import EXACT

# A model to rank with: its embeddings, or its scores `[U, I]`: on the host, memory-mapped or not,
# or on the device.
Model = Encoded | np.ndarray | Array


class Scores(Protocol):
    """A pytree that gives raw scores on the device, block by block."""

    @property
    def num_items(self) -> int:
        """I."""

    def block(self, rows: Array, start: Array, width: int) -> Array:
        """f of the rows `[B]` and the `width` items from `start` on: `[B, width] float32`."""


@struct.dataclass
class InnerProducts:
    """f(u, i) = <user u, item i>.

    Attributes:
      users: `[U, D] float32`.
      items: `[I, D] float32`.
    """

    users: Array
    items: Array

    @property
    def num_items(self) -> int:
        return self.items.shape[0]

    def block(self, rows: Array, start: Array, width: int) -> Array:
        items = lax.dynamic_slice_in_dim(self.items, start, width)
        # In full precision: GPUs and TPUs would otherwise round the factors and make ties.
        return jnp.matmul(self.users[rows], items.T, precision=EXACT)


@struct.dataclass
class ScoreRows:
    """Stored scores of some users.

    Attributes:
      scores: `[R, I] float32`.
    """

    scores: Array

    @property
    def num_items(self) -> int:
        return self.scores.shape[1]

    def block(self, rows: Array, start: Array, width: int) -> Array:
        return lax.dynamic_slice_in_dim(self.scores, start, width, axis=1)[rows]


def on_device(model: Encoded | Array) -> Scores:
    """The scores of a model that is on the device whole; its rows are the users' ids."""
    return InnerProducts(model.users, model.items) if isinstance(model, Encoded) else ScoreRows(model)


def scores_of(model: Model, users: np.ndarray) -> tuple[Scores, Array]:
    """The scores of some users `[B]`, and the rows they have there, `[B] int32`.

    Of a score matrix on the host only these users' rows are read and moved to the device.

    Raises:
      ValueError: a score read from the host is neither finite in float32 nor -inf; the message names it.
    """
    if not isinstance(model, np.ndarray):
        return on_device(model), jnp.asarray(users)
    with np.errstate(over="ignore"):
        stored = np.asarray(model[users])
        rows = stored.astype(np.float32)
    wrong = ~np.isfinite(rows) & (stored != -np.inf)
    if wrong.any():
        row, item = np.argwhere(wrong)[0]
        raise ValueError(
            f"model must be finite in float32, and user {users[row]}'s score of item {item} is {rows[row, item]:g}; "
            "-inf alone may stand for an item that is no candidate of the user"
        )
    return ScoreRows(jnp.asarray(rows)), jnp.arange(users.size, dtype=jnp.int32)
