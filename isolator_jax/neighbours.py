"""Nearest neighbours in content, and the graphs that backbones make of them.

Cosines are computed on the host in float64 and rounded to multiples of 2^-24, which
float32 holds exactly. Rounding noise, which differs between machines and with the blocks
the work is cut into, is far below that step: pairs of items that are equally similar
compare as equal, so the rule for ties decides, and the lists are the same everywhere.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from isolator_jax import checks
from isolator_jax.graph import Graph, interaction_ids, inverse_sqrt, make_graph, user_item_block

_STEPS_PER_UNIT = float(2**24)


class Neighbours(NamedTuple):
    """The most similar items of each item, the item itself not excluded.

    Attributes:
      items: `[I, K] int32`, most similar first, the lower id first among equals.
      cosines: `[I, K] float32`.
    """

    items: np.ndarray
    cosines: np.ndarray


# (features [I, F], k) -> lists: `nearest_neighbours` or one that caches.
NeighbourSearch = Callable[[np.ndarray, int], Neighbours]


def nearest_neighbours(features: ArrayLike, k: int, *, memory_bytes: int = 256 << 20) -> Neighbours:
    """Each item's k nearest items by the cosine of their features, exactly.

    The cosine with an all-zero row is zero. Works on blocks of rows, so that no `[I, I]`
    matrix exists.

    Args:
      features: `[I, F]` of any numbers, possibly memory-mapped.
      k: list length, at least 1; K = min(k, I).
      memory_bytes: bound on the working memory, as long as it holds one row of work.

    Raises:
      ValueError: features that are not finite, or so large that their norms are not.
    """
    features = checks.host_numbers("features", features, shape=("I", "F"))
    items, width = features.shape
    k = min(checks.count("k", k, least=1), items)
    if not items:
        return Neighbours(np.zeros((0, 0), np.int32), np.zeros((0, 0), np.float32))
    # Of each row of a block: cosines in float64 and, twice, in float32; two rows of features.
    block = int(np.clip(memory_bytes // (16 * items + 16 * width), 1, items))
    starts = range(0, items, block)
    norms = np.concatenate([_norms(features[start : start + block]) for start in starts])
    wrong = np.flatnonzero(~np.isfinite(norms))
    if wrong.size:
        raise ValueError(f"features must be finite, got a row that is not: {wrong[0]}")
    lists = []
    for start in starts:
        cosines = _cosine_rows(features, norms, start, block)
        lists.append(jax.device_get(_top_k(cosines, k)))
    cosines, neighbours = (np.concatenate(parts) for parts in zip(*lists, strict=True))
    return Neighbours(neighbours, cosines)


def item_graph(neighbours: Neighbours) -> Graph:
    """The normalised item graph on I nodes (Yu et al., MM 2023).

    Item i receives from each item j of its list with weight w_ij / sqrt(r_i r_j), where
    w_ij is their cosine, zero where that is negative, and r_i the sum of w over i's list.
    Edges of weight zero are left out: an item without features receives none.

    Raises:
      ValueError: lists of items that do not exist, or with an item twice.
    """
    lists = _checked_lists("neighbours", neighbours)
    items, k = lists.items.shape
    receivers = np.repeat(np.arange(items), k)
    senders = lists.items.reshape(-1)
    similarity = np.maximum(lists.cosines, 0.0, dtype=np.float64)
    scale = inverse_sqrt(similarity.sum(axis=1))
    weights = similarity.reshape(-1) * scale[receivers] * scale[senders]
    kept = weights > 0
    return make_graph(senders[kept], receivers[kept], weights[kept], items)


def unweighted_graph(neighbours: Neighbours, weight: float = 1.0) -> Graph:
    """The normalised item graph whose edges are alike: weight / sqrt(k_i k_j), k the lengths of the lists.

    An item without features, whose list has no cosine above zero, receives from none.

    Raises:
      ValueError: as `item_graph`.
    """
    lists = _checked_lists("neighbours", neighbours)
    items, k = lists.items.shape
    with_features = np.flatnonzero(_have_features(lists))
    receivers = np.repeat(with_features, k)
    senders = lists.items[with_features].reshape(-1)
    return make_graph(senders, receivers, np.full(receivers.size, weight / max(k, 1)), items)


def _have_features(lists: Neighbours) -> np.ndarray:
    """`[I]`, whether an item's list is of its content: it has cosine 1 with itself, without features 0 with all."""
    return lists.cosines.max(axis=1, initial=0.0) > 0


def unite(graphs: Sequence[Graph], combine: np.ufunc) -> Graph:
    """All edges of some graphs on the same nodes; edges that several have, with `combine` of their weights.

    Raises:
      ValueError: no graph, or graphs on other numbers of nodes.
    """
    if not len(graphs):
        raise ValueError("graphs must hold at least one graph, got none")
    sizes = {size for x in graphs for size in (x.num_receivers, x.num_senders)}
    if len(sizes) > 1:
        raise ValueError(f"graphs must have the same nodes, got {' and '.join(map(str, sorted(sizes)))}")
    nodes = graphs[0].num_receivers
    pairs = np.concatenate([np.asarray(x.receivers, np.int64) * nodes + np.asarray(x.senders) for x in graphs])
    weights = np.concatenate([np.asarray(x.weights, np.float64) for x in graphs])
    order = np.argsort(pairs, kind="stable")
    united, starts = np.unique(pairs[order], return_index=True)
    receivers, senders = np.divmod(united, nodes)
    return make_graph(senders, receivers, combine.reduceat(weights[order], starts), nodes)


