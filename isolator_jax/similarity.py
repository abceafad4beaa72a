"""Content similarity: S, s_ui, c_u and S-bar, from features and histories. Nothing is learned.

Notation as in the paper: e_i^m is item i's L2-normalised feature of modality m,
S^m[i, j] = e_i^m . e_j^m, S = mean_m S^m. Since S is itself the Gram matrix of the
concatenated features divided by sqrt(M), both fusions are one computation over a list of
T *channels*: `mean` has T = 1 channel, `per_modality` has one for each modality.
"""

import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array, lax
from jax.typing import DTypeLike

from isolator_jax.histories import Histories, fold_histories

FUSIONS = ("mean", "per_modality")

# Accelerators would otherwise round the factors of a matrix product.
_EXACT = lax.Precision.HIGHEST


def normalize_features(features: Array | np.ndarray) -> Array:
    """Rows scaled to unit L2 norm, e_i; an all-zero row stays zero.

    The row is divided by its largest magnitude first, so that no float32 row overflows or
    underflows in its squared norm.

    Args:
      features: `[I, F]`, any float type.

    Returns:
      `[I, F] float32`.

    Examples:
      >>> print(np.asarray(normalize_features(np.array([[3.0, 4.0], [0.0, 0.0]]))).round(4))
      [[0.6 0.8]
       [0.  0. ]]
    """
    rows = jnp.asarray(features, jnp.float32)
    largest = jnp.max(jnp.abs(rows), axis=1, keepdims=True, initial=0.0)
    # By 2^100 at most: XLA divides by multiplying, and 1 / 2^127 is flushed to zero.
    rows = rows / jnp.where(largest > 0, jnp.minimum(largest, 2.0**100), 1.0)
    norm = jnp.linalg.norm(rows, axis=1, keepdims=True)
    return rows / jnp.where(norm > 0, norm, 1.0)


def fuse_channels(features: Sequence[Array | np.ndarray], fusion: str = "mean") -> list[Array]:
    """The T feature channels of a fusion.

    Args:
      features: M raw feature matrices `[I, F_m]`.
      fusion: `mean` (the paper: similarities are averaged before the sigmoid or g) or
        `per_modality` (the authors' release: the sigmoids are averaged).

    Returns:
      T matrices `[I, F_t] float32` whose Gram matrices are the channels' similarities.

    Raises:
      ValueError: unknown fusion or no features.

    Examples:
      >>> image, text = np.eye(3), np.ones((3, 2))
      >>> [channel.shape for channel in fuse_channels([image, text])]
      [(3, 5)]
      >>> [channel.shape for channel in fuse_channels([image, text], "per_modality")]
      [(3, 3), (3, 2)]
    """
    if not features:
        raise ValueError("content similarity needs the features of at least one modality")
    normalized = [normalize_features(x) for x in features]
    if fusion == "per_modality":
        return normalized
    if fusion == "mean":
        return [jnp.concatenate(normalized, axis=1) / math.sqrt(len(normalized))]
    raise ValueError(f"fusion {fusion!r} is not one of {', '.join(FUSIONS)}")


@jax.jit
def item_similarity(channel: Array) -> Array:
    """S[i, j] = e_i . e_j.  `[I, F] -> [I, I] float32`, in full precision on every device.

    Examples:
      >>> (channel,) = fuse_channels([np.eye(2), np.ones((2, 1))])
      >>> print(np.asarray(item_similarity(channel)).round(4))  # the mean of I and 1
      [[1.  0.5]
       [0.5 1. ]]
    """
    return jnp.matmul(channel, channel.T, precision=_EXACT)


