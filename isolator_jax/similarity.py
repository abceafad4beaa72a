"""s_ui, the similarity of items to users' histories (Eq. 9), and the stores that hold or make it.

Arguments are converted and checked by the rules of `checks`: ids must exist, and there must
be a row for every item that a history names. All is computed in float32.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array, lax
from jax.typing import ArrayLike, DTypeLike

from isolator_jax import _similarity, checks
from isolator_jax.features import check_channel, check_rows, gram
from isolator_jax.histories import Histories, check_histories, check_users
from isolator_jax.precision import EXACT

TABLE_DTYPES = ("float32", "float16", "bfloat16")


def history_similarity(item_sim: ArrayLike, histories: Histories, users: ArrayLike) -> Array:
    """s_ui = mean_{j in I_u} S[i, j] for all items of some users (Eq. 9): rows of R_mean S.

    Args:
      item_sim: `[I, W]`, S or a block of W of its columns.
      histories: training histories.
      users: `[B] int32`.

    Returns:
      `[B, W] float32`; zero for a user without history.

    Raises:
      ValueError: users that do not exist, or fewer rows than items that histories name.

    Examples:
      >>> S = jnp.array([[1.0, 0.5, 0.2], [0.5, 1.0, 0.4], [0.2, 0.4, 1.0]])
      >>> histories = Histories.from_pairs(np.array([0, 0]), np.array([0, 1]), num_users=1)
      >>> print(np.asarray(history_similarity(S, histories, jnp.array([0]))).round(4))
      [[0.75 0.75 0.3 ]]
    """
    item_sim = checks.array("item_sim", item_sim, shape=("I", "W"))
    check_histories(histories, item_sim.shape[0])
    return _similarity.history_rows(item_sim, histories, check_users(histories, users))


def list_similarity(item_sim: ArrayLike, histories: Histories, users: ArrayLike, lists: ArrayLike) -> Array:
    """s_ui (Eq. 9) for a few items of each user, without a full row.

    Args:
      item_sim: `[I, W]`, S or its first W columns.
      histories: training histories.
      users: `[B] int32`.
      lists: `[B, K] int32` item ids below W.

    Returns:
      `[B, K] float32`; zero for a user without history.

    Raises:
      ValueError: users or items that do not exist, or fewer rows than items that histories name.

    Examples:
      >>> S = jnp.array([[1.0, 0.5, 0.2], [0.5, 1.0, 0.4], [0.2, 0.4, 1.0]])
      >>> histories = Histories.from_pairs(np.array([0, 0]), np.array([0, 1]), num_users=1)
      >>> print(list_similarity(S, histories, jnp.array([0]), jnp.array([[2, 0]])))
      [[0.3  0.75]]
    """
    item_sim = checks.array("item_sim", item_sim, shape=("I", "W"))
    check_histories(histories, item_sim.shape[0])
    users = check_users(histories, users)
    lists = checks.array(
        "lists", lists, shape=("B", "K"), sizes={"B": users.shape[0]}, dtype="int", below=item_sim.shape[1]
    )
    return _similarity.listed(item_sim, histories, users, lists)


@struct.dataclass
class SimilarityTable:
    """s_ui of all users and items, stored.

    Attributes:
      table: `[T, U, I]`, float32, float16 or bfloat16; read back as float32.
    """

    table: Array

    def pairs(self, users: ArrayLike, items: ArrayLike) -> Array:
        """s_ui of users `[...]` and items `[...]` (broadcast): `[T, ...] float32`."""
        table = self._checked()
        users, items = _pair_ids(users, items, *table.shape[1:])
        if users.ndim == items.ndim == 2 and users.shape[1] == items.shape[0] == 1:
            return _similarity.table_block(table, users[:, 0], items)
        return table[:, users, items].astype(jnp.float32)

    def lists(self, users: ArrayLike, items: ArrayLike) -> Array:
        """s_ui of a few items of each user, `[B]` and `[B, K]`: `[T, B, K] float32`."""
        users, items = _list_ids(users, items, *self._checked().shape[1:])
        return self.pairs(users[:, None], items)

    def rows(self, users: ArrayLike, start: ArrayLike, width: int) -> Array:
        """s_ui of users `[B]` and the items from `start` on: `[T, B, width] float32`."""
        table = self._checked()
        users, start = _row_ids(users, start, width, *table.shape[1:])
        return _similarity.table_rows(table, users, start, width)

    def _checked(self) -> Array:
        table = jnp.asarray(self.table)
        if table.ndim != 3:
            raise ValueError(f"table must have shape [T, U, I], got {list(table.shape)}")
        return table


@struct.dataclass
class SimilarityOnTheFly:
    """s_ui made from S and the histories when it is asked for.

    Attributes:
      item_sim: `[T, I, I]`, the channels' S.
      histories: training histories.
    """

    item_sim: Array
    histories: Histories

    @property
    def num_items(self) -> int:
        """I, or more where columns pad S."""
        return self.item_sim.shape[2]

    def pairs(self, users: ArrayLike, items: ArrayLike) -> Array:
        """As `SimilarityTable.pairs`."""
        return _pairs_as_lists(self, *_pair_ids(users, items, self.histories.num_users, self.num_items))

    def lists(self, users: ArrayLike, items: ArrayLike) -> Array:
        """As `SimilarityTable.lists`, each user's history walked once."""
        users, items = _list_ids(users, items, self.histories.num_users, self.num_items)
        return _similarity.listed_by_channel(self._checked(), self.histories, users, items)

    def block(self, users: Array, items: Array) -> Array:
        """s_ui of users `[B]` with each of items `[K]`: `[T, B, K] float32`, each user's history walked once."""
        return self.lists(users, jnp.broadcast_to(items, (users.shape[0], items.shape[0])))

    def rows(self, users: ArrayLike, start: ArrayLike, width: int) -> Array:
        """As `SimilarityTable.rows`."""
        users, start = _row_ids(users, start, width, self.histories.num_users, self.num_items)
        return _similarity.rows_by_channel(self._checked(), self.histories, users, start, width)

    def _checked(self) -> Array:
        item_sim = checks.array("item_sim", self.item_sim, shape=("T", "I", "W"))
        check_histories(self.histories, item_sim.shape[1])
        return item_sim


