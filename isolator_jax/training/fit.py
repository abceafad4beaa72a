"""The fit loop: epochs, validation, patience, best epoch."""

import dataclasses
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from isolator_jax import processes
from isolator_jax.errors import TrainingDiverged
from isolator_jax.training.epoch import TrainState

# A mean in float32 may be rounded by so much of its size.
_ROUNDING = 4 * float(jnp.finfo(jnp.float32).eps)


@struct.dataclass
class FitState:
    """What a checkpoint holds: enough to go on as if never interrupted.

    Attributes:
      train: parameters, optimiser, key and epoch.
      best_params: parameters of the best validation epoch so far.
      best_epoch: `[] int32`, 0 before the first validation.
      best_value: `[] float32`, its validation metric.
    """

    train: TrainState
    best_params: Any
    best_epoch: Array
    best_value: Array

    @classmethod
    def start(cls, train: TrainState) -> "FitState":
        return cls(train, _copy(train.params), jnp.int32(0), jnp.float32(-jnp.inf))


class EpochRecord(NamedTuple):
    """One line of a run's metrics: epoch number, mean loss, metric, seconds of both phases."""

    epoch: int
    loss: float
    validation: float
    train_seconds: float
    validation_seconds: float


def fit(
    state: FitState,
    train_epoch: Callable[[TrainState], tuple[TrainState, Array, Array]],
    validate: Callable[[Any], Array],
    *,
    max_epochs: int,
    patience: int,
    on_epoch: Callable[[FitState, EpochRecord], None],
    stop: Callable[[], bool] = lambda: False,
) -> FitState:
    """Trains until `max_epochs`, until `patience` epochs brought no better validation, or until told to stop.

    Args:
      state: where to start; its `train` part is donated.
      train_epoch: `train state -> (train state, mean loss, all finite)`.
      validate: `params -> metric`, higher is better.
      max_epochs: total epochs, those before a resume included.
      patience: epochs without improvement after which training stops; no improvement is what a float32 mean is
        rounded by.
      on_epoch: called after each epoch, with the state (to be read, not kept) and record.
      stop: asked before each epoch whether to end here.

    Returns:
      The final state.

    Raises:
      TrainingDiverged: the loss or a parameter is not finite; `on_epoch` is not called
        for that epoch.
    """
    while not finished(state, max_epochs=max_epochs, patience=patience) and not stop():
        started = time.perf_counter()
        train, loss, finite = train_epoch(state.train)
        epoch = int(train.epoch)
        if not bool(finite):
            raise TrainingDiverged(
                f"epoch {epoch}: the loss or a parameter is NaN or infinite (mean loss "
                f"{float(loss):g}); lower the learning rate or check the hyper-parameters"
            )
        trained = time.perf_counter()
        value = validate(train.params)
        record = EpochRecord(epoch, float(loss), float(value), trained - started, time.perf_counter() - trained)
        state = dataclasses.replace(state, train=train)
        best = float(state.best_value)
        # Hosts that round differently must not differ in what they do.
        if processes.of_first(improves(record.validation, best)):
            # Copies, which stay where the originals are.
            state = FitState(train, _copy(train.params), _copy(train.epoch), jnp.asarray(value, jnp.float32))
        on_epoch(state, record)
    return state


def improves(value: float, best: float) -> bool:
    """Whether a validation metric makes its epoch the best so far: by more than its float32 mean is rounded by.

    Equal recalls of other users would else be a gain or not by the order in which they are added up. The first
    epoch is the best in any case.
    """
    return math.isinf(best) or value - best > _ROUNDING * abs(best)


def finished(state: FitState, *, max_epochs: int, patience: int) -> bool:
    """Whether `fit` would train no further epoch."""
    epoch = int(state.train.epoch)
    return epoch >= max_epochs or epoch - int(state.best_epoch) >= patience


def _copy(params: Any) -> Any:
    # The train state is donated to the next epoch: what must outlive it is copied.
    return jax.tree.map(jnp.copy, params)
