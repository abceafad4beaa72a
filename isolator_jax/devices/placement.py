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
import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array, lax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jax.tree_util import Partial

from isolator_jax.backbones.base import Backbone, Batch, Encoded, Inputs, Params, Score
from isolator_jax.data import Dataset
from isolator_jax.devices.graph import PartitionedGraph, partition
from isolator_jax.errors import ConfigError
from isolator_jax.evaluation import top_k_lists
from isolator_jax.evaluation.ranking import NO_ITEM, Lists
from isolator_jax.graph import Graph
from isolator_jax.histories import Histories
from isolator_jax.neighbours import NeighbourSearch
from isolator_jax.similarity import Similarity, SimilarityFromFeatures, SimilarityOnTheFly, SimilarityTable, build_table
from isolator_jax.training.epoch import EpochFunction, TrainState

AXIS = "devices"
BY_ROW, EVERYWHERE = P(AXIS), P()


def make_mesh(devices: int) -> Mesh:
    """A mesh of the first `devices` devices, with one axis.

    Raises:
      ConfigError: there are fewer.
    """
    found = len(jax.devices())
    if not 1 <= devices <= found:
        raise ConfigError(
            f"{devices} devices asked for, and JAX sees {found} ({jax.devices()[0].platform}); a CPU is split "
            "into N by the environment variable XLA_FLAGS=--xla_force_host_platform_device_count=N"
        )
    return jax.make_mesh((devices,), (AXIS,), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices])


