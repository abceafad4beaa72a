"""MGCN: multi-view graph convolution (Yu et al., MM 2023)."""

import jax.numpy as jnp
from jax import Array

from isolator_jax.backbones import fusion
from isolator_jax.backbones.base import Backbone, Batch, Encoded, Inputs, Params, Score, bounded, hyperparameters
from isolator_jax.backbones.fusion import FusionHyperparameters, Views
from isolator_jax.data import Dataset
from isolator_jax.graph import bipartite_graph, mean_of_layers
from isolator_jax.neighbours import NeighbourSearch, item_graph, user_rows


@hyperparameters
class MGCNHyperparameters(FusionHyperparameters):
    """
    Attributes:
      layers: propagations of the ID view.
      reg: weight of the batch's squared output rows.
      cl: weight of the contrast between side and ID view.
      temperature: of that contrast.
    """

    layers: int = bounded(2, least=0, most=100)
    reg: float = bounded(1e-4, least=0)
    cl: float = bounded(0.01, least=0)
    temperature: float = bounded(0.2, above=0)


def prepare(dataset: Dataset, hyperparameters: MGCNHyperparameters, *, find_neighbours: NeighbourSearch) -> Inputs:
    """The user-item graph, its block R_hat, and the modalities' item graphs."""
    train = dataset.train
    graph = bipartite_graph(train.users, train.items, dataset.num_users, dataset.num_items)
    return {
        "graph": graph,
        "user_rows": user_rows(graph, dataset.num_users),
        "item_graphs": {
            name: item_graph(find_neighbours(feature, hyperparameters.neighbours))
            for name, feature in dataset.features.items()
        },
        **fusion.feature_inputs(dataset, hyperparameters),
    }


def encode(params: Params, inputs: Inputs, hyperparameters: MGCNHyperparameters, key: Array | None = None) -> Encoded:
    """ID view (LightGCN's mean of layers) + side (content, propagated once and fused); extras: the views."""
    identity = jnp.concatenate([params["user"], params["item"]])
    identity = mean_of_layers(inputs["graph"], identity, hyperparameters.layers)
    purified = fusion.purify(params, inputs)
    content = fusion.content_views(inputs["item_graphs"], inputs["user_rows"], purified, layers=1)
    views = Views(identity, content)
    return fusion.fuse_all(params, views, params["user"].shape[0], extras=views)


def loss(
    params: Params,
    encoded: Encoded,
    batch: Batch,
    score: Score,
    hyperparameters: MGCNHyperparameters,
    key: Array,
) -> Array:
    """BPR + reg / 2 * |output rows|^2 / N_b + cl * InfoNCE(side, ID view) at positives and users."""
    fused = fusion.fuse_batch(params, encoded.extras, encoded.users.shape[0], batch)
    return fusion.contrastive_loss(fused, batch, score, hyperparameters)


MGCN = Backbone(
    label="MGCN",
    hyperparameters=MGCNHyperparameters,
    prepare=prepare,
    init=fusion.init,
    encode=encode,
    loss=loss,
    tables=("user", "item", "features"),
    graph_based=True,
    uses_content=True,
    optimizer=fusion.adam,
)
