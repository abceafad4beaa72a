"""Sparse graphs as jraph `GraphsTuple`s and the three operations that every backbone shares.

A `Graph` is a valid `jraph.GraphsTuple` whose edges are sorted by receiver, together with
the row offsets of that order and of the transposed one, made once on the host. Three
operations, each the others' derivative:

  propagate       out[r] = sum over edges s -> r of w * x[s]
  propagate_back  out[s] = sum over edges s -> r of w * y[r]
  edge_dots       out[e] = <a[receiver of e], b[sender of e]>

Their lowerings and derivative rules, for reverse mode, are in `_sparse`.
"""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
import jraph
import numpy as np
from flax import struct
from jax import Array
from jax.typing import ArrayLike

from isolator_jax import _sparse, checks


@struct.dataclass
class Graph:
    """A weighted directed graph with E edges, from S senders to R receivers.

    Senders and receivers are the same N nodes, or, in a block, two kinds of node. The
    jraph tuple numbers all nodes through, a block's receivers first and its senders from
    R on (users before items in a user-item block); the operations number each kind from 0.

    Attributes:
      edges: the graph as jraph has it, without node features: senders and receivers
        `[E] int32` sorted by receiver, then sender, weights `[E] float32` as its `edges`,
        n_node and n_edge `[1] int32`.
      senders: `[E] int32`, the senders numbered from 0; the tuple's own where senders and
        receivers are the same nodes.
      offsets: `[R + 1] int32`, receiver r's edges are `offsets[r]:offsets[r + 1]`.
      transpose_order: `[E] int32`, the permutation that sorts the edges by sender.
      transpose_offsets: `[S + 1] int32`, the senders' row offsets in that order.
      symmetric: whether the weights form a symmetric matrix.
    """

    edges: jraph.GraphsTuple
    senders: Array
    offsets: Array
    transpose_order: Array
    transpose_offsets: Array
    symmetric: bool = struct.field(pytree_node=False)

    @classmethod
    def from_jraph(
        cls, graphs: jraph.GraphsTuple, *, num_receivers: int | None = None, symmetric: bool = False
    ) -> "Graph":
        """Takes the edges of a `jraph.GraphsTuple`, on the host; several graphs in it become one.

        Args:
          graphs: any order of edges; its `edges` are their weights, `[E]` or `[E, 1]`, or None:
            all 1. Its nodes and globals are not taken over.
          num_receivers: R of a block, whose nodes from R on send to those before; None where
            all nodes do both.
          symmetric: as in `make_graph`.

        Raises:
          ValueError: counts that do not fit, edges that a block cannot have, and what
            `make_graph` refuses.

        Examples:
          >>> graph = user_item_block([0, 1], [1, 1], [0.5, 2.0], num_users=2, num_items=3)
          >>> tuple_ = graph.to_jraph()
          >>> tuple_.senders.tolist(), tuple_.receivers.tolist(), tuple_.n_node.tolist()
          ([3, 3], [0, 1], [5])
          >>> Graph.from_jraph(tuple_, num_receivers=2).num_senders
          3
        """
        checks.instance("graphs", graphs, jraph.GraphsTuple)
        n_node, n_edge = (
            int(checks.host_array(name, getattr(graphs, name), shape=("graphs",), dtype="int").sum(dtype=np.int64))
            for name in ("n_node", "n_edge")
        )
        senders, receivers = (
            checks.host_array(name, getattr(graphs, name), shape=("E",), sizes={"E": n_edge}, dtype="int", below=n_node)
            for name in ("senders", "receivers")
        )
        weights = (
            np.ones(n_edge) if graphs.edges is None else checks.host_array("edges", graphs.edges, shape=(n_edge, ...))
        )
        if weights.size != n_edge:
            raise ValueError(f"edges must hold one weight for each edge, got shape {list(weights.shape)}")
        weights = weights.reshape(n_edge)
        if num_receivers is None:
            return make_graph(senders, receivers, weights, n_node, symmetric=symmetric)
        checks.count("num_receivers", num_receivers)
        if n_edge and (senders.min() < num_receivers or receivers.max() >= num_receivers):
            raise ValueError(f"num_receivers {num_receivers} must be above all receivers and at most any sender")
        return user_item_block(receivers, senders - num_receivers, weights, num_receivers, n_node - num_receivers)

    def to_jraph(self, nodes: Array | None = None) -> jraph.GraphsTuple:
        """The graph as jraph has it, with features `[N, ...]` of its nodes, N = R + S in a block."""
        return self.edges._replace(nodes=nodes)

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
        return _sparse.block_product(self.senders, self.receivers, self.offsets, weights, x)

    def product_back(self, weights: Array, y: Array) -> Array:
        """The transposed product without a derivative. `[E], [R, D] -> [S, D]`."""
        order = self.transpose_order
        return _sparse.block_product(
            self.receivers[order], self.senders[order], self.transpose_offsets, weights[order], y
        )

    def dots(self, a: Array, b: Array) -> Array:
        """`edge_dots` without a derivative. `[R, D], [S, D] -> [E]`."""
        return _sparse.dots_of_edges(self.receivers, self.senders, a, b)

    def over_edges(self, reduce: Callable[..., Array], over: str, values: Array) -> Array:
        """Reduces `[E]` values over each receiver or sender, and gives each edge its node's result."""
        if over == "receivers":
            of_nodes = _sparse.reduce_edges(reduce, values, self.receivers, self.offsets, None, self.num_senders)
            return of_nodes[self.receivers]
        index = self.transpose_offsets, self.transpose_order
        return _sparse.reduce_edges(reduce, values, self.senders, *index, self.num_receivers)[self.senders]

    def masked(self, values: Array) -> Array:
        """`[E]` edge values; a graph on several devices has places without an edge to mask."""
        return values

    def with_weights(self, weights: Array, *, symmetric: bool = False) -> "Graph":
        """The same edges with other weights, `[E]`; of a symmetric matrix they must have no derivative."""
        return dataclasses.replace(self, edges=self.edges._replace(edges=weights), symmetric=symmetric)

    def subgraph(self, kept: Array, count: int) -> "Graph":
        """The graph of the `count` edges that `kept`, `[E] bool`, is true of; works under jit.

        Of a symmetric graph, an edge and its reverse are kept or left out together.
        """
        chosen, index = _sparse.choose(kept, count, self.offsets, self.transpose_order, self.transpose_offsets)
        values = {name: getattr(self.edges, name)[chosen] for name in ("edges", "senders", "receivers")}
        edges = self.edges._replace(**values, n_edge=jnp.array([count], jnp.int32))
        return Graph(edges, self.senders[chosen], *index, symmetric=self.symmetric)


