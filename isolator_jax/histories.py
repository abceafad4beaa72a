"""Users' item sets in CSR form: membership, negatives, and sums over ragged histories.

Everything here runs inside `jit` with static shapes although users differ in how many
items they have: one user's row is searched by bisection, and many users' rows are walked
in fixed-size blocks of their concatenation. Ids are checked on entry (`checks`), where they
are not traced.

What loops is compiled once for each shape, also where it is called outside `jit`: JAX would
compile a loop outside it anew at every call. It is inlined where it is called inside.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array, lax
from jax.typing import ArrayLike

from isolator_jax import checks

# That a fold counts at once.
_MOST_ENTRIES = 2**30

# An array, or a pytree of arrays.
Accumulator = TypeVar("Accumulator")


@struct.dataclass
class Histories:
    """Item sets of U users.

    Attributes:
      offsets: `[U + 1] int32`, user u's items are `items[offsets[u]:offsets[u + 1]]`.
      items: `[E] int32`, ascending and unique within a user. Never empty: a single
        unused entry stands in where there are no interactions at all.
      max_length: the longest row, a static bound for the bisections.
    """

    offsets: Array
    items: Array
    max_length: int = struct.field(pytree_node=False)

    @classmethod
    def from_pairs(cls, users: ArrayLike, items: ArrayLike, num_users: int) -> "Histories":
        """Builds the CSR form on the host from (user, item) pairs in any order.

        A pair given more than once counts once: these are sets.

        Args:
          users, items: `[E]` ids, whatever holds integers.
          num_users: U.

        Raises:
          TypeError: ids that are no numbers.
          ValueError: users and items of different lengths, ids that are negative, no whole
            numbers or too large, users from U on.

        Examples:
          >>> histories = Histories.from_pairs([0, 2, 0, 0], [5, 1, 3, 5], num_users=3)
          >>> histories.items.tolist(), histories.offsets.tolist()
          ([3, 5, 1], [0, 2, 2, 3])
          >>> histories.lengths.tolist()
          [2, 0, 1]
        """
        num_users = checks.count("num_users", num_users)
        users = checks.host_array("users", users, shape=("E",), dtype="int", below=num_users)
        items = checks.host_array("items", items, shape=("E",), dtype="int")
        checks.equal_shapes(users=users, items=items)
        checks.entries("pairs", users.size)
        order = np.lexsort((items, users))
        users, items = users[order], items[order]
        again = np.zeros(users.size, bool)
        again[1:] = (users[1:] == users[:-1]) & (items[1:] == items[:-1])
        users, items = users[~again], items[~again]
        lengths = np.bincount(users, minlength=num_users)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        values = items if items.size else np.zeros(1, np.int32)
        return cls(jnp.asarray(offsets), jnp.asarray(values), int(lengths.max(initial=0)))

    @property
    def num_users(self) -> int:
        return self.offsets.shape[0] - 1

    @property
    def lengths(self) -> Array:
        """n_u, `[U] int32`."""
        return jnp.diff(self.offsets)

    def users_with_items(self) -> np.ndarray:
        """Ids `[N] int32` of all users with items, on the host."""
        return np.flatnonzero(np.asarray(self.lengths) > 0).astype(np.int32)

    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Users and items `[E] int32` of all entries, by user, then item, on the host."""
        lengths = np.asarray(self.lengths)
        users = np.repeat(np.arange(lengths.size, dtype=np.int32), lengths)
        return users, np.asarray(self.items)[: users.size]


def check_histories(
    histories: Any, num_items: int | None = None, *, num_users: int | None = None, name: str = "histories"
) -> None:
    """Refuses what is no `Histories`, another number of users, and items that do not exist, where values are known."""
    checks.instance(name, histories, Histories)
    if num_users not in (None, histories.num_users):
        raise ValueError(f"{name} has {histories.num_users} users, and there must be {num_users}")
    if num_items is None:
        return
    if checks.known(histories.items) and checks.known(histories.offsets) and np.asarray(histories.offsets)[-1]:
        largest = int(np.asarray(histories.items).max())
        if largest >= num_items:
            raise ValueError(f"{name} must hold items below {num_items}, as many as there are, got {largest}")


def check_users(histories: Any, users: ArrayLike, name: str = "users", shape: checks.Shape = ("B",)) -> Array:
    """Ids of users who have a row in the histories, as int32."""
    checks.instance("histories", histories, Histories)
    return checks.array(name, users, shape=shape, dtype="int", below=histories.num_users)


