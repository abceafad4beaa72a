"""Sparse graphs as jraph `GraphsTuple`s and the three operations that every backbone shares.

A `Graph` is a `jraph.GraphsTuple` whose edges are sorted by receiver, together with the
row offsets of that order and of the transposed one, made once on the host. Three
operations, each the others' derivative:

  propagate       out[r] = sum over edges s -> r of w * x[s]
  propagate_back  out[s] = sum over edges s -> r of w * y[r]
  edge_dots       out[e] = <a[receiver of e], b[sender of e]>

Each has two lowerings, chosen by the platform the program is compiled for: on the CPU a CSR
kernel (ten times faster there) and dot products in blocks, elsewhere jraph's segment sum
and one gather.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import jraph
import numpy as np
from flax import struct
from jax import Array, lax
from jax.experimental import sparse

# Edges per block of `edge_dots` on the CPU: both gathered blocks stay in a core's cache.
_DOT_BLOCK = 2048


@struct.dataclass
class Graph:
    """A weighted directed graph with E edges, from S senders to R receivers.

    Senders and receivers are the same N nodes, or, in a user-item block, two kinds of
    node that are numbered apart.

    Attributes:
      edges: senders and receivers `[E] int32`, sorted by receiver, then sender; `edges`
        holds the weights `[E] float32`.
      offsets: `[R + 1] int32`, receiver r's edges are `offsets[r]:offsets[r + 1]`.
      transpose_order: `[E] int32`, the permutation that sorts the edges by sender.
      transpose_offsets: `[S + 1] int32`, the senders' row offsets in that order.
      symmetric: whether the weights form a symmetric matrix.
    """

    edges: jraph.GraphsTuple
    offsets: Array
    transpose_order: Array
    transpose_offsets: Array
    symmetric: bool = struct.field(pytree_node=False)

    @property
    def senders(self) -> Array:
        return self.edges.senders

    @property
    def receivers(self) -> Array:
        return self.edges.receivers

    @property
    def weights(self) -> Array:
        return self.edges.edges

    @property
    def num_senders(self) -> int:
        return self.transpose_offsets.shape[0] - 1

    @property
    def num_receivers(self) -> int:
        return self.offsets.shape[0] - 1

    def product(self, weights: Array, x: Array) -> Array:
        """The sparse product without a derivative. `[E], [S, D] -> [R, D]`."""
        return block_product(self.senders, self.receivers, self.offsets, weights, x)

    def product_back(self, weights: Array, y: Array) -> Array:
        """The transposed product without a derivative. `[E], [R, D] -> [S, D]`."""
        order = self.transpose_order
        return block_product(self.receivers[order], self.senders[order], self.transpose_offsets, weights[order], y)

    def dots(self, a: Array, b: Array) -> Array:
        """`edge_dots` without a derivative. `[R, D], [S, D] -> [E]`."""
        return dots_of_edges(self.receivers, self.senders, a, b)

    def over_edges(self, reduce: Callable[..., Array], over: str, values: Array) -> Array:
        """Reduces `[E]` values over each receiver or sender, and gives each edge its node's result."""
        nodes, count, ordered = {
            "receivers": (self.receivers, self.num_receivers, True),
            "senders": (self.senders, self.num_senders, False),
        }[over]
        return reduce(values, nodes, count, indices_are_sorted=ordered)[nodes]

    def masked(self, values: Array) -> Array:
        """`[E]` edge values; a graph on several devices has places without an edge to mask."""
        return values

    def subgraph(self, kept: Array, count: int) -> "Graph":
        """The graph of some of its edges; works under jit.

        Args:
          kept: `[E] bool`, which; of a symmetric graph, an edge and its reverse alike.
          count: how many of them are true.
        """
        order = self.transpose_order
        edges, transposed = (jnp.flatnonzero(mask, size=count) for mask in (kept, kept[order]))
        before, before_transposed = (jnp.append(0, jnp.cumsum(mask)) for mask in (kept, kept[order]))
        return Graph(
            edges=self.edges._replace(
                edges=self.weights[edges],
                senders=self.senders[edges],
                receivers=self.receivers[edges],
                n_edge=jnp.array([count], jnp.int32),
            ),
            offsets=before[self.offsets],
            transpose_order=before[order[transposed]],
            transpose_offsets=before_transposed[self.transpose_offsets],
            symmetric=self.symmetric,
        )

    def with_weights(self, weights: Array) -> "Graph":
        """The same edges with other weights, `[E]`."""
        return dataclasses.replace(self, edges=self.edges._replace(edges=weights))