@jax.jit
def mean_item_similarity(channel: Array) -> Array:
    """S-bar: the mean of S over ordered pairs i != j (Table 1). `[I, F] -> []`.

    Uses sum_ij S[i, j] = |sum_i e_i|^2, linear in I. NaN for fewer than two items.

    Examples:
      >>> (channel,) = fuse_channels([np.eye(2), np.ones((2, 1))])
      >>> print(f"{mean_item_similarity(channel):.4f}")
      0.5000
    """
    items = channel.shape[0]
    total = jnp.sum(jnp.square(jnp.sum(channel, axis=0))) - jnp.sum(jnp.square(channel))
    return total / (items * (items - 1)) if items > 1 else jnp.float32(jnp.nan)


@functools.partial(jax.jit, static_argnames="user_chunk")
def content_consistency(channel: Array, histories: Histories, user_chunk: int = 256) -> Array:
    """c_u, the mean similarity between different items of a history (Eq. 3).

    Uses sum_{i != j} S[i, j] = |sum_i e_i|^2 - sum_i |e_i|^2, so no pair is enumerated.

    Args:
      channel: `[I, F]` normalised features.
      histories: training histories of U users.

    Returns:
      `[U] float32`, NaN where n_u < 2 (c_u is undefined).

    Examples:
      >>> features = normalize_features(np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
      >>> histories = Histories.from_pairs(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 2, 1]), num_users=3)
      >>> print(np.asarray(content_consistency(features, histories)).round(4))
      [ 1.  0. nan]
    """
    squared_norms = jnp.sum(jnp.square(channel), axis=1)

    def of_chunk(users):
        def add(sums, rows, items):
            vectors, squares = sums
            return (
                vectors.at[rows].add(channel[items], mode="drop"),
                squares.at[rows].add(squared_norms[items], mode="drop"),
            )

        init = (jnp.zeros((users.size, channel.shape[1])), jnp.zeros(users.size))
        vectors, squares = fold_histories(histories, users, init, add)
        return jnp.sum(jnp.square(vectors), axis=1) - squares

    total = _map_users(of_chunk, histories.num_users, user_chunk)
    lengths = histories.lengths.astype(jnp.float32)
    pairs = lengths * (lengths - 1)
    return jnp.where(pairs > 0, total / jnp.where(pairs > 0, pairs, 1.0), jnp.nan)


def fill_undefined(consistency: Array) -> Array:
    """Replaces undefined c_u (NaN) by the mean of the defined ones, per channel.

    `[..., U] -> [..., U]`; zero where no user of a channel has a defined c_u.

    Examples:
      >>> print(fill_undefined(jnp.array([[1.0, 0.0, jnp.nan]])))
      [[1.  0.  0.5]]
    """
    defined = ~jnp.isnan(consistency)
    count = jnp.sum(defined, axis=-1, keepdims=True)
    mean = jnp.sum(jnp.where(defined, consistency, 0.0), axis=-1, keepdims=True) / jnp.maximum(count, 1)
    return jnp.where(defined, consistency, mean)


def history_similarity(item_sim: Array, histories: Histories, users: Array) -> Array:
    """s_ui = mean_{j in I_u} S[i, j] for all items of some users (Eq. 9): rows of R_mean S.

    Args:
      item_sim: `[I, W]`, S or a block of W of its columns.
      users: `[B] int32`.

    Returns:
      `[B, W] float32`; zero for a user without history.

    Examples:
      >>> S = jnp.array([[1.0, 0.5, 0.2], [0.5, 1.0, 0.4], [0.2, 0.4, 1.0]])
      >>> histories = Histories.from_pairs(np.array([0, 0]), np.array([0, 1]), num_users=1)
      >>> print(np.asarray(history_similarity(S, histories, jnp.array([0]))).round(4))
      [[0.75 0.75 0.3 ]]
    """

    def add(sums, rows, items):
        return sums.at[rows].add(item_sim[items], mode="drop")

    init = jnp.zeros((users.size, item_sim.shape[1]), jnp.float32)
    return _mean(fold_histories(histories, users, init, add, block=256), histories, users)


