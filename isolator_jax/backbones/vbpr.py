"""VBPR: matrix factorisation with projected content (He and McAuley, AAAI 2016)."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from isolator_jax.backbones import mfbpr
from isolator_jax.backbones.base import (
    Backbone,
    Encoded,
    Hyperparameters,
    Inputs,
    Params,
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


def encode(params: Params, inputs: Inputs, hyperparameters: VBPRHyperparameters, key: Array | None = None) -> Encoded:
    """Items are [item table ; W x_i + b]."""
    content = dense(params["projection"], inputs["features"])
    return Encoded(params["user"], jnp.concatenate([params["item"], content], axis=1))


VBPR = Backbone(
    label="VBPR",
    hyperparameters=VBPRHyperparameters,
    prepare=prepare,
    init=init,
    encode=encode,
    loss=mfbpr.loss,
    tables=("user", "item", "features"),
    graph_based=False,
    uses_content=True,
)
