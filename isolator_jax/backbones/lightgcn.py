"""LightGCN (He et al., SIGIR 2020)."""

import jax.numpy as jnp
from jax import Array

from isolator_jax import losses
from isolator_jax._sparse import take_rows
from isolator_jax.backbones import mfbpr
from isolator_jax.backbones.base import (
    Backbone,
    Batch,
    Encoded,
    Hyperparameters,
    Inputs,
    Params,
    Score,
    bounded,
    hyperparameters,
    ranking_loss,
)
from isolator_jax.data import Dataset
from isolator_jax.graph import bipartite_graph, mean_of_layers
from isolator_jax.neighbours import NeighbourSearch


@hyperparameters
class LightGCNHyperparameters(Hyperparameters):
    """layers: propagations L; reg: weight of the layer-0 batch rows' Frobenius norms."""

    layers: int = bounded(3, least=0, most=100)
    reg: float = bounded(1e-4, least=0)


def prepare(dataset: Dataset, hyperparameters: LightGCNHyperparameters, *, find_neighbours: NeighbourSearch) -> Inputs:
    """The normalised training graph."""
    train = dataset.train
    return {"graph": bipartite_graph(train.users, train.items, dataset.num_users, dataset.num_items)}


def encode(
    params: Params, inputs: Inputs, hyperparameters: LightGCNHyperparameters, key: Array | None = None
) -> Encoded:
    """The mean of layers 0..L of E^(l+1) = A_hat E^(l)."""
    nodes = jnp.concatenate([params["user"], params["item"]])
    nodes = mean_of_layers(inputs["graph"], nodes, hyperparameters.layers)
    users = params["user"].shape[0]
    return Encoded(nodes[:users], nodes[users:])


def loss(
    params: Params,
    encoded: Encoded,
    batch: Batch,
    score: Score,
    hyperparameters: LightGCNHyperparameters,
    key: Array,
) -> Array:
    """BPR + reg * (|U_b| + |P_b| + |N_b|) / B over the batch's rows of layer 0."""
    penalty = losses.frobenius_penalty(
        take_rows(params["user"], batch.users),
        take_rows(params["item"], batch.positives),
        take_rows(params["item"], batch.negatives),
    )
    return ranking_loss(encoded, batch, score) + hyperparameters.reg * penalty


LIGHTGCN = Backbone(
    label="LightGCN",
    hyperparameters=LightGCNHyperparameters,
    prepare=prepare,
    init=mfbpr.init,
    encode=encode,
    loss=loss,
    tables=("user", "item"),
    graph_based=True,
    uses_content=False,
)