@jax.jit
def list_similarity(item_sim: Array, histories: Histories, users: Array, lists: Array) -> Array:
    """s_ui (Eq. 9) for a few items of each user, without a full row.

    Args:
      item_sim: `[I, I]`, S.
      users: `[B] int32`.
      lists: `[B, K] int32` item ids.

    Returns:
      `[B, K] float32`; zero for a user without history.
    """

    def add(sums, rows, items):
        listed = lists.at[rows].get(mode="clip")
        return sums.at[rows].add(item_sim[items[:, None], listed], mode="drop")

    init = jnp.zeros(lists.shape, jnp.float32)
    return _mean(fold_histories(histories, users, init, add), histories, users)


@struct.dataclass
class SimilarityTable:
    """s_ui of all users and items, stored.

    Attributes:
      table: `[T, U, I]`, float32, float16 or bfloat16; read back as float32.
    """

    table: Array

    def pairs(self, users: Array, items: Array) -> Array:
        """s_ui of users `[...]` and items `[...]` (broadcast): `[T, ...] float32`."""
        return self.table[:, users, items].astype(jnp.float32)

    def lists(self, users: Array, items: Array) -> Array:
        """s_ui of a few items of each user, `[B]` and `[B, K]`: `[T, B, K] float32`."""
        return self.pairs(users[:, None], items)

    def rows(self, users: Array, start: Array, width: int) -> Array:
        """s_ui of users `[B]` and the items from `start` on: `[T, B, width] float32`."""
        channels = self.table.shape[0]

        def row(user: Array) -> Array:
            return lax.dynamic_slice(self.table, (0, user, start), (channels, 1, width))[:, 0]

        return jax.vmap(row, out_axes=1)(users).astype(jnp.float32)


@struct.dataclass
class SimilarityOnTheFly:
    """s_ui made from S and the histories when it is asked for.

    Attributes:
      item_sim: `[T, I, I]`, the channels' S.
      histories: training histories.
    """

    item_sim: Array
    histories: Histories

    def pairs(self, users: Array, items: Array) -> Array:
        """As `SimilarityTable.pairs`."""
        return _pairs_as_lists(self, users, items)

    def lists(self, users: Array, items: Array) -> Array:
        """As `SimilarityTable.lists`, each user's history walked once."""
        return lax.map(lambda item_sim: list_similarity(item_sim, self.histories, users, items), self.item_sim)

    def rows(self, users: Array, start: Array, width: int) -> Array:
        """As `SimilarityTable.rows`."""

        def of_channel(item_sim: Array) -> Array:
            columns = lax.dynamic_slice_in_dim(item_sim, start, width, axis=1)
            return history_similarity(columns, self.histories, users)

        return lax.map(of_channel, self.item_sim)


@struct.dataclass
class SimilarityFromFeatures:
    """s_ui made from features and histories when it is asked for, where S itself is too large.

    Attributes:
      channels: T matrices `[I, F_t]` from `fuse_channels`.
      histories: training histories.
    """

    channels: tuple[Array, ...]
    histories: Histories

    def pairs(self, users: Array, items: Array) -> Array:
        """As `SimilarityTable.pairs`."""
        return _pairs_as_lists(self, users, items)

    def lists(self, users: Array, items: Array) -> Array:
        """As `SimilarityTable.lists`."""

        def of_channel(channel: Array) -> Array:
            return jnp.einsum("bf,bkf->bk", self._profiles(channel, users), channel[items], precision=_EXACT)

        return jnp.stack([of_channel(channel) for channel in self.channels])

    def rows(self, users: Array, start: Array, width: int) -> Array:
        """As `SimilarityTable.rows`."""

        def of_channel(channel: Array) -> Array:
            columns = lax.dynamic_slice_in_dim(channel, start, width)
            return jnp.matmul(self._profiles(channel, users), columns.T, precision=_EXACT)

        return jnp.stack([of_channel(channel) for channel in self.channels])

    def _profiles(self, channel: Array, users: Array) -> Array:
        # R_mean S = (R_mean X) X^T: the mean feature of a history stands for the history.
        return history_similarity(channel, self.histories, users)


