"""What MGCN, GUME and in part SMORE share: purified content, the attention fuser, their optimiser.

Both give every node an ID view and one content view per modality, and fuse the content
views under gates of the ID view. Fusing is row-wise: `encode` fuses all nodes for scoring,
and the loss fuses the rows of its batch from the views, which `encode` gives it. A training
step reads no fused row of `encode`, so the compiler leaves them out (a test counts).
"""

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

from isolator_jax import losses
from isolator_jax._sparse import take_rows
from isolator_jax.backbones.base import (
    Batch,
    Encoded,
    Hyperparameters,
    Inputs,
    Params,
    Score,
    bounded,
    bpr_of_rows,
    dense,
    dense_init,
    embedding_table,
    hyperparameters,
)
from isolator_jax.data import Dataset
from isolator_jax.graph import Graph, propagate


@hyperparameters
class FusionHyperparameters(Hyperparameters):
    """Common to MGCN, SMORE and GUME.

    Attributes:
      neighbours: length of the items' nearest-neighbour lists.
      trainable_features: whether the feature tables, which start as the raw features, are
        trained (the papers); if not, they stay as they are.
      norm_batch: N_b, what the squared norms of a batch's rows are divided by.
      learning_rate_decay, decay_epochs: the learning rate after e epochs is
        learning_rate * learning_rate_decay^(e / decay_epochs).
    """

    of_batch_size: ClassVar[tuple[str, ...]] = ("norm_batch",)

    neighbours: int = bounded(10, least=1)
    trainable_features: bool = True
    norm_batch: int = bounded(2048, least=1)
    learning_rate_decay: float = bounded(0.96, above=0, most=1, static=True)
    decay_epochs: int = bounded(50, least=1)


class Views(NamedTuple):
    """The views of some nodes, before fusion.

    Attributes:
      identity: `[..., D]`, the ID view.
      content: a view `[..., D]` of each modality.
    """

    identity: Array
    content: dict[str, Array]

    def rows(self, nodes: Array) -> "Views":
        """The views of `nodes`, `[R] int32`."""
        return jax.tree.map(lambda view: take_rows(view, nodes), self)


class Fused(NamedTuple):
    """The views of some nodes, fused.

    Attributes:
      identity: `[..., D]`, the ID view.
      side: `[..., D]`, the content.
    """

    identity: Array
    side: Array

    @property
    def output(self) -> Array:
        """What is scored: ID view + side."""
        return self.identity + self.side


def adam(hyperparameters: FusionHyperparameters, steps_per_epoch: int) -> optax.GradientTransformation:
    """Adam whose learning rate decays from epoch to epoch and is constant within one."""

    learning_rate = optax.exponential_decay(
        hyperparameters.learning_rate,
        transition_steps=steps_per_epoch,
        decay_rate=hyperparameters.learning_rate_decay ** (1 / hyperparameters.decay_epochs),
        staircase=True,
    )
    return optax.adam(learning_rate)


def feature_inputs(dataset: Dataset, hyperparameters: FusionHyperparameters) -> Inputs:
    """The feature tables, `[I, F_m] float32` each, where they are not trained."""
    return {} if hyperparameters.trainable_features else {"features": _features(dataset)}


def feature_params(dataset: Dataset, hyperparameters: FusionHyperparameters) -> Params:
    """The feature tables where they are trained."""
    return {"features": _features(dataset)} if hyperparameters.trainable_features else {}


def feature_tables(params: Params, inputs: Inputs) -> dict[str, Array]:
    """The feature tables, trained or not."""
    return params["features"] if "features" in params else inputs["features"]


def init(key: Array, dataset: Dataset, hyperparameters: FusionHyperparameters) -> Params:
    """ID tables, the fuser, and for each modality its layers and trained feature table."""
    user_key, item_key, query_key, score_key, content_key = jax.random.split(key, 5)
    dim = hyperparameters.dim
    content = {}
    for number, (name, feature) in enumerate(dataset.features.items()):
        keys = jax.random.split(jax.random.fold_in(content_key, number), 3)
        content[name] = {
            "projection": dense_init(keys[0], feature.shape[1], dim),
            "purifier": dense_init(keys[1], dim, dim),
            "gate": dense_init(keys[2], dim, dim),
        }
    return {
        "user": embedding_table(user_key, dataset.num_users, dim),
        "item": embedding_table(item_key, dataset.num_items, dim),
        "content": content,
        "attention": {
            "query": dense_init(query_key, dim, dim),
            "score": dense_init(score_key, dim, 1, bias=False),
        },
        **feature_params(dataset, hyperparameters),
    }


