"""MFBPR: matrix factorisation (Rendle et al., UAI 2009)."""

import jax
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
    embedding_table,
    hyperparameters,
)
from isolator_jax.data import Dataset


@hyperparameters
class MFBPRHyperparameters(Hyperparameters):
    """reg: weight of the batch rows' Frobenius norms."""

    reg: float = bounded(0.1, least=0)


def init(key: Array, dataset: Dataset, hyperparameters: MFBPRHyperparameters) -> Params:
    """Two embedding tables, `[U, D]` and `[I, D]`."""
    user_key, item_key = jax.random.split(key)
    return {
        "user": embedding_table(user_key, dataset.num_users, hyperparameters.dim),
        "item": embedding_table(item_key, dataset.num_items, hyperparameters.dim),
    }


def encode(params: Params, inputs: Inputs, hyperparameters: MFBPRHyperparameters, key: Array | None = None) -> Encoded:
    """The tables themselves."""
    return Encoded(params["user"], params["item"])


def loss(
    params: Params,
    encoded: Encoded,
    batch: Batch,
    score: Score,
    hyperparameters: MFBPRHyperparameters,
    key: Array,
) -> Array:
    """`penalized_bpr` of the batch's rows of both tables."""
    users = take_rows(encoded.users, batch.users)
    positives, negatives = (take_rows(encoded.items, items) for items in (batch.positives, batch.negatives))
    return penalized_bpr(users, positives, negatives, batch, score, hyperparameters.reg)


def penalized_bpr(
    users: Array, positives: Array, negatives: Array, batch: Batch, score: Score, reg: ArrayLike
) -> Array:
    """BPR + reg * (|U_b| + |P_b| + |N_b|) / B over the batch's output rows, `[B, D]` each."""
    penalty = losses.frobenius_penalty(users, positives, negatives)
    return bpr_of_rows(users, positives, negatives, batch, score) + reg * penalty


MFBPR = Backbone(
    label="MFBPR",
    hyperparameters=MFBPRHyperparameters,
    init=init,
    encode=encode,
    loss=loss,
    tables=("user", "item"),
    graph_based=False,
    uses_content=False,
)
