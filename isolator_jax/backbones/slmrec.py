"""SLMRec: self-supervised multimedia recommendation, task FAC (Tao et al., IEEE TMM 2023)."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
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
    dense,
    dense_init,
    embedding_table,
    hyperparameters,
)
from isolator_jax.data import Dataset
from isolator_jax.graph import Graph, bipartite_graph, propagate, propagate_back
from isolator_jax.neighbours import NeighbourSearch, user_rows


@hyperparameters
class SLMRecHyperparameters(Hyperparameters):
    """
    Attributes:
      layers: propagations.
      temperature: of the in-batch softmax.
      contrast: weight of the auxiliary contrasts.
      contrast_temperature: their temperature.
      weight_decay: L2 decay, added to the gradient.
    """

    dim: int = bounded(64, least=2, most=65536)  # the last contrast is at half the width
    layers: int = bounded(3, least=0, most=100)
    temperature: float = bounded(0.2, above=0)
    contrast: float = bounded(0.05, least=0)
    contrast_temperature: float = bounded(0.5, above=0)
    weight_decay: float = bounded(1e-4, least=0)


class Propagated(NamedTuple):
    """The mean of the layers at some nodes, what comes from the users' table apart from what comes from the items.

    All views share the user table, so its part is made once. A view is the sum of both parts.

    Attributes:
      shared: `[..., D]`, from the user table.
      own: `[..., V D]`, from the items, the views side by side: by ID, then by each modality in order.
    """

    shared: Array
    own: Array

    def rows(self, nodes: Array) -> "Propagated":
        """Of some nodes, `[R] int32`."""
        return Propagated(take_rows(self.shared, nodes), take_rows(self.own, nodes))

    def views(self) -> Array:
        """The views side by side, `[R, V D]`."""
        shared, own = self
        return jnp.tile(shared, own.shape[1] // shared.shape[1]) + own


class Sides(NamedTuple):
    """What the loss fuses its batch's rows from: users `[U, ...]` and items `[I, ...]`."""

    users: Propagated
    items: Propagated


def prepare(dataset: Dataset, hyperparameters: SLMRecHyperparameters, *, find_neighbours: NeighbourSearch) -> Inputs:
    """The block R_hat of the normalised training graph, and each modality's l2-normalised features, in order."""
    train = dataset.train
    graph = bipartite_graph(train.users, train.items, dataset.num_users, dataset.num_items)
    return {
        "user_rows": user_rows(graph, dataset.num_users),
        "features": tuple(losses.l2_normalize(jnp.asarray(x, jnp.float32)) for x in dataset.features.values()),
    }