def make_graph(
    senders: np.ndarray,
    receivers: np.ndarray,
    weights: np.ndarray,
    num_senders: int,
    num_receivers: int,
    *,
    symmetric: bool = False,
) -> Graph:
    """Builds a `Graph` on the host from unique edges in any order.

    Args:
      senders, receivers: `[E]` node ids.
      weights: `[E]` edge weights.
      num_senders, num_receivers: S and R.
      symmetric: promise that S = R and weight(a -> b) = weight(b -> a) for all edges.
    """
    order = np.lexsort((senders, receivers))
    senders = np.asarray(senders, np.int32)[order]
    receivers = np.asarray(receivers, np.int32)[order]
    weights = np.asarray(weights, np.float32)[order]
    edges = jraph.GraphsTuple(
        nodes=None,
        edges=jnp.asarray(weights),
        senders=jnp.asarray(senders),
        receivers=jnp.asarray(receivers),
        n_node=jnp.array([max(num_senders, num_receivers)], jnp.int32),
        n_edge=jnp.array([senders.size], jnp.int32),
        globals=None,
    )
    return Graph(
        edges=edges,
        offsets=_row_offsets(receivers, num_receivers),
        transpose_order=jnp.asarray(np.lexsort((receivers, senders)).astype(np.int32)),
        transpose_offsets=_row_offsets(senders, num_senders),
        symmetric=symmetric,
    )


def bipartite_graph(users: np.ndarray, items: np.ndarray, num_users: int, num_items: int) -> Graph:
    """The normalised user-item graph A_hat = D^-1/2 A D^-1/2 of unique interactions.

    Nodes are the users followed by the items; every interaction is an edge in both
    directions. Nodes without interactions have no edges, and their rows stay zero.

    Args:
      users, items: `[E / 2]` ids of the training interactions.
    """
    items = np.asarray(items, np.int64) + num_users
    senders = np.concatenate([users, items])
    receivers = np.concatenate([items, users])
    nodes = num_users + num_items
    scale = inverse_sqrt(np.bincount(receivers, minlength=nodes))
    return make_graph(senders, receivers, scale[senders] * scale[receivers], nodes, nodes, symmetric=True)


def normalized_by_degree(graph: Graph) -> Graph:
    """The same edges with the weights of D^-1/2 A D^-1/2; works under jit."""
    ones = graph.masked(jnp.ones_like(graph.weights))
    received, sent = (graph.over_edges(jax.ops.segment_sum, over, ones) for over in ("receivers", "senders"))
    return graph.with_weights(graph.masked(1 / jnp.sqrt(jnp.maximum(received * sent, 1))))


def user_item_block(users: np.ndarray, items: np.ndarray, weights: np.ndarray, num_users: int, num_items: int) -> Graph:
    """A user-by-item block of a graph: items send, users receive; `propagate_back` is its transpose."""
    return make_graph(items, users, weights, num_items, num_users)


def inverse_sqrt(values: np.ndarray) -> np.ndarray:
    """values ** -0.5 in float64, zero where a value is zero."""
    values = np.asarray(values, np.float64)
    return np.divide(1.0, np.sqrt(values), out=np.zeros_like(values), where=values > 0)


def mean_of_layers(graph: Graph, x: Array, layers: int) -> Array:
    """LightGCN's encoder: the mean of x, A x, ..., A^layers x (He et al., SIGIR 2020). `[N, D]`."""
    total = x
    for _ in range(layers):
        x = propagate(graph, x)
        total = total + x
    return total / (layers + 1)


def edge_softmax(graph: Graph, logits: Array, *, over: str) -> Array:
    """Softmax of edge values over the edges that share a receiver, or a sender.

    Args:
      graph: the graph.
      logits: `[E]`, in the order of its edges.
      over: `receivers` or `senders`: which node's edges sum to one.

    Returns:
      `[E]`, same order; differentiable.
    """
    return _edge_softmax(over, graph, logits)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _edge_softmax(over: str, graph: Graph, logits: Array) -> Array:
    exponentials = jnp.exp(logits - graph.over_edges(jax.ops.segment_max, over, logits))
    return graph.masked(exponentials / graph.over_edges(jax.ops.segment_sum, over, exponentials))


def _edge_softmax_forward(over, graph, logits):
    alpha = _edge_softmax(over, graph, logits)
    return alpha, (graph, alpha)


def _edge_softmax_backward(over, saved, out):
    graph, alpha = saved
    weighted = alpha * out
    return None, weighted - alpha * graph.over_edges(jax.ops.segment_sum, over, weighted)


_edge_softmax.defvjp(_edge_softmax_forward, _edge_softmax_backward)


