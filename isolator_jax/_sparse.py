"""Sparse products and edge values: lowerings for each platform, and derivative rules.

Each operation has lowerings chosen by the platform the program is compiled for: on the CPU
a CSR kernel (ten times faster there) and dot products in blocks, on a TPU jraph's segment sum
and one gather, on a GPU the same gather, and sums in a fixed order in place of a scatter's.
The rules hold for whatever graph offers the products.
"""

import functools
from collections.abc import Callable
from typing import Protocol

import jax
import jax.numpy as jnp
import jraph
from jax import Array, lax
from jax.experimental import sparse

from isolator_jax._ordered import reduce_runs

# Edges per block of `edge_dots` on the CPU: both gathered blocks stay in a core's cache.
_DOT_BLOCK = 2048


class SparseGraph(Protocol):
    """What the rules need of a graph: `graph.Graph`, or one cut into blocks for several devices."""

    @property
    def weights(self) -> Array: ...

    def product(self, weights: Array, x: Array) -> Array: ...

    def product_back(self, weights: Array, y: Array) -> Array: ...

    def dots(self, a: Array, b: Array) -> Array: ...

    def over_edges(self, reduce: Callable[..., Array], over: str, values: Array) -> Array: ...

    def masked(self, values: Array) -> Array: ...


@jax.custom_vjp
def edge_dots(graph: SparseGraph, a: Array, b: Array) -> Array:
    return graph.dots(a, b)


@jax.custom_vjp
def propagate(graph: SparseGraph, weights: Array, x: Array) -> Array:
    return graph.product(weights, x)


@jax.custom_vjp
def propagate_back(graph: SparseGraph, weights: Array, y: Array) -> Array:
    return graph.product_back(weights, y)


@jax.custom_vjp
def propagate_symmetric(graph: SparseGraph, x: Array) -> Array:
    return graph.product(graph.weights, x)


# The graph itself has no derivative: None stands for its zero cotangent.
propagate.defvjp(
    lambda graph, weights, x: (propagate(graph, weights, x), (graph, weights, x)),
    lambda saved, out: (None, edge_dots(saved[0], out, saved[2]), propagate_back(saved[0], saved[1], out)),
)
propagate_back.defvjp(
    lambda graph, weights, y: (propagate_back(graph, weights, y), (graph, weights, y)),
    lambda saved, out: (None, edge_dots(saved[0], saved[2], out), propagate(saved[0], saved[1], out)),
)
propagate_symmetric.defvjp(
    lambda graph, x: (propagate_symmetric(graph, x), graph),
    lambda graph, out: (None, propagate_symmetric(graph, out)),
)
edge_dots.defvjp(
    lambda graph, a, b: (edge_dots(graph, a, b), (graph, a, b)),
    lambda saved, out: (None, propagate(saved[0], out, saved[2]), propagate_back(saved[0], out, saved[1])),
)


def block_product(senders: Array, receivers: Array, offsets: Array, weights: Array, x: Array) -> Array:
    """The sparse product, edges sorted by receiver, lowered for the platform at hand.

    Edges past the last offset have receivers out of range, and are left out. Sums are of the
    weights' precision, whatever that of `x` is.
    """
    if senders.shape[0] == 0:
        return jnp.zeros((offsets.shape[0] - 1, x.shape[1]), weights.dtype)
    arguments = senders, receivers, offsets, weights, x
    return lax.platform_dependent(
        *arguments, cpu=_csr_product, cuda=_run_product, rocm=_run_product, default=_segment_product
    )


def dots_of_edges(receivers: Array, senders: Array, a: Array, b: Array) -> Array:
    """<a[receiver], b[sender]> of each edge, lowered for the platform at hand."""
    if receivers.size == 0:
        return jnp.zeros(0, jnp.result_type(a, b))
    return lax.platform_dependent(receivers, senders, a, b, cpu=_dots_in_blocks, default=_dots_at_once)


def reduce_edges(
    reduce: Callable[..., Array], values: Array, nodes: Array, offsets: Array, order: Array | None, longest: int
) -> Array:
    """`[E]` values reduced over the edges of each node, lowered for the platform at hand. `[N]`.

    Args:
      reduce: `jax.ops.segment_sum` or `jax.ops.segment_max`.
      values, nodes: of each edge.
      offsets: `[N + 1]` of the edges sorted by node.
      order: that sorts them; None where they are.
      longest: how many edges a node has at most.
    """
    if values.size == 0:
        return reduce(values, nodes, offsets.shape[0] - 1)

    def by_segment(values: Array, nodes: Array, offsets: Array) -> Array:
        return reduce(values, nodes, offsets.shape[0] - 1, indices_are_sorted=order is None)

    def by_run(values: Array, nodes: Array, offsets: Array) -> Array:
        del nodes
        rows = (values if order is None else values[order])[:, None]
        dense: Callable[..., Array] = jnp.max if reduce is jax.ops.segment_max else jnp.sum
        return reduce_runs(lambda at: rows[at], offsets[:-1], offsets[1:], rows.shape[0], longest, dense)[:, 0]

    return lax.platform_dependent(values, nodes, offsets, cuda=by_run, rocm=by_run, default=by_segment)


