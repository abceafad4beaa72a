"""LGMRec: local graph views and a global view of learned hyper-edges (Guo et al., AAAI 2024)."""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.typing import ArrayLike

from isolator_jax import losses
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
    bpr_of_rows,
    dense,
    dense_init,
    embedding_table,
    hyperparameters,
)
from isolator_jax.data import Dataset
from isolator_jax.graph import bipartite_graph, mean_of_layers, propagate, user_item_block
from isolator_jax.neighbours import NeighbourSearch


@hyperparameters
class LGMRecHyperparameters(Hyperparameters):
    """Defaults are the paper's for Baby.

    Attributes:
      layers: propagations of the collaborative view.
      content_layers: propagations of the modalities' views.
      hyperedges: A, of each modality.
      hyper_layers: how often items pass through the hyper-edges.
      hyper_temperature: of the softmax over the hyper-edges.
      keep_rate: the share of the memberships in hyper-edges that training keeps.
      global_weight: of the global view (the paper's alpha).
      cl: weight of the contrast between the modalities' global views.
      temperature: of that contrast.
      reg: weight of the batch's output rows' Frobenius norms.
    """

    layers: int = bounded(2, least=0, most=100)
    content_layers: int = bounded(2, least=0, most=100)
    hyperedges: int = bounded(4, least=1, most=65536)
    hyper_layers: int = bounded(1, least=1, most=100)
    hyper_temperature: float = bounded(0.2, above=0)
    keep_rate: float = bounded(0.5, above=0, most=1)
    global_weight: float = bounded(0.3, least=0)
    cl: float = bounded(1e-4, least=0)
    temperature: float = bounded(0.2, above=0)
    reg: float = bounded(1e-6, least=0)


class Hypergraph(NamedTuple):
    """One modality's hyper-edges over some nodes. A node's global row is `members @ centres`.

    Attributes:
      members: `[..., A]`, how much each node belongs to each hyper-edge.
      centres: `[A, D]`, the hyper-edges' embeddings.
    """

    members: Array
    centres: Array

    def rows(self, nodes: Array) -> "Hypergraph":
        """The same hyper-edges over `nodes`, `[...] int32`."""
        return self._replace(members=take_rows(self.members, nodes))

    def part(self, nodes: slice) -> "Hypergraph":
        """The same hyper-edges over nodes that follow one another."""
        return self._replace(members=self.members[nodes])


class Views(NamedTuple):
    """The views of some nodes; the modalities in the user's order.

    Attributes:
      collaborative: `[..., D]`.
      content: a view `[..., D]` of each modality.
      hypergraphs: of each modality.
    """

    collaborative: Array
    content: tuple[Array, ...]
    hypergraphs: tuple[Hypergraph, ...]

    def rows(self, nodes: Array) -> "Views":
        """The views of `nodes`."""
        return Views(
            take_rows(self.collaborative, nodes),
            tuple(take_rows(view, nodes) for view in self.content),
            tuple(graph.rows(nodes) for graph in self.hypergraphs),
        )


def prepare(dataset: Dataset, hyperparameters: LGMRecHyperparameters, *, find_neighbours: NeighbourSearch) -> Inputs:
    """The normalised training graph, the plain one from items to users, users' degrees `[U]`, the features in order."""
    users, items = dataset.train.users, dataset.train.items
    sizes = dataset.num_users, dataset.num_items
    return {
        "graph": bipartite_graph(users, items, *sizes),
        "user_rows": user_item_block(users, items, np.ones(users.size), *sizes),
        "degrees": jnp.asarray(np.bincount(users, minlength=dataset.num_users), jnp.float32),
        "features": tuple(jnp.asarray(x, jnp.float32) for x in dataset.features.values()),
    }


def init(key: Array, dataset: Dataset, hyperparameters: LGMRecHyperparameters) -> Params:
    """ID tables, and for each modality, numbered from "0", the layers T and H, without biases."""
    user_key, item_key, content_key = jax.random.split(key, 3)
    content = {}
    for number, feature in enumerate(dataset.features.values()):
        keys = jax.random.split(jax.random.fold_in(content_key, number))
        content[str(number)] = {
            "projection": dense_init(keys[0], feature.shape[1], hyperparameters.dim, bias=False),
            "hyperedges": dense_init(keys[1], feature.shape[1], hyperparameters.hyperedges, bias=False),
        }
    return {
        "user": embedding_table(user_key, dataset.num_users, hyperparameters.dim),
        "item": embedding_table(item_key, dataset.num_items, hyperparameters.dim),
        "content": content,
    }


