"""GUME: graphs and user modalities enhancement (Lin et al., CIKM 2024)."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from isolator_jax import losses
from isolator_jax._sparse import take_rows
from isolator_jax.backbones import fusion
from isolator_jax.backbones.base import (
    Backbone,
    Batch,
    Encoded,
    Inputs,
    Params,
    Score,
    bounded,
    embedding_table,
    hyperparameters,
)
from isolator_jax.backbones.fusion import FusionHyperparameters, Views
from isolator_jax.data import Dataset
from isolator_jax.graph import mean_of_layers
from isolator_jax.neighbours import NeighbourSearch, enhanced_graph, item_graph, user_rows


@hyperparameters
class GUMEHyperparameters(FusionHyperparameters):
    """Defaults are the paper's for Baby.

    Attributes:
      layers: propagations on the user-item graph.
      item_layers: propagations on the item graphs.
      reg1: weight of the batch's squared output rows.
      reg2: weight of the positives' squared extended rows.
      vt: weight of the differences between the modalities' variances and means.
      bm, bm_temperature: contrast between integration and ID view.
      um, um_temperature: contrast between extended view and integration of the users.
      perturbation: length of the noise added to a row for the perturbed views.
    """

    layers: int = bounded(3, least=0, most=100)
    item_layers: int = bounded(2, least=0, most=100)
    reg1: float = bounded(1e-5, least=0)
    reg2: float = bounded(0.1, least=0)
    vt: float = bounded(0.1, least=0)
    bm: float = bounded(0.01, least=0)
    bm_temperature: float = bounded(0.4, above=0)
    um: float = bounded(0.01, least=0)
    um_temperature: float = bounded(0.1, above=0)
    perturbation: float = bounded(0.1, least=0)


class UnfusedAndExtended(NamedTuple):
    """What the loss needs besides the embeddings.

    Attributes:
      views: of all nodes, before fusion.
      extended: the extended view, the modalities' mean, `[N, D]`.
    """

    views: Views
    extended: Array


def prepare(dataset: Dataset, hyperparameters: GUMEHyperparameters, *, find_neighbours: NeighbourSearch) -> Inputs:
    """The enhanced user-item graph, its block R_hat, and the modalities' item graphs."""
    neighbours = {
        name: find_neighbours(feature, hyperparameters.neighbours) for name, feature in dataset.features.items()
    }
    graph = enhanced_graph(
        dataset.train.users,
        dataset.train.items,
        dataset.num_users,
        dataset.num_items,
        list(neighbours.values()),
    )
    return {
        "graph": graph,
        "user_rows": user_rows(graph, dataset.num_users),
        "item_graphs": {name: item_graph(lists) for name, lists in neighbours.items()},
        **fusion.feature_inputs(dataset, hyperparameters),
    }


def init(key: Array, dataset: Dataset, hyperparameters: GUMEHyperparameters) -> Params:
    """The shared parameters and a user table `[U, D]` for each modality."""
    shared_key, extended_key = jax.random.split(key)
    extended = {
        name: embedding_table(jax.random.fold_in(extended_key, number), dataset.num_users, hyperparameters.dim)
        for number, name in enumerate(dataset.features)
    }
    return {**fusion.init(shared_key, dataset, hyperparameters), "extended": extended}


def encode(params: Params, inputs: Inputs, hyperparameters: GUMEHyperparameters, key: Array | None = None) -> Encoded:
    """ID view + integration; extras: the views and the extended view.

    LightGCN's mean of layers is linear, so the mean over modalities of the propagated
    [user table ; explicit items] is the propagated mean.
    """
    users = params["user"].shape[0]
    purified = fusion.purify(params, inputs)
    explicit = fusion.content_views(inputs["item_graphs"], inputs["user_rows"], purified, hyperparameters.item_layers)
    extended_users = _mean(list(params["extended"].values()))
    extended_items = _mean([view[users:] for view in explicit.values()])
    identity, extended = (
        mean_of_layers(inputs["graph"], jnp.concatenate(nodes), hyperparameters.layers)
        for nodes in ((params["user"], params["item"]), (extended_users, extended_items))
    )
    views = Views(identity, explicit)
    return fusion.fuse_all(params, views, users, extras=UnfusedAndExtended(views, extended))


