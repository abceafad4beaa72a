"""Accuracy and UCBias of one model under many U-ISOLATOR settings, in one pass over the users.

Each held-out item has a rank under each setting, and accuracy is a function of these ranks, so
no list is made. The U score is ELU'(f) times a factor within sigmoid(-1)^iota and
sigmoid(1)^iota (g lies in [-1, 1]), hence only items whose f is large enough can come
before a held-out item: its rank is counted among the C items of largest f. Where those do
not prove it, it is counted again among all items. The result is exact.
"""

import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from isolator_jax import checks
from isolator_jax._fast import log_elu_prime, log_gate_factor
from isolator_jax.content import Content
from isolator_jax.evaluation import entry
from isolator_jax.evaluation.bias import consistency_groups, ucbias
from isolator_jax.evaluation.metrics import HIT_METRICS, UCBIAS, UCBIAS_K, nan_mean
from isolator_jax.evaluation.ranking import seen_items
from isolator_jax.evaluation.scores import Model, Scores, scores_of
from isolator_jax.histories import Histories, check_histories
from isolator_jax.similarity import Similarity


class UParameters(NamedTuple):
    """U-ISOLATOR's parameters (Eq. 12 and 13)."""

    alpha: float
    beta: float
    iota: float


class Settings(NamedTuple):
    """A grid of U-ISOLATOR's parameters: every alpha with every beta with every iota.

    The defaults are the paper's grid.
    """

    alphas: Sequence[float] = (2.0, 4.0, 6.0, 8.0, 10.0)
    betas: Sequence[float] = (1.0, 5.0, 10.0, 15.0, 20.0)
    iotas: Sequence[float] = (0.001, 0.01, 0.1, 1.0)

    def all(self) -> list[UParameters]:
        """Every setting, in the order of the flattened grid of `evaluate_settings`."""
        return [UParameters(*setting) for setting in itertools.product(*self)]


# What a setting is chosen for, on validation: the best Recall@20; the same among settings whose
# |UCBias@20| is at most Vanilla's; the least |UCBias@20| among those whose Recall@20 is at least Vanilla's.
AIMS = ("recall", "recall_no_more_bias", "least_bias_no_less_recall")


class Baseline(NamedTuple):
    """What choosing for an aim looks at: Vanilla's Recall@20 and UCBias@20."""

    recall: float
    ucbias: float


def choose_setting(
    recall: np.ndarray, ucbias: np.ndarray | None = None, *, aim: str = "recall", vanilla: Baseline | None = None
) -> int | None:
    """The place of the best setting for an aim, in the flattened grid; the first of equals.

    Args:
      recall: Recall@20 of every setting, any shape; settings with NaN are passed over.
      ucbias: UCBias@20 of the same settings; needed by all aims but `recall`.
      aim: one of `AIMS`. Bias is its size: of -.03 and +.01 the second is the smaller.
      vanilla: what the others are held against; needed by all aims but `recall`.

    Returns:
      The place; None where no setting qualifies, and Vanilla's lists stand.

    Raises:
      TypeError, ValueError: an unknown aim, what it needs is missing or no `Baseline`, other shapes.

    Examples:
      >>> recall, ucbias = np.array([0.3, 0.2, 0.1]), np.array([-0.06, 0.02, 0.01])
      >>> vanilla = Baseline(recall=0.15, ucbias=0.05)
      >>> [choose_setting(recall, ucbias, aim=aim, vanilla=vanilla) for aim in AIMS]
      [0, 1, 1]
    """
    checks.option("aim", aim, AIMS)
    recall = np.asarray(recall, np.float64).reshape(-1)
    value, qualifies = recall, ~np.isnan(recall)
    if aim != "recall":
        if ucbias is None or vanilla is None:
            raise ValueError(f"aim {aim} needs ucbias and vanilla")
        checks.instance("vanilla", vanilla, Baseline)
        size = np.abs(np.asarray(ucbias, np.float64).reshape(-1))
        checks.equal_shapes(recall=recall, ucbias=size)
        if aim == "recall_no_more_bias":
            qualifies &= size <= abs(vanilla.ucbias)
        else:
            value, qualifies = -size, qualifies & ~np.isnan(size) & (recall >= vanilla.recall)
    return int(np.argmax(np.where(qualifies, value, -np.inf))) if qualifies.any() else None