def purify(params: Params, inputs: Inputs) -> dict[str, Array]:
    """Items' purified content id_i * sigmoid(G (W x_i + b) + g), `[I, D]` for each modality."""
    tables, purified = feature_tables(params, inputs), {}
    for name, layers in params["content"].items():
        projected = dense(layers["projection"], tables[name])
        purified[name] = params["item"] * jax.nn.sigmoid(dense(layers["purifier"], projected))
    return purified


def content_views(
    item_graphs: dict[str, Graph], rows: Graph, purified: dict[str, Array], layers: int
) -> dict[str, Array]:
    """Content of all nodes: items by `layers` propagations, users as the sum R_hat of theirs.

    Args:
      item_graphs: the modalities' item graphs on I nodes.
      rows: R_hat, from items to users.
      purified: `[I, D]` for each modality.

    Returns:
      `[N, D]` for each modality.
    """
    views = {}
    for name, x in purified.items():
        for _ in range(layers):
            x = propagate(item_graphs[name], x)
        views[name] = jnp.concatenate([propagate(rows, x), x])
    return views


def fuse_all(params: Params, views: Views, num_users: int, extras: Any) -> Encoded:
    """Embeddings of all nodes, with the backbone's `extras`."""
    output = fuse(params, views).output
    return Encoded(output[:num_users], output[num_users:], extras)


def fuse_batch(params: Params, views: Views, num_users: int, batch: Batch) -> Fused:
    """Fused rows of the batch's users, positives and negatives, `[3, B, D]` each."""
    nodes = jnp.stack([batch.users, num_users + batch.positives, num_users + batch.negatives])
    return fuse(params, views.rows(nodes))


def ranking_loss(fused: Fused, batch: Batch, score: Score) -> Array:
    """BPR (Eq. 5) of the batch's fused rows."""
    users, positives, negatives = fused.output
    return bpr_of_rows(users, positives, negatives, batch, score)


def contrast(fused: Fused, temperature: ArrayLike) -> Array:
    """InfoNCE of side and ID view, at the batch's users and at its positives."""
    users, positives = (cosine_info_nce(fused.side[part], fused.identity[part], temperature) for part in (0, 1))
    return users + positives


def contrastive_loss(fused: Fused, batch: Batch, score: Score, hyperparameters: Any) -> Array:
    """BPR + reg / 2 * |output rows|^2 / N_b + cl * `contrast`, of MGCN and SMORE."""
    penalty = hyperparameters.reg * squared_norm(fused.output, hyperparameters)
    return ranking_loss(fused, batch, score) + (
        penalty + hyperparameters.cl * contrast(fused, hyperparameters.temperature)
    )


def squared_norm(x: Array, hyperparameters: FusionHyperparameters) -> Array:
    """|x|^2 / (2 N_b)."""
    return jnp.sum(jnp.square(x)) / (2 * hyperparameters.norm_batch)


def cosine_info_nce(anchors: Array, positives: Array, temperature: ArrayLike) -> Array:
    """InfoNCE of l2-normalised rows. `[B, D], [B, D] -> []`."""
    return losses.info_nce(losses.l2_normalize(anchors), losses.l2_normalize(positives), temperature)


def fuse(params: Params, views: Views) -> Fused:
    """The attention fuser (Yu et al., MM 2023, behaviour-aware fuser).

    common = sum_m a_m x_m with a = softmax_m(v . tanh(Q x_m + c));
    side = (sum_m sigmoid(dense_m(ID view)) * (x_m - common) + common) / (M + 1).
    """
    query, score = params["attention"]["query"], params["attention"]["score"]
    hidden = [jnp.tanh(dense(query, view)) for view in views.content.values()]
    # Against the first, which softmax does not see: gradients are then no differences of large sums.
    logits = [dense(score, h - hidden[0]) for h in hidden]
    weights = jnp.split(jax.nn.softmax(jnp.concatenate(logits, axis=-1)), len(logits), axis=-1)
    parts = [weight * view for weight, view in zip(weights, views.content.values(), strict=True)]
    common = sum(parts, jnp.float32(0))
    sides = [
        jax.nn.sigmoid(dense(params["content"][name]["gate"], views.identity)) * (view - common)
        for name, view in views.content.items()
    ]
    return Fused(views.identity, (common + sum(sides, jnp.float32(0))) / (len(views.content) + 1))


def _features(dataset: Dataset) -> dict[str, Array]:
    return {name: jnp.asarray(feature, jnp.float32) for name, feature in dataset.features.items()}
