"""Full ranking in bounded memory: every user's k best unseen items."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.tree_util import Partial
from jax.typing import ArrayLike

from isolator_jax import checks
from isolator_jax.content import Content
from isolator_jax.evaluation import entry
from isolator_jax.evaluation.metrics import NO_ITEM
from isolator_jax.evaluation.scores import Model, Scores, on_device, scores_of
from isolator_jax.histories import Histories, check_histories, contains, fold_histories
from isolator_jax.similarity import Similarity
from isolator_jax.strategies import Strategy

# For each strategy, items `[N, k]` and their ranking keys `[N, k]`.
Lists = dict[str, tuple[Array, Array]]


def top_k_lists(
    model: Model,
    users: ArrayLike,
    histories: Histories,
    strategies: Mapping[str, Strategy],
    content: Content | None = None,
    *,
    k: int,
    user_chunk: int = 512,
    item_chunk: int = 16384,
) -> Lists:
    """The k best unseen items of each user under several strategies, in one pass.

    Raw scores and similarities of a user chunk against an item chunk are computed once
    and shared by the strategies; a running top-k goes over the item chunks, so that no
    more than `user_chunk * item_chunk` scores exist at a time.

    Args:
      model: `Encoded(users [U, D], items [I, D])`, f(u, i) being the inner product; or scores f
        `[U, I]`. Of scores on the host (numpy, memory-mapped or not, or a DataFrame) a user chunk
        is read at a time. Any real type; computed with in float32, where all must be finite, but
        for -inf: an item that is no candidate of the user, and in no list.
      users: `[N]` ids, whom to rank for; may be nobody.
      histories: items left out of each user's list (the training split), of U users.
      strategies: by name.
      content: similarities and consistencies of these users and items; None where no strategy
        reads them.
      k: list length; may be longer than the catalogue.
      user_chunk, item_chunk: chunk sizes; results are the same up to rounding.

    Returns:
      For each strategy the items `[N, k] int32`, best first, equal keys by the lower id,
      `NO_ITEM` where fewer than k are left; and their keys `[N, k] float32`, -inf there. On the
      device, or the host where the scores are. Works under `jit` for a model on the device;
      values are not checked there.

    Raises:
      TypeError, ValueError: arguments that do not fit each other, ids out of range, numbers that
        are not finite.

    Examples:
      >>> from isolator_jax import Encoded, d_isolator
      >>> model = Encoded(jnp.ones((2, 1)), jnp.array([[1.0], [3.0], [2.0]]))
      >>> histories = Histories.from_pairs(np.array([0]), np.array([1]), num_users=2)
      >>> lists, keys = top_k_lists(model, [0, 1], histories, {"d": d_isolator()}, k=2)["d"]
      >>> lists.tolist(), keys.tolist()
      ([[2, 0], [1, 2]], [[2.0, 1.0], [3.0, 2.0]])
      >>> scores = np.array([[1.0, 3.0, 2.0], [1.0, 3.0, 2.0]])  # or numpy.load(file, mmap_mode="r")
      >>> lists, _ = top_k_lists(scores, [0, 1], histories, {"d": d_isolator()}, k=2)["d"]
      >>> lists.tolist()
      [[2, 0], [1, 2]]
    """
    model, ids = check_ranking(model, users, histories, strategies, content, k, user_chunk, item_chunk)
    keys = {name: strategy.key for name, strategy in strategies.items()}
    rest = (histories, keys, *similarities(content))
    if isinstance(model, np.ndarray):
        checks.untraced("users", ids)
        lists = _lists_of_stored(model, np.asarray(ids), *rest, k, user_chunk, item_chunk)
    else:
        lists = rank(on_device(model), ids, *rest, k=k, user_chunk=user_chunk, item_chunk=item_chunk)
    return checked_lists(lists, strategies)


def check_ranking(
    model: Any,
    users: Any,
    histories: Any,
    strategies: Any,
    content: Any,
    k: int,
    user_chunk: int,
    item_chunk: int,
) -> tuple[Model, Array]:
    """`top_k_lists`' arguments checked against each other; the model and the users converted."""
    model = entry.model_of(model)
    num_users, num_items = entry.size_of(model)
    check_histories(histories, num_items, num_users=num_users)
    entry.check_content(content, num_users, num_items)
    entry.check_strategies(strategies, content)
    entry.check_sizes(k=k, user_chunk=user_chunk, item_chunk=item_chunk)
    return model, entry.users_of(users, num_users)