def evaluate_settings(
    model: Model,
    users: ArrayLike | None,
    histories: Histories,
    settings: Settings,
    content: Content,
    *,
    truth: Histories,
    ks: Sequence[int] = (10, 20),
    metrics: Sequence[str] = ("recall", "ndcg"),
    candidates: int = 128,
    chunk: int = 256,
) -> dict[str, np.ndarray]:
    """Metrics of U-ISOLATOR under every setting.

    Args:
      model: embeddings or scores, as in `ranking.top_k_lists`; of scores on the host a chunk's
        rows are read at a time.
      users: `[N]` ids of those the metrics are over, each once and with training items; None for all of them.
      histories: training items, left out of the ranking.
      settings: the grid, of A alphas, B betas and J iotas.
      content: similarities and consistencies.
      truth: the held-out items of the split evaluated, none of them in `histories`.
      ks: list lengths of the metrics.
      metrics: which, of `metrics.HIT_METRICS`.
      candidates: C; changes the time and not the result.
      chunk: held-out items ranked at a time.

    Returns:
      `METRIC@k` for each metric and k, and `ucbias@20`: `[A, B, J] float64` each, equal to what
      `evaluate` gives for each setting; NaN where no user has held-out items.

    Raises:
      TypeError, ValueError: as `evaluate`.

    Examples:
      >>> from isolator_jax import make_content
      >>> histories = Histories.from_pairs(np.repeat(np.arange(4), 2), [0, 1, 2, 3, 0, 2, 1, 3], num_users=4)
      >>> truth = Histories.from_pairs(np.arange(4), [4, 5, 4, 5], num_users=4)
      >>> content = make_content({"image": np.eye(6)[[0, 0, 1, 1, 0, 1]]}, histories)
      >>> scores, grid = np.tile(np.arange(6.0), (4, 1)), Settings(alphas=(2.0,), betas=(5.0,), iotas=(0.01, 1.0))
      >>> evaluate_settings(scores, None, histories, grid, content, truth=truth, ks=(1,))["recall@1"].tolist()
      [[[0.5, 0.75]]]
    """
    ks = entry.lengths_of(ks)
    model, ids = _check(model, users, histories, settings, content, truth, metrics, candidates, chunk)
    longest = max(*ks, UCBIAS_K)
    pairs = _held_out_pairs(ids, truth)
    rows, places = np.unique(pairs[0], return_inverse=True)
    relevant = np.bincount(places, minlength=rows.size)
    ranks = item_ranks(
        model, *pairs, histories, content, settings, k=longest, candidates=candidates, chunk=chunk
    ).reshape(places.size, len(settings.all()))
    groups = consistency_groups(content.consistency)
    names = [*(f"{metric}@{k}" for metric in metrics for k in ks), UCBIAS]
    found: dict[str, list[float]] = {name: [] for name in names}
    for of_setting in ranks.T:
        hits = np.zeros((rows.size, longest), bool)
        inside = of_setting < longest
        hits[places[inside], of_setting[inside]] = True
        for metric in metrics:
            for k in ks:
                found[f"{metric}@{k}"].append(nan_mean(HIT_METRICS[metric](hits, relevant, k)))
        found[UCBIAS].append(ucbias(HIT_METRICS["recall"](hits, relevant, UCBIAS_K), rows, groups))
    shape = tuple(map(len, settings))
    return {name: np.array(values).reshape(shape) for name, values in found.items()}


