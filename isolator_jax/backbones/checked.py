"""What a backbone must hold to, looked at while its functions are traced: it costs nothing when they run."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from isolator_jax.backbones.base import Backbone, Batch, Encoded, Params, Score
from isolator_jax.data import Dataset
from isolator_jax.errors import ConfigError


def checked(backbone: Backbone, num_users: int, num_items: int) -> Backbone:
    """The backbone, whose functions refuse what breaks `Backbone`'s contract.

    Raises:
      ConfigError: `tables` is no tuple of names. From `init`: parameters that are no dict of float
        arrays. From `encode`: no embeddings `[U, D]` and `[I, D]` of these users and items, or
        `tables` names what there is not. From `loss`: no scalar.
    """
    if not isinstance(backbone.tables, tuple) or not all(isinstance(name, str) for name in backbone.tables):
        raise ConfigError(f"{backbone.label}: tables must be a tuple of names, got {backbone.tables!r}")
    return _checked(backbone, num_users, num_items)


@functools.cache
def _checked(backbone: Backbone, num_users: int, num_items: int) -> Backbone:
    label = backbone.label

    def init(key: Array, dataset: Dataset, hyperparameters: Any) -> Params:
        params = backbone.init(key, dataset, hyperparameters)
        if not isinstance(params, dict):
            raise ConfigError(f"{label}: init must return a dict of arrays, got {type(params).__name__}")
        return jax.tree_util.tree_map_with_path(lambda path, leaf: _float_array(label, path, leaf), params)

    def encode(params: Params, inputs: Any, hyperparameters: Any, key: Array | None = None) -> Encoded:
        unknown = [name for name in backbone.tables if name not in params and name not in inputs]
        if unknown:
            raise ConfigError(f"{label}: tables names {unknown[0]!r}, which neither parameters nor inputs have")
        encoded = backbone.encode(params, inputs, hyperparameters, key)
        if not isinstance(encoded, Encoded):
            raise ConfigError(f"{label}: encode must return Encoded, got {type(encoded).__name__}")
        shapes = [jnp.shape(embeddings) for embeddings in encoded[:2]]
        if [shape[:-1] for shape in shapes] != [(num_users,), (num_items,)] or shapes[0][-1] != shapes[1][-1]:
            raise ConfigError(
                f"{label}: encode must return users [{num_users}, D] and items [{num_items}, D], "
                f"got {list(shapes[0])} and {list(shapes[1])}"
            )
        return encoded

    def loss(params: Params, encoded: Encoded, batch: Batch, score: Score, hyperparameters: Any, key: Array) -> Array:
        value = backbone.loss(params, encoded, batch, score, hyperparameters, key)
        if value is None or jnp.shape(value):
            got = "None" if value is None else f"shape {list(jnp.shape(value))}"
            raise ConfigError(f"{label}: loss must return a scalar, got {got}")
        return value

    return dataclasses.replace(backbone, init=init, encode=encode, loss=loss)


def _float_array(label: str, path: tuple[Any, ...], leaf: Any) -> Array:
    try:
        array = jnp.asarray(leaf)
    except (TypeError, ValueError):
        array = None
    if array is None or not jnp.issubdtype(array.dtype, jnp.floating):
        what = type(leaf).__name__ if array is None else f"{array.dtype}"
        raise ConfigError(f"{label}: init's {jax.tree_util.keystr(path)} must be an array of floats, got {what}")
    return array
