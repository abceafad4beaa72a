"""Metrics, each once: of the places of hits in users' lists, or of the lists themselves.

What is per user comes back per user, `[N]`, NaN where a user has nothing to measure; callers
reduce. N users, K places, I items; `NO_ITEM` fills places of a list that has no further item.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax.numpy as jnp
import numpy as np
from jax import Array

from isolator_jax.histories import Histories

# Both libraries' arrays: on the host in float64, on the device and under `jit` in float32.
Numbers = TypeVar("Numbers", np.ndarray, Array)

# What fills the places of a list that has no further item.
NO_ITEM = -1

# The list length of UCBias and rho, and by which settings are chosen.
UCBIAS_K = 20

# Those metrics, as results name them.
RECALL, UCBIAS, RHO = f"recall@{UCBIAS_K}", f"ucbias@{UCBIAS_K}", "rho"

# Share of the training interactions that the most popular items hold; the others are the long tail.
HEAD_PERCENT = 80

# Feature cells of lists held at once.
_CELLS = 1 << 22


def recall(hits: Numbers, relevant: Numbers, k: int) -> Numbers:
    """Recall@k = hits / |relevant|.

    Args:
      hits: which places of the lists hold a relevant item, `[N, K] bool`, K at least k; numpy or
        jax, inside `jit` as well.
      relevant: relevant items of each user, `[N] int`.

    Returns:
      `[N]`, NaN where nothing is relevant; float64 of numpy arrays.
    """
    return _ratio(_count(hits, relevant, k), relevant)


def precision(hits: Numbers, relevant: Numbers, k: int) -> Numbers:
    """Precision@k = hits / k. Shapes as `recall`."""
    return _where_relevant(_count(hits, relevant, k) / k, relevant)


def hit_rate(hits: Numbers, relevant: Numbers, k: int) -> Numbers:
    """HitRate@k: 1 with any hit, else 0. Shapes as `recall`."""
    return _where_relevant((_count(hits, relevant, k) > 0).astype(float), relevant)


def mrr(hits: Numbers, relevant: Numbers, k: int) -> Numbers:
    """MRR@k: 1 / rank of the first hit, 0 without one. Shapes as `recall`."""
    xp = _namespace(hits)
    hits = hits[:, :k]
    # The first of equal values is the first hit.
    first = xp.where(xp.any(hits, axis=1), 1.0 / (1.0 + xp.argmax(hits, axis=1).astype(float)), 0.0)
    return _where_relevant(first, relevant)


def ndcg(hits: Numbers, relevant: Numbers, k: int) -> Numbers:
    """NDCG@k with binary relevance, ideal over min(|relevant|, k). Shapes as `recall`."""
    xp = _namespace(hits)
    discounts = 1.0 / xp.log2(xp.arange(2.0, k + 2.0))
    ideal = xp.cumsum(discounts)[xp.clip(relevant, 1, k) - 1]
    return _ratio(_weighted_hits(hits, discounts, k), xp.where(relevant > 0, ideal, 0.0))


def average_precision(hits: Numbers, relevant: Numbers, k: int) -> Numbers:
    """AP@k, normalised by min(|relevant|, k); its mean over users is MAP@k. Shapes as `recall`."""
    xp = _namespace(hits)
    found = xp.cumsum(hits[:, :k], axis=1).astype(float)
    precisions = found / xp.arange(1.0, k + 1.0)[None]
    return _ratio(xp.sum(xp.where(hits[:, :k], precisions, 0.0), axis=1), xp.clip(relevant, None, k))


HIT_METRICS: Mapping[str, Callable[..., Any]] = {
    "recall": recall,
    "ndcg": ndcg,
    "precision": precision,
    "map": average_precision,
    "hit_rate": hit_rate,
    "mrr": mrr,
}


def coverage(lists: np.ndarray, num_items: int) -> float:
    """Share of the catalogue's items that stand in any list. `[N, K] int -> []`, NaN without lists."""
    return _of_counts(lists, num_items, lambda counts: np.count_nonzero(counts) / num_items)


def gini(lists: np.ndarray, num_items: int) -> float:
    """Gini coefficient of the items' counts in all lists, items never listed counted.

    With ascending counts x_1 .. x_I: sum_i (2 i - I - 1) x_i / (I sum_i x_i); 0 where all items are
    listed equally often, (I - 1) / I where one item fills all lists. `[N, K] int -> []`, NaN
    without lists.
    """

    def of_counts(counts: np.ndarray) -> float:
        places = 2.0 * np.arange(1, num_items + 1) - num_items - 1
        return float(places @ np.sort(counts) / (num_items * counts.sum()))

    return _of_counts(lists, num_items, of_counts)


