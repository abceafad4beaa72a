"""Full ranking in bounded memory, and accuracy metrics as per-user values."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.tree_util import Partial

from isolator_jax.evaluation.scores import InnerProducts, Scores, scores_of
from isolator_jax.histories import Histories, contains, fold_histories
from isolator_jax.similarity import Similarity

NO_ITEM = -1

# For each strategy, items `[N, k]` and their ranking keys `[N, k]`.
Lists = dict[str, tuple[Array, Array]]


@functools.partial(jax.jit, static_argnames=("k", "user_chunk", "item_chunk"))
def top_k_lists(
    user_embeddings: Array,
    item_embeddings: Array,
    users: Array,
    histories: Histories,
    keys: dict[str, Partial],
    similarity: Similarity | None = None,
    consistency: Array | None = None,
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
      user_embeddings: `[U, D]`.
      item_embeddings: `[I, D]`; f(u, i) is the inner product.
      users: `[N] int32`, whom to rank for.
      histories: items left out of each user's list (the training split).
      keys: ranking key of each strategy, `(f [], s [T], c [T]) -> []` (`scoring.Strategy`).
      similarity: s_ui; None where no key reads s.
      consistency: c_u, `[T, U]`, undefined ones filled; None where no key reads c.
      k: list length.
      user_chunk, item_chunk: chunk sizes; results do not depend on them.

    Returns:
      For each strategy the items `[N, k] int32`, best first, equal keys by the lower id,
      `NO_ITEM` where fewer than k are left; and their keys `[N, k] float32`, -inf there.

    Examples:
      >>> from isolator_jax import d_isolator
      >>> items = jnp.array([[1.0], [3.0], [2.0]])
      >>> histories = Histories.from_pairs(np.array([0]), np.array([1]), num_users=2)
      >>> lists, keys = top_k_lists(
      ...     jnp.ones((2, 1)), items, jnp.arange(2), histories, {"d": d_isolator().key}, k=2
      ... )["d"]
      >>> lists.tolist(), keys.tolist()
      ([[2, 0], [1, 2]], [[2.0, 1.0], [3.0, 2.0]])
    """
    scores = InnerProducts(user_embeddings, item_embeddings)

    def of_users(chunk: Array) -> Lists:
        return _best_of_chunk(scores, chunk, chunk, histories, keys, similarity, consistency, k, item_chunk)

    size = max(1, min(user_chunk, users.shape[0]))
    chunks = -(-users.shape[0] // size)
    padded = jnp.concatenate([users, jnp.broadcast_to(users[:1], chunks * size - users.shape[0])])
    lists = lax.map(of_users, padded.reshape(chunks, size))
    return jax.tree.map(lambda x: x.reshape(-1, k)[: users.shape[0]], lists)


def top_k_lists_from_scores(
    scores: np.ndarray,
    users: np.ndarray,
    histories: Histories,
    keys: dict[str, Partial],
    similarity: Similarity | None = None,
    consistency: Array | None = None,
    *,
    k: int,
    user_chunk: int = 512,
    item_chunk: int = 16384,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """`top_k_lists` for a model given by its scores, of which a user chunk is read at a time.

    Args:
      scores: f, `[U, I]` of any float type, on the host; may be memory-mapped. Finite in
        float32.
      users: `[N] int32`, whom to rank for.

    Other arguments and what is returned are those of `top_k_lists`; the lists are on the host.

    Examples:
      >>> from isolator_jax import d_isolator
      >>> scores = np.array([[1.0, 3.0, 2.0], [1.0, 3.0, 2.0]])  # or numpy.load(file, mmap_mode="r")
      >>> histories = Histories.from_pairs(np.array([0]), np.array([1]), num_users=2)
      >>> lists, _ = top_k_lists_from_scores(scores, np.arange(2), histories, {"d": d_isolator().key}, k=2)["d"]
      >>> lists.tolist()
      [[2, 0], [1, 2]]
    """
    if not len(users):
        return {name: (np.zeros((0, k), np.int32), np.zeros((0, k), np.float32)) for name in keys}
    size = min(user_chunk, len(users))
    parts = []
    for first in range(0, len(users), size):
        chunk = np.asarray(users[first : first + size], np.int32)
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
    """`top_k_lists` of one user chunk `[B]`, whose scores are in `rows` `[B]` of `scores`."""
    num_items = scores.num_items
    width = min(item_chunk, num_items)
    in_chunk = min(k, width)
    batched = {name: jax.vmap(jax.vmap(key, (0, 1, None)), (0, 1, 1)) for name, key in keys.items()}
    c = None if consistency is None else consistency[:, users]

    def of_items(best, first):
        # The last chunk is moved back to end with the catalogue; what it shares with
        # the one before is masked.
        start = jnp.minimum(first, num_items - width)
        ids = start + jnp.arange(width, dtype=jnp.int32)
        f = scores.block(rows, start, width)
        s = None if similarity is None else similarity.rows(users, start, width)
        hidden = seen_items(histories, users, start, width) | (ids < first)
        merged = {}
        for name, key in batched.items():
            values = key(f, s, c)
            values = jnp.where(values == 0, 0.0, values)  # top_k ranks -0 below 0
            values, places = lax.top_k(jnp.where(hidden, -jnp.inf, values), in_chunk)
            # Earlier chunks come first, and top_k keeps the first of equal keys.
            values = jnp.concatenate([best[name][1], values], axis=1)
            items = jnp.concatenate([best[name][0], ids[places]], axis=1)
            values, places = lax.top_k(values, k)
            merged[name] = (jnp.take_along_axis(items, places, axis=1), values)
        return merged, None

    empty = (
        jnp.full((users.size, k), NO_ITEM, jnp.int32),
        jnp.full((users.size, k), -jnp.inf, jnp.float32),
    )
    firsts = jnp.arange(0, num_items, width)
    best, _ = lax.scan(of_items, {name: empty for name in keys}, firsts)
    return {name: (jnp.where(jnp.isneginf(values), NO_ITEM, items), values) for name, (items, values) in best.items()}


_compiled_best_of_chunk = jax.jit(_best_of_chunk, static_argnames=("k", "item_chunk"))


def seen_items(histories: Histories, users: Array, start: Array, width: int) -> Array:
    """Which of the items from `start` on each user has: `[B, width] bool`."""

    def mark(seen, rows, items):
        columns = jnp.where(items >= start, items - start, width)
        return seen.at[rows, columns].set(True, mode="drop")

    return fold_histories(histories, users, jnp.zeros((users.size, width), bool), mark)


@jax.jit
def list_hits(lists: Array, truth: Histories, users: Array) -> Array:
    """Which list items are relevant: `[N, K] int32, [N] int32 -> [N, K] bool`."""
    found = jax.vmap(jax.vmap(contains, (None, None, 0)), (None, 0, 0))(truth, users, lists)
    return found & (lists != NO_ITEM)


def recall(hits: Array, relevant: Array, k: int) -> Array:
    """Recall@k = hits / |relevant|. `[N, K] bool, [N] int -> [N]`, NaN where nothing is relevant."""
    return _ratio(jnp.sum(hits[:, :k], axis=1), relevant)


def precision(hits: Array, relevant: Array, k: int) -> Array:
    """Precision@k = hits / k. Shapes as `recall`."""
    return _ratio(jnp.sum(hits[:, :k], axis=1) * relevant, relevant) / k


def ndcg(hits: Array, relevant: Array, k: int) -> Array:
    """NDCG@k with binary relevance, ideal over min(|relevant|, k). Shapes as `recall`."""
    discounts = 1.0 / jnp.log2(jnp.arange(2.0, k + 2.0))
    ideal = jnp.cumsum(discounts)[jnp.clip(relevant, 1, k) - 1]
    return _ratio(jnp.sum(hits[:, :k] * discounts, axis=1), jnp.where(relevant > 0, ideal, 0.0))


def average_precision(hits: Array, relevant: Array, k: int) -> Array:
    """AP@k, normalised by min(|relevant|, k); its mean over users is MAP@k. Shapes as `recall`."""
    hits = hits[:, :k]
    precisions = jnp.cumsum(hits, axis=1) / jnp.arange(1, k + 1)
    return _ratio(jnp.sum(precisions * hits, axis=1), jnp.minimum(relevant, k))


METRICS = {"recall": recall, "ndcg": ndcg, "precision": precision, "map": average_precision}


def _ratio(numerator: Array, denominator: Array) -> Array:
    defined = denominator > 0
    return jnp.where(defined, numerator / jnp.where(defined, denominator, 1), jnp.nan)