@struct.dataclass
class SimilarityFromFeatures:
    """s_ui made from features and histories when it is asked for, where S itself is too large.

    Attributes:
      channels: T matrices `[I, F_t]` from `fuse_channels`.
      histories: training histories.
    """

    channels: tuple[Array, ...]
    histories: Histories

    @property
    def num_items(self) -> int:
        """I, or more where rows pad the features."""
        return self.channels[0].shape[0]

    def pairs(self, users: ArrayLike, items: ArrayLike) -> Array:
        """As `SimilarityTable.pairs`."""
        return _pairs_as_lists(self, *_pair_ids(users, items, self.histories.num_users, self.num_items))

    def lists(self, users: ArrayLike, items: ArrayLike) -> Array:
        """As `SimilarityTable.lists`."""
        users, items = _list_ids(users, items, self.histories.num_users, self.num_items)

        def of_channel(channel: Array) -> Array:
            return _similarity.listed_features(self._profiles(channel, users), channel, items)

        return jnp.stack([of_channel(channel) for channel in self.channels])

    def block(self, users: Array, items: Array) -> Array:
        """As `SimilarityOnTheFly.block`, by one product."""

        def of_channel(channel: Array) -> Array:
            return jnp.matmul(self._profiles(channel, users), channel[items].T, precision=EXACT)

        return jnp.stack([of_channel(channel) for channel in self.channels])

    def rows(self, users: ArrayLike, start: ArrayLike, width: int) -> Array:
        """As `SimilarityTable.rows`."""
        users, start = _row_ids(users, start, width, self.histories.num_users, self.num_items)

        def of_channel(channel: Array) -> Array:
            columns = lax.dynamic_slice_in_dim(channel, start, width)
            return jnp.matmul(self._profiles(channel, users), columns.T, precision=EXACT)

        return jnp.stack([of_channel(channel) for channel in self.channels])

    def _profiles(self, channel: Array, users: Array) -> Array:
        # R_mean S = (R_mean X) X^T: the mean feature of a history stands for the history.
        return history_similarity(channel, self.histories, users)


Similarity = SimilarityTable | SimilarityOnTheFly | SimilarityFromFeatures


def _pair_ids(users: ArrayLike, items: ArrayLike, num_users: int, num_items: int) -> tuple[Array, Array]:
    return (
        checks.array("users", users, shape=(...,), dtype="int", below=num_users),
        checks.array("items", items, shape=(...,), dtype="int", below=num_items),
    )


