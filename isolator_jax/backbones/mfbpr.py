"""MFBPR: matrix factorisation (Rendle et al., UAI 2009)."""

import dataclasses

import jax
from jax import Array

from isolator_jax import losses
from isolator_jax.backbones.base import (
    Backbone,
    Batch,
    Encoded,
    Hyperparameters,
    Inputs,
    Params,
    bounded,
    embedding_table,
)
from isolator_jax.data import Dataset


@dataclasses.dataclass(frozen=True)
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


def encode(params: Params, inputs: Inputs, hyperparameters: MFBPRHyperparameters) -> Encoded:
    """The tables themselves."""
    return Encoded(params["user"], params["item"])


def auxiliary_loss(
    params: Params, encoded: Encoded, batch: Batch, hyperparameters: MFBPRHyperparameters, key: Array
) -> Array:
    """reg * (|U_b| + |P_b| + |N_b|) / B over the batch's output rows."""
    return hyperparameters.reg * losses.frobenius_penalty(
        encoded.users[batch.users], encoded.items[batch.positives], encoded.items[batch.negatives]
    )


MFBPR = Backbone(
    hyperparameters=MFBPRHyperparameters,
    prepare=lambda dataset, hyperparameters: {},
    init=init,
    encode=encode,
    auxiliary_loss=auxiliary_loss,
    uses_content=False,
)
