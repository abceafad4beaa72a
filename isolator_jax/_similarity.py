"""s_ui computed: what `similarity` calls, on arguments that it has checked.

It walks histories in loops, and JAX would compile a loop outside `jit` anew at every call: each
function is compiled for itself, once for each shape, and inlined where it is called inside.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax

from isolator_jax._sparse import add_rows
from isolator_jax.histories import Histories, fold_histories
from isolator_jax.precision import EXACT

# Users of a table whose block is read at once.
_BLOCK_USERS = 256


@functools.partial(jax.jit, inline=True)
def history_rows(item_sim: Array, histories: Histories, users: Array) -> Array:
    """`similarity.history_similarity`. `[I, W], [B] -> [B, W]`."""

    def add(sums: Array, rows: Array, items: Array) -> Array:
        return add_rows(sums, rows, item_sim[items])

    init = jnp.zeros((users.size, item_sim.shape[1]), jnp.float32)
    return _mean(fold_histories(histories, users, init, add, block=256), histories, users)


@functools.partial(jax.jit, inline=True)
def listed(item_sim: Array, histories: Histories, users: Array, lists: Array) -> Array:
    """`similarity.list_similarity`. `[I, W], [B], [B, K] -> [B, K]`."""

    def add(sums: Array, rows: Array, items: Array) -> Array:
        of_rows = lists.at[rows].get(mode="clip")
        return add_rows(sums, rows, item_sim[items[:, None], of_rows])

    init = jnp.zeros(lists.shape, jnp.float32)
    return _mean(fold_histories(histories, users, init, add), histories, users)


@functools.partial(jax.jit, inline=True)
def listed_by_channel(item_sim: Array, histories: Histories, users: Array, lists: Array) -> Array:
    """`listed` of each channel. `[T, I, W], [B], [B, K] -> [T, B, K]`."""
    return lax.map(lambda of_channel: listed(of_channel, histories, users, lists), item_sim)


@functools.partial(jax.jit, static_argnames="width", inline=True)
def rows_by_channel(item_sim: Array, histories: Histories, users: Array, start: Array, width: int) -> Array:
    """`history_rows` of each channel's columns from `start` on. `[T, I, W], [B] -> [T, B, width]`."""

    def rows(of_channel: Array) -> Array:
        return history_rows(lax.dynamic_slice_in_dim(of_channel, start, width, axis=1), histories, users)

    return lax.map(rows, item_sim)


@functools.partial(jax.jit, inline=True)
def listed_features(profiles: Array, channel: Array, lists: Array) -> Array:
    """Products of users' `profiles` with the features of items listed for them. `[B, F], [I, F], [B, K] -> [B, K]`.

    A place of the lists at a time, so that no more than `[B, F]` is gathered.
    """

    def of_place(items: Array) -> Array:
        return jnp.einsum("bf,bf->b", profiles, channel[items], precision=EXACT)

    return lax.map(of_place, lists.T).T


@functools.partial(jax.jit, static_argnames="width", inline=True)
def table_rows(table: Array, users: Array, start: Array, width: int) -> Array:
    """A table's rows of users and its columns from `start` on. `[T, U, I], [B] -> [T, B, width] float32`."""

    def row(user: Array) -> Array:
        return lax.dynamic_slice(table, (jnp.int32(0), user, start), (table.shape[0], 1, width))[:, 0]

    return jax.vmap(row, out_axes=1)(users).astype(jnp.float32)


@functools.partial(jax.jit, inline=True)
def table_block(table: Array, users: Array, items: Array) -> Array:
    """A table's values of users `[B]` with each of items `[1, K]`. `[T, U, I] -> [T, B, K] float32`.

    Some users at a time: else the CPU reads anew at each use.
    """

    def of_chunk(chunk: Array) -> Array:
        return jnp.swapaxes(table[:, chunk[:, None], items], 0, 1)

    return jnp.swapaxes(map_users(of_chunk, users, _BLOCK_USERS), 0, 1).astype(jnp.float32)


def map_users(function: Callable[[Array], Array], users: Array, user_chunk: int) -> Array:
    """Applies `function([chunk] users) -> [chunk, ...]` to users `[B]`, chunk by chunk. `[B, ...]`."""
    count = users.shape[0]
    if not count:
        return function(users)
    chunk = min(user_chunk, count)
    shape = jax.eval_shape(function, users[:chunk])

    def put(number: Array, result: Array) -> Array:
        start = jnp.minimum(number * chunk, count - chunk)  # the last chunk begins within the one before
        rows = function(lax.dynamic_slice_in_dim(users, start, chunk))
        return lax.dynamic_update_slice_in_dim(result, rows, start, 0)

    return lax.fori_loop(0, -(-count // chunk), put, jnp.zeros((count, *shape.shape[1:]), shape.dtype))


def _mean(sums: Array, histories: Histories, users: Array) -> Array:
    lengths = histories.offsets[users + 1] - histories.offsets[users]
    return sums / jnp.maximum(lengths, 1)[:, None].astype(jnp.float32)
