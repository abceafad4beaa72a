"""SMORE: modalities denoised and fused in their spectrum (Ong and Khong, WSDM 2025)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

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
    dense,
    dense_init,
    embedding_table,
    hyperparameters,
)
from isolator_jax.backbones.fusion import Fused, FusionHyperparameters
from isolator_jax.data import Dataset
from isolator_jax.errors import ConfigError
from isolator_jax.graph import Graph, bipartite_graph, mean_of_layers, propagate
from isolator_jax.neighbours import NeighbourSearch, item_graph, unite, user_rows


@hyperparameters
class SMOREHyperparameters(FusionHyperparameters):
    """
    Attributes:
      neighbours: lengths of the nearest-neighbour lists by modality, or one for all of them.
      layers: propagations of the ID view.
      item_layers: propagations on the item graphs.
      dropout: the share of the gates' entries that training leaves out.
      reg: weight of the batch's squared output rows.
      cl: weight of the contrast between side and ID view.
      temperature: of that contrast.
    """

    neighbours: tuple[int, ...] = bounded((10,), least=1)  # type: ignore[assignment]
    layers: int = bounded(4, least=0, most=100)
    item_layers: int = bounded(1, least=0, most=100)
    dropout: float = bounded(0.0, least=0, most=0.99)
    reg: float = bounded(1e-4, least=0)
    cl: float = bounded(0.01, least=0)
    temperature: float = bounded(0.2, above=0)


class Views(NamedTuple):
    """What the loss fuses its batch's rows from: views of all nodes, `[N, D]` each, and the dropout's key.

    Attributes:
      identity: the ID view.
      content: by modality, ungated.
      fusion: of the fused spectrum, ungated.
      key: of the dropout; None for none.
    """

    identity: Array
    content: dict[str, Array]
    fusion: Array
    key: Array | None


def prepare(dataset: Dataset, hyperparameters: SMOREHyperparameters, *, find_neighbours: NeighbourSearch) -> Inputs:
    """The user-item graph, its block R_hat, the modalities' item graphs and the one that unites them.

    Raises:
      ConfigError: lengths of neighbour lists for another number of modalities.
    """
    train, features = dataset.train, dataset.features
    graph = bipartite_graph(train.users, train.items, dataset.num_users, dataset.num_items)
    lengths = hyperparameters.neighbours
    if len(lengths) not in (1, len(features)):
        raise ConfigError(
            f"hyper-parameter neighbours has {len(lengths)} values for {len(features)} modalities; "
            "give one for each in their order, or one for all"
        )
    lengths = lengths if len(lengths) == len(features) else lengths * len(features)
    item_graphs = {
        name: item_graph(find_neighbours(feature, length))
        for (name, feature), length in zip(features.items(), lengths, strict=True)
    }
    return {
        "graph": graph,
        "user_rows": user_rows(graph, dataset.num_users),
        "item_graphs": item_graphs,
        "fusion_graph": unite(list(item_graphs.values()), np.maximum),
        **fusion.feature_inputs(dataset, hyperparameters),
    }


def init(key: Array, dataset: Dataset, hyperparameters: SMOREHyperparameters) -> Params:
    """ID tables, each modality's layers and feature table, and the fusion's layers.

    A spectrum is `[D / 2 + 1, 2]`, real and imaginary parts, standard normal.
    """
    dim = hyperparameters.dim
    user_key, item_key, fusion_key, content_key = jax.random.split(key, 4)

    def branch(key: Array) -> Params:
        keys = jax.random.split(key, 3)
        return {
            "spectrum": jax.random.normal(keys[0], (dim // 2 + 1, 2), jnp.float32),
            "purifier": dense_init(keys[1], dim, dim),
            "gate": dense_init(keys[2], dim, dim),
        }

    content = {}
    for number, (name, feature) in enumerate(dataset.features.items()):
        keys = jax.random.split(jax.random.fold_in(content_key, number), 4)
        content[name] = {
            **branch(keys[0]),
            "projection": dense_init(keys[1], feature.shape[1], dim),
            "query": dense_init(keys[2], dim, dim),
            "score": dense_init(keys[3], dim, dim, bias=False),
        }
    return {
        "user": embedding_table(user_key, dataset.num_users, dim),
        "item": embedding_table(item_key, dataset.num_items, dim),
        "content": content,
        "fusion": branch(fusion_key),
        **fusion.feature_params(dataset, hyperparameters),
    }


def spectral(params: Params, tables: dict[str, Array]) -> tuple[dict[str, Array], Array]:
    """Denoised modalities irfft(F_m c_m) and their fusion irfft(prod_m F_m c_f), F_m = rfft(W x + b).

    Args:
      params: the backbone's.
      tables: features `[I, F_m]`.

    Returns:
      `[I, D]` for each modality, and `[I, D]`.
    """
    dim = params["item"].shape[1]
    product, denoised = jnp.complex64(1), {}
    for name, layers in params["content"].items():
        spectrum = jnp.fft.rfft(dense(layers["projection"], tables[name]), norm="ortho")
        product = product * spectrum
        denoised[name] = jnp.fft.irfft(spectrum * _complex(layers["spectrum"], dim), dim, norm="ortho")
    return denoised, jnp.fft.irfft(product * _complex(params["fusion"]["spectrum"], dim), dim, norm="ortho")


def _complex(parts: Array, dim: int) -> Array:
    """Weights of a spectrum, `[1, D / 2 + 1]`. Of a real row the first, and for even D the last, are real."""
    imaginary = parts[:, 1].at[0].set(0)
    imaginary = imaginary.at[-1].set(0) if dim % 2 == 0 else imaginary
    return lax.complex(parts[:, 0], imaginary)[None]


def encode(params: Params, inputs: Inputs, hyperparameters: SMOREHyperparameters, key: Array | None = None) -> Encoded:
    """ID view (LightGCN's mean of layers) + side (the spectral views, propagated and gated); extras: the views."""
    users = params["user"].shape[0]
    identity = jnp.concatenate([params["user"], params["item"]])
    identity = mean_of_layers(inputs["graph"], identity, hyperparameters.layers)
    denoised, fused = spectral(params, fusion.feature_tables(params, inputs))

    def view(layers: Params, graph: Graph, content: Array) -> Array:
        x = params["item"] * jax.nn.sigmoid(dense(layers["purifier"], content))
        for _ in range(hyperparameters.item_layers):
            x = propagate(graph, x)
        return jnp.concatenate([propagate(inputs["user_rows"], x), x])

    views = Views(
        identity=identity,
        content={name: view(params["content"][name], inputs["item_graphs"][name], x) for name, x in denoised.items()},
        fusion=view(params["fusion"], inputs["fusion_graph"], fused),
        key=key,
    )
    output = fuse(params, views, jnp.arange(identity.shape[0]), hyperparameters.dropout).output
    return Encoded(output[:users], output[users:], views)


def fuse(params: Params, views: Views, nodes: Array, dropout: ArrayLike) -> Fused:
    """Side = the mean of sigmoid(B_f ID) * f and, for each modality, sigmoid(B_m ID) * a_m * view_m.

    f is the fusion view and a_m = softmax over the width of P_m tanh(Q_m f + q_m). A node's
    dropout is its own: it is the same wherever the node stands.

    Args:
      params: the backbone's.
      views: of all nodes.
      nodes: `[...] int32`, those to fuse.
      dropout: `[]`.

    Returns:
      `[..., D]` each.
    """
    identity, fused = take_rows(views.identity, nodes), take_rows(views.fusion, nodes)
    branches = [(params["fusion"], fused)]
    for name, view in sorted(views.content.items()):  # their dropout must not depend on a dict's order
        layers = params["content"][name]
        attention = jax.nn.softmax(dense(layers["score"], jnp.tanh(dense(layers["query"], fused))))
        branches.append((layers, attention * take_rows(view, nodes)))
    gates = jnp.stack([jax.nn.sigmoid(dense(layers["gate"], identity)) for layers, _ in branches])
    if views.key is not None:
        gates = drop(views.key, gates, nodes, dropout)
    sides = [gate * view for gate, (_, view) in zip(gates, branches, strict=True)]
    return Fused(identity, sum(sides, jnp.float32(0)) / len(sides))


def drop(key: Array, gates: Array, nodes: Array, dropout: ArrayLike) -> Array:
    """Gates with a share of their entries zero and the others scaled up for it, by a key for each node.

    Args:
      key: of the step.
      gates: `[M + 1, ..., D]`.
      nodes: `[...] int32`.
      dropout: `[]`, the share.
    """
    shape = gates.shape[0], gates.shape[-1]
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, nodes.reshape(-1))
    kept = jax.vmap(lambda key: jax.random.bernoulli(key, jnp.float32(1 - dropout), shape), out_axes=1)(keys)
    return jnp.where(kept.reshape(gates.shape), gates / (1 - dropout), 0)


def loss(
    params: Params,
    encoded: Encoded,
    batch: Batch,
    score: Score,
    hyperparameters: SMOREHyperparameters,
    key: Array | None,
) -> Array:
    """BPR + reg / 2 * |output rows|^2 / N_b + cl * InfoNCE(side, ID view) at positives and users."""
    users = encoded.users.shape[0]
    nodes = jnp.stack([batch.users, users + batch.positives, users + batch.negatives])
    fused = fuse(params, encoded.extras, nodes, hyperparameters.dropout)
    return fusion.contrastive_loss(fused, batch, score, hyperparameters)


SMORE = Backbone(
    label="SMORE",
    hyperparameters=SMOREHyperparameters,
    prepare=prepare,
    init=init,
    encode=encode,
    loss=loss,
    tables=("user", "item", "features"),
    graph_based=True,
    uses_content=True,
    optimizer=fusion.adam,
)
