"""Where arrays live: on one device, or on a mesh, behind one interface.

The mesh has one axis. On it

  tables      (what a backbone names in `Backbone.tables`, and their optimiser state) lie by
              row, padded with zeros to a multiple of the devices;
  similarity  lies by user where it is a stored table, by item where it is made on the fly;
  graphs      lie by receiver (`isolator_jax.devices.graph`);
  batches     are split by row;
  the rest    (dense layers, histories, item sets) is on every device.

Backbones stay as they are: on a mesh one is wrapped so that its tables are stored padded, and
are what it knows within the compiled step. Padding is never read, so it stays zero.
"""

import abc
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
from flax import struct
from jax import Array, lax
from jax.sharding import Mesh, NamedSharding
from jax.tree_util import DictKey, KeyPath

from isolator_jax.backbones.base import Backbone, Batch, Encoded, Inputs, Params, Score, same_inputs
from isolator_jax.content import Content
from isolator_jax.data import Dataset
from isolator_jax.devices.graph import PartitionedGraph, partition
from isolator_jax.devices.mesh import BY_ROW, EVERYWHERE, make_mesh, pad_rows, put, replicate
from isolator_jax.devices.ranking import build_table_on, count_hits_on, place_similarity, top_k_lists_on
from isolator_jax.errors import ConfigError
from isolator_jax.evaluation import count_hits, top_k_lists
from isolator_jax.graph import Graph
from isolator_jax.neighbours import NeighbourSearch
from isolator_jax.similarity import build_table


class Placement(abc.ABC):
    """Devices to work on. Equal ones hash alike: functions compiled for one serve the other."""

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """Number of devices."""

    @property
    @abc.abstractmethod
    def rank(self) -> Callable[..., Any]:
        """`evaluation.top_k_lists` there."""

    @property
    @abc.abstractmethod
    def count_hits(self) -> Callable[..., Array]:
        """`evaluation.count_hits` there."""

    @property
    @abc.abstractmethod
    def build_table(self) -> Callable[..., Array]:
        """`similarity.build_table` there."""

    @abc.abstractmethod
    def backbone(self, backbone: Backbone) -> Backbone:
        """The backbone as it is trained there."""

    @abc.abstractmethod
    def state(self, state: Any, backbone: Backbone) -> Any:
        """Puts a training state, or any part of it, in its place."""

    @abc.abstractmethod
    def constrain(self, state: Any, backbone: Backbone) -> Any:
        """`state` inside a compiled function."""

    @abc.abstractmethod
    def everywhere(self, tree: Any) -> Any:
        """Puts all arrays on every device."""

    @abc.abstractmethod
    def content(self, content: Content) -> Content:
        """Puts content in its place."""


def make_placement(devices: int, exchange: str = "float32") -> Placement:
    """The first `devices` devices.

    Args:
      devices: how many.
      exchange: the type in which propagation exchanges rows between them, float32 or bfloat16.

    Raises:
      ConfigError: there are fewer.
    """
    return ONE_DEVICE if devices == 1 else OnMesh(make_mesh(devices), exchange)


@dataclasses.dataclass(frozen=True)
class OneDevice(Placement):
    """JAX's default device: everything stays as it is."""

    @property
    def size(self) -> int:
        return 1

    @property
    def rank(self) -> Callable[..., Any]:
        return top_k_lists

    @property
    def count_hits(self) -> Callable[..., Array]:
        return count_hits

    @property
    def build_table(self) -> Callable[..., Array]:
        return build_table

    def backbone(self, backbone: Backbone) -> Backbone:
        return backbone

    def state(self, state: Any, backbone: Backbone) -> Any:
        return state

    def constrain(self, state: Any, backbone: Backbone) -> Any:
        return state

    def everywhere(self, tree: Any) -> Any:
        return tree

    def content(self, content: Content) -> Content:
        return content


ONE_DEVICE = OneDevice()


@dataclasses.dataclass(frozen=True)
class OnMesh(Placement):
    """A mesh of devices with one axis (`mesh.make_mesh`); `exchange` as in `PartitionedGraph`."""

    mesh: Mesh
    exchange: str = "float32"

    @property
    def size(self) -> int:
        return self.mesh.size

    @property
    def rank(self) -> Callable[..., Any]:
        return functools.partial(top_k_lists_on, self.mesh)

    @property
    def count_hits(self) -> Callable[..., Array]:
        return functools.partial(count_hits_on, self.mesh)

    @property
    def build_table(self) -> Callable[..., Array]:
        return functools.partial(build_table_on, self.mesh)

    def backbone(self, backbone: Backbone) -> Backbone:
        return _on_mesh(backbone, self.mesh, self.exchange)

    def state(self, state: Any, backbone: Backbone) -> Any:
        return put(state, _state_shardings(state, backbone, self.mesh))

    def constrain(self, state: Any, backbone: Backbone) -> Any:
        return lax.with_sharding_constraint(state, _state_shardings(state, backbone, self.mesh))

    def everywhere(self, tree: Any) -> Any:
        return replicate(tree, self.mesh)

    def content(self, content: Content) -> Content:
        return dataclasses.replace(
            content,
            similarity=place_similarity(content.similarity, self.mesh),
            channel_consistency=replicate(content.channel_consistency, self.mesh),
        )