def checked_lists(lists: Lists, strategies: Mapping[str, Strategy]) -> Lists:
    """The lists in the strategies' order, refused where a strategy's parameters left a key that is no number."""
    for name in strategies:
        keys = lists[name][1]
        if checks.known(keys) and bool(jnp.isnan(keys).any()):
            raise ValueError(f"strategy {name!r} gives NaN for finite scores; look at its parameters")
    # A jitted function returns a dict in the order of its keys.
    return {name: lists[name] for name in strategies}


def similarities(content: Content | None) -> tuple[Similarity | None, Array | None]:
    """What strategies read of the content: s_ui, and c_u `[T, U]`."""
    return (None, None) if content is None else (content.similarity, content.channel_consistency)


@functools.partial(jax.jit, static_argnames=("k", "user_chunk", "item_chunk"))
def rank(
    scores: Scores,
    users: Array,
    histories: Histories,
    keys: dict[str, Partial],
    similarity: Similarity | None,
    consistency: Array | None,
    *,
    k: int,
    user_chunk: int,
    item_chunk: int,
) -> Lists:
    """`top_k_lists` for scores that are on the device, unchecked: `users` `[N] int32` are their rows, too."""

    def of_users(chunk: Array) -> Lists:
        return _best_of_chunk(scores, chunk, chunk, histories, keys, similarity, consistency, k, item_chunk)

    return over_users(of_users, users, user_chunk)