def init(key: Array, dataset: Dataset, hyperparameters: SLMRecHyperparameters) -> Params:
    """Tables, projections, fusion and the layers of the contrasts, numbered from "0".

    `merge` are the layers that carry the ID view on (G1, G2, ...), `compare` those of the
    modalities compared at width D, `last_merge` and `last_compare` those of the last
    modality, compared at width D / 2.
    """
    dim = hyperparameters.dim
    widths = [x.shape[1] for x in dataset.features.values()]
    modalities = len(widths)
    keys = iter(jax.random.split(key, 6 + 3 * modalities + 2))

    def layers(sizes: list[int]) -> Params:
        return {str(number): dense_init(next(keys), size, dim) for number, size in enumerate(sizes)}

    params = {
        "user": embedding_table(next(keys), dataset.num_users, dim),
        "item": embedding_table(next(keys), dataset.num_items, dim),
        "projection": layers(widths),
        "fuse_user": dense_init(next(keys), (modalities + 1) * dim, dim),
        "fuse_item": dense_init(next(keys), (modalities + 1) * dim, dim),
        "merge": layers([dim] * (1 if modalities == 1 else max(2, modalities - 1))),
        "compare": layers([dim] * max(1, modalities - 1)),
    }
    if modalities > 1:
        params["last_merge"] = dense_init(next(keys), dim, dim // 2)
        params["last_compare"] = dense_init(next(keys), dim, dim // 2)
    return params


def encode(params: Params, inputs: Inputs, hyperparameters: SLMRecHyperparameters, key: Array | None = None) -> Encoded:
    """LightGCN's mean of layers by ID and by each modality, fused by a dense layer; extras: before the fusion."""
    items = [params["item"]]
    items += [dense(params["projection"][str(m)], x) for m, x in enumerate(inputs["features"])]
    # The views side by side: one sparse product a layer.
    sides = propagate_apart(inputs["user_rows"], params["user"], jnp.concatenate(items, axis=1), hyperparameters.layers)
    return Encoded(
        dense(params["fuse_user"], sides.users.views()), dense(params["fuse_item"], sides.items.views()), sides
    )


def propagate_apart(rows: Graph, users: Array, items: Array, layers: int) -> Sides:
    """The mean of A_hat's layers over [users; items], by where they come from.

    A_hat is bipartite: a layer takes what comes from the users to the items and back by turns,
    and what comes from the items to the users and back, by half of its edges each.

    Args:
      rows: R_hat, from items to users.
      users: `[U, D]`, shared by the views.
      items: `[I, V D]`, the views side by side.
      layers: propagations.
    """
    of_users = [users, jnp.zeros((items.shape[0], users.shape[1]), users.dtype)]  # at the users, at the items
    of_items = [jnp.zeros((users.shape[0], items.shape[1]), items.dtype), items]
    for layer in range(layers):
        users, items = (
            (propagate_back(rows, users), propagate(rows, items))
            if layer % 2 == 0
            else (propagate(rows, users), propagate_back(rows, items))
        )
        of_users[1 - layer % 2] += users
        of_items[layer % 2] += items
    return Sides(*(Propagated(a / (layers + 1), b / (layers + 1)) for a, b in zip(of_users, of_items, strict=True)))


def softmax_loss(users: Array, items: Array, batch: Batch, score: Score, temperature: ArrayLike) -> Array:
    """In-batch softmax over the scores of cosines, each user's positive against the others'.

    Row a, column b: score(cos(u_a, i_b), u_a, i_b) / temperature, i_b the b-th positive.

    Args:
      users, items: `[B, D]`, embeddings of the batch's users and positives.
    """
    cosines = losses.l2_normalize(users) @ losses.l2_normalize(items).T
    scores = score(cosines, batch.users[:, None], batch.positives[None, :])
    return losses.in_batch_softmax(scores / temperature)


def contrasts(params: Params, views: Sequence[Array], temperature: ArrayLike) -> Array:
    """Contrasts of the propagated items of the batch's positives, plain InfoNCE.

    z_1 = G_1 id is compared with the first modality, z_2 = G_2 z_1 with the second and so
    on at width D; the last modality, unless it is the first, is compared with a last layer
    of the last z at width D / 2. With two modalities z_2 has no comparison of its own.

    Args:
      views: `[B, D]` each, of the batch's positives: by ID, then by each modality.
    """
    z, *modalities = views
    loss = jnp.float32(0)
    for number in range(len(params["merge"])):
        z = dense(params["merge"][str(number)], z)
        if str(number) in params["compare"]:
            compared = dense(params["compare"][str(number)], modalities[number])
            loss += losses.info_nce(z, compared, temperature)
    if "last_merge" in params:
        compared = dense(params["last_compare"], modalities[-1])
        loss += losses.info_nce(dense(params["last_merge"], z), compared, temperature)
    return loss


def loss(
    params: Params,
    encoded: Encoded,
    batch: Batch,
    score: Score,
    hyperparameters: SLMRecHyperparameters,
    key: Array,
) -> Array:
    """The in-batch softmax + contrast * the contrasts."""
    sides: Sides = encoded.extras
    users, positives = sides.users.rows(batch.users).views(), sides.items.rows(batch.positives).views()
    auxiliary = contrasts(
        params,
        jnp.split(positives, positives.shape[1] // hyperparameters.dim, axis=1),
        hyperparameters.contrast_temperature,
    )
    ranking = softmax_loss(
        dense(params["fuse_user"], users),
        dense(params["fuse_item"], positives),
        batch,
        score,
        hyperparameters.temperature,
    )
    return ranking + hyperparameters.contrast * auxiliary


def adam(hyperparameters: SLMRecHyperparameters, steps_per_epoch: int) -> optax.GradientTransformation:
    """Adam on the gradient plus weight_decay times the parameters."""
    return optax.chain(
        optax.add_decayed_weights(hyperparameters.weight_decay), optax.adam(hyperparameters.learning_rate)
    )


SLMREC = Backbone(
    label="SLMRec",
    hyperparameters=SLMRecHyperparameters,
    prepare=prepare,
    init=init,
    encode=encode,
    loss=loss,
    tables=("user", "item", "features"),
    graph_based=True,
    uses_content=True,
    optimizer=adam,
)