Similarity = SimilarityTable | SimilarityOnTheFly | SimilarityFromFeatures


def _pairs_as_lists(similarity: Similarity, users: Array, items: Array) -> Array:
    users, items = jnp.broadcast_arrays(users, items)
    return similarity.lists(users.reshape(-1), items.reshape(-1, 1)).reshape(-1, *users.shape)


@functools.partial(jax.jit, static_argnames=("dtype", "user_chunk"))
def build_table(item_sim: Array, histories: Histories, dtype: jnp.dtype, user_chunk: int = 256) -> Array:
    """s_ui of all users and items of one channel's S. `[I, I] -> [U, I]` of `dtype`."""

    def of_chunk(users: Array) -> Array:
        return history_similarity(item_sim, histories, users).astype(dtype)

    return _map_users(of_chunk, histories.num_users, user_chunk)


def build_similarity(
    channels: Sequence[Array],
    histories: Histories,
    *,
    table_budget_bytes: int = 2 << 30,
    table_dtype: DTypeLike = jnp.float32,
    make_table: Callable[[Array, Histories, jnp.dtype], Array] = build_table,
) -> Similarity:
    """Builds the similarity store: the table where it fits the budget, else one that computes on the fly.

    On the fly s_ui comes from S where S fits the budget, and from features where it does not. All
    give the same numbers up to rounding.

    Args:
      channels: T matrices from `fuse_channels`.
      histories: training histories.
      table_budget_bytes: largest table or S.
      table_dtype: the table's storage type.
      make_table: `build_table`, or the same on several devices.

    Examples:
      >>> histories = Histories.from_pairs(np.array([0, 0]), np.array([0, 1]), num_users=1)
      >>> channels = fuse_channels([np.eye(3)])
      >>> type(build_similarity(channels, histories)).__name__
      'SimilarityTable'
      >>> small = build_similarity(channels, histories, table_budget_bytes=0)
      >>> type(small).__name__
      'SimilarityFromFeatures'
      >>> print(small.pairs(jnp.array([0, 0]), jnp.array([1, 2])))
      [[0.5 0. ]]
    """
    cells = len(channels) * histories.num_users * channels[0].shape[0]
    if cells * jnp.dtype(table_dtype).itemsize > table_budget_bytes:
        return similarity_on_the_fly(channels, histories, table_budget_bytes)
    tables = [make_table(item_similarity(x), histories, jnp.dtype(table_dtype)) for x in channels]
    # A single channel is not copied by stacking.
    return SimilarityTable(tables[0][None] if len(tables) == 1 else jnp.stack(tables))


def similarity_on_the_fly(
    channels: Sequence[Array], histories: Histories, budget_bytes: int = 2 << 30
) -> SimilarityOnTheFly | SimilarityFromFeatures:
    """The store without a table: from S where S fits the budget, else from features."""
    if len(channels) * channels[0].shape[0] ** 2 * 4 > budget_bytes:
        return SimilarityFromFeatures(tuple(channels), histories)
    return SimilarityOnTheFly(jnp.stack([item_similarity(x) for x in channels]), histories)


def _map_users(function: Callable[[Array], Array], num_users: int, user_chunk: int) -> Array:
    """Applies `function([chunk] users) -> [chunk, ...]` to all users, chunk by chunk."""
    chunk = min(user_chunk, num_users)
    chunks = -(-num_users // chunk)
    users = jnp.minimum(jnp.arange(chunks * chunk, dtype=jnp.int32), num_users - 1)
    result = lax.map(function, users.reshape(chunks, chunk))
    return result.reshape(-1, *result.shape[2:])[:num_users]


def _mean(sums: Array, histories: Histories, users: Array) -> Array:
    lengths = histories.offsets[users + 1] - histories.offsets[users]
    return sums / jnp.maximum(lengths, 1)[:, None]