def padded(rows: int, mesh: Mesh) -> int:
    """The next multiple of the mesh's devices."""
    return -(-rows // mesh.size) * mesh.size


def pad_rows(x: Array, mesh: Mesh, axis: int = 0) -> Array:
    """Zeros appended along an axis up to `padded`."""
    missing = padded(x.shape[axis], mesh) - x.shape[axis]
    return jnp.pad(x, [(0, missing if place == axis else 0) for place in range(x.ndim)])


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Puts a copy of every array on every device."""
    return jax.device_put(tree, NamedSharding(mesh, EVERYWHERE))


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


@functools.partial(jax.jit, static_argnames=("dtype", "mesh"))
def build_table_on(mesh: Mesh, item_sim: Array, histories: Histories, dtype: jnp.dtype) -> Array:
    """`similarity.build_table` with every device making its own users' rows: `[U padded, I]`, by row."""
    count = padded(histories.num_users, mesh) // mesh.size

    def of_block(item_sim: Array, histories: Histories) -> Array:
        return build_table(item_sim, _own_histories(histories, count), dtype)

    return jax.shard_map(of_block, mesh=mesh, in_specs=(EVERYWHERE, EVERYWHERE), out_specs=BY_ROW, check_vma=False)(
        item_sim, histories
    )


@functools.partial(jax.jit, static_argnames=("mesh", "k", "user_chunk", "item_chunk"))
def top_k_lists_on(
    mesh: Mesh,
    user_embeddings: Array,
    item_embeddings: Array,
    users: Array,
    histories: Histories,
    keys: dict[str, Partial],
    similarity: Similarity | None = None,
    consistency: Array | None = None,
    *,
    k: int,
    user_chunk: int = 512,
    item_chunk: int = 16384,
) -> Lists:
    """`evaluation.top_k_lists` on a mesh: each device ranks its own users, or its own items.

    With a stored similarity table, or without similarity, every device ranks all items for its
    own users; all users are ranked for, then `users` are chosen, so that no device needs
    another's rows of the table. Similarity made on the fly means a large catalogue: then every
    device ranks its own items for all of `users`, and the lists are merged. Histories are on
    every device in either case.
    """
    on_the_fly = isinstance(similarity, SimilarityOnTheFly | SimilarityFromFeatures)
    lists = (_lists_by_items if on_the_fly else _lists_by_users)(
        mesh,
        user_embeddings,
        item_embeddings,
        users,
        histories,
        keys,
        similarity,
        consistency,
        k=k,
        user_chunk=user_chunk,
        item_chunk=item_chunk,
    )
    # The lists are few numbers: every device, and every process, gets them all.
    return lax.with_sharding_constraint(lists, NamedSharding(mesh, EVERYWHERE))


def _lists_by_users(
    mesh: Mesh,
    user_embeddings: Array,
    item_embeddings: Array,
    users: Array,
    histories: Histories,
    keys: dict[str, Partial],
    similarity: Similarity | None,
    consistency: Array | None,
    **options: Any,
) -> Lists:
    count = padded(user_embeddings.shape[0], mesh) // mesh.size

    def of_block(user_embeddings, item_embeddings, histories, keys, similarity, consistency):
        own, ids = _own_histories(histories, count), jnp.arange(count, dtype=jnp.int32)
        return top_k_lists(user_embeddings, item_embeddings, ids, own, keys, similarity, consistency, **options)

    by_user = P(None, AXIS)
    lists = jax.shard_map(
        of_block,
        mesh=mesh,
        in_specs=(BY_ROW, EVERYWHERE, EVERYWHERE, EVERYWHERE, by_user, by_user),
        out_specs=BY_ROW,
        check_vma=False,
    )(
        pad_rows(user_embeddings, mesh),
        item_embeddings,
        histories,
        keys,
        similarity,
        None if consistency is None else pad_rows(consistency, mesh, axis=1),
    )
    return jax.tree.map(lambda x: x[users], lists)


def _lists_by_items(
    mesh: Mesh,
    user_embeddings: Array,
    item_embeddings: Array,
    users: Array,
    histories: Histories,
    keys: dict[str, Partial],
    similarity: Similarity | None,
    consistency: Array | None,
    *,
    k: int,
    **options: Any,
) -> Lists:
    num_items = item_embeddings.shape[0]
    count = padded(num_items, mesh) // mesh.size
    # Rows that pad the catalogue may stand in a device's list, and are struck from it.
    listed = k + padded(num_items, mesh) - num_items

    def of_block(item_embeddings, similarity, user_embeddings, users, histories, keys, consistency):
        first = lax.axis_index(AXIS) * count
        own = _histories_of_items(histories, first, count)
        if isinstance(similarity, SimilarityFromFeatures):
            # A last row of zeros, for the items of other devices.
            channels = tuple(jnp.pad(channel, ((0, 1), (0, 0))) for channel in similarity.channels)
            similarity = _SimilarityFromOwnFeatures(channels, own)
        lists = top_k_lists(
            user_embeddings, item_embeddings, users, own, keys, similarity, consistency, k=listed, **options
        )
        return {name: merge(first + items, values) for name, (items, values) in lists.items()}

    def merge(items: Array, values: Array) -> tuple[Array, Array]:
        """Each device merges the lists of its share of the users."""
        values = jnp.where(items < num_items, values, -jnp.inf)
        items, values = (lax.all_to_all(x, AXIS, split_axis=0, concat_axis=1, tiled=True) for x in (items, values))
        # Devices are in the order of their items, and top_k keeps the first of equal keys.
        values, places = lax.top_k(values, k)
        return jnp.where(jnp.isneginf(values), NO_ITEM, jnp.take_along_axis(items, places, axis=1)), values

    similarity = _pad_items(similarity, mesh)
    lists = jax.shard_map(
        of_block,
        mesh=mesh,
        in_specs=(BY_ROW, jax.tree.map(_by_item, similarity), *[EVERYWHERE] * 5),
        out_specs=BY_ROW,
        check_vma=False,
    )(
        pad_rows(item_embeddings, mesh),
        similarity,
        user_embeddings,
        jnp.pad(users, (0, padded(users.size, mesh) - users.size)),
        histories,
        keys,
        consistency,
    )
    return jax.tree.map(lambda x: x[: users.size], lists)


def place_similarity(similarity: Similarity, mesh: Mesh) -> Similarity:
    """Puts a store in its place: by item what is made on the fly; a table, which lies by user, stays."""
    if isinstance(similarity, SimilarityTable):
        return similarity
    shardings = jax.tree.map(lambda x: NamedSharding(mesh, _by_item(x)), similarity)
    return jax.device_put(_pad_items(similarity, mesh), shardings)


def _by_item(x: Array) -> P:
    """Columns of S `[T, I, I]` and rows of features `[I, F]` by item, histories on every device."""
    return {3: P(None, None, AXIS), 2: BY_ROW}.get(x.ndim, EVERYWHERE)


def _pad_items(similarity: Similarity | None, mesh: Mesh) -> Any:
    """Zeros appended to columns of S, or rows of features, up to `padded`."""
    axes = {3: 2, 2: 0}
    return jax.tree.map(lambda x: pad_rows(x, mesh, axes[x.ndim]) if x.ndim in axes else x, similarity)


@struct.dataclass
class _SimilarityFromOwnFeatures(SimilarityFromFeatures):
    """Inside a mapped function: s_ui of a device's own items, from mean features to which every device adds its own."""

    def _profiles(self, channel: Array, users: Array) -> Array:
        return lax.psum(super()._profiles(channel, users), AXIS)


def _histories_of_items(histories: Histories, first: Array, count: int) -> Histories:
    """Inside a mapped function: the histories in a device's own item ids; `count` stands for the other items."""
    own = histories.items - first
    return dataclasses.replace(histories, items=jnp.where((own >= 0) & (own < count), own, count))


def _own_histories(histories: Histories, count: int) -> Histories:
    """Inside a mapped function: the histories of this device's `count` users; empty beyond the last user."""
    first = lax.axis_index(AXIS) * count
    places = jnp.minimum(first + jnp.arange(count + 1), histories.num_users)
    return dataclasses.replace(histories, offsets=histories.offsets[places])