@struct.dataclass
class _PlacedInputs:
    """A backbone's inputs on a mesh, and how many rows of its tables are no padding.

    Attributes:
      inputs: tables padded and by row, graphs partitioned, the rest on every device.
      input_rows, param_rows: rows of each leaf of the inputs and of the parameters that is a
        table, None for the others.
    """

    inputs: Inputs
    input_rows: tuple[int | None, ...] = struct.field(pytree_node=False)
    param_rows: tuple[int | None, ...] = struct.field(pytree_node=False)

    def unpadded(self) -> Inputs:
        return _unpad(self.inputs, self.input_rows)


@struct.dataclass
class _PlacedExtras:
    """A backbone's extras on a mesh; `param_rows` as in `_PlacedInputs`."""

    extras: Any
    param_rows: tuple[int | None, ...] = struct.field(pytree_node=False)

    def unpadded(self, params: Params) -> Params:
        return _unpad(params, self.param_rows)


@functools.cache
def _on_mesh(backbone: Backbone, mesh: Mesh, exchange: str) -> Backbone:
    """The backbone with its tables padded and by row, its graphs partitioned, its batches split."""

    def prepare(dataset: Dataset, hyperparameters: Any, *, find_neighbours: NeighbourSearch) -> _PlacedInputs:
        inputs = backbone.prepare(dataset, hyperparameters, find_neighbours=find_neighbours)
        params = jax.eval_shape(lambda key: backbone.init(key, dataset, hyperparameters), jax.random.key(0))
        placed = jax.tree_util.tree_map_with_path(place_input, inputs, is_leaf=_is_graph)
        if exchange != "float32" and not any(map(_is_graph, jax.tree.leaves(placed, is_leaf=_is_graph))):
            raise ConfigError(f"exchange {exchange} changes nothing for a backbone without a graph: leave it out")
        return _PlacedInputs(placed, table_rows(inputs), table_rows(params))

    def place_input(path: KeyPath, x: Graph | Array) -> PartitionedGraph | Array:
        if isinstance(x, Graph):
            return partition(x, mesh, exchange)
        if _is_table(path, backbone):
            return put(pad_rows(x, mesh), NamedSharding(mesh, BY_ROW))
        return replicate(x, mesh)

    def table_rows(tree: Any) -> tuple[int | None, ...]:
        leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=_is_graph)
        return tuple(leaf.shape[0] if _is_table(path, backbone) else None for path, leaf in leaves)

    def init(key: Array, dataset: Dataset, hyperparameters: Any) -> Params:
        params = backbone.init(key, dataset, hyperparameters)
        pad = lambda path, x: pad_rows(x, mesh) if _is_table(path, backbone) else x
        return jax.tree_util.tree_map_with_path(pad, params)

    def per_epoch(key: Array, placed: _PlacedInputs, hyperparameters: Any) -> _PlacedInputs:
        if backbone.per_epoch is same_inputs:
            return placed
        inputs = backbone.per_epoch(key, placed.unpadded(), hyperparameters)
        rows = (None,) * len(jax.tree.leaves(inputs, is_leaf=_is_graph))
        return dataclasses.replace(placed, inputs=inputs, input_rows=rows)

    def encode(params: Params, placed: _PlacedInputs, hyperparameters: Any, key: Array | None = None) -> Encoded:
        params = _unpad(params, placed.param_rows)
        inputs = placed.unpadded()
        encoded = backbone.encode(params, inputs, hyperparameters, key)
        leaves = jax.tree.leaves(inputs, is_leaf=_is_graph)
        tables = [leaf for leaf, rows in zip(leaves, placed.input_rows, strict=True) if rows is not None]
        extras = jax.tree.map(lambda x: None if any(x is table for table in tables) else x, encoded.extras)
        return encoded._replace(extras=_PlacedExtras(extras, placed.param_rows))

    def loss(params: Params, encoded: Encoded, batch: Batch, score: Score, hyperparameters: Any, key: Array) -> Array:
        batch = lax.with_sharding_constraint(batch, NamedSharding(mesh, BY_ROW))
        params, encoded = encoded.extras.unpadded(params), encoded._replace(extras=encoded.extras.extras)
        return backbone.loss(params, encoded, batch, score, hyperparameters, key)

    return dataclasses.replace(backbone, prepare=prepare, init=init, per_epoch=per_epoch, encode=encode, loss=loss)


def _is_graph(x: Any) -> bool:
    return isinstance(x, Graph | PartitionedGraph)


def _is_table(path: KeyPath, backbone: Backbone) -> bool:
    """Whether a leaf belongs to one of the backbone's tables, by the outermost name on its path."""
    names = [part.key for part in path if isinstance(part, DictKey)]
    return bool(names) and names[0] in backbone.tables


def _unpad(tree: Any, rows: tuple[int | None, ...]) -> Any:
    leaves, structure = jax.tree.flatten(tree, is_leaf=_is_graph)
    cut = [leaf if count is None else leaf[:count] for leaf, count in zip(leaves, rows, strict=True)]
    return jax.tree.unflatten(structure, cut)


def _state_shardings(state: Any, backbone: Backbone, mesh: Mesh) -> Any:
    def of_leaf(path: KeyPath, leaf: Array) -> NamedSharding:
        return NamedSharding(mesh, BY_ROW if _is_table(path, backbone) else EVERYWHERE)

    return jax.tree_util.tree_map_with_path(of_leaf, state)
