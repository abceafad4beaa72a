"""FREEDOM: a frozen item graph, and a user-item graph pruned anew before each epoch (Zhou and Shen, MM 2023)."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from isolator_jax import losses
from isolator_jax._sparse import take_rows
from isolator_jax.backbones import base
from isolator_jax.backbones.base import (
    Backbone,
    Batch,
    Encoded,
    Hyperparameters,
    Inputs,
    Params,
    Score,
    bounded,
    dense,
    dense_init,
    embedding_table,
    hyperparameters,
)
from isolator_jax.data import Dataset
from isolator_jax.graph import Graph, bipartite_graph, mean_of_layers, propagate
from isolator_jax.neighbours import NeighbourSearch, unite, unweighted_graph


@hyperparameters
class FREEDOMHyperparameters(Hyperparameters):
    """
    Attributes:
      layers: propagations of the ID view.
      item_layers: propagations on the item graph.
      neighbours: length of the items' nearest-neighbour lists.
      image_weight: the image graph's weight in the item graph, the text graph having the
        rest; modalities other than these two have equal weights.
      dropout: the share of the interactions that an epoch's graph is without.
      reg: weight of the BPR on the modalities' projected features.
    """

    layers: int = bounded(2, least=0, most=100)
    item_layers: int = bounded(1, least=0, most=100)
    neighbours: int = bounded(10, least=1)
    image_weight: float = bounded(0.1, least=0, most=1)
    dropout: float = bounded(0.8, least=0, most=1, static=True)
    reg: float = bounded(1e-3, least=0)


def prepare(dataset: Dataset, hyperparameters: FREEDOMHyperparameters, *, find_neighbours: NeighbourSearch) -> Inputs:
    """The whole user-item graph, the item graph, and what the draws are made from.

    `log_chances` `[E] float32` are the logarithms of the interactions' chances,
    1 / sqrt(d_u d_i); `interactions` `[2 E] int32` is the interaction of each of the graph's
    edges.
    """
    users, items = dataset.train.users, dataset.train.items
    shares = modality_weights(list(dataset.features), hyperparameters.image_weight)
    item_graphs = [
        unweighted_graph(find_neighbours(feature, hyperparameters.neighbours), share)
        for feature, share in zip(dataset.features.values(), shares, strict=True)
    ]
    # The graph's edges are sorted by receiver, then sender: to users first, then to items.
    by_user, by_item = np.lexsort((items, users)), np.lexsort((users, items))
    degrees = np.bincount(users)[users] * np.bincount(items)[items].astype(np.float64)
    return {
        "graph": bipartite_graph(users, items, dataset.num_users, dataset.num_items),
        "item_graph": unite(item_graphs, np.add),
        "log_chances": jnp.asarray(-np.log(degrees) / 2, jnp.float32),
        "interactions": jnp.asarray(np.concatenate([by_user, by_item]), jnp.int32),
    }


def modality_weights(names: Sequence[str], image_weight: float) -> list[float]:
    """Each modality's weight in the item graph: those of image and text, or equal ones; they sum to one."""
    if set(names) == {"image", "text"}:
        weights = {"image": image_weight, "text": 1 - image_weight}
        return [weights[name] for name in names]
    return [1 / len(names)] * len(names)


def init(key: Array, dataset: Dataset, hyperparameters: FREEDOMHyperparameters) -> Params:
    """ID tables, and for each modality a dense layer and the feature table, which starts as the raw features."""
    keys = jax.random.split(key, 2 + len(dataset.features))
    dim = hyperparameters.dim
    return {
        "user": embedding_table(keys[0], dataset.num_users, dim),
        "item": embedding_table(keys[1], dataset.num_items, dim),
        "projection": {
            name: dense_init(key, feature.shape[1], dim)
            for key, (name, feature) in zip(keys[2:], dataset.features.items(), strict=True)
        },
        "features": {name: jnp.asarray(feature, jnp.float32) for name, feature in dataset.features.items()},
    }


