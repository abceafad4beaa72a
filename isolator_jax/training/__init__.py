"""Training: the compiled epoch, the fit loop and its checkpoints."""

from isolator_jax.training.checkpoint import Checkpoints
from isolator_jax.training.epoch import (
    TrainData,
    TrainState,
    epoch_shape,
    init_state,
    make_score,
    make_train_data,
    run_epoch,
)
from isolator_jax.training.fit import EpochRecord, FitState, finished, fit

__all__ = [
    "Checkpoints",
    "EpochRecord",
    "FitState",
    "TrainData",
    "TrainState",
    "epoch_shape",
    "finished",
    "fit",
    "init_state",
    "make_score",
    "make_train_data",
    "run_epoch",
]
