"""SLMRec: self-supervised multimedia recommendation, task FAC (Tao et al., IEEE TMM 2023)."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

from isolator_jax import losses
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
from isolator_jax.graph import bipartite_graph, mean_of_layers
from isolator_jax.neighbours import NeighbourSearch


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
    """What the loss needs besides the embeddings.

    Attributes:
      items: propagated items `[I, D]`: by ID, then by each modality in order.
    """

    items: tuple[Array, ...]


def prepare(dataset: Dataset, hyperparameters: SLMRecHyperparameters, *, find_neighbours: NeighbourSearch) -> Inputs:
    """The normalised training graph, and each modality's l2-normalised features, in order."""
    train = dataset.train
    return {
        "graph": bipartite_graph(train.users, train.items, dataset.num_users, dataset.num_items),
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
    """LightGCN's mean of layers by ID and by each modality, fused by a dense layer."""
    items = [params["item"]]
    items += [dense(params["projection"][str(m)], x) for m, x in enumerate(inputs["features"])]
    # Side by side, the shared user table once for each view: one sparse product a layer.
    nodes = jnp.concatenate([jnp.tile(params["user"], len(items)), jnp.concatenate(items, axis=1)])
    nodes = mean_of_layers(inputs["graph"], nodes, hyperparameters.layers)
    users = params["user"].shape[0]
    return Encoded(
        dense(params["fuse_user"], nodes[:users]),
        dense(params["fuse_item"], nodes[users:]),
        Propagated(tuple(jnp.split(nodes[users:], len(items), axis=1))),
    )


def softmax_loss(encoded: Encoded, batch: Batch, score: Score, temperature: ArrayLike) -> Array:
    """In-batch softmax over the scores of cosines, each user's positive against the others'.

    Row a, column b: score(cos(u_a, i_b), u_a, i_b) / temperature, i_b the b-th positive.
    """
    users = losses.l2_normalize(encoded.users[batch.users])
    items = losses.l2_normalize(encoded.items[batch.positives])
    scores = score(users @ items.T, batch.users[:, None], batch.positives[None, :])
    return losses.in_batch_softmax(scores / temperature)


def contrasts(params: Params, items: Sequence[Array], batch: Batch, temperature: ArrayLike) -> Array:
    """Contrasts of the propagated items of the batch's positives, plain InfoNCE.

    z_1 = G_1 id is compared with the first modality, z_2 = G_2 z_1 with the second and so
    on at width D; the last modality, unless it is the first, is compared with a last layer
    of the last z at width D / 2. With two modalities z_2 has no comparison of its own.
    """
    z, *modalities = (view[batch.positives] for view in items)
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
    auxiliary = contrasts(params, encoded.extras.items, batch, hyperparameters.contrast_temperature)
    ranking = softmax_loss(encoded, batch, score, hyperparameters.temperature)
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