def propagate(graph: Graph, x: Array, weights: Array | None = None) -> Array:
    """out[r] = sum over edges s -> r of weight * x[s].

    Args:
      graph: the graph.
      x: `[S, D]` senders' values.
      weights: `[E]` weights to use instead of the graph's own, in the order of its edges;
        differentiable.

    Returns:
      `[R, D]`; zero for nodes that receive no edge.
    """
    if weights is None:
        return _propagate_symmetric(graph, x) if graph.symmetric else _propagate(graph, graph.weights, x)
    return _propagate(graph, weights, x)


def propagate_back(graph: Graph, y: Array, weights: Array | None = None) -> Array:
    """The transpose: out[s] = sum over edges s -> r of weight * y[r]. `[R, D] -> [S, D]`."""
    return _propagate_back(graph, graph.weights if weights is None else weights, y)


@jax.custom_vjp
def edge_dots(graph: Graph, a: Array, b: Array) -> Array:
    """out[e] = <a[receiver of e], b[sender of e]>. `[R, D], [S, D] -> [E]`."""
    return graph.dots(jnp.asarray(a), jnp.asarray(b))


@jax.custom_vjp
def _propagate(graph: Graph, weights: Array, x: Array) -> Array:
    return graph.product(weights, x)


@jax.custom_vjp
def _propagate_back(graph: Graph, weights: Array, y: Array) -> Array:
    return graph.product_back(weights, y)


@jax.custom_vjp
def _propagate_symmetric(graph: Graph, x: Array) -> Array:
    return graph.product(graph.weights, x)


# The graph itself has no derivative: None stands for its zero cotangent.
_propagate.defvjp(
    lambda graph, weights, x: (_propagate(graph, weights, x), (graph, weights, x)),
    lambda saved, out: (None, edge_dots(saved[0], out, saved[2]), _propagate_back(saved[0], saved[1], out)),
)
_propagate_back.defvjp(
    lambda graph, weights, y: (_propagate_back(graph, weights, y), (graph, weights, y)),
    lambda saved, out: (None, edge_dots(saved[0], saved[2], out), _propagate(saved[0], saved[1], out)),
)
_propagate_symmetric.defvjp(
    lambda graph, x: (_propagate_symmetric(graph, x), graph),
    lambda graph, out: (None, _propagate_symmetric(graph, out)),
)
edge_dots.defvjp(
    lambda graph, a, b: (edge_dots(graph, a, b), (graph, a, b)),
    lambda saved, out: (None, _propagate(saved[0], out, saved[2]), _propagate_back(saved[0], out, saved[1])),
)


def block_product(senders: Array, receivers: Array, offsets: Array, weights: Array, x: Array) -> Array:
    """The sparse product, edges sorted by receiver, lowered for the platform at hand.

    Edges past the last offset have receivers out of range, and are left out.
    """
    if senders.shape[0] == 0:
        return jnp.zeros((offsets.shape[0] - 1, x.shape[1]), x.dtype)
    return lax.platform_dependent(senders, receivers, offsets, weights, x, cpu=_csr_product, default=_segment_product)


def dots_of_edges(receivers: Array, senders: Array, a: Array, b: Array) -> Array:
    """<a[receiver], b[sender]> of each edge, lowered for the platform at hand."""
    return lax.platform_dependent(receivers, senders, a, b, cpu=_dots_in_blocks, default=_dots_at_once)


def _csr_product(senders, receivers, offsets, weights, x):
    del receivers
    return sparse.BCSR((weights, senders, offsets), shape=(offsets.shape[0] - 1, x.shape[0])) @ x


def _segment_product(senders, receivers, offsets, weights, x):
    return jraph.segment_sum(
        x[senders] * weights[:, None],
        receivers,
        num_segments=offsets.shape[0] - 1,
        indices_are_sorted=True,
    )


def _dots_at_once(receivers, senders, a, b):
    return jnp.sum(a[receivers] * b[senders], axis=1)


def _dots_in_blocks(receivers, senders, a, b):
    # The product with ones sums rows by vector instructions where XLA's own row sums are
    # scalar loops, and blocks keep the gathered rows in a core's cache: ten times faster on
    # the CPU than one gather of all edges.
    ones = jnp.ones(a.shape[1], a.dtype)
    return lax.map(lambda edge: (a[edge[0]] * b[edge[1]]) @ ones, (receivers, senders), batch_size=_DOT_BLOCK)


def _row_offsets(ids: np.ndarray, count: int) -> Array:
    return jnp.asarray(np.concatenate([[0], np.cumsum(np.bincount(ids, minlength=count))]).astype(np.int32))
