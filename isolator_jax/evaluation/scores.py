"""Where raw scores f(u, i) come from: inner products of embeddings, or stored scores.

Ranking asks for a block of f at a time, so neither source is ever a whole matrix on the
device.
"""

from typing import Protocol

import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array, lax

from isolator_jax.backbones import Encoded

# A model to rank with: its embeddings, or its scores `[U, I]` on the host, memory-mapped or not.
Model = Encoded | np.ndarray


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
      users: `[U, D]`.
      items: `[I, D]`.
    """

    users: Array
    items: Array

    @property
    def num_items(self) -> int:
        return self.items.shape[0]

    def block(self, rows: Array, start: Array, width: int) -> Array:
        items = lax.dynamic_slice_in_dim(self.items, start, width)
        # In full precision: GPUs and TPUs would otherwise round the factors and make ties.
        return jnp.matmul(self.users[rows], items.T, precision=lax.Precision.HIGHEST)


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


def scores_of(model: Model, users: np.ndarray) -> tuple[Scores, Array]:
    """The scores of some users `[B]`, and the rows they have there, `[B] int32`.

    Of a score matrix only these users' rows are read and moved to the device.
    """
    if isinstance(model, Encoded):
        return InnerProducts(model.users, model.items), jnp.asarray(users)
    return ScoreRows(jnp.asarray(np.asarray(model[users], np.float32))), jnp.arange(users.size, dtype=jnp.int32)
