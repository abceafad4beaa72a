"""One training epoch as one compiled program: shuffle, negatives, loss, update, repeat."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax import Array, lax

from isolator_jax import scoring
from isolator_jax.backbones import Backbone, Batch, Hyperparameters, Score
from isolator_jax.data import Dataset
from isolator_jax.errors import DataError
from isolator_jax.histories import Histories, sample_unseen
from isolator_jax.similarity import Similarity

# Named, so that no setting of JAX's changes a run, nor how one that was interrupted goes on.
PRNG = "threefry2x32"


@struct.dataclass
class TrainState:
    """Everything an epoch changes.

    Attributes:
      params: the backbone's parameters.
      opt_state: optax state.
      seed_key: `[2] uint32`, key data of the run; every epoch folds its number into it.
      epoch: `[] int32`, epochs trained.
    """

    params: Any
    opt_state: Any
    seed_key: Array
    epoch: Array


@struct.dataclass
class TrainData:
    """Training interactions on the device.

    Attributes:
      users, items: `[E] int32`, interactions for which a negative exists.
      histories: every user's training items.
      num_items: I.
    """

    users: Array
    items: Array
    histories: Histories
    num_items: int = struct.field(pytree_node=False)


def make_train_data(dataset: Dataset) -> TrainData:
    """Moves the training split to the device.

    Interactions of users who have every item are left out: they have no negative.

    Raises:
      DataError: no interaction is left.
    """
    histories = dataset.train.histories(dataset.num_users)
    lengths = np.asarray(histories.lengths)
    usable = lengths[dataset.train.users] < dataset.num_items
    if not usable.any():
        raise DataError(
            f"dataset {dataset.name}: every training user has all {dataset.num_items} items, so "
            "there is nothing to rank against; training needs items a user has not consumed"
        )
    return TrainData(
        users=jnp.asarray(dataset.train.users[usable]),
        items=jnp.asarray(dataset.train.items[usable]),
        histories=histories,
        num_items=dataset.num_items,
    )


def epoch_shape(interactions: int, batch_size: int) -> tuple[int, int]:
    """Steps and rows per step: the fewest batches of at most `batch_size`, evenly filled.

    All steps have the same static shape; steps * rows exceeds the number of interactions
    by less than the number of steps, and that many random ones are seen twice.
    """
    steps = math.ceil(interactions / batch_size)
    return steps, math.ceil(interactions / steps)


def make_score(similarity: Similarity | None, gamma: Array | float | None) -> Score:
    """What is trained: the training score (Eq. 7), or f itself where gamma is None."""
    if gamma is None:
        return lambda f, users, items: f
    assert similarity is not None, "the training score needs similarities"
    return lambda f, users, items: scoring.training_score(f, similarity.pairs(users, items), gamma)


def init_state(
    backbone: Backbone, hyperparameters: Hyperparameters, dataset: Dataset, *, seed: int, steps_per_epoch: int
) -> TrainState:
    """The state before the first epoch."""
    with jax.threefry_partitionable(True):
        key = jax.random.key(seed, impl=PRNG)
        params = backbone.init(jax.random.fold_in(key, 0), dataset, hyperparameters)
    return TrainState(
        params=params,
        opt_state=backbone.optimizer(hyperparameters, steps_per_epoch).init(params),
        seed_key=jax.random.key_data(key),
        epoch=jnp.int32(0),
    )


@jax.threefry_partitionable(True)
def run_epoch(
    state: TrainState,
    inputs: Any,
    data: TrainData,
    similarity: Similarity | None,
    gamma: Array | None,
    hyperparameters: Hyperparameters,
    *,
    backbone: Backbone,
    batch_size: int,
) -> tuple[TrainState, Array, Array]:
    """One epoch, a pure function to be compiled with its state donated.

    The epoch's key is the run's key with the epoch number folded in, and the step's is
    that with the step number: a resumed run draws what the uninterrupted one would.

    Args:
      state: before the epoch.
      inputs: of `backbone.prepare`.
      data: the training interactions.
      similarity, gamma: of the training score; None for plain BPR.
      hyperparameters: the backbone's.
      backbone, batch_size: constants; a step has `batch_size` triples at most.

    Returns:
      The state after the epoch, the mean loss `[]` and whether all is finite `[]`.
    """
    score = make_score(similarity, gamma)
    steps, rows = epoch_shape(data.users.shape[0], batch_size)
    optimizer = backbone.optimizer(hyperparameters, steps)
    epoch = state.epoch + 1
    epoch_key = jax.random.fold_in(jax.random.wrap_key_data(state.seed_key, impl=PRNG), epoch)
    order = jax.random.permutation(jax.random.fold_in(epoch_key, steps), data.users.shape[0])
    order = jnp.concatenate([order, order[: steps * rows - order.size]])
    inputs = backbone.per_epoch(jax.random.fold_in(epoch_key, steps + 1), inputs, hyperparameters)

    def loss_function(params: Any, batch: Batch, key: Array) -> Array:
        encode_key, loss_key = jax.random.fold_in(key, 0), key
        encoded = backbone.encode(params, inputs, hyperparameters, encode_key)
        return backbone.loss(params, encoded, batch, score, hyperparameters, loss_key)

    def step(carry: tuple[Any, Any], step_input: tuple[Array, Array]) -> tuple[tuple[Any, Any], Array]:
        params, opt_state = carry
        number, chosen = step_input
        negative_key, loss_key = jax.random.split(jax.random.fold_in(epoch_key, number))
        users = data.users[chosen]
        negatives = sample_unseen(negative_key, data.histories, users, data.num_items)
        batch = Batch(users, data.items[chosen], negatives)
        loss, gradients = jax.value_and_grad(loss_function)(params, batch, loss_key)
        params = _once_read(params, gradients, backbone.tables, number)
        with jax.numpy_dtype_promotion("standard"):  # optax raises its decay to an integer count
            updates, opt_state = optimizer.update(gradients, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), loss

    carry = (state.params, state.opt_state)
    (params, opt_state), losses = lax.scan(step, carry, (jnp.arange(steps), order.reshape(steps, rows)))
    loss = jnp.mean(losses)
    finite = jax.tree.reduce(lambda so_far, leaf: so_far & jnp.all(jnp.isfinite(leaf)), params, jnp.isfinite(loss))
    return TrainState(params, opt_state, state.seed_key, epoch), loss, finite


def _once_read(params: Any, gradients: Any, tables: tuple[str, ...], step: Array) -> Any:
    """The parameters as they are, the tables not before the gradients of all others are there.

    These gradients may read a table that the update overwrites: unless the update waits for
    them, the compiler copies the table, 115 MB for 7,050 x 4,096 features. What waits must
    look as if it might choose; it never does, as no step is below zero.
    """
    others = [leaf for name, part in gradients.items() if name not in tables for leaf in jax.tree.leaves(part)]
    firsts = [leaf[(0,) * leaf.ndim] for leaf in others if leaf.size]
    if not firsts:
        return params
    there = functools.reduce(lambda so_far, first: so_far | (first == first), firsts, step >= 0)
    return {
        name: jax.tree.map(lambda leaf: jnp.where(there, leaf, jnp.zeros_like(leaf)), part) if name in tables else part
        for name, part in params.items()
    }