def make_graph(
    senders: ArrayLike, receivers: ArrayLike, weights: ArrayLike, num_nodes: int, *, symmetric: bool = False
) -> Graph:
    """Builds a `Graph` on the host from unique edges between the same nodes, in any order.

    Args:
      senders, receivers: `[E]` node ids.
      weights: `[E]` finite edge weights.
      num_nodes: N.
      symmetric: weight(a -> b) = weight(b -> a) for all edges.

    Raises:
      ValueError: ids that do not exist, an edge given twice, weights that are not finite,
        or not symmetric where they are said to be.
    """
    num_nodes = checks.count("num_nodes", num_nodes)
    graph = _sorted_graph(senders, receivers, weights, num_nodes, num_nodes, block=False, symmetric=symmetric)
    if symmetric:
        order = np.asarray(graph.transpose_order)
        there, back, values = (np.asarray(x) for x in (graph.senders, graph.receivers, graph.weights))
        if (there[order] != back).any() or (back[order] != there).any() or (values[order] != values).any():
            raise ValueError("weights must be the same in both directions where symmetric is set")
    return graph


def user_item_block(users: ArrayLike, items: ArrayLike, weights: ArrayLike, num_users: int, num_items: int) -> Graph:
    """A user-by-item block of a graph: items send, users receive; `propagate_back` is its transpose.

    Raises:
      ValueError: as `make_graph`.
    """
    num_users, num_items = checks.count("num_users", num_users), checks.count("num_items", num_items)
    return _sorted_graph(items, users, weights, num_items, num_users, block=True, names=("items", "users"))


def bipartite_graph(users: ArrayLike, items: ArrayLike, num_users: int, num_items: int) -> Graph:
    """The normalised user-item graph A_hat = D^-1/2 A D^-1/2 of unique interactions.

    Nodes are the users followed by the items; every interaction is an edge in both
    directions. Nodes without interactions have no edges, and their rows stay zero.

    Args:
      users, items: `[E / 2]` ids of the training interactions.

    Raises:
      ValueError: as `make_graph`.
    """
    users, items = interaction_ids(users, items, num_users, num_items)
    items = items + num_users
    senders = np.concatenate([users, items])
    receivers = np.concatenate([items, users])
    nodes = num_users + num_items
    scale = inverse_sqrt(np.bincount(receivers, minlength=nodes))
    return make_graph(senders, receivers, scale[senders] * scale[receivers], nodes, symmetric=True)


def interaction_ids(
    users: ArrayLike, items: ArrayLike, num_users: int, num_items: int
) -> tuple[np.ndarray, np.ndarray]:
    """Checked ids of interactions on the host, `[E] int64` each, so that sums of them fit."""
    num_users, num_items = checks.count("num_users", num_users), checks.count("num_items", num_items)
    users = checks.host_array("users", users, shape=("E",), dtype="int", below=num_users)
    items = checks.host_array("items", items, shape=("E",), dtype="int", below=num_items)
    checks.equal_shapes(users=users, items=items)
    return users.astype(np.int64), items.astype(np.int64)


def inverse_sqrt(values: np.ndarray) -> np.ndarray:
    """values ** -0.5 in float64, zero where a value is zero."""
    values = np.asarray(values, np.float64)
    return np.divide(1.0, np.sqrt(values), out=np.zeros_like(values), where=values > 0)


