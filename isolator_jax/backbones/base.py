"""The protocol of a backbone: what a recommender must provide to be trained and scored.

A backbone is a `Backbone` record of pure functions over pytrees. It produces user and
item embeddings, f(u, i) is their inner product, and it never sees ISOLATOR: its ranking
loss receives a `Score` that turns raw scores into whatever is being trained.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from isolator_jax import losses
from isolator_jax.data import Dataset

Params = dict[str, Any]
Inputs = dict[str, Any]

# (f [...], users [...], items [...]) -> [...]: what is trained in place of the raw score f.
Score = Callable[[Array, Array, Array], Array]


class Batch(NamedTuple):
    """Training triples: `[B] int32` each."""

    users: Array
    positives: Array
    negatives: Array


class Encoded(NamedTuple):
    """A backbone's output.

    Attributes:
      users: `[U, D] float32`.
      items: `[I, D] float32`.
      aux: whatever the backbone's losses need besides; nothing else looks inside.
    """

    users: Array
    items: Array
    aux: Any = None


def bounded(default: Any, *, least: float | None = None, above: float | None = None, most: float | None = None) -> Any:
    """A hyper-parameter's field: its default, and the range its values must lie in.

    Args:
      least, most: the smallest and the largest value, themselves allowed.
      above: what values must exceed.
    """
    return dataclasses.field(default=default, metadata={"least": least, "above": above, "most": most})


@dataclasses.dataclass(frozen=True)
class Hyperparameters:
    """What every backbone has.

    Attributes:
      dim: embedding width D.
      learning_rate: Adam's step size.
    """

    dim: int = bounded(64, least=1, most=65536)
    learning_rate: float = bounded(1e-3, above=0)


def bpr_ranking_loss(encoded: Encoded, batch: Batch, score: Score) -> Array:
    """BPR on the scores of the batch's positives and negatives (Eq. 5)."""
    users = encoded.users[batch.users]

    def of_items(items: Array) -> Array:
        return score(jnp.sum(users * encoded.items[items], axis=1), batch.users, items)

    return losses.bpr(of_items(batch.positives), of_items(batch.negatives))


def adam(hyperparameters: Hyperparameters, steps_per_epoch: int) -> optax.GradientTransformation:
    """Adam with a constant learning rate."""
    del steps_per_epoch
    return optax.adam(hyperparameters.learning_rate)


@dataclasses.dataclass(frozen=True)
class Backbone:
    """One recommender.

    Attributes:
      hyperparameters: its frozen dataclass, a subclass of `Hyperparameters`.
      prepare: `(dataset, hyperparameters) -> inputs`: graphs and features as a pytree of
        device arrays, made once; an argument of every jitted function. Where
        `uses_neighbours`, it takes a third argument, a function like
        `neighbours.nearest_neighbours`, which may answer from a cache.
      init: `(key, dataset, hyperparameters) -> params`.
      encode: `(params, inputs, hyperparameters) -> Encoded`.
      auxiliary_loss: `(params, encoded, batch, hyperparameters, key) -> []`: regularisers
        and auxiliary losses, added to the ranking loss.
      uses_content: whether it needs item features.
      uses_neighbours: whether it needs nearest-neighbour lists.
      ranking_loss: `(encoded, batch, score) -> []`.
      optimizer: `(hyperparameters, steps_per_epoch) -> optax transformation`.
    """

    hyperparameters: type[Hyperparameters]
    prepare: Callable[..., Inputs]
    init: Callable[[Array, Dataset, Any], Params]
    encode: Callable[[Params, Inputs, Any], Encoded]
    auxiliary_loss: Callable[[Params, Encoded, Batch, Any, Array], Array]
    uses_content: bool
    uses_neighbours: bool = False
    ranking_loss: Callable[[Encoded, Batch, Score], Array] = bpr_ranking_loss
    optimizer: Callable[[Any, int], optax.GradientTransformation] = adam


def embedding_table(key: Array, rows: int, width: int) -> Array:
    """A Xavier-initialised table `[rows, width]`."""
    return jax.nn.initializers.xavier_uniform()(key, (rows, width))


def dense_init(key: Array, inputs: int, outputs: int, bias: bool = True) -> Params:
    """A dense layer: Xavier weight `[outputs, inputs]` and, if asked for, zero bias `[outputs]`."""
    params = {"weight": jax.nn.initializers.xavier_uniform()(key, (outputs, inputs))}
    return {**params, "bias": jnp.zeros(outputs)} if bias else params


def dense(params: Params, x: Array) -> Array:
    """x W^T + b. `[..., inputs] -> [..., outputs]`.

    The weight is stored `[outputs, inputs]`: for tall x, its gradient is then the faster
    of the two matrix products (BUILD_NOTES.md).
    """
    y = x @ params["weight"].T
    return y + params["bias"] if "bias" in params else y
