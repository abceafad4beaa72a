"""Ranking and similarity on a mesh of devices."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array, lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jax.tree_util import Partial
from jax.typing import ArrayLike

from isolator_jax import checks
from isolator_jax.backbones import Encoded
from isolator_jax.content import Content
from isolator_jax.devices.mesh import AXIS, BY_ROW, EVERYWHERE, pad_rows, padded, put
from isolator_jax.evaluation.hits import check_count, count_in_lists
from isolator_jax.evaluation.ranking import Lists, check_ranking, checked_lists, finished_lists, rank, similarities
from isolator_jax.evaluation.scores import InnerProducts
from isolator_jax.histories import Histories
from isolator_jax.similarity import Similarity, SimilarityFromFeatures, SimilarityOnTheFly, SimilarityTable, build_table
from isolator_jax.strategies import Strategy


@functools.partial(jax.jit, static_argnames=("dtype", "mesh"))
def build_table_on(mesh: Mesh, item_sim: Array, histories: Histories, dtype: jnp.dtype) -> Array:
    """`similarity.build_table` with every device making its own users' rows: `[1, U padded, I]`, by user."""
    count = padded(histories.num_users, mesh) // mesh.size

    def of_block(item_sim: Array, histories: Histories) -> Array:
        return build_table(item_sim, _own_histories(histories, count), dtype)

    by_user = P(None, AXIS)
    return jax.shard_map(of_block, mesh=mesh, in_specs=(EVERYWHERE, EVERYWHERE), out_specs=by_user, check_vma=False)(
        item_sim, histories
    )


def top_k_lists_on(
    mesh: Mesh,
    model: Encoded,
    users: ArrayLike,
    histories: Histories,
    strategies: Mapping[str, Strategy],
    content: Content | None = None,
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

    Args:
      mesh: of `devices.mesh.make_mesh`.
      model: embeddings.

    Other arguments, what is returned and what is refused are those of `top_k_lists`.
    """
    checks.instance("model", model, Encoded)
    _, ids = check_ranking(model, users, histories, strategies, content, k, user_chunk, item_chunk)
    keys = {name: strategy.key for name, strategy in strategies.items()}
    lists = _rank_on(
        mesh,
        jnp.asarray(model.users, jnp.float32),
        jnp.asarray(model.items, jnp.float32),
        ids,
        histories,
        keys,
        *similarities(content),
        k=k,
        user_chunk=user_chunk,
        item_chunk=item_chunk,
    )
    return checked_lists(lists, strategies)


@functools.partial(jax.jit, static_argnames=("mesh", "k", "user_chunk", "item_chunk"))
def _rank_on(
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
    user_chunk: int,
    item_chunk: int,
) -> Lists:
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
        scores = InnerProducts(user_embeddings, item_embeddings)
        return rank(scores, ids, own, keys, similarity, consistency, **options)

    if isinstance(similarity, SimilarityTable):
        similarity = SimilarityTable(pad_rows(similarity.table, mesh, axis=1))
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


def count_hits_on(mesh: Mesh, model: Encoded, users: Array, histories: Histories, truth: Histories, *, k: int) -> Array:
    """`evaluation.count_hits` on a mesh (`devices.mesh.make_mesh`), each device for its users; refuses the same."""
    return _count_on(mesh, *check_count(model, users, histories, truth, k), k=k)


@functools.partial(jax.jit, static_argnames=("mesh", "k"))
def _count_on(mesh: Mesh, model: Encoded, users: Array, histories: Histories, truth: Histories, *, k: int) -> Array:
    rows = padded(model.users.shape[0], mesh) // mesh.size

    def of_block(user_embeddings, item_embeddings, histories, truth):
        own = (_own_histories(x, rows) for x in (histories, truth))
        scores = InnerProducts(user_embeddings, item_embeddings)
        return count_in_lists(scores, jnp.arange(rows, dtype=jnp.int32), *own, k=k)

    counts = jax.shard_map(
        of_block, mesh=mesh, in_specs=(BY_ROW, *[EVERYWHERE] * 3), out_specs=BY_ROW, check_vma=False
    )(pad_rows(model.users, mesh), model.items, histories, truth)
    return lax.with_sharding_constraint(counts[users], NamedSharding(mesh, EVERYWHERE))


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
    kept = min(k, num_items)
    listed = kept + padded(num_items, mesh) - num_items

    def of_block(item_embeddings, similarity, user_embeddings, users, histories, keys, consistency):
        first = lax.axis_index(AXIS) * count
        own = _histories_of_items(histories, first, count)
        if isinstance(similarity, SimilarityFromFeatures):
            # A last row of zeros, for the items of other devices.
            channels = tuple(jnp.pad(channel, ((0, 1), (0, 0))) for channel in similarity.channels)
            similarity = _SimilarityFromOwnFeatures(channels, own)
        scores = InnerProducts(user_embeddings, item_embeddings)
        lists = rank(scores, users, own, keys, similarity, consistency, k=listed, **options)
        return {name: merge(first + items, values) for name, (items, values) in lists.items()}

    def merge(items: Array, values: Array) -> tuple[Array, Array]:
        """Each device merges the lists of its share of the users."""
        values = jnp.where(items < num_items, values, -jnp.inf)
        items, values = (lax.all_to_all(x, AXIS, split_axis=0, concat_axis=1, tiled=True) for x in (items, values))
        # Devices are in the order of their items, and top_k keeps the first of equal keys.
        values, places = lax.top_k(values, kept)
        return finished_lists(jnp.take_along_axis(items, places, axis=1), values, k)

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
    return put(_pad_items(similarity, mesh), shardings)


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