def mean_of_layers(graph: Graph, x: Array, layers: int) -> Array:
    """LightGCN's encoder: the mean of x, A x, ..., A^layers x (He et al., SIGIR 2020). `[N, D]`."""
    total = checks.array("x", x, shape=("N", "D"), sizes={"N": graph.num_senders})
    for _ in range(layers):
        x = propagate(graph, x)
        total = total + x
    return total / (layers + 1)


def edge_softmax(graph: Graph, logits: ArrayLike, *, over: str) -> Array:
    """Softmax of edge values over the edges that share a receiver, or a sender.

    Args:
      graph: the graph.
      logits: `[E]`, in the order of its edges.
      over: `receivers` or `senders`: which node's edges sum to one.

    Returns:
      `[E]`, same order; differentiable.
    """
    checks.option("over", over, ("receivers", "senders"))
    logits = checks.array("logits", logits, shape=("E",), sizes={"E": graph.weights.shape[0]})
    return _sparse.edge_softmax(over, graph, logits)


def propagate(graph: Graph, x: ArrayLike, weights: ArrayLike | None = None) -> Array:
    """out[r] = sum over edges s -> r of weight * x[s].

    Args:
      graph: the graph.
      x: `[S, D]` senders' values.
      weights: `[E]` weights to use instead of the graph's own, in the order of its edges;
        differentiable.

    Returns:
      `[R, D]`; zero for nodes that receive no edge.

    Raises:
      ValueError: values or weights of another shape.
    """
    x = checks.array("x", x, shape=("S", "D"), sizes={"S": graph.num_senders})
    if weights is None:
        return _sparse.propagate_symmetric(graph, x) if graph.symmetric else _sparse.propagate(graph, graph.weights, x)
    return _sparse.propagate(graph, _edge_values(graph, weights), x)


def propagate_back(graph: Graph, y: ArrayLike, weights: ArrayLike | None = None) -> Array:
    """The transpose: out[s] = sum over edges s -> r of weight * y[r]. `[R, D] -> [S, D]`."""
    y = checks.array("y", y, shape=("R", "D"), sizes={"R": graph.num_receivers})
    return _sparse.propagate_back(graph, graph.weights if weights is None else _edge_values(graph, weights), y)


def edge_dots(graph: Graph, a: ArrayLike, b: ArrayLike) -> Array:
    """out[e] = <a[receiver of e], b[sender of e]>. `[R, D], [S, D] -> [E]`."""
    a = checks.array("a", a, shape=("R", "D"), sizes={"R": graph.num_receivers})
    b = checks.array("b", b, shape=("S", "D"), sizes={"S": graph.num_senders, "D": a.shape[1]})
    return _sparse.edge_dots(graph, a, b)


def _edge_values(graph: Graph, weights: ArrayLike) -> Array:
    return checks.array("weights", weights, shape=("E",), sizes={"E": graph.weights.shape[0]})


def _sorted_graph(
    senders: ArrayLike,
    receivers: ArrayLike,
    weights: ArrayLike,
    num_senders: int,
    num_receivers: int,
    *,
    block: bool,
    symmetric: bool = False,
    names: tuple[str, str] = ("senders", "receivers"),
) -> Graph:
    senders = checks.host_array(names[0], senders, shape=("E",), dtype="int", below=num_senders)
    receivers = checks.host_array(names[1], receivers, shape=("E",), dtype="int", below=num_receivers)
    weights = checks.host_array("weights", weights, shape=("E",), finite=True)
    checks.equal_shapes(**dict(zip(names, (senders, receivers), strict=True)), weights=weights)
    checks.entries("edges", weights.size)
    order = np.lexsort((senders, receivers))
    senders, receivers, weights = senders[order], receivers[order], weights[order]
    again = np.flatnonzero((senders[1:] == senders[:-1]) & (receivers[1:] == receivers[:-1]))
    if again.size:
        edge = f"{names[0]} {senders[again[0]]}, {names[1]} {receivers[again[0]]}"
        raise ValueError(f"an edge must be given once, got {edge} more than once")
    local = jnp.asarray(senders)
    edges = jraph.GraphsTuple(
        nodes=None,
        edges=jnp.asarray(weights),
        senders=jnp.asarray(senders + np.int32(num_receivers)) if block else local,
        receivers=jnp.asarray(receivers),
        n_node=jnp.array([num_receivers + num_senders if block else num_senders], jnp.int32),
        n_edge=jnp.array([senders.size], jnp.int32),
        globals=None,
    )
    return Graph(
        edges=edges,
        senders=local,
        offsets=_row_offsets(receivers, num_receivers),
        transpose_order=jnp.asarray(np.lexsort((receivers, senders)).astype(np.int32)),
        transpose_offsets=_row_offsets(senders, num_senders),
        symmetric=symmetric,
    )


def _row_offsets(ids: np.ndarray, count: int) -> Array:
    return jnp.asarray(np.concatenate([[0], np.cumsum(np.bincount(ids, minlength=count))]).astype(np.int32))
