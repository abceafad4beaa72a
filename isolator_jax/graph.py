"""Sparse graphs as jraph `GraphsTuple`s and the propagation that every backbone shares.

A `Graph` is a `jraph.GraphsTuple` whose edges are sorted by receiver, together with the
row offsets of that order and of the transposed one, made once on the host. `propagate`
has two lowerings, chosen by the platform the program is compiled for: a CSR product on
the CPU (ten times faster there) and jraph's segment sum elsewhere. Both have the
transposed product as derivative, instead of the scatter that automatic differentiation
would produce.
"""

import jax
import jax.numpy as jnp
import jraph
import numpy as np
from flax import struct
from jax import Array, lax
from jax.experimental import sparse


@struct.dataclass
class Graph:
    """A weighted directed graph on N nodes with E edges.

    Attributes:
      edges: senders and receivers `[E] int32`, sorted by receiver, then sender; `edges`
        holds the weights `[E] float32`.
      offsets: `[N + 1] int32`, the edges received by node n are `offsets[n]:offsets[n + 1]`.
      transpose_order: `[E] int32`, the permutation that sorts the edges by sender.
      transpose_offsets: `[N + 1] int32`, row offsets in that order.
      symmetric: whether the stored weights form a symmetric matrix.
    """

    edges: jraph.GraphsTuple
    offsets: Array
    transpose_order: Array
    transpose_offsets: Array
    symmetric: bool = struct.field(pytree_node=False)

    @property
    def num_nodes(self) -> int:
        return self.offsets.shape[0] - 1

    @property
    def num_edges(self) -> int:
        return self.edges.senders.shape[0]

    @property
    def weights(self) -> Array:
        return self.edges.edges


def make_graph(
    senders: np.ndarray,
    receivers: np.ndarray,
    weights: np.ndarray,
    num_nodes: int,
    *,
    symmetric: bool,
) -> Graph:
    """Builds a `Graph` on the host from unique edges in any order.

    Args:
      senders, receivers: `[E]` node ids.
      weights: `[E]` edge weights.
      num_nodes: N.
      symmetric: promise that weight(a -> b) = weight(b -> a) for all edges.
    """
    order = np.lexsort((senders, receivers))
    senders = np.asarray(senders, np.int32)[order]
    receivers = np.asarray(receivers, np.int32)[order]
    weights = np.asarray(weights, np.float32)[order]
    tuple_ = jraph.GraphsTuple(
        nodes=None,
        edges=jnp.asarray(weights),
        senders=jnp.asarray(senders),
        receivers=jnp.asarray(receivers),
        n_node=jnp.array([num_nodes], jnp.int32),
        n_edge=jnp.array([senders.size], jnp.int32),
        globals=None,
    )
    return Graph(
        edges=tuple_,
        offsets=_row_offsets(receivers, num_nodes),
        transpose_order=jnp.asarray(np.lexsort((receivers, senders)).astype(np.int32)),
        transpose_offsets=_row_offsets(senders, num_nodes),
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
    degree = np.bincount(receivers, minlength=num_users + num_items).astype(np.float64)
    scale = np.divide(1.0, np.sqrt(degree), out=np.zeros_like(degree), where=degree > 0)
    weights = scale[senders] * scale[receivers]
    return make_graph(senders, receivers, weights, num_users + num_items, symmetric=True)


def propagate(graph: Graph, x: Array, weights: Array | None = None) -> Array:
    """One propagation: out[r] = sum over edges s -> r of weight * x[s].

    Args:
      graph: the graph.
      x: `[N, D]` node values.
      weights: `[E]` weights to use instead of the graph's own, in the order of its edges;
        differentiable.

    Returns:
      `[N, D]`; zero for nodes that receive no edge.
    """
    symmetric = graph.symmetric and weights is None
    return _propagate(symmetric, graph, graph.weights if weights is None else weights, x)


def mean_of_layers(graph: Graph, x: Array, layers: int) -> Array:
    """LightGCN's encoder: the mean of x, A x, ..., A^layers x (He et al., SIGIR 2020). `[N, D]`."""
    total = x
    for _ in range(layers):
        x = propagate(graph, x)
        total = total + x
    return total / (layers + 1)


@jax.custom_vjp
def _propagate_general(graph: Graph, weights: Array, x: Array) -> Array:
    return _product(graph.edges.senders, graph.edges.receivers, graph.offsets, weights, x)


def _propagate_general_forward(graph, weights, x):
    return _propagate_general(graph, weights, x), (graph, weights, x)


def _propagate_general_backward(residuals, cotangent):
    graph, weights, x = residuals
    senders, receivers = graph.edges.senders, graph.edges.receivers
    order = graph.transpose_order
    x_bar = _product(
        receivers[order], senders[order], graph.transpose_offsets, weights[order], cotangent
    )
    weights_bar = jnp.sum(x[senders] * cotangent[receivers], axis=1)
    return None, weights_bar, x_bar


_propagate_general.defvjp(_propagate_general_forward, _propagate_general_backward)


@jax.custom_vjp
def _propagate_symmetric(graph: Graph, x: Array) -> Array:
    return _product(graph.edges.senders, graph.edges.receivers, graph.offsets, graph.weights, x)


_propagate_symmetric.defvjp(
    lambda graph, x: (_propagate_symmetric(graph, x), graph),
    lambda graph, cotangent: (None, _propagate_symmetric(graph, cotangent)),
)


def _propagate(symmetric: bool, graph: Graph, weights: Array, x: Array) -> Array:
    if symmetric:
        return _propagate_symmetric(graph, x)
    return _propagate_general(graph, weights, x)


def _product(senders: Array, receivers: Array, offsets: Array, weights: Array, x: Array) -> Array:
    """The sparse product, edges sorted by receiver, lowered for the platform at hand."""
    if senders.shape[0] == 0:
        return jnp.zeros_like(x)
    return lax.platform_dependent(
        senders, receivers, offsets, weights, x, cpu=_csr_product, default=_segment_product
    )


def _csr_product(senders, receivers, offsets, weights, x):
    del receivers
    nodes = offsets.shape[0] - 1
    matrix = sparse.BCSR((weights, senders, offsets), shape=(nodes, nodes))
    return matrix @ x


def _segment_product(senders, receivers, offsets, weights, x):
    return jraph.segment_sum(
        x[senders] * weights[:, None],
        receivers,
        num_segments=offsets.shape[0] - 1,
        indices_are_sorted=True,
    )


def _row_offsets(sorted_or_not: np.ndarray, num_nodes: int) -> Array:
    counts = np.bincount(sorted_or_not, minlength=num_nodes)
    return jnp.asarray(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
