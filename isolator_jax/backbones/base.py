"""The protocol of a backbone: what a recommender must provide to be trained and scored.

A backbone is a `Backbone` record of pure functions over pytrees. It produces user and
item embeddings, f(u, i) is their inner product, and it never sees ISOLATOR: its loss
receives a `Score` that turns raw scores into whatever is being trained.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, TypeVar, dataclass_transform, get_origin, get_type_hints

import jax
import jax.numpy as jnp
import optax
from jax import Array

from isolator_jax import losses
from isolator_jax._sparse import take_rows
from isolator_jax.data import Dataset
from isolator_jax.errors import ConfigError
from isolator_jax.neighbours import NeighbourSearch

Params = dict[str, Any]
# A dict of graphs and arrays; on several devices a pytree that holds one.
Inputs = Any

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
      extras: a NamedTuple of the backbone's own, of the intermediates that its loss needs
        besides; None where it needs none. Nothing else looks inside, but on several devices an
        input that is a table is None there: a step should not exchange its rows.
    """

    users: Array
    items: Array
    extras: Any = None


def bounded(
    default: Any,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    static: bool = False,
) -> Any:
    """A hyper-parameter's field: its default, and the range its values must lie in.

    Args:
      least, most: the smallest and the largest value, themselves allowed.
      above: what values must exceed.
      static: whether a number that is no integer is a constant of compiled functions all the same.
    """
    return dataclasses.field(default=default, metadata={"least": least, "above": above, "most": most, "static": static})


def hyperparameter_types(kind: type) -> dict[str, Any]:
    """The type of each hyper-parameter of a class of them.

    Raises:
      ConfigError: it has others that are no fields, as it is not decorated.
    """
    types = get_type_hints(kind)
    found = {field.name: types[field.name] for field in dataclasses.fields(kind)}
    lost = [name for name, hint in types.items() if name not in found and get_origin(hint) is not ClassVar]
    if lost:
        raise ConfigError(f"{kind.__name__} must be decorated by hyperparameters: {lost[0]} is none of its fields")
    return found


Kind = TypeVar("Kind")


@dataclass_transform(frozen_default=True)
def hyperparameters(kind: type[Kind]) -> type[Kind]:
    """Makes a class a frozen dataclass that compiled functions take as an argument.

    Its float fields are leaves: functions that are compiled for one value serve all. Integers
    and truth values, which shapes and loops depend on, are constants.
    """
    kind = dataclasses.dataclass(frozen=True)(kind)
    types = hyperparameter_types(kind)
    fields = dataclasses.fields(kind)  # type: ignore[arg-type]
    traced = [field.name for field in fields if types[field.name] is float and not field.metadata.get("static")]
    constant = [field.name for field in fields if field.name not in traced]
    return jax.tree_util.register_dataclass(kind, data_fields=traced, meta_fields=constant)


@hyperparameters
class Hyperparameters:
    """What every backbone has.

    Attributes:
      dim: embedding width D.
      learning_rate: Adam's step size.
      of_batch_size: names of those that are a run's batch size where they are not given.
    """

    of_batch_size: ClassVar[tuple[str, ...]] = ()

    dim: int = bounded(64, least=1, most=65536)
    learning_rate: float = bounded(1e-3, above=0)


def ranking_loss(encoded: Encoded, batch: Batch, score: Score) -> Array:
    """BPR on the scores of the batch's positives and negatives (Eq. 5)."""
    users = take_rows(encoded.users, batch.users)
    positives, negatives = (take_rows(encoded.items, items) for items in (batch.positives, batch.negatives))
    return bpr_of_rows(users, positives, negatives, batch, score)


def bpr_of_rows(users: Array, positives: Array, negatives: Array, batch: Batch, score: Score) -> Array:
    """`ranking_loss` of the batch's embeddings, `[B, D]` each."""
    return losses.bpr(
        score(jnp.sum(users * positives, axis=1), batch.users, batch.positives),
        score(jnp.sum(users * negatives, axis=1), batch.users, batch.negatives),
    )


def adam(hyperparameters: Hyperparameters, steps_per_epoch: int) -> optax.GradientTransformation:
    """Adam with a constant learning rate."""
    del steps_per_epoch
    return optax.adam(hyperparameters.learning_rate)


def nothing_to_prepare(dataset: Dataset, hyperparameters: Any, *, find_neighbours: NeighbourSearch) -> Inputs:
    """The inputs of a backbone that has parameters alone."""
    del dataset, hyperparameters, find_neighbours
    return {}


def same_inputs(key: Array, inputs: Inputs, hyperparameters: Any) -> Inputs:
    """`Backbone.per_epoch` of a backbone that draws nothing."""
    del key, hyperparameters
    return inputs


@dataclasses.dataclass(frozen=True)
class Backbone:
    """One recommender.

    Attributes:
      label: its name in tables and figures.
      hyperparameters: its dataclass, a subclass of `Hyperparameters`, decorated alike.
      init: `(key, dataset, hyperparameters) -> params`, a dict. Feature tables that are trained are its
        `features`, `[I, F_m]` by modality.
      encode: `(params, inputs, hyperparameters, key=None) -> Encoded`; the key is for noise in
        training, None means none.
      loss: `(params, encoded, batch, score, hyperparameters, key) -> []`: ranking and
        auxiliary terms together.
      tables: names of the parameters and inputs that have a row for each user, item or node;
        on several devices these lie by row.
      graph_based: whether it propagates over the user-item graph.
      uses_content: whether it needs item features.
      prepare: `(dataset, hyperparameters, *, find_neighbours) -> inputs`, a dict: graphs and
        features as device arrays, made once; an argument of every compiled function.
        `find_neighbours` is `neighbours.nearest_neighbours`, or answers from a cache.
      per_epoch: `(key, inputs, hyperparameters) -> inputs`: what is drawn anew before each
        epoch, in static shapes.
      optimizer: `(hyperparameters, steps_per_epoch) -> optax transformation`.
    """

    label: str
    hyperparameters: type[Hyperparameters]
    init: Callable[[Array, Dataset, Any], Params]
    encode: Callable[..., Encoded]
    loss: Callable[[Params, Encoded, Batch, Score, Any, Array], Array]
    tables: tuple[str, ...]
    graph_based: bool
    uses_content: bool
    prepare: Callable[..., Inputs] = nothing_to_prepare
    per_epoch: Callable[[Array, Inputs, Any], Inputs] = same_inputs
    optimizer: Callable[[Any, int], optax.GradientTransformation] = adam


def embedding_table(key: Array, rows: int, width: int) -> Array:
    """A Xavier-initialised table `[rows, width]`."""
    return jax.nn.initializers.xavier_uniform()(key, (rows, width), jnp.float32)


def dense_init(key: Array, inputs: int, outputs: int, bias: bool = True) -> Params:
    """A dense layer: Xavier weight `[outputs, inputs]` and, if asked for, zero bias `[outputs]`."""
    params = {"weight": jax.nn.initializers.xavier_uniform()(key, (outputs, inputs), jnp.float32)}
    return {**params, "bias": jnp.zeros(outputs, jnp.float32)} if bias else params


def dense(params: Params, x: Array) -> Array:
    """x W^T + b. `[..., inputs] -> [..., outputs]`.

    The weight is stored `[outputs, inputs]`: for tall x, its gradient is then the faster
    of the two matrix products (BUILD_NOTES.md).
    """
    y = x @ params["weight"].T
    return y + jnp.broadcast_to(params["bias"], y.shape) if "bias" in params else y
