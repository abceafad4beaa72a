"""A backbone put together with its problem: inputs, compiled functions, first state."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

from isolator_jax.backbones import Backbone, Encoded, get_backbone
from isolator_jax.devices import placement
from isolator_jax.evaluation import mean_recall, users_to_validate
from isolator_jax.runs.cache import cached_nearest_neighbours
from isolator_jax.runs.config import RunConfig
from isolator_jax.runs.problem import Problem
from isolator_jax.training import FitState, epoch_shape, init_state, make_epoch


def run_backbone(config: RunConfig, problem: Problem) -> Backbone:
    """The run's backbone, on the problem's devices."""
    backbone = get_backbone(config.backbone)
    if problem.mesh is None:
        return backbone
    return placement.on_mesh(backbone, problem.mesh, problem.dataset, config.hyperparameters)


def prepare_inputs(config: RunConfig, problem: Problem, cache_dir: str | Path | None = None) -> Any:
    """The backbone's graphs and features; nearest-neighbour lists are kept in `cache_dir`, if one is given."""
    backbone = run_backbone(config, problem)
    if backbone.uses_neighbours and cache_dir is not None:
        return backbone.prepare(problem.dataset, config.hyperparameters, cached_nearest_neighbours(cache_dir))
    return backbone.prepare(problem.dataset, config.hyperparameters)


def encode(config: RunConfig, problem: Problem, inputs: Any, params: Any) -> Encoded:
    """The run's embeddings of all users and items under some parameters."""
    backbone, hyperparameters = run_backbone(config, problem), config.hyperparameters
    return jax.jit(lambda params, inputs: backbone.encode(params, inputs, hyperparameters))(params, inputs)


def train_function(config: RunConfig, problem: Problem, inputs: Any) -> Callable:
    """The compiled epoch of a run, `train state -> (train state, mean loss, all finite)`."""
    backbone, hyperparameters = run_backbone(config, problem), config.hyperparameters
    epoch = make_epoch(backbone, hyperparameters, make_optimizer(config, problem), config.batch_size)
    if problem.mesh is not None:
        epoch = placement.epoch_on(epoch, problem.dataset, problem.mesh)
    epoch = jax.jit(epoch, donate_argnums=0)
    similarity, gamma = None, None
    if config.training_strategy:
        assert problem.content is not None, "make_problem refuses the training strategy without content"
        similarity, gamma = problem.content.similarity, jnp.float32(config.gamma)
    return lambda state: epoch(state, inputs, problem.train, similarity, gamma)


def validation_function(config: RunConfig, problem: Problem, inputs: Any) -> Callable:
    """The compiled validation of a run, `params -> mean Recall@20 of plain f`.

    Plain f ranks as D-ISOLATOR does, so the best epoch does not depend on alpha, beta and
    iota: one trained model answers all of their settings.
    """
    backbone, rank = run_backbone(config, problem), problem.rank
    users = users_to_validate(problem.train.histories, problem.validation)

    @jax.jit
    def validate(params, inputs, users, histories, truth):
        encoded = backbone.encode(params, inputs, config.hyperparameters)
        return mean_recall(encoded, users, histories, truth, rank=rank)

    return lambda params: validate(params, inputs, users, problem.train.histories, problem.validation)


def make_optimizer(config: RunConfig, problem: Problem) -> optax.GradientTransformation:
    """The backbone's optimiser, its schedule in steps of this run's epochs."""
    steps, _ = epoch_shape(problem.train.users.shape[0], config.batch_size)
    return get_backbone(config.backbone).optimizer(config.hyperparameters, steps)


def initial_state(config: RunConfig, problem: Problem) -> FitState:
    """The run's state before its first epoch."""
    backbone, optimizer = run_backbone(config, problem), make_optimizer(config, problem)
    state = FitState.start(init_state(backbone, config.hyperparameters, optimizer, problem.dataset, config.seed))
    return state if problem.mesh is None else placement.place_state(state, problem.dataset, problem.mesh)