def popularity(lists: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Mean training interactions of the listed items.

    Args:
      lists: `[N, K] int`.
      counts: training interactions of each item, `[I]`.

    Returns:
      `[N] float64`, NaN for an empty list.
    """
    return _mean_of_listed(lists, counts)


def long_tail_share(lists: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """APLT: share of the listed items outside the most popular ones that hold `HEAD_PERCENT` of the interactions.

    The head is the shortest beginning of the items by falling count, equal counts by lower id, that
    holds at least that share. Shapes as `popularity`.
    """
    counts = np.asarray(counts, np.int64)
    order = np.argsort(-counts, kind="stable")
    held = np.cumsum(counts[order])
    tail = np.ones(counts.size)
    if counts.any():
        tail[order[: np.searchsorted(100 * held, HEAD_PERCENT * held[-1]) + 1]] = 0.0
    return _mean_of_listed(lists, tail)


def intra_list_similarity(lists: np.ndarray, features: np.ndarray) -> np.ndarray:
    """ILS of one modality: mean S^m over the unordered pairs of a list's items.

    Args:
      lists: `[N, K] int`.
      features: normalised features `[I, F]`.

    Returns:
      `[N] float64`, NaN for a list of fewer than two items.
    """
    features, found = np.asarray(features), np.full(len(lists), np.nan)
    filled = lists != NO_ITEM
    size = max(1, _CELLS // max(1, lists.shape[1] * features.shape[1]))
    for start in range(0, len(lists), size):
        chunk = slice(start, start + size)
        rows = np.where(filled[chunk, :, None], features[np.maximum(lists[chunk], 0)], 0).astype(np.float64)
        # Over ordered pairs, as sum_{i != j} e_i . e_j = |sum_i e_i|^2 - sum_i |e_i|^2.
        pairs = np.square(rows.sum(axis=1)).sum(axis=1) - np.square(rows).sum(axis=(1, 2))
        counts = filled[chunk].sum(axis=1)
        enough = counts > 1
        found[chunk][enough] = pairs[enough] / (counts * (counts - 1.0))[enough]
    return found


def item_counts(histories: Histories, num_items: int) -> np.ndarray:
    """Training interactions of each item, `[I] int64`, or of more items where the histories have them."""
    entries = int(np.asarray(histories.offsets)[-1])
    return np.bincount(np.asarray(histories.items)[:entries], minlength=num_items)


def nan_mean(values: np.ndarray) -> float:
    """Mean of the values that are not NaN, in float64; NaN where there are none."""
    values = np.asarray(values)
    values = values[~np.isnan(values)]
    return float(values.mean(dtype=np.float64)) if values.size else float("nan")


def _namespace(x: Array | np.ndarray) -> Any:
    return np if isinstance(x, np.ndarray) else jnp


def _count(hits: Numbers, relevant: Numbers, k: int) -> Numbers:
    return hits[:, :k].sum(axis=1).astype(relevant.dtype)


def _weighted_hits(hits: Numbers, weights: Numbers, k: int) -> Numbers:
    xp = _namespace(hits)
    return xp.sum(xp.where(hits[:, :k], weights[None], 0.0), axis=1)


def _ratio(numerator: Numbers, denominator: Numbers) -> Numbers:
    xp = _namespace(numerator)
    defined = denominator > 0
    return xp.where(defined, numerator / xp.where(defined, denominator, 1).astype(denominator.dtype), xp.nan)


def _where_relevant(values: Numbers, relevant: Numbers) -> Numbers:
    xp = _namespace(values)
    return xp.where(relevant > 0, values, xp.nan)


def _of_counts(lists: np.ndarray, num_items: int, function: Callable[[np.ndarray], float]) -> float:
    listed = lists[lists != NO_ITEM]
    return function(np.bincount(listed, minlength=num_items)) if listed.size else float("nan")


def _mean_of_listed(lists: np.ndarray, values: np.ndarray) -> np.ndarray:
    filled = lists != NO_ITEM
    counts = filled.sum(axis=1)
    sums = np.where(filled, values[np.maximum(lists, 0)], 0.0).sum(axis=1, dtype=np.float64)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
