"""A backbone put together with its problem: first state, and compiled epoch, validation and encoder.

Functions are compiled once for each backbone, batch size and placement, and again only for
other shapes: everything that is a number is an argument. A second learner of the same shapes
in one process compiles nothing.

Their matrix products are in float32 on every device, unless JAX is set to another precision.
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from isolator_jax._ordered import compiler_options
from isolator_jax.backbones import Backbone, Encoded, Hyperparameters, get_backbone
from isolator_jax.backbones.checked import checked
from isolator_jax.devices.placement import Placement
from isolator_jax.evaluation import mean_recall, users_to_validate
from isolator_jax.histories import Histories
from isolator_jax.neighbours import NeighbourSearch, nearest_neighbours
from isolator_jax.precision import in_float32
from isolator_jax.runs.cache import cached_nearest_neighbours
from isolator_jax.runs.config import RunConfig
from isolator_jax.runs.problem import Problem
from isolator_jax.training import FitState, TrainData, TrainState, epoch_shape, init_state, run_epoch


@dataclasses.dataclass(frozen=True)
class Learner:
    """What trains and encodes one backbone on one problem.

    Attributes:
      backbone: as it is trained on the problem's devices.
      hyperparameters: the backbone's.
      problem: its data, on its devices.
      inputs: graphs and features of `Backbone.prepare`.
      gamma: exponent of the training strategy; None trains plain BPR.
      batch_size: triples a step, at most.
    """

    backbone: Backbone
    hyperparameters: Hyperparameters
    problem: Problem
    inputs: Any
    gamma: float | None
    batch_size: int

    @property
    def epoch_shape(self) -> tuple[int, int]:
        """Steps of an epoch, and triples of a step."""
        return epoch_shape(self.problem.train.users.shape[0], self.batch_size)

    def initial_state(self, seed: int) -> FitState:
        """The state before the first epoch, in its place."""
        steps, _ = self.epoch_shape
        state = init_state(self.backbone, self.hyperparameters, self.problem.shown, seed=seed, steps_per_epoch=steps)
        return self.problem.placement.state(FitState.start(state), self.backbone)

    @property
    def epoch_program(self) -> Any:
        """The jitted epoch, `(state, *epoch_arguments) -> (state, mean loss, all finite)`; the state is donated."""
        return _epoch_program(self.backbone, self.batch_size, self.problem.placement)

    def epoch_arguments(self, data: TrainData | None = None) -> tuple[Any, ...]:
        """What `epoch_program` takes besides the state.

        Args:
          data: training interactions in place of the problem's.
        """
        similarity = gamma = None
        if self.gamma is not None:
            assert self.problem.content is not None, "make_problem refuses the training strategy without content"
            similarity, gamma = self.problem.content.similarity, jnp.float32(self.gamma)
        return self.inputs, data or self.problem.train, similarity, gamma, self.hyperparameters

    def train_epoch(self, state: TrainState) -> tuple[TrainState, Array, Array]:
        """One epoch: the state after it, its mean loss, and whether all is finite. `state` is donated."""
        return self.epoch_program(state, *self.epoch_arguments())

    def validate(self, params: Any) -> Array:
        """Mean validation Recall@20 of plain f, `[]`.

        Plain f ranks as D-ISOLATOR does, so the best epoch does not depend on alpha, beta and
        iota: one trained model answers all of their settings.
        """
        program = _validation_program(self.backbone, self.problem.placement)
        sets = (self.problem.train.histories, self.problem.validation)
        return program(params, self.inputs, self.hyperparameters, self._users_to_validate, *sets)

    @functools.cached_property
    def _users_to_validate(self) -> Array:
        return users_to_validate(self.problem.train.histories, self.problem.validation)

    def encode(self, params: Any) -> Encoded:
        """Embeddings of all users and items under some parameters, without extras."""
        return _encoder(self.backbone)(params, self.inputs, self.hyperparameters)


def make_learner(config: RunConfig, problem: Problem, cache_dir: str | Path | None = None) -> Learner:
    """The learner of a run's configuration.

    Args:
      config: the run's.
      problem: its data, from `make_problem`.
      cache_dir: where nearest-neighbour lists are kept; None: nowhere.

    Raises:
      ConfigError: a backbone that breaks its contract (`backbones.checked`), as soon as it is seen.
    """
    dataset, hyperparameters = problem.shown, config.hyperparameters
    kept_to = checked(get_backbone(config.backbone), dataset.num_users, dataset.num_items)
    backbone = problem.placement.backbone(kept_to)
    find: NeighbourSearch = nearest_neighbours if cache_dir is None else cached_nearest_neighbours(cache_dir)
    return Learner(
        backbone=backbone,
        hyperparameters=hyperparameters,
        problem=problem,
        inputs=backbone.prepare(dataset, hyperparameters, find_neighbours=find),
        gamma=config.gamma if config.training_strategy else None,
        batch_size=config.batch_size,
    )


@functools.cache
def _epoch_program(backbone: Backbone, batch_size: int, placement: Placement) -> Callable[..., Any]:
    @in_float32
    def epoch(state: TrainState, *arguments: Any) -> tuple[TrainState, Array, Array]:
        state, loss, finite = run_epoch(state, *arguments, backbone=backbone, batch_size=batch_size)
        return placement.constrain(state, backbone), loss, finite

    return jax.jit(epoch, donate_argnums=0, compiler_options=compiler_options())


@functools.cache
def _validation_program(backbone: Backbone, placement: Placement) -> Callable[..., Array]:
    @functools.partial(jax.jit, compiler_options=compiler_options())
    @in_float32
    def validate(
        params: Any, inputs: Any, hyperparameters: Any, users: Array, histories: Histories, truth: Histories
    ) -> Array:
        encoded = backbone.encode(params, inputs, hyperparameters)
        return mean_recall(encoded, users, histories, truth, count=placement.count_hits)

    return validate


@functools.cache
def _encoder(backbone: Backbone) -> Callable[..., Encoded]:
    @functools.partial(jax.jit, compiler_options=compiler_options())
    @in_float32
    def encode(params: Any, inputs: Any, hyperparameters: Any) -> Encoded:
        return backbone.encode(params, inputs, hyperparameters)._replace(extras=None)

    return encode
