"""Accuracy and UCBias of one model under many U-ISOLATOR settings, in one pass over the users.

Each held-out item has a rank under each setting; the metrics are weighted sums over these
ranks, so no list is made. The U score is ELU'(f) times a factor within sigmoid(-1)^iota and
sigmoid(1)^iota (g lies in [-1, 1]), hence only items whose f is large enough can come
before a held-out item: its rank is counted among the C items of largest f. Where those do
not prove it, it is counted again among all items. The result is exact.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from isolator_jax import scoring
from isolator_jax.backbones import Encoded
from isolator_jax.content import Content
from isolator_jax.evaluation.bias import consistency_groups
from isolator_jax.evaluation.ranking import seen_items
from isolator_jax.evaluation.scores import Model, Scores, scores_of
from isolator_jax.histories import Histories
from isolator_jax.similarity import Similarity

UCBIAS_K = 20


class Settings(NamedTuple):
    """A grid of U-ISOLATOR's parameters: every alpha with every beta with every iota.

    The defaults are the paper's grid.
    """

    alphas: Sequence[float] = (2.0, 4.0, 6.0, 8.0, 10.0)
    betas: Sequence[float] = (1.0, 5.0, 10.0, 15.0, 20.0)
    iotas: Sequence[float] = (0.001, 0.01, 0.1, 1.0)


def evaluate_settings(
    model: Model,
    histories: Histories,
    truth: Histories,
    content: Content,
    settings: Settings,
    *,
    ks: Sequence[int] = (10, 20),
    candidates: int = 128,
    chunk: int = 256,
) -> dict[str, np.ndarray]:
    """Metrics of U-ISOLATOR under every setting.

    Args:
      model: embeddings of all users and items, or scores `[U, I]` on the host, of which a
        chunk's rows are read at a time.
      histories: training items, left out of the ranking.
      truth: the held-out items of the split evaluated.
      content: similarities and consistencies.
      settings: the grid, of A alphas, B betas and J iotas.
      ks: list lengths of Recall and NDCG.
      candidates: C; changes the time and not the result.
      chunk: held-out items ranked at a time.

    Returns:
      `recall@k` and `ndcg@k` for each k, and `ucbias@20`: `[A, B, J] float64` each, equal to what
      `evaluate` gives for each setting.

    Raises:
      ValueError: no user has both training and held-out items.
    """
    users, items = _held_out_pairs(histories, truth)
    if not users.size:
        raise ValueError("no user has both training and held-out items, so there is nothing to rank")
    ranks = item_ranks(
        model, users, items, histories, content, settings, k=max(*ks, UCBIAS_K), candidates=candidates, chunk=chunk
    )
    relevant = np.bincount(users)[users]
    per_user = 1.0 / np.unique(users).size
    metrics = {f"recall@{k}": _weighted(ranks < k, per_user / relevant) for k in ks}
    discounts = 1.0 / np.log2(np.arange(2, max(ks) + 2))
    ideal = np.cumsum(discounts)
    for k in ks:
        gains = np.append(discounts[:k], 0.0)[np.minimum(ranks, k)]
        metrics[f"ndcg@{k}"] = _weighted(gains, per_user / ideal[np.minimum(relevant, k) - 1])
    groups = consistency_groups(content.consistency)
    signs = _group_share(groups.consistent, users) - _group_share(groups.diverse, users)
    metrics[f"ucbias@{UCBIAS_K}"] = _weighted(ranks < UCBIAS_K, signs / relevant)
    return metrics


def item_ranks(
    model: Model,
    users: np.ndarray,
    items: np.ndarray,
    histories: Histories,
    content: Content,
    settings: Settings,
    *,
    k: int,
    candidates: int,
    chunk: int,
) -> np.ndarray:
    """How many unseen items come before an item under U-ISOLATOR, for many pairs and settings.

    Args:
      users, items: `[P]` pairs; a user's item is not in the user's history.
      k: ranks from k on are not told apart.
      model, candidates, chunk: as in `evaluate_settings`.

    Returns:
      `[P, A, B, J] int32`, 0 for the best item, at least k where the rank is.
    """
    num_items = model.items.shape[0] if isinstance(model, Encoded) else model.shape[1]
    grids = tuple(jnp.asarray(values, jnp.float32) for values in settings)
    arguments = (histories, content.similarity, content.channel_consistency, grids)

    def rank(users, items, candidates):
        found = [
            jax.device_get(
                _ranks_of_chunk(
                    *scores_of(model, some_users),
                    some_users,
                    some_items,
                    *arguments,
                    k=k,
                    candidates=min(candidates, num_items),
                )
            )
            for some_users, some_items in _chunks(users, items, chunk)
        ]
        ranks, proven = (np.concatenate(parts)[: users.size] for parts in zip(*found, strict=True))
        return ranks, proven

    ranks, proven = rank(users, items, candidates)
    if not proven.all():
        ranks[~proven], _ = rank(users[~proven], items[~proven], num_items)
    return ranks


@functools.partial(jax.jit, static_argnames=("k", "candidates"))
def _ranks_of_chunk(
    scores: Scores,
    rows: Array,
    users: Array,
    items: Array,
    histories: Histories,
    similarity: Similarity,
    consistency: Array,
    grids: tuple[Array, Array, Array],
    *,
    k: int,
    candidates: int,
) -> tuple[Array, Array]:
    """Ranks `[B, A, B', J]` of pairs `[B]` among the candidates, and whether these prove them `[B]`.

    The pairs' scores are in `rows` `[B]` of `scores`.
    """
    alphas, betas, iotas = grids
    num_items = scores.num_items
    f = scores.block(rows, jnp.int32(0), num_items)
    s = similarity.rows(users, jnp.int32(0), num_items)
    x = s - consistency[:, users, None]
    own_f = jnp.take_along_axis(f, items[:, None], axis=1)
    own_x = jnp.take_along_axis(x, items[None, :, None], axis=2)
    hidden = seen_items(histories, users, jnp.int32(0), num_items)
    f, places = lax.top_k(jnp.where(hidden, -jnp.inf, f), candidates)
    x = jnp.take_along_axis(x, places[None], axis=2)

    def log_factor(x: Array, alpha: Array, beta: Array) -> Array:
        return scoring.log_gate_factor(x, alpha, beta, jnp.float32(1))

    over_items = jax.vmap(jax.vmap(log_factor, (1, None, None)), (1, None, None))
    base, own_base = scoring.log_elu_prime(f), scoring.log_elu_prime(own_f)

    def ranks_of(alpha: Array, beta: Array) -> tuple[Array, Array]:
        factor, own_factor = over_items(x, alpha, beta), over_items(own_x, alpha, beta)

        def rank(iota: Array) -> tuple[Array, Array]:
            keys, own = base + iota * factor, own_base + iota * own_factor
            before = (keys > own) | ((keys == own) & (places < items[:, None]))
            ranks = jnp.sum(before & (places != items[:, None]), axis=1)
            bound = base[:, -1] + iota * jax.nn.log_sigmoid(1.0)
            return ranks, (own[:, 0] > bound) | (ranks >= k) | (candidates == num_items)

        return jax.vmap(rank)(iotas)

    ranks, proven = jax.vmap(lambda alpha: jax.vmap(lambda beta: ranks_of(alpha, beta))(betas))(alphas)
    return jnp.moveaxis(ranks, -1, 0), jnp.all(proven, axis=(0, 1, 2))


def _held_out_pairs(histories: Histories, truth: Histories) -> tuple[np.ndarray, np.ndarray]:
    """Held-out (user, item) pairs of the users who have training items."""
    lengths = np.asarray(truth.lengths)
    users = np.repeat(np.arange(lengths.size, dtype=np.int32), lengths)
    kept = np.asarray(histories.lengths)[users] > 0
    return users[kept], np.asarray(truth.items)[: users.size][kept]


def _chunks(users: np.ndarray, items: np.ndarray, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Both arrays in pieces of one size; the last is filled up with the last pair."""
    for start in range(0, users.size, size):
        missing = max(0, start + size - users.size)
        pieces = (np.pad(x[start : start + size], (0, missing), mode="edge") for x in (users, items))
        yield next(pieces), next(pieces)


def _group_share(group: np.ndarray, users: np.ndarray) -> np.ndarray:
    """1 / the group's users with held-out items for pairs of the group's users, else 0. `[P]`."""
    inside = group[users]
    size = np.unique(users[inside]).size
    return inside / size if size else np.full(users.size, np.nan)


def _weighted(values: np.ndarray, weights: np.ndarray | float) -> np.ndarray:
    """`[P, ...], [P] -> [...]`, in float64."""
    return np.tensordot(np.asarray(weights, np.float64), np.asarray(values, np.float64), axes=1)