def loss(
    params: Params,
    encoded: Encoded,
    batch: Batch,
    score: Score,
    hyperparameters: GUMEHyperparameters,
    key: Array,
) -> Array:
    """BPR and the weighted sum of the regularisers and contrasts.

    reg1 / 2 * |output rows|^2 / N_b + reg2 / 2 * |extended rows of positives|^2 / N_b
    + vt * (differences of variances and means) + bm * InfoNCE(integration, ID view) at users
    and positives + um * (InfoNCE(extended, integration) + of two perturbed integrations
    + of two perturbed extended views) at users.
    """
    num_users, (views, extended) = encoded.users.shape[0], encoded.extras
    fused = fusion.fuse_batch(params, views, num_users, batch)
    extended_users = take_rows(extended, batch.users)
    extended_positives = take_rows(extended, num_users + batch.positives)
    auxiliary = (
        hyperparameters.reg1 * fusion.squared_norm(fused.output, hyperparameters)
        + hyperparameters.reg2 * fusion.squared_norm(extended_positives, hyperparameters)
        + hyperparameters.vt * moment_difference(list(views.content.values()))
        + hyperparameters.bm * fusion.contrast(fused, hyperparameters.bm_temperature)
        + hyperparameters.um * _user_contrast(extended_users, fused.side[0], hyperparameters, key)
    )
    return fusion.ranking_loss(fused, batch, score) + auxiliary


def moment_difference(views: Sequence[Array]) -> Array:
    """Mean over pairs of views of |var_a - var_b| + |mean_a - mean_b|; zero for one view.

    Variance (unbiased) and mean are over all entries of a view `[N, D]`.
    """
    moments = [(_variance(view), jnp.mean(view)) for view in views]
    pairs = list(itertools.combinations(moments, 2))
    differences = [jnp.abs(a[0] - b[0]) + jnp.abs(a[1] - b[1]) for a, b in pairs]
    return sum(differences, jnp.float32(0)) / max(len(pairs), 1)


def perturb(key: Array, x: Array, length: float) -> Array:
    """x + sign(x) * length * l2norm(uniform noise in [0, 1)), row-wise. `[..., D] -> [..., D]`."""
    noise = losses.l2_normalize(jax.random.uniform(key, x.shape, x.dtype))
    return x + jnp.sign(x) * length * noise


def _user_contrast(extended: Array, integration: Array, hyperparameters: GUMEHyperparameters, key: Array) -> Array:
    """Extended view against integration, and each against itself under other noise."""
    views = jnp.stack([extended, extended, integration, integration])
    perturbed = perturb(key, views, hyperparameters.perturbation)
    pairs = (extended, integration), perturbed[:2], perturbed[2:]
    losses_of_pairs = [fusion.cosine_info_nce(a, b, hyperparameters.um_temperature) for a, b in pairs]
    return sum(losses_of_pairs, jnp.float32(0))


def _variance(x: Array) -> Array:
    """Unbiased variance of all entries. The mean's own derivative in it is zero: left out."""
    return jnp.sum(jnp.square(x - lax.stop_gradient(jnp.mean(x)))) / float(x.size - 1)


def _mean(arrays: Sequence[Array]) -> Array:
    return sum(arrays, jnp.float32(0)) / len(arrays)


GUME = Backbone(
    label="GUME",
    hyperparameters=GUMEHyperparameters,
    prepare=prepare,
    init=init,
    encode=encode,
    loss=loss,
    tables=("user", "item", "features", "extended"),
    graph_based=True,
    uses_content=True,
    optimizer=fusion.adam,
)
