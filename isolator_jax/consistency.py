"""c_u, how alike the items of a user's history are (Eq. 3), exact enough to compare users by.

Computed on the host in float64: what rounding leaves there is far below the 6 decimals that
c_u is rounded to, so that users of equal c_u compare as equal, whatever the fusion, the
blocks, the device or the number of cores.
"""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jax import Array
from jax.typing import ArrayLike

from isolator_jax import checks
from isolator_jax.histories import Histories, check_histories

DECIMALS = 6

# Of working memory, unless told otherwise.
MEMORY_BYTES = 256 << 20


def content_consistency(channel: ArrayLike, histories: Histories, *, memory_bytes: int = MEMORY_BYTES) -> np.ndarray:
    """c_u, the mean similarity between different items of a history (Eq. 3). Works on the host.

    Args:
      channel: `[I, F]` normalised features.
      histories: training histories of U users.
      memory_bytes: bound on the working memory, as long as it holds one feature of all items and users.

    Returns:
      `[U] float64`, rounded to 6 decimals, NaN where n_u < 2 (c_u is undefined).

    Raises:
      ValueError: features that are not finite, or of fewer items than histories name.

    Examples:
      >>> features = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
      >>> histories = Histories.from_pairs([0, 0, 1, 1, 2], [0, 1, 0, 2, 1], num_users=3)
      >>> content_consistency(features, histories).tolist()
      [1.0, 0.0, nan]
    """
    rows = checks.host_numbers("channel", channel, shape=("I", "F"), finite=True)
    check_histories(histories, rows.shape[0])
    return rounded(pair_means(rows, histories, np.ones(rows.shape[0]), memory_bytes))


def consistency_of_modality(features: ArrayLike, histories: Histories) -> np.ndarray:
    """c_u of raw features that have been checked, normalised in float64: `[U] float64`, not rounded."""
    rows = checks.host_numbers("features", features, shape=("I", "F"))
    norms = np.sqrt(np.einsum("if,if->i", rows, rows, dtype=np.float64))
    return pair_means(rows, histories, np.where(norms > 0, norms, 1.0))


def rounded(consistency: np.ndarray) -> np.ndarray:
    """c_u as users are compared by it: to 6 decimals, and no -0."""
    return np.round(consistency, DECIMALS) + 0.0


def pair_means(
    rows: np.ndarray, histories: Histories, norms: np.ndarray, memory_bytes: int = MEMORY_BYTES
) -> np.ndarray:
    """Mean of e_i . e_j over ordered pairs i != j of each history, e_i = row i / norm i. `[U] float64`.

    Uses sum_{i != j} e_i . e_j = |sum_i e_i|^2 - sum_i |e_i|^2, some columns at a time, so
    that no pair is enumerated. The sparse product adds in one order, on one core.
    """
    offsets, items = np.asarray(histories.offsets), np.asarray(histories.items)
    entries = int(offsets[-1])
    shape = (histories.num_users, rows.shape[0])
    members = scipy.sparse.csr_matrix((np.ones(entries), items[:entries], offsets), shape=shape)
    width = max(1, memory_bytes // (16 * (sum(shape) + 1)))
    totals, squares = np.zeros(shape[0]), np.zeros(shape[1])
    for start in range(0, rows.shape[1], width):
        columns = rows[:, start : start + width].astype(np.float64) / norms[:, None]
        squares += np.square(columns).sum(axis=1)
        totals += np.square(members @ columns).sum(axis=1)
    lengths = np.diff(offsets).astype(np.float64)
    pairs = lengths * (lengths - 1)
    return np.divide(totals - members @ squares, pairs, out=np.full(shape[0], np.nan), where=pairs > 0)


def fill_undefined(consistency: ArrayLike) -> Array:
    """Replaces undefined c_u (NaN) by the mean of the defined ones, per channel.

    `[..., U] -> [..., U]`; zero where no user of a channel has a defined c_u.

    Raises:
      TypeError, ValueError: no numbers, or none of users.

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