def encode(params: Params, inputs: Inputs, hyperparameters: LGMRecHyperparameters, key: Array | None = None) -> Encoded:
    """Local views + global_weight * l2norm(global view); extras: the views of all nodes."""
    users, dim = params["user"].shape
    nodes = jnp.concatenate([params["user"], params["item"]])
    collaborative = mean_of_layers(inputs["graph"], nodes, hyperparameters.layers)
    content, hypergraphs = [], []
    for number, features in enumerate(inputs["features"]):
        layers = params["content"][str(number)]
        # T and H side by side: the features are read once, and one product serves the users.
        weight = jnp.concatenate([layers["projection"]["weight"], layers["hyperedges"]["weight"]])
        items = dense({"weight": weight}, features)
        sums = propagate(inputs["user_rows"], items)
        means = sums[:, :dim] / (inputs["degrees"][:, None] + 1e-7)
        view = jnp.concatenate([means, items[:, :dim]])
        for _ in range(hyperparameters.content_layers):
            view = propagate(inputs["graph"], view)
        content.append(view)
        logits = jnp.concatenate([sums[:, dim:], items[:, dim:]])
        modality_key = None if key is None else jax.random.fold_in(key, number)
        members = memberships(logits, hyperparameters, modality_key)
        hypergraphs.append(hypergraph(members, collaborative[users:], hyperparameters.hyper_layers))
    views = Views(collaborative, tuple(content), tuple(hypergraphs))
    output = combine(views, hyperparameters.global_weight)
    return Encoded(output[:users], output[users:], views)


def memberships(logits: Array, hyperparameters: LGMRecHyperparameters, key: Array | None) -> Array:
    """softmax(logits / hyper_temperature) of each node; with a key, Gumbel noise before it and dropout after it.

    `[N, A] -> [N, A]`.
    """
    if key is None:
        return jax.nn.softmax(logits / hyperparameters.hyper_temperature)
    noise_key, drop_key = jax.random.split(key)
    noisy = logits + jax.random.gumbel(noise_key, logits.shape, logits.dtype)
    members = jax.nn.softmax(noisy / hyperparameters.hyper_temperature)
    kept = jax.random.bernoulli(drop_key, jnp.float32(hyperparameters.keep_rate), members.shape)
    return jnp.where(kept, members / hyperparameters.keep_rate, 0)


def hypergraph(members: Array, items: Array, layers: int) -> Hypergraph:
    """Passes items through the hyper-edges: z = h^T e, e <- h z, `layers` times; the last z are the centres.

    Args:
      members: `[N, A]`, h of users and items.
      items: `[I, D]`, e at first.
      layers: at least 1.
    """
    of_items = members[members.shape[0] - items.shape[0] :]
    centres = of_items.T @ items
    for _ in range(layers - 1):
        centres = of_items.T @ (of_items @ centres)
    return Hypergraph(members, centres)


def combine(views: Views, global_weight: ArrayLike) -> Array:
    """Collaborative view + sum of l2norm(content views) + global_weight * l2norm(sum of global rows). `[..., D]`."""
    local = sum(map(losses.l2_normalize, views.content), views.collaborative)
    everywhere = sum((graph.members @ graph.centres for graph in views.hypergraphs), jnp.float32(0))
    return local + global_weight * losses.l2_normalize(everywhere)


def contrast(first: Hypergraph, second: Hypergraph, rows: Array, temperature: ArrayLike) -> Array:
    """Sum over rows of the cosine InfoNCE of the first's global row against all of the second's.

    With g = h z, the cosines are l2norm(g_1) z_2^T (h_2 / |g_2|)^T: products of width A.

    Args:
      first, second: two modalities' hyper-edges over the same R nodes.
      rows: `[B] int32`, the anchors, and their positives.
      temperature: `[]`.
    """
    anchors = losses.l2_normalize(take_rows(first.members, rows) @ first.centres) @ second.centres.T
    norms = optax.safe_norm(second.members @ second.centres, 0.0, axis=-1, keepdims=True)
    table = second.members / jnp.maximum(norms, 1e-12)
    return losses.table_nce(anchors / temperature, table, rows)


def loss(
    params: Params,
    encoded: Encoded,
    batch: Batch,
    score: Score,
    hyperparameters: LGMRecHyperparameters,
    key: Array | None,
) -> Array:
    """BPR + cl * contrasts + reg * (|u| + |p| + |n|) / B on the batch's output rows.

    The contrasts are between global rows of two modalities, at the users among all users and
    at the positives among all items; of more than two modalities, the mean over pairs.
    """
    users = encoded.users.shape[0]
    nodes = jnp.stack([batch.users, users + batch.positives, users + batch.negatives])
    of_users, positives, negatives = combine(encoded.extras.rows(nodes), hyperparameters.global_weight)
    ranking = bpr_of_rows(of_users, positives, negatives, batch, score)
    kinds = (slice(None, users), batch.users), (slice(users, None), batch.positives)
    pairs = list(itertools.combinations(encoded.extras.hypergraphs, 2))
    contrasts = [
        contrast(first.part(kind), second.part(kind), rows, hyperparameters.temperature)
        for first, second in pairs
        for kind, rows in kinds
    ]
    agreement = sum(contrasts, jnp.float32(0)) / max(len(pairs), 1)
    penalty = losses.frobenius_penalty(of_users, positives, negatives)
    return ranking + hyperparameters.cl * agreement + hyperparameters.reg * penalty


LGMREC = Backbone(
    label="LGMRec",
    hyperparameters=LGMRecHyperparameters,
    prepare=prepare,
    init=init,
    encode=encode,
    loss=loss,
    tables=("user", "item", "features", "degrees"),
    graph_based=True,
    uses_content=True,
)
