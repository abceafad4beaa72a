"""VBPR: matrix factorisation with projected content (He and McAuley, AAAI 2016)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

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
    dense,
    dense_init,
    embedding_table,
    hyperparameters,
)
from isolator_jax.data import Dataset
from isolator_jax.neighbours import NeighbourSearch


@hyperparameters
class VBPRHyperparameters(Hyperparameters):
    """reg: weight of the Frobenius norms of the batch's 2D-wide rows."""

    reg: float = bounded(0.01, least=0)


def prepare(dataset: Dataset, hyperparameters: VBPRHyperparameters, *, find_neighbours: NeighbourSearch) -> Inputs:
    """x_i: the raw features of all modalities, concatenated, `[I, F] float32`."""
    features = [np.asarray(x, np.float32) for x in dataset.features.values()]
    return {"features": jnp.asarray(np.concatenate(features, axis=1))}


def init(key: Array, dataset: Dataset, hyperparameters: VBPRHyperparameters) -> Params:
    """User table `[U, 2D]`, item table `[I, D]`, projection `[D, F]`."""
    user_key, item_key, dense_key = jax.random.split(key, 3)
    dim = hyperparameters.dim
    width = sum(feature.shape[1] for feature in dataset.features.values())
    return {
        "user": embedding_table(user_key, dataset.num_users, 2 * dim),
        "item": embedding_table(item_key, dataset.num_items, dim),
        "projection": dense_init(dense_key, width, dim),
    }


class Extras(NamedTuple):
    """features: x_i of all items, `[I, F]`; None on several devices, which would exchange its rows."""

    features: Array | None


def encode(params: Params, inputs: Inputs, hyperparameters: VBPRHyperparameters, key: Array | None = None) -> Encoded:
    """Items are [item table ; W x_i + b]."""
    features = inputs["features"]
    items = jnp.concatenate([params["item"], dense(params["projection"], features)], axis=1)
    return Encoded(params["user"], items, Extras(features))


def loss(
    params: Params,
    encoded: Encoded,
    batch: Batch,
    score: Score,
    hyperparameters: VBPRHyperparameters,
    key: Array,
) -> Array:
    """`mfbpr.penalized_bpr` of the batch's rows."""
    users = take_rows(encoded.users, batch.users)
    positives, negatives = (_items(params, encoded, items) for items in (batch.positives, batch.negatives))
    return mfbpr.penalized_bpr(users, positives, negatives, batch, score, hyperparameters.reg)


def _items(params: Params, encoded: Encoded, items: Array) -> Array:
    """The encoded rows of a batch's items, of which there are two lots.

    Where they are fewer than the catalogue they alone are projected, and XLA drops the projection of all.
    """
    features = encoded.extras.features
    if features is None or 2 * items.size >= features.shape[0]:
        return take_rows(encoded.items, items)
    return jnp.concatenate([take_rows(params["item"], items), dense(params["projection"], features[items])], axis=1)


VBPR = Backbone(
    label="VBPR",
    hyperparameters=VBPRHyperparameters,
    prepare=prepare,
    init=init,
    encode=encode,
    loss=loss,
    tables=("user", "item", "features"),
    graph_based=False,
    uses_content=True,
)