def enhanced_graph(
    users: ArrayLike,
    items: ArrayLike,
    num_users: int,
    num_items: int,
    neighbours: Sequence[Neighbours],
) -> Graph:
    """The normalised user-item graph with edges between similar items (Lin et al., CIKM 2024).

    Beside the interactions, in both directions, item i receives from every other item that
    is on i's own list in all modalities; without features in one, from none. All edges have
    weight one before normalisation by D^-1/2 A D^-1/2, with D the row sums (what a node
    receives) on both sides. Not symmetric: j may be on i's lists without i being on j's.

    Args:
      users, items: `[E]` ids of the training interactions.
      neighbours: the lists of each modality, M >= 1.

    Returns:
      A graph on N = U + I nodes, users first.

    Raises:
      ValueError: ids that do not exist, an interaction given twice, no lists, or lists of
        another number of items.
    """
    users, items = interaction_ids(users, items, num_users, num_items)
    if not len(neighbours):
        raise ValueError("neighbours must hold the lists of at least one modality, got none")
    lists = [_checked_lists(f"neighbours[{m}]", x, num_items) for m, x in enumerate(neighbours)]
    similar_receivers, similar_senders = _on_all_lists(lists)
    items = items + num_users
    senders = np.concatenate([users, items, similar_senders + num_users])
    receivers = np.concatenate([items, users, similar_receivers + num_users])
    nodes = num_users + num_items
    scale = inverse_sqrt(np.bincount(receivers, minlength=nodes))
    return make_graph(senders, receivers, scale[senders] * scale[receivers], nodes)


def user_rows(graph: Graph, num_users: int) -> Graph:
    """R_hat, the user-by-item block of a normalised user-item graph: items send, users receive."""
    checks.instance("graph", graph, Graph)
    if checks.count("num_users", num_users) > graph.num_receivers:
        raise ValueError(f"num_users must be at most the graph's {graph.num_receivers} nodes, got {num_users}")
    count = int(graph.offsets[num_users])
    users, nodes, weights = (np.asarray(x[:count]) for x in (graph.receivers, graph.senders, graph.weights))
    return user_item_block(users, nodes - num_users, weights, num_users, graph.num_receivers - num_users)


def _checked_lists(name: str, lists: Neighbours, num_items: int | None = None) -> Neighbours:
    checks.instance(name, lists, Neighbours)
    rows = len(lists.items) if num_items is None else num_items
    items = checks.host_array(
        f"{name}.items", lists.items, shape=("I", "K"), sizes={"I": rows}, dtype="int", below=rows
    )
    cosines = checks.host_array(f"{name}.cosines", lists.cosines, shape=("I", "K"), finite=True)
    checks.equal_shapes(items=items, cosines=cosines)
    return Neighbours(items, cosines)


def _on_all_lists(neighbours: Sequence[Neighbours]) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (i, j), j != i, with j on i's list in every modality."""
    count = neighbours[0].items.shape[0]
    codes = np.arange(count, dtype=np.int64)[:, None] * count
    of_each = [(codes + lists.items)[_have_features(lists)].reshape(-1) for lists in neighbours]
    pairs = functools.reduce(np.intersect1d, of_each)
    receivers, senders = np.divmod(pairs, count)
    different = receivers != senders
    return receivers[different], senders[different]


def _norms(rows: np.ndarray) -> np.ndarray:
    return np.linalg.norm(_in_range(rows), axis=1)


def _in_range(rows: np.ndarray) -> np.ndarray:
    """In float64, rows that would underflow when squared times 2^900, which changes no cosine."""
    if rows.dtype != np.float64:
        return rows.astype(np.float64)
    largest = np.abs(rows).max(axis=1, keepdims=True, initial=0.0)
    tiny = (largest > 0) & (largest < 1e-150)
    return rows * np.where(tiny, 2.0**900, 1.0) if tiny.any() else rows


def _cosine_rows(features: np.ndarray, norms: np.ndarray, start: int, block: int) -> np.ndarray:
    """Cosines of `block` items from `start` on with all items. `[block, I] float32`."""
    items = features.shape[0]
    rows = _in_range(features[start : start + block])
    products = np.empty((rows.shape[0], items))
    for other in range(0, items, block):
        columns = _in_range(features[other : other + block])
        np.matmul(rows, columns.T, out=products[:, other : other + block])
    for by in (norms[start : start + block, None], norms[None, :]):
        np.divide(products, by, out=products, where=by > 0)
    products *= _STEPS_PER_UNIT
    np.rint(products, out=products)
    products /= _STEPS_PER_UNIT
    products += 0.0  # -0 would rank below 0
    return products.astype(np.float32)


@functools.partial(jax.jit, static_argnames="k")
def _top_k(cosines: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """`lax.top_k` takes the lower index first among equals."""
    return lax.top_k(cosines, k)
