"""GRCN: a graph refined by content, learned edge weights (Wei et al., MM 2020)."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from isolator_jax._sparse import take_rows
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
    ranking_loss,
)
from isolator_jax.data import Dataset
from isolator_jax.graph import Graph, edge_dots, edge_softmax, propagate, propagate_back, user_item_block
from isolator_jax.losses import l2_normalize
from isolator_jax.neighbours import NeighbourSearch


@hyperparameters
class GRCNHyperparameters(Hyperparameters):
    """reg: weight of the mean squares of the raw tables; rounds: of routing."""

    reg: float = bounded(1e-3, least=0)
    rounds: int = bounded(3, least=0, most=100)


def prepare(dataset: Dataset, hyperparameters: GRCNHyperparameters, *, find_neighbours: NeighbourSearch) -> Inputs:
    """The interactions, as a graph from items to users, and each modality's raw features, in order."""
    train = dataset.train
    weights = np.ones(train.users.size)
    return {
        "graph": user_item_block(train.users, train.items, weights, dataset.num_users, dataset.num_items),
        "features": tuple(jnp.asarray(x, jnp.float32) for x in dataset.features.values()),
    }


def init(key: Array, dataset: Dataset, hyperparameters: GRCNHyperparameters) -> Params:
    """ID table `[N, D]`, confidence `[N, M]`; of each modality a preference table `[U, D]` and a dense layer.

    The modalities are numbered from "0": their order matters (the columns of the confidence,
    the first one's penalty), and names would be sorted.
    """
    dim = hyperparameters.dim
    nodes = dataset.num_users + dataset.num_items
    keys = jax.random.split(key, 2 + 2 * len(dataset.features))
    return {
        "id": embedding_table(keys[0], nodes, dim),
        "confidence": embedding_table(keys[1], nodes, len(dataset.features)),
        "preference": {
            str(number): embedding_table(key, dataset.num_users, dim) for number, key in enumerate(keys[2::2])
        },
        "content": {
            str(number): dense_init(key, x.shape[1], dim)
            for number, (key, x) in enumerate(zip(keys[3::2], dataset.features.values(), strict=True))
        },
    }


def route(graph: Graph, preference: Array, content: Array, rounds: int) -> Array:
    """Refines preferences p by the content h of the users' items.

    A round: alpha_ui = softmax over u's items of p_u . h_i, then
    p_u <- l2norm(p_u + sum_i alpha_ui h_i).

    Args:
      graph: from items to users.
      preference: `[U, D]`, unit rows.
      content: `[I, D]`, unit rows.
      rounds: how often.

    Returns:
      `[U, D]`.
    """
    for _ in range(rounds):
        alpha = edge_softmax(graph, edge_dots(graph, preference, content), over="receivers")
        preference = l2_normalize(preference + propagate(graph, content, alpha))
    return preference


def attend(graph: Graph, users: Array, items: Array) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """One attention pass in both directions; x_t . x_s is the same number in both.

    Args:
      graph: from items to users.
      users: `[U, D]`.
      items: `[I, D]`.

    Returns:
      x_t + sum_s alpha x_s of users `[U, D]` and items `[I, D]`; alpha of the edges to
      users and of those to items, both `[E]` in the graph's order.
    """
    logits = edge_dots(graph, users, items)
    to_users = edge_softmax(graph, logits, over="receivers")
    to_items = edge_softmax(graph, logits, over="senders")
    outputs = users + propagate(graph, items, to_users), items + propagate_back(graph, users, to_items)
    return outputs, (to_users, to_items)


def edge_weights(alphas: Sequence[Array], confidence: Array, sources: Array) -> Array:
    """relu(max over modalities of alpha * confidence[source]).

    Args:
      alphas: M arrays `[E]`.
      confidence: `[rows, M]`, of the nodes that are sources.
      sources: `[E] int32`.

    Returns:
      `[E]`.
    """
    rows = take_rows(confidence, sources)
    scores = (alpha * rows[:, m] for m, alpha in enumerate(alphas))
    return jax.nn.relu(functools.reduce(jnp.maximum, scores))


def convolve(graph: Graph, table: Array, to_users: Array, to_items: Array) -> tuple[Array, Array]:
    """x + A x + A A x of x = l2norm(table), A having the learned edge weights.

    Args:
      graph: from items to users.
      table: `[N, D]`.
      to_users, to_items: `[E]` weights of both directions.

    Returns:
      `[U, D]` and `[I, D]`.
    """
    nodes = l2_normalize(table)
    users, items = nodes[: graph.num_receivers], nodes[graph.num_receivers :]
    user_sum, item_sum = users, items
    for _ in range(2):
        users, items = propagate(graph, items, to_users), propagate_back(graph, users, to_items)
        user_sum, item_sum = user_sum + users, item_sum + items
    return user_sum, item_sum


def encode(params: Params, inputs: Inputs, hyperparameters: GRCNHyperparameters, key: Array | None = None) -> Encoded:
    """[ID channel ; content channels]."""
    graph = inputs["graph"]
    outputs, alphas = [], []
    for number, features in enumerate(inputs["features"]):
        content = l2_normalize(jax.nn.leaky_relu(dense(params["content"][str(number)], features)))
        preference = l2_normalize(params["preference"][str(number)])
        preference = route(graph, preference, content, hyperparameters.rounds)
        output, alpha = attend(graph, preference, content)
        outputs.append(output)
        alphas.append(alpha)
    alphas_to_users, alphas_to_items = zip(*alphas, strict=True)
    user_confidence = params["confidence"][: graph.num_receivers]
    item_confidence = params["confidence"][graph.num_receivers :]
    id_channel = convolve(
        graph,
        params["id"],
        to_users=edge_weights(alphas_to_users, item_confidence, graph.senders),
        to_items=edge_weights(alphas_to_items, user_confidence, graph.receivers),
    )
    users, items = zip(id_channel, *outputs, strict=True)
    return Encoded(jnp.concatenate(users, axis=1), jnp.concatenate(items, axis=1))


def loss(
    params: Params,
    encoded: Encoded,
    batch: Batch,
    score: Score,
    hyperparameters: GRCNHyperparameters,
    key: Array,
) -> Array:
    """BPR + reg * (M1 + M2 + M3), mean squares of raw tables.

    M1: mean over the 2B rows (u, positive), (u, negative) of id_u^2 + id_i^2; M2: the whole
    preference table of the first modality; M3: sum over modalities of the batch users'
    preferences.
    """
    num_users = encoded.users.shape[0]
    table, preferences = params["id"], params["preference"]
    items = jnp.concatenate([batch.positives, batch.negatives])
    ids = _mean_square(take_rows(table, batch.users)) + _mean_square(take_rows(table, num_users + items))
    rows = sum(_mean_square(take_rows(preference, batch.users)) for preference in preferences.values())
    penalty = ids + _mean_square(preferences["0"]) + rows
    return ranking_loss(encoded, batch, score) + hyperparameters.reg * penalty


def _mean_square(x: Array) -> Array:
    return jnp.mean(jnp.square(x))


GRCN = Backbone(
    label="GRCN",
    hyperparameters=GRCNHyperparameters,
    prepare=prepare,
    init=init,
    encode=encode,
    loss=loss,
    tables=("id", "confidence", "preference", "features"),
    graph_based=True,
    uses_content=True,
)
