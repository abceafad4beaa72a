"""Training and ranking on a mesh of devices, by JAX's own sharding: where each array lives.

The mesh has one axis. On it

  tables      (users', items' and nodes' embeddings, features, their optimiser state) lie by
              row, padded with zeros to a multiple of the devices;
  similarity  lies by user where it is a stored table, by item where it is made on the fly;
  graphs      lie by receiver (`isolator_jax.devices.graph`);
  batches     are split by row;
  the rest    (dense layers, histories, item sets) is on every device.

Backbones stay as they are: `on_mesh` wraps one so that its tables are stored padded, and
are what it knows within the compiled step. Padding is never read, so it stays zero.
"""

import dataclasses
from typing import Any

import jax
from jax import Array, lax
from jax.sharding import Mesh, NamedSharding

from isolator_jax.backbones.base import Backbone, Batch, Encoded, Inputs, Params, Score
from isolator_jax.data import Dataset
from isolator_jax.devices.graph import PartitionedGraph, partition
from isolator_jax.devices.mesh import BY_ROW, EVERYWHERE, pad_rows, padded, replicate
from isolator_jax.graph import Graph
from isolator_jax.neighbours import NeighbourSearch
from isolator_jax.training.epoch import EpochFunction, TrainState


def table_sizes(dataset: Dataset) -> frozenset[int]:
    """Row counts of the arrays that are stored by row: U, I and U + I."""
    users, items = dataset.num_users, dataset.num_items
    return frozenset({users, items, users + items})


def place_state(state: Any, dataset: Dataset, mesh: Mesh) -> Any:
    """Puts a state of padded tables in its place: tables by row, the rest on every device."""
    return jax.device_put(state, _state_shardings(state, dataset, mesh))


def constrain_state(state: Any, dataset: Dataset, mesh: Mesh) -> Any:
    """`place_state` inside a compiled function."""
    return lax.with_sharding_constraint(state, _state_shardings(state, dataset, mesh))


def epoch_on(epoch: EpochFunction, dataset: Dataset, mesh: Mesh) -> EpochFunction:
    """An epoch, from `training.make_epoch`, whose state stays in its place."""

    def run_epoch(*arguments: Any) -> tuple[TrainState, Array, Array]:
        state, *rest = epoch(*arguments)
        return constrain_state(state, dataset, mesh), *rest

    return run_epoch


def _state_shardings(state: Any, dataset: Dataset, mesh: Mesh) -> Any:
    rows = {padded(size, mesh) for size in table_sizes(dataset)}

    def of_leaf(leaf: Array) -> NamedSharding:
        return NamedSharding(mesh, BY_ROW if leaf.ndim == 2 and leaf.shape[0] in rows else EVERYWHERE)

    return jax.tree.map(of_leaf, state)


def on_mesh(backbone: Backbone, mesh: Mesh, dataset: Dataset, hyperparameters: Any) -> Backbone:
    """The backbone with its tables padded and by row, its graphs partitioned, its batches split."""
    sizes = table_sizes(dataset)
    shapes = jax.eval_shape(lambda key: backbone.init(key, dataset, hyperparameters), jax.random.key(0))

    def unpad(params: Params) -> Params:
        return jax.tree.map(lambda x, like: x[: like.shape[0]] if like.ndim == 2 else x, params, shapes)

    def prepare(dataset: Dataset, hyperparameters: Any, *find_neighbours: NeighbourSearch) -> Inputs:
        inputs = backbone.prepare(dataset, hyperparameters, *find_neighbours)
        return jax.tree.map(lambda x: _place_input(x, dataset, mesh), inputs, is_leaf=_is_graph)

    def init(key: Array, dataset: Dataset, hyperparameters: Any) -> Params:
        params = backbone.init(key, dataset, hyperparameters)
        return jax.tree.map(lambda x: pad_rows(x, mesh) if x.ndim == 2 and x.shape[0] in sizes else x, params)

    def encode(params: Params, inputs: Inputs, hyperparameters: Any) -> Encoded:
        inputs = jax.tree.map(lambda x: _unpad_input(x, dataset, mesh), inputs, is_leaf=_is_graph)
        return backbone.encode(unpad(params), inputs, hyperparameters)

    def split(batch: Batch) -> Batch:
        return lax.with_sharding_constraint(batch, NamedSharding(mesh, BY_ROW))

    def auxiliary_loss(params: Params, encoded: Encoded, batch: Batch, hyperparameters: Any, key: Array) -> Array:
        return backbone.auxiliary_loss(unpad(params), encoded, split(batch), hyperparameters, key)

    def ranking_loss(encoded: Encoded, batch: Batch, score: Score) -> Array:
        return backbone.ranking_loss(encoded, split(batch), score)

    return dataclasses.replace(
        backbone,
        prepare=prepare,
        init=init,
        encode=encode,
        auxiliary_loss=auxiliary_loss,
        ranking_loss=ranking_loss,
    )


def _is_graph(x: Any) -> bool:
    return isinstance(x, Graph | PartitionedGraph)


def _place_input(x: Graph | Array, dataset: Dataset, mesh: Mesh) -> PartitionedGraph | Array:
    if isinstance(x, Graph):
        return partition(x, mesh)
    if x.shape[0] == dataset.num_items:
        return jax.device_put(pad_rows(x, mesh), NamedSharding(mesh, BY_ROW))
    return replicate(x, mesh)


def _unpad_input(x: PartitionedGraph | Array, dataset: Dataset, mesh: Mesh) -> PartitionedGraph | Array:
    if not isinstance(x, PartitionedGraph) and x.shape[0] == padded(dataset.num_items, mesh):
        return x[: dataset.num_items]
    return x