def _check(
    model: Any,
    users: Any,
    histories: Any,
    settings: Any,
    content: Any,
    truth: Any,
    metrics: Sequence[str],
    candidates: int,
    chunk: int,
) -> tuple[Model, np.ndarray]:
    """`evaluate_settings`' arguments checked against each other; the model and the users converted."""
    for metric in metrics:
        checks.option("each of metrics", metric, tuple(HIT_METRICS))
    checks.instance("settings", settings, Settings)
    checks.instance("content", content, Content)
    for name, values in settings._asdict().items():
        values = checks.host_array(f"settings.{name}", values, shape=("n",), finite=True)
        if not values.size or values.min() < 0:
            raise ValueError(f"settings.{name} must be at least one value, none below 0, got {values.tolist()}")
    entry.check_sizes(candidates=candidates, chunk=chunk)
    model = entry.model_of(model)
    num_users, num_items = entry.size_of(model)
    check_histories(histories, num_items, num_users=num_users)
    entry.check_content(content, num_users, num_items)
    entry.check_truth(truth, histories, num_items)
    return model, entry.chosen_users(users, histories)


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
    _, num_items = entry.size_of(model)
    grids = tuple(jnp.asarray(values, jnp.float32) for values in settings)
    arguments = (histories, content.similarity, content.channel_consistency, grids)

    def rank(users: np.ndarray, items: np.ndarray, candidates: int, chunk: int) -> tuple[np.ndarray, np.ndarray]:
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

    if not users.size:
        return np.zeros((0, *map(len, settings)), np.int32)
    ranks, proven = rank(users, items, candidates, chunk)
    if not proven.all():
        fewer = max(1, chunk * candidates // num_items)  # in the memory of the first pass
        ranks[~proven], _ = rank(users[~proven], items[~proven], num_items, fewer)
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
    hidden = seen_items(histories, users, jnp.int32(0), num_items)
    places = lax.top_k(jnp.where(hidden, -jnp.inf, f), candidates)[1]
    # The item comes first of its candidates: equal items have equal keys where one program computes them.
    places = jnp.concatenate([items[:, None], places], axis=1)
    hidden = jnp.take_along_axis(hidden, places, axis=1)
    f = jnp.where(hidden, -jnp.inf, jnp.take_along_axis(f, places, axis=1))
    x = jnp.take_along_axis(x, places[None], axis=2)
    base = lax.optimization_barrier(log_elu_prime(f))

    def log_factor(x: Array, alpha: Array, beta: Array) -> Array:
        return log_gate_factor(x, alpha, beta, jnp.float32(1))

    over_items = jax.vmap(jax.vmap(log_factor, (1, None, None)), (1, None, None))

    def ranks_of(alpha: Array, beta: Array) -> tuple[Array, Array]:
        factor = lax.optimization_barrier(over_items(x, alpha, beta))

        def rank(iota: Array) -> tuple[Array, Array]:
            keys = base + iota * factor
            own = keys[:, :1]
            before = (keys > own) | ((keys == own) & (places < items[:, None]))
            ranks = jnp.sum(before & (places != items[:, None]), axis=1)
            ranks = jnp.where(jnp.isneginf(f[:, 0]), max(k, num_items), ranks)  # no candidate, and in no list
            bound = base[:, -1] + iota * jax.nn.log_sigmoid(1.0)
            return ranks, (own[:, 0] > bound) | (ranks >= k) | (candidates == num_items)

        return jax.vmap(rank)(iotas)

    ranks, proven = jax.vmap(lambda alpha: jax.vmap(lambda beta: ranks_of(alpha, beta))(betas))(alphas)
    return jnp.moveaxis(ranks, -1, 0), jnp.all(proven, axis=(0, 1, 2))


def _held_out_pairs(users: np.ndarray, truth: Histories) -> tuple[np.ndarray, np.ndarray]:
    """Held-out (user, item) pairs of some users, by user."""
    of_pairs, items = truth.pairs()
    kept = np.isin(of_pairs, users)
    return of_pairs[kept], items[kept]


def _chunks(users: np.ndarray, items: np.ndarray, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Both arrays in pieces of one size; the last is filled up with the last pair."""
    for start in range(0, users.size, size):
        missing = max(0, start + size - users.size)
        pieces = (np.pad(x[start : start + size], (0, missing), mode="edge") for x in (users, items))
        yield next(pieces), next(pieces)