def _list_ids(users: ArrayLike, items: ArrayLike, num_users: int, num_items: int) -> tuple[Array, Array]:
    users = checks.array("users", users, shape=("B",), dtype="int", below=num_users)
    sizes = {"B": users.shape[0]}
    return users, checks.array("items", items, shape=("B", "K"), sizes=sizes, dtype="int", below=num_items)


def _row_ids(users: ArrayLike, start: ArrayLike, width: int, num_users: int, num_items: int) -> tuple[Array, Array]:
    users = checks.array("users", users, shape=("B",), dtype="int", below=num_users)
    if checks.count("width", width) > num_items:
        raise ValueError(f"width must be at most {num_items}, the items there are, got {width}")
    return users, checks.array("start", start, shape=(), dtype="int", below=num_items - width + 1)


def _pairs_as_lists(similarity: "SimilarityOnTheFly | SimilarityFromFeatures", users: Array, items: Array) -> Array:
    if users.ndim == items.ndim == 2 and users.shape[1] == items.shape[0] == 1:
        return similarity.block(users[:, 0], items[0])
    users, items = jnp.broadcast_arrays(users, items)
    found = similarity.lists(users.reshape(-1), items.reshape(-1, 1))
    return found.reshape(found.shape[0], *users.shape)


@functools.partial(jax.jit, static_argnames=("dtype", "user_chunk"))
def build_table(item_sim: Array, histories: Histories, dtype: jnp.dtype, user_chunk: int = 256) -> Array:
    """s_ui of all users and items of one channel's S. `[I, I] -> [1, U, I]` of `dtype`."""

    def of_chunk(users: Array) -> Array:
        return history_similarity(item_sim, histories, users).astype(dtype)

    return _similarity.map_users(of_chunk, jnp.arange(histories.num_users, dtype=jnp.int32), user_chunk)[None]


@jax.jit
def _grams(channels: list[Array]) -> Array:
    """S of every channel, `[T, I, I]`; compiled, so that one alone is not copied."""
    return jnp.stack([gram(x) for x in channels])


def build_similarity(
    channels: Sequence[ArrayLike],
    histories: Histories,
    *,
    table_budget_bytes: int = 2 << 30,
    table_dtype: DTypeLike = jnp.float32,
    make_table: Callable[[Array, Histories, jnp.dtype], Array] = build_table,
) -> Similarity:
    """Builds the similarity store: the table where it and S fit the budget, else one that computes on the fly.

    On the fly s_ui comes from S where S fits the budget, and from features where it does not. All
    give the same numbers up to rounding.

    Args:
      channels: T matrices from `fuse_channels`.
      histories: training histories.
      table_budget_bytes: largest table or S.
      table_dtype: the table's storage type.
      make_table: `build_table`, or the same on several devices.

    Raises:
      ValueError: no channels, channels of different numbers of items or that are not finite,
        histories of items without a row, a type of storage that holds no similarities.

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
    channels = _checked_channels(channels, histories)
    storage = jnp.dtype(table_dtype)
    checks.option("table_dtype", storage.name, TABLE_DTYPES)
    items = channels[0].shape[0]
    table_bytes = len(channels) * histories.num_users * items * storage.itemsize
    if max(table_bytes, 4 * items**2) > table_budget_bytes:  # the table is made of S
        return similarity_on_the_fly(channels, histories, table_budget_bytes)
    tables = [make_table(gram(x), histories, storage) for x in channels]
    return SimilarityTable(tables[0] if len(tables) == 1 else jnp.concatenate(tables))


def similarity_on_the_fly(
    channels: Sequence[ArrayLike], histories: Histories, budget_bytes: int = 2 << 30
) -> SimilarityOnTheFly | SimilarityFromFeatures:
    """The store without a table: from S where S fits the budget, else from features."""
    channels = _checked_channels(channels, histories)
    if len(channels) * channels[0].shape[0] ** 2 * 4 > budget_bytes:
        return SimilarityFromFeatures(tuple(channels), histories)
    return SimilarityOnTheFly(_grams(channels), histories)


def _checked_channels(channels: Sequence[ArrayLike], histories: Histories) -> list[Array]:
    if not len(channels):
        raise ValueError("channels must hold at least one matrix, got none")
    arrays = {f"channels[{t}]": check_channel(x, f"channels[{t}]", finite=True) for t, x in enumerate(channels)}
    check_rows(arrays)
    check_histories(histories, arrays["channels[0]"].shape[0])
    return list(arrays.values())