def add_rows(table: Array, ids: Array, rows: Array) -> Array:
    """The table `[N, D]` with rows `[..., D]` added at ids `[...]`, lowered for the platform at hand.

    Ids out of range are left out.
    """

    def by_scatter(table: Array, ids: Array, rows: Array) -> Array:
        return table.at[ids].add(rows, mode="drop")

    return lax.platform_dependent(table, ids, rows, cuda=_add_in_order, rocm=_add_in_order, default=by_scatter)


def take_rows(table: Array, ids: Array) -> Array:
    """`table[ids]`, whose derivative is by `add_rows`. `[N, D], [...] -> [..., D]`."""
    return _take_rows(table.shape[0], table, ids)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _take_rows(count: int, table: Array, ids: Array) -> Array:
    del count
    return table[ids]


def _take_rows_backward(count: int, ids: Array, out: Array) -> tuple[Array, None]:
    return add_rows(jnp.zeros((count, out.shape[-1]), out.dtype), ids, out), None


_take_rows.defvjp(lambda count, table, ids: (table[ids], ids), _take_rows_backward)


def _add_in_order(table: Array, ids: Array, rows: Array) -> Array:
    # The rows of an id become one, in the place of the first: ids are then added to once at most.
    count = ids.size
    ids, rows = ids.reshape(-1), rows.reshape(count, table.shape[1])
    order = jnp.argsort(ids, stable=True)
    ids = ids[order]
    places = jnp.arange(count, dtype=jnp.int32)
    first = jnp.append(True, ids[1:] != ids[:-1])
    ends = jnp.searchsorted(ids, ids, side="right", method="scan_unrolled").astype(jnp.int32)
    sums = reduce_runs(lambda at: rows[order[at]], jnp.where(first, places, ends), ends, count, count)
    once = jnp.where(first & (ids < table.shape[0]), ids, table.shape[0] + places)
    return table.at[once].add(sums, mode="drop", unique_indices=True)


def choose(
    kept: Array, count: int, offsets: Array, order: Array, transpose_offsets: Array
) -> tuple[Array, tuple[Array, Array, Array]]:
    """The `count` edges that `kept`, `[E] bool`, is true of, `[count] int32`, and their offsets, order and
    transposed offsets, from those of all edges."""
    transposed = kept[order]
    before, before_transposed = (jnp.append(0, jnp.cumsum(mask, dtype=jnp.int32)) for mask in (kept, transposed))
    chosen, chosen_transposed = (jnp.flatnonzero(mask, size=count) for mask in (kept, transposed))
    return chosen, (before[offsets], before[order[chosen_transposed]], before_transposed[transpose_offsets])


def _csr_product(senders, receivers, offsets, weights, x):
    del receivers
    return sparse.BCSR((weights, senders, offsets), shape=(offsets.shape[0] - 1, x.shape[0])) @ x.astype(weights.dtype)


def _segment_product(senders, receivers, offsets, weights, x):
    return jraph.segment_sum(
        x[senders].astype(weights.dtype) * weights[:, None],
        receivers,
        num_segments=offsets.shape[0] - 1,
        indices_are_sorted=True,
    )


def _run_product(senders, receivers, offsets, weights, x):
    del receivers

    def rows(at: Array) -> Array:
        return x[senders[at]].astype(weights.dtype) * weights[at][..., None]

    edges = senders.shape[0]
    return reduce_runs(rows, offsets[:-1], offsets[1:], edges, min(edges, x.shape[0]))


def _dots_at_once(receivers, senders, a, b):
    return jnp.sum(a[receivers] * b[senders], axis=1)


def _dots_in_blocks(receivers, senders, a, b):
    # The product with ones sums rows by vector instructions where XLA's own row sums are
    # scalar loops, and blocks keep the gathered rows in a core's cache: ten times faster on
    # the CPU than one gather of all edges.
    ones = jnp.ones(a.shape[1], a.dtype)
    return lax.map(lambda edge: (a[edge[0]] * b[edge[1]]) @ ones, (receivers, senders), batch_size=_DOT_BLOCK)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def edge_softmax(over: str, graph: SparseGraph, logits: Array) -> Array:
    exponentials = jnp.exp(logits - graph.over_edges(jax.ops.segment_max, over, logits))
    return graph.masked(exponentials / graph.over_edges(jax.ops.segment_sum, over, exponentials))


def _edge_softmax_forward(over, graph, logits):
    alpha = edge_softmax(over, graph, logits)
    return alpha, (graph, alpha)


def _edge_softmax_backward(over, saved, out):
    graph, alpha = saved
    weighted = alpha * out
    return None, weighted - alpha * graph.over_edges(jax.ops.segment_sum, over, weighted)


edge_softmax.defvjp(_edge_softmax_forward, _edge_softmax_backward)