def kept_interactions(interactions: int, dropout: float) -> int:
    """How many of E interactions an epoch's graph has: floor(E (1 - dropout)) in double precision, and 1 where E is."""
    return max(math.floor(interactions * (1 - dropout)), int(interactions == 1))


def draw(key: Array, log_chances: Array, count: int) -> Array:
    """Which are drawn in `count` successive draws without replacement, each by the chances of those left.

    The largest of log chance + Gumbel noise are this draw (Yellott, 1977). `[E] -> [E] bool`.
    """
    noisy = log_chances + jax.random.gumbel(key, log_chances.shape, log_chances.dtype)
    return jnp.zeros(noisy.shape, bool).at[lax.top_k(noisy, count)[1]].set(True, unique_indices=True)


def prune(inputs: Inputs, kept: Array, count: int) -> Inputs:
    """The inputs with the graph of the kept interactions, normalised by the degrees in it.

    Args:
      inputs: of `prepare`.
      kept: `[E] bool`, in the order of the training split.
      count: how many of them are true.
    """
    graph = inputs["graph"].subgraph(kept[inputs["interactions"]], 2 * count)
    return {**inputs, "graph": normalized_by_degree(graph)}


def normalized_by_degree(graph: Graph) -> Graph:
    """The same edges with the weights of D^-1/2 A D^-1/2, D the numbers of edges."""
    ones = graph.masked(jnp.ones_like(graph.weights))
    received, sent = (graph.over_edges(jax.ops.segment_sum, over, ones) for over in ("receivers", "senders"))
    weights = graph.masked(1 / jnp.sqrt(jnp.maximum(received * sent, 1)))
    return graph.with_weights(weights, symmetric=graph.symmetric)


def per_epoch(key: Array, inputs: Inputs, hyperparameters: FREEDOMHyperparameters) -> Inputs:
    """The inputs with a newly pruned graph; as they are where nothing is dropped."""
    log_chances = inputs["log_chances"]
    count = kept_interactions(log_chances.size, hyperparameters.dropout)
    if count == log_chances.size:
        return inputs
    return prune(inputs, draw(key, log_chances, count), count)


def encode(
    params: Params, inputs: Inputs, hyperparameters: FREEDOMHyperparameters, key: Array | None = None
) -> Encoded:
    """Users: LightGCN's mean of layers; items: the same + their ID rows propagated on the item graph."""
    users = params["user"].shape[0]
    nodes = jnp.concatenate([params["user"], params["item"]])
    nodes = mean_of_layers(inputs["graph"], nodes, hyperparameters.layers)
    similar = params["item"]
    for _ in range(hyperparameters.item_layers):
        similar = propagate(inputs["item_graph"], similar)
    return Encoded(nodes[:users], nodes[users:] + similar)


def loss(
    params: Params,
    encoded: Encoded,
    batch: Batch,
    score: Score,
    hyperparameters: FREEDOMHyperparameters,
    key: Array | None,
) -> Array:
    """BPR + reg * the sum over modalities of the plain BPR of (output of u, W x_i + b)."""
    users = take_rows(encoded.users, batch.users)
    items = jnp.concatenate([batch.positives, batch.negatives])

    def plain_bpr(name: str) -> Array:
        # Both together: one product, and one addition to the rows of the table's gradient.
        rows = dense(params["projection"][name], take_rows(params["features"][name], items))
        positives, negatives = jnp.sum(users[None] * rows.reshape(2, *users.shape), axis=-1)
        return losses.bpr(positives, negatives)

    content = sum((plain_bpr(name) for name in params["projection"]), jnp.float32(0))
    return base.ranking_loss(encoded, batch, score) + hyperparameters.reg * content


FREEDOM = Backbone(
    label="FREEDOM",
    hyperparameters=FREEDOMHyperparameters,
    prepare=prepare,
    init=init,
    per_epoch=per_epoch,
    encode=encode,
    loss=loss,
    tables=("user", "item", "features"),
    graph_based=True,
    uses_content=True,
)
