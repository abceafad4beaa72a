"""Hits of raw scores without lists: an item is in its user's list where fewer than k unseen items stand before it.

Counting those takes a third of the time of making lists, or less, and validation after an epoch needs no list.
"""

import functools

import jax
import jax.numpy as jnp
from jax import Array, lax

from isolator_jax import checks
from isolator_jax.backbones import Encoded
from isolator_jax.evaluation import entry
from isolator_jax.evaluation.ranking import over_users
from isolator_jax.evaluation.scores import InnerProducts, on_device
from isolator_jax.histories import Histories, check_histories, fold_histories
from isolator_jax.precision import EXACT

# Scores, and numbers of embeddings, held at once: few on a CPU, whose passes over them read its cache; elsewhere each
# pass waits for its launch.
_CELLS_ON_CPU, _CELLS = 1 << 23, 1 << 27

# One of so many items is looked at first.
_LEADING = 16


def count_hits(model: Encoded, users: Array, histories: Histories, truth: Histories, *, k: int) -> Array:
    """How many of each user's relevant items are among the k best unseen ones by f.

    Jittable. The same as `list_hits` of `top_k_lists` counts, equal scores by the lower id.

    Args:
      model: embeddings.
      users: `[N]` ids.
      histories: items left out of each user's list (the training split), of U users.
      truth: relevant items of the same users.
      k: list length; may be longer than the catalogue.

    Returns:
      `[N] int32`.

    Raises:
      TypeError, ValueError: arguments that do not fit each other, ids out of range, numbers that are not finite.
    """
    model, *rest = check_count(model, users, histories, truth, k)
    return count_in_lists(on_device(model), *rest, k=k)


def check_count(
    model: Encoded, users: Array, histories: Histories, truth: Histories, k: int
) -> tuple[Encoded, Array, Histories, Histories]:
    """`count_hits`' arguments but k, checked against each other and converted; the model without extras."""
    checks.instance("model", model, Encoded)
    embeddings = entry.model_of(model)
    assert isinstance(embeddings, Encoded), "as the model is"
    num_users, num_items = entry.size_of(embeddings)
    check_histories(histories, num_items, num_users=num_users)
    check_histories(truth, num_items, num_users=num_users, name="truth")
    entry.check_sizes(k=k)
    return embeddings, entry.users_of(users, num_users), histories, truth


@functools.partial(jax.jit, static_argnames="k")
def count_in_lists(scores: InnerProducts, users: Array, histories: Histories, truth: Histories, *, k: int) -> Array:
    """`count_hits`, unchecked, lowered for the platform at hand."""
    count = functools.partial(_count_in_chunks, k=k)
    on_cpu, elsewhere = functools.partial(count, cells=_CELLS_ON_CPU), functools.partial(count, cells=_CELLS)
    return lax.platform_dependent(scores, users, histories, truth, cpu=on_cpu, default=elsewhere)


def _count_in_chunks(
    scores: InnerProducts, users: Array, histories: Histories, truth: Histories, *, k: int, cells: int
) -> Array:
    """`count_in_lists`, with at most `cells` scores at once.

    A few items, those of the longest embeddings, tell of most users that they have no hit. The others come first in
    `order`, and are counted.
    """
    count, num_items = users.size, scores.num_items
    if not count:
        return jnp.zeros(0, jnp.int32)
    leading = lax.top_k(jnp.linalg.norm(scores.items, axis=1), -(-num_items // _LEADING))[1]

    def may_hit(chunk: Array) -> Array:
        return _may_hit(scores, leading, chunk, histories, truth, k)

    width = scores.items.shape[1]
    open_ = over_users(may_hit, users, max(1, cells // max(leading.size, width)))
    order = jnp.flatnonzero(open_, size=count, fill_value=count)
    size = max(1, min(cells // max(num_items, width), count))
    order = jnp.pad(order, (0, -count % size), constant_values=count)

    def add(number: Array, hits: Array) -> Array:
        places = lax.dynamic_slice_in_dim(order, number * size, size)
        chunk = users.at[places].get(mode="clip")
        return hits.at[places].set(_count_of_chunk(scores, chunk, histories, truth, k), mode="drop")

    return lax.fori_loop(0, -(-jnp.sum(open_) // size), add, jnp.zeros(count, jnp.int32))


def _may_hit(
    scores: InnerProducts, leading: Array, users: Array, histories: Histories, truth: Histories, k: int
) -> Array:
    """Whether fewer than k of the leading items surely stand before the best relevant one, for a chunk `[B]` of users.

    Sure of it where the score is higher by more than rounding, and were all of a user's history among them.
    """
    rows, items = scores.users[users], scores.items[leading]
    begin, lengths = truth.offsets[users], truth.offsets[users + 1] - truth.offsets[users]

    def better(place: Array, best: Array) -> Array:
        item = truth.items.at[begin + place].get(mode="clip")
        return jnp.where(place < lengths, jnp.maximum(best, jnp.sum(rows * scores.items[item], axis=1)), best)

    best = lax.fori_loop(0, jnp.max(lengths), better, jnp.full(users.size, -jnp.inf))
    largest = jnp.linalg.norm(rows, axis=1) * jnp.linalg.norm(items[0])
    best += 2 * rows.shape[1] * jnp.finfo(jnp.float32).eps * largest
    f = jnp.matmul(rows, items.T, precision=EXACT)
    before = jnp.sum(jnp.where(f > best[:, None], 1.0, 0.0), axis=1)
    return (lengths > 0) & (before - histories.lengths[users] < k)


def _count_of_chunk(scores: InnerProducts, users: Array, histories: Histories, truth: Histories, k: int) -> Array:
    """`count_in_lists` of one user chunk `[B]`: a pass over its scores for each relevant item of who has most."""
    num_items = scores.num_items
    f = scores.block(users, jnp.int32(0), num_items)
    ids = jnp.arange(num_items, dtype=jnp.int32)
    begin, lengths = truth.offsets[users], truth.offsets[users + 1] - truth.offsets[users]
    # In few blocks: a quarter of what so many users have on average.
    block = max(1024, histories.items.size * users.size // (4 * histories.num_users))

    def add(place: Array, count: Array) -> Array:
        item = truth.items.at[begin + place].get(mode="clip")
        own = jnp.take_along_axis(f, item[:, None], axis=1)[:, 0]

        def strike(before: Array, rows: Array, items: Array) -> Array:
            struck = _stands_before(f[rows, items], items, own[rows], item[rows]).astype(jnp.int32)
            # What is in the history itself is behind all.
            return before.at[rows].add(jnp.where(items == item[rows], num_items, -struck), mode="drop")

        before = jnp.sum(_stands_before(f, ids, own[:, None], item[:, None]), axis=1).astype(jnp.int32)
        before = fold_histories(histories, users, before, strike, block)
        return count + ((place < lengths) & (before < min(k, num_items)))

    return lax.fori_loop(0, jnp.max(lengths), add, jnp.zeros(users.size, jnp.int32))


def _stands_before(values: Array, ids: Array, own: Array, item: Array) -> Array:
    """1 for each item that a list has before `item`, whose score is `own`; else 0.

    In float32: the CPU's sums of int32 take twice the time.
    """
    return jnp.where((values > own) | ((values == own) & (ids < item)), 1.0, 0.0)