def _first_true(predicate: Callable[[Array], Array], low: Array, high: Array, length: int) -> Array:
    """Smallest position in [low, high) where a monotone predicate holds, else high."""

    def halve(_, bounds):
        low, high = bounds
        middle = low + (high - low) // 2  # their sum may be beyond int32
        searching = low < high
        right = searching & ~predicate(middle)
        return jnp.where(right, middle + 1, low), jnp.where(searching & ~right, middle, high)

    return lax.fori_loop(0, length.bit_length(), halve, (low, high))[0]


def contains(histories: Histories, user: ArrayLike, item: ArrayLike) -> Array:
    """Whether `item` is in the set of `user`; both scalars, `vmap` over batches. No set has a negative item."""
    user = check_users(histories, user, "user", shape=())
    item = checks.array("item", item, shape=(), dtype="int", least=-checks.MOST)
    return _contains(histories, user, item)


@functools.partial(jax.jit, inline=True)
def _contains(histories: Histories, user: Array, item: Array) -> Array:
    low, high = histories.offsets[user], histories.offsets[user + 1]
    place = _first_true(lambda k: histories.items[k] >= item, low, high, histories.max_length)
    return (place < high) & (histories.items[place] == item)


def sample_unseen(key: Array, histories: Histories, users: ArrayLike, num_items: int) -> Array:
    """Draws one item for each user, uniformly from the items outside the user's set.

    No rejection: a rank r is drawn among the I - n_u items outside the set, and the item
    of that rank is r + #{k : h_k - k <= r} for the sorted set h_0 < h_1 < ....

    Args:
      key: PRNG key.
      users: `[B] int32`. A user who has every item has nothing to draw; the result for
        such a user is out of range (`num_items`) and must not be used.
      num_items: I, the catalogue's size.

    Returns:
      `[B] int32` items.

    Raises:
      ValueError: users or items that do not exist.
    """
    num_items = checks.count("num_items", num_items)
    check_histories(histories, num_items)
    return _sample_unseen(key, histories, check_users(histories, users), num_items)


@functools.partial(jax.jit, inline=True)
def _sample_unseen(key: Array, histories: Histories, users: Array, num_items: ArrayLike) -> Array:
    low, high = histories.offsets[users], histories.offsets[users + 1]
    rank = jax.random.randint(key, users.shape, 0, jnp.maximum(num_items - (high - low), 1), jnp.int32)

    def item_of_rank(rank, low, high):
        place = _first_true(lambda k: histories.items[k] - (k - low) > rank, low, high, histories.max_length)
        return rank + place - low

    return jax.vmap(item_of_rank)(rank, low, high)


def fold_histories(
    histories: Histories,
    users: ArrayLike,
    init: Accumulator,
    update: Callable[[Accumulator, Array, Array], Accumulator],
    block: int = 1024,
) -> Accumulator:
    """Folds `update` over all history entries of `users`, `block` entries at a time.

    To be called inside `jit`. Outside, every call compiles: `update` is the caller's, and may read what has changed.

    Args:
      users: `[B] int32`.
      init: the initial accumulator, an array or a pytree of arrays.
      update: `(accumulator, rows [block], items [block]) -> accumulator`; entry k belongs
        to `users[rows[k]]`. Entries past the end have `rows == B`, so that scatters with
        `mode="drop"` ignore them, and item 0.
      block: entries per update (static).

    Returns:
      The final accumulator; `init` where there are no users. Differentiable in forward mode
      alone (the trip count depends on the data).
    """
    users = check_users(histories, users)
    at_once = max(1, _MOST_ENTRIES // max(1, histories.max_length))  # so that entries are counted in int32
    for start in range(0, users.shape[0], at_once):
        init = _fold(histories, users[start : start + at_once], start, users.shape[0], init, update, block)
    return init


def _fold(
    histories: Histories,
    users: Array,
    first: int,
    past: int,
    init: Accumulator,
    update: Callable[[Accumulator, Array, Array], Accumulator],
    block: int,
) -> Accumulator:
    """`fold_histories` over some of its users, whose rows begin at `first`; `past` is the row past the end."""
    starts = histories.offsets[users]
    ends = jnp.cumsum(histories.offsets[users + 1] - starts, dtype=jnp.int32)
    shift = starts - jnp.concatenate([jnp.zeros(1, ends.dtype), ends[:-1]])
    total = ends[-1]

    def body(carry):
        position, accumulator = carry
        entries = position + jnp.arange(block, dtype=jnp.int32)
        rows = jnp.searchsorted(ends, entries, side="right").astype(jnp.int32)
        valid = entries < total
        places = jnp.where(valid, entries + shift.at[rows].get(mode="clip"), 0)
        items = jnp.where(valid, histories.items[places], 0)
        return position + block, update(accumulator, jnp.where(valid, rows + first, past), items)

    return lax.while_loop(lambda carry: carry[0] < total, body, (jnp.int32(0), init))[1]
