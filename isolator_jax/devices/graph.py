"""A graph cut into blocks of receivers, one for each device of a mesh.

Every device owns equally many consecutive rows of a product. It sums an N-th of the rows of
each of the N owners and sends them there: users and items lie apart, and have far from
equally many edges a node. The blocks of edges are padded to be equally long. A product
gathers the senders' values of all nodes on every device; the transposed product does the
same over blocks of senders. Derivatives are those of `isolator_jax.graph`: a
`PartitionedGraph` takes a `Graph`'s place in its operations.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array, lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from isolator_jax import checks
from isolator_jax._sparse import block_product, dots_of_edges
from isolator_jax.devices.mesh import pad_rows, put
from isolator_jax.errors import ConfigError
from isolator_jax.graph import Graph


@struct.dataclass
class Blocks:
    """The edges by the node they are summed at, in B blocks of L places each, the last of a block unused.

    Attributes:
      sources: `[B * L] int32`, nodes whose rows are summed.
      targets: `[B * L] int32`, row within the block; past its last row where unused.
      offsets: `[B * (rows + 1)] int32`, each block's row offsets; its rows are B parts, one for each owner.
      places: `[B * L] int32`, where the edge stands in the graph's order.
    """

    sources: Array
    targets: Array
    offsets: Array
    places: Array


class _HostBlocks(NamedTuple):
    """`Blocks` while they are made."""

    sources: np.ndarray
    targets: np.ndarray
    offsets: np.ndarray
    places: np.ndarray


@struct.dataclass
class PartitionedGraph:
    """A `Graph` on a mesh. Its order of edges is that of the receivers' blocks, with unused places.

    Attributes:
      senders, receivers: `[B * L] int32`; any node where unused.
      weights: `[B * L] float32`; zero where unused.
      used: `[B * L] bool`.
      origins: `[B * L] int32`, where each edge stands in the graph that was cut.
      forward, backward: the edges by receiver and by sender.
      mesh: one axis, B devices.
      exchange: the type in which a product's rows go from device to device, float32 or
        bfloat16; they are summed in float32.
    """

    senders: Array
    receivers: Array
    weights: Array
    used: Array
    origins: Array
    forward: Blocks
    backward: Blocks
    num_senders: int = struct.field(pytree_node=False)
    num_receivers: int = struct.field(pytree_node=False)
    symmetric: bool = struct.field(pytree_node=False)
    mesh: Mesh = struct.field(pytree_node=False)
    exchange: str = struct.field(pytree_node=False, default="float32")

    def product(self, weights: Array, x: Array) -> Array:
        """As `Graph.product`."""
        return self._product(self.forward, weights, x, self.num_receivers)

    def product_back(self, weights: Array, y: Array) -> Array:
        """As `Graph.product_back`."""
        return self._product(self.backward, weights[self.backward.places], y, self.num_senders)

    def dots(self, a: Array, b: Array) -> Array:
        """As `Graph.dots`; zero where unused."""
        own = P(self.mesh.axis_names)
        dots = jax.shard_map(
            dots_of_edges, mesh=self.mesh, in_specs=(own, own, P(), P()), out_specs=own, check_vma=False
        )
        return self.masked(dots(self.receivers, self.senders, a, b))

    def over_edges(self, reduce: Callable[..., Array], over: str, values: Array) -> Array:
        """As `Graph.over_edges`; unused places take no part in the reduction."""
        nodes, count = {
            "receivers": (self.receivers, self.num_receivers),
            "senders": (self.senders, self.num_senders),
        }[over]
        return reduce(values, jnp.where(self.used, nodes, count), count)[nodes]

    def masked(self, values: Array) -> Array:
        """`[B * L]` edge values with zero where unused."""
        return jnp.where(self.used, values, 0)

    def subgraph(self, kept: Array, count: int) -> "PartitionedGraph":
        """As `Graph.subgraph`; the edges' places stay, as any share of them may be on one device."""
        del count
        used = self.used & kept[self.origins]
        return dataclasses.replace(self, used=used, weights=jnp.where(used, self.weights, 0))

    def with_weights(self, weights: Array, *, symmetric: bool = False) -> "PartitionedGraph":
        """As `Graph.with_weights`; `[B * L]`, zero where unused."""
        return dataclasses.replace(self, weights=weights, symmetric=symmetric)

    def _product(self, blocks: Blocks, weights: Array, x: Array, rows: int) -> Array:
        own, owned = P(self.mesh.axis_names), -(-rows // self.mesh.size)
        exchanged = self.exchange != "float32"

        def of_block(sources: Array, targets: Array, offsets: Array, weights: Array, x: Array) -> Array:
            if exchanged:
                x = lax.all_gather(x.astype(self.exchange), self.mesh.axis_names, tiled=True)
            summed = block_product(sources, targets, offsets, weights, x)
            return lax.all_to_all(summed, self.mesh.axis_names, 0, 0, tiled=True)[:owned]

        senders = own if exchanged else P()
        product = jax.shard_map(
            of_block, mesh=self.mesh, in_specs=(own, own, own, own, senders), out_specs=own, check_vma=False
        )
        x = pad_rows(x, self.mesh) if exchanged else x
        return product(blocks.sources, blocks.targets, blocks.offsets, weights, x)[:rows]


def partition(graph: Graph, mesh: Mesh, exchange: str = "float32") -> PartitionedGraph:
    """Cuts a graph into a block for each device of a mesh with one axis; on the host.

    Raises:
      ConfigError: all blocks, each as long as the longest, have 2**31 places or more.
    """
    senders, receivers, weights, order = (
        np.asarray(x) for x in (graph.senders, graph.receivers, graph.weights, graph.transpose_order)
    )
    edges = np.arange(weights.size)
    count = mesh.size
    forward, used = _blocks(edges, senders, np.asarray(graph.offsets), count)
    backward, _ = _blocks(order, receivers[order], np.asarray(graph.transpose_offsets), count)
    # Where each edge stands in the forward blocks, for the backward blocks to find it.
    place = np.empty(weights.size, np.int32)
    place[forward.places[used]] = np.flatnonzero(used)
    backward = backward._replace(places=_take(place, backward.places))
    rows = NamedSharding(mesh, P(mesh.axis_names))
    forward, backward, senders, receivers, weights, used, places = put(
        (
            forward._replace(places=np.arange(used.size, dtype=np.int32)),
            backward,
            _take(senders, forward.places),
            _take(receivers, forward.places),
            np.where(used, _take(weights, forward.places), 0),
            used,
            forward.places,
        ),
        rows,
    )
    return PartitionedGraph(
        senders=senders,
        receivers=receivers,
        weights=weights,
        used=used,
        origins=places,
        forward=Blocks(*forward),
        backward=Blocks(*backward),
        num_senders=graph.num_senders,
        num_receivers=graph.num_receivers,
        symmetric=graph.symmetric,
        mesh=mesh,
        exchange=exchange,
    )


def _blocks(edges: np.ndarray, sources: np.ndarray, offsets: np.ndarray, count: int) -> tuple[_HostBlocks, np.ndarray]:
    """Blocks of edges sorted by the node they are summed at, and which places are used. `places` are of `edges`."""
    nodes = offsets.size - 1
    owned = -(-nodes // count)
    part = -(-owned // count)
    # Block, owner, row of the part: of the rows that an owner has, each block has a part.
    within = np.arange(count)[:, None, None] * part + np.arange(part)
    node = np.where(within < owned, np.arange(count)[:, None] * owned + within, nodes).clip(max=nodes)
    node = node.reshape(count, count * part)
    starts, lengths = offsets[node], offsets[(node + 1).clip(max=nodes)] - offsets[node]
    local_offsets = np.concatenate([np.zeros((count, 1), np.int64), lengths.cumsum(axis=1, dtype=np.int64)], axis=1)
    length = max(int(local_offsets[:, -1].max(initial=0)), 1)
    if count * length > checks.MOST:
        raise ConfigError(
            f"a graph on {count} devices has room for {checks.MOST} edges, {count} times those of the fullest device; "
            f"this one would take {count * length}: take fewer devices"
        )
    used = np.arange(length) < local_offsets[:, -1:]
    chosen, local = np.zeros((2, count, length), np.int64)
    local += count * part
    for block in range(count):
        rows = np.repeat(np.arange(count * part), lengths[block])
        chosen[block, : rows.size] = (starts[block] - local_offsets[block, :-1])[rows] + np.arange(rows.size)
        local[block, : rows.size] = rows
    arrays = (_take(sources, chosen), local, local_offsets, _take(edges, chosen))
    return _HostBlocks(*(x.reshape(-1).astype(np.int32) for x in arrays)), used.reshape(-1)


def _take(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """`values[places]`, zeros where there is no value at all."""
    return values[places] if values.size else np.zeros(places.shape, values.dtype)
