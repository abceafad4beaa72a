"""c_u, how alike the items of a user's history are (Eq. 3)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from isolator_jax import checks
from isolator_jax.features import check_channel
from isolator_jax.histories import Histories, check_histories, fold_histories
from isolator_jax.similarity import map_users


def content_consistency(channel: ArrayLike, histories: Histories, user_chunk: int = 256) -> np.ndarray:
    """c_u, the mean similarity between different items of a history (Eq. 3). Works on the host.

    Uses sum_{i != j} S[i, j] = |sum_i e_i|^2 - sum_i |e_i|^2, so no pair is enumerated.

    Args:
      channel: `[I, F]` normalised features.
      histories: training histories of U users.

    Returns:
      `[U] float32`, NaN where n_u < 2 (c_u is undefined).

    Raises:
      ValueError: features that are not finite, or of fewer items than histories name.

    Examples:
      >>> features = normalize_features(np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
      >>> histories = Histories.from_pairs(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 2, 1]), num_users=3)
      >>> print(np.asarray(content_consistency(features, histories)).round(4))
      [ 1.  0. nan]
    """
    checks.untraced("channel", channel)
    channel = check_channel(channel, finite=True)
    check_histories(histories, channel.shape[0])
    total = np.asarray(_pair_sums(channel, histories, checks.count("user_chunk", user_chunk, least=1)))
    lengths = np.asarray(histories.lengths).astype(np.float32)
    pairs = lengths * (lengths - 1)
    return np.divide(total, pairs, out=np.full_like(total, np.nan), where=pairs > 0)


@functools.partial(jax.jit, static_argnames="user_chunk")
def _pair_sums(channel: Array, histories: Histories, user_chunk: int) -> Array:
    squared_norms = jnp.sum(jnp.square(channel), axis=1)

    def of_chunk(users):
        def add(sums, rows, items):
            vectors, squares = sums
            return (
                vectors.at[rows].add(channel[items], mode="drop"),
                squares.at[rows].add(squared_norms[items], mode="drop"),
            )

        init = (jnp.zeros((users.size, channel.shape[1]), jnp.float32), jnp.zeros(users.size, jnp.float32))
        vectors, squares = fold_histories(histories, users, init, add)
        return jnp.sum(jnp.square(vectors), axis=1) - squares

    return map_users(of_chunk, histories.num_users, user_chunk)


def fill_undefined(consistency: ArrayLike) -> Array:
    """Replaces undefined c_u (NaN) by the mean of the defined ones, per channel.

    `[..., U] -> [..., U]`; zero where no user of a channel has a defined c_u.

    Examples:
      >>> print(fill_undefined(np.array([[1.0, 0.0, np.nan]])))
      [[1.  0.  0.5]]
    """
    if isinstance(consistency, jax.Array):
        values = checks.array("consistency", consistency, shape=(..., "U"))
        defined = ~jnp.isnan(values)
        values = jnp.where(defined, values, 0.0)
        counts = jnp.sum(defined, axis=-1, keepdims=True, dtype=jnp.float32)
        return jnp.where(defined, values, jnp.sum(values, axis=-1, keepdims=True) / jnp.maximum(counts, 1.0))
    # On the host, where NaN is a mark and no fault.
    known = checks.host_array("consistency", consistency, shape=(..., "U"))
    undefined = np.isnan(known)
    means = np.ma.masked_array(known, undefined).mean(axis=-1, keepdims=True, dtype=np.float64).filled(0)
    return jnp.asarray(np.where(undefined, means, known), jnp.float32)
