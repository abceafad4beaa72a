"""What memory a run will take, from shapes alone: nothing is made that might not fit."""

import functools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from isolator_jax.backbones import get_backbone
from isolator_jax.data import Dataset
from isolator_jax.devices.placement import Placement
from isolator_jax.features import fuse_normalized
from isolator_jax.runs.config import RunConfig
from isolator_jax.runs.learner import make_learner
from isolator_jax.runs.problem import make_problem
from isolator_jax.similarity import SimilarityFromFeatures, SimilarityTable, build_similarity

# Measured on the CPU, on Baby's sizes: the peak of a run less the other parts.
_PROGRAMS = 300_000_000


class MemoryPlan(NamedTuple):
    """Bytes of a run on all of its devices, by what holds them.

    Attributes:
      state: parameters, optimiser state, and the best parameters, kept and while they are copied.
      similarity: the stored similarities, the features as they are read and normalised, and
        the item similarities that the store is made from.
      inputs: graphs, features and interactions.
      step: what the compiled epoch needs for itself.
      checkpoint: the copy of the state that is written.
      programs: what compiling and the compiled programs take, as measured.
    """

    state: int
    similarity: int
    inputs: int
    step: int
    checkpoint: int
    programs: int = _PROGRAMS

    @property
    def total(self) -> int:
        return sum(self)


def plan_memory(config: RunConfig, dataset: Dataset, placement: Placement, available: int) -> MemoryPlan:
    """The memory plan of a training run.

    Args:
      config, dataset, placement: the run.
      available: bytes there are. Where the training state and the similarities alone exceed
        them, the plan ends there, and the rest of it is zero: graphs and features are not made.

    Raises:
      DataError: the data lacks what the configuration needs.
    """
    backbone, hyperparameters = get_backbone(config.backbone), config.hyperparameters
    params = parameter_shapes(config, dataset)
    moments = jax.eval_shape(backbone.optimizer(hyperparameters, 1).init, params)
    similarity, made_from = _similarity_shapes(config, dataset)
    saved = _bytes(moments) + 2 * _bytes(params)
    plan = MemoryPlan(
        state=saved + _bytes(params), similarity=_bytes(similarity) + made_from, inputs=0, step=0, checkpoint=saved
    )
    if plan.total > available:
        return plan
    learner = make_learner(config, make_problem(config, dataset, placement, with_content=False))
    state = jax.eval_shape(functools.partial(learner.initial_state, config.seed)).train
    inputs, data = learner.inputs, learner.problem.train
    content = (similarity, jnp.float32(config.gamma)) if config.training_strategy else (None, None)
    program = learner.epoch_program.lower(state, inputs, data, *content, hyperparameters)
    step = program.compile().memory_analysis().temp_size_in_bytes
    return plan._replace(inputs=_held_bytes((inputs, data)), step=step * placement.size)


def parameter_shapes(config: RunConfig, dataset: Dataset) -> Any:
    """The shapes of the backbone's parameters."""
    init = get_backbone(config.backbone).init
    return jax.eval_shape(lambda: init(jax.random.key(0), dataset, config.hyperparameters))


def _similarity_shapes(config: RunConfig, dataset: Dataset) -> tuple[Any, int]:
    """The shapes of the similarity store, and the bytes of what it is made from; None and 0 without features."""
    if not dataset.features:
        return None, 0
    build = functools.partial(
        build_similarity,
        table_budget_bytes=config.similarity_budget_mb << 20,
        table_dtype=jnp.dtype(config.similarity_dtype),
    )
    histories = dataset.train.histories(dataset.num_users)
    channels = jax.eval_shape(functools.partial(fuse_normalized, fusion=config.fusion), _shapes(dataset.features))
    store = jax.eval_shape(build, channels, histories)
    item_similarity = 4 * dataset.num_items**2 if isinstance(store, SimilarityTable) else 0
    # Several channels are made one by one, then put together.
    parts = _bytes(store) if len(channels) > 1 and not isinstance(store, SimilarityFromFeatures) else 0
    # Features as they are read, normalised by modality, and fused.
    return store, 3 * _bytes(channels) + item_similarity + parts


def _shapes(features: Mapping[str, np.ndarray]) -> list[jax.ShapeDtypeStruct]:
    return [jax.ShapeDtypeStruct(x.shape, jnp.float32) for x in features.values()]


def _held_bytes(tree: Any) -> int:
    """What arrays take on all devices: of those that lie on each, as often."""
    return sum(_shard_bytes(leaf) * len(leaf.sharding.device_set) for leaf in jax.tree.leaves(tree))


def _shard_bytes(array: jax.Array) -> int:
    return math.prod(array.sharding.shard_shape(array.shape)) * array.dtype.itemsize


def _bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