def over_users(function: Callable[[Array], Any], users: Array, user_chunk: int) -> Any:
    """A function of `user_chunk` users `[B]` at most, one chunk after the other: what it gives, `[B, ...]`, of all."""
    count = users.shape[0]
    size = max(1, min(user_chunk, count))
    chunks = -(-count // size)
    padded = jnp.concatenate([users, jnp.broadcast_to(users[:1], (chunks * size - count,))])
    results = lax.map(function, padded.reshape(chunks, size))
    return jax.tree.map(lambda x: x.reshape(chunks * size, *x.shape[2:])[:count], results)


def _lists_of_stored(
    scores: np.ndarray,
    users: np.ndarray,
    histories: Histories,
    keys: dict[str, Partial],
    similarity: Similarity | None,
    consistency: Array | None,
    k: int,
    user_chunk: int,
    item_chunk: int,
) -> dict[str, tuple[Any, Any]]:
    """`rank` for scores on the host, of which a user chunk is read at a time."""
    if not users.size:
        return {name: (np.zeros((0, k), np.int32), np.zeros((0, k), np.float32)) for name in keys}
    size = min(user_chunk, users.size)
    parts = []
    for first in range(0, users.size, size):
        chunk = users[first : first + size]
        padded = np.pad(chunk, (0, size - chunk.size), mode="edge")  # one size, one compilation
        rows, places = scores_of(scores, padded)
        lists = _compiled_best_of_chunk(
            rows, places, jnp.asarray(padded), histories, keys, similarity, consistency, k, item_chunk
        )
        parts.append(jax.tree.map(lambda x, count=chunk.size: np.asarray(x)[:count], lists))
    return jax.tree.map(lambda *chunks: np.concatenate(chunks), *parts)


def _best_of_chunk(
    scores: Scores,
    rows: Array,
    users: Array,
    histories: Histories,
    keys: dict[str, Partial],
    similarity: Similarity | None,
    consistency: Array | None,
    k: int,
    item_chunk: int,
) -> Lists:
    """`rank` of one user chunk `[B]`, whose scores are in `rows` `[B]` of `scores`."""
    num_items = scores.num_items
    width = min(item_chunk, num_items)
    kept = min(k, num_items)  # a list length far above the catalogue costs no more than the catalogue
    batched = {name: jax.vmap(jax.vmap(key, (0, 1, None)), (0, 1, 1)) for name, key in keys.items()}
    c = None if consistency is None else consistency[:, users]

    def of_items(best: Lists, first: Array) -> tuple[Lists, None]:
        # The last chunk is moved back to end with the catalogue; what it shares with
        # the one before is masked.
        start = jnp.minimum(first, num_items - width)
        ids = start + jnp.arange(width, dtype=jnp.int32)
        f = scores.block(rows, start, width)
        s = None if similarity is None else similarity.rows(users, start, width)
        hidden = seen_items(histories, users, start, width) | (ids < first)[None]
        merged = {}
        for name, key in batched.items():
            values = key(f, s, c)
            values = jnp.where(values == 0, 0.0, values)  # top_k ranks -0 below 0
            values, places = lax.top_k(jnp.where(hidden, -jnp.inf, values), min(kept, width))
            # Earlier chunks come first, and top_k keeps the first of equal keys.
            values = jnp.concatenate([best[name][1], values], axis=1)
            items = jnp.concatenate([best[name][0], ids[places]], axis=1)
            values, places = lax.top_k(values, kept)
            merged[name] = (jnp.take_along_axis(items, places, axis=1), values)
        return merged, None

    empty = (
        jnp.full((users.size, kept), NO_ITEM, jnp.int32),
        jnp.full((users.size, kept), -jnp.inf, jnp.float32),
    )
    firsts = jnp.arange(0, num_items, width, dtype=jnp.int32)
    best, _ = lax.scan(of_items, {name: empty for name in keys}, firsts)
    return {name: finished_lists(items, values, k) for name, (items, values) in best.items()}


def finished_lists(items: Array, values: Array, k: int) -> tuple[Array, Array]:
    """Lists `[B, K]`, and their keys, of length k: `NO_ITEM` where a key is -inf, and in what is added to them."""
    added = [(0, 0), (0, k - items.shape[1])]
    items = jnp.where(jnp.isneginf(values), NO_ITEM, items)
    return jnp.pad(items, added, constant_values=NO_ITEM), jnp.pad(values, added, constant_values=-jnp.inf)


_compiled_best_of_chunk = jax.jit(_best_of_chunk, static_argnames=("k", "item_chunk"))


def seen_items(histories: Histories, users: Array, start: Array, width: int) -> Array:
    """Which of the items from `start` on each user has: `[B, width] bool`."""

    def mark(seen: Array, rows: Array, items: Array) -> Array:
        columns = jnp.where(items >= start, items - start, width)
        return seen.at[rows, columns].set(True, mode="drop")

    return fold_histories(histories, users, jnp.zeros((users.size, width), bool), mark)


def list_hits(lists: ArrayLike, truth: Histories, users: ArrayLike) -> Array:
    """Which list items are relevant: `[N, K] int32, [N] int32 -> [N, K] bool`.

    Raises:
      TypeError, ValueError: no lists, users that `truth` does not have, or more or fewer than the lists.
    """
    checks.instance("truth", truth, Histories)
    lists = checks.array("lists", lists, shape=("N", "K"), dtype="int", least=NO_ITEM)
    sizes = {"N": lists.shape[0]}
    users = checks.array("users", users, shape=("N",), sizes=sizes, dtype="int", below=truth.num_users)
    return _list_hits(lists, truth, users)


@jax.jit
def _list_hits(lists: Array, truth: Histories, users: Array) -> Array:
    found = jax.vmap(jax.vmap(contains, (None, None, 0)), (None, 0, 0))(truth, users, lists)
    return found & (lists != NO_ITEM)
