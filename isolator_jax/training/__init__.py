"""Training: the compiled epoch, the fit loop and its checkpoints."""

from isolator_jax.training.checkpoint import CheckpointError, Checkpoints
from isolator_jax.training.epoch import (
    TrainData,
    TrainState,
    epoch_shape,
    init_state,
    make_epoch,
    make_score,
    make_train_data,
)
from isolator_jax.training.fit import EpochRecord, FitState, TrainingDiverged, TrainingInterrupted, finished, fit

__all__ = [
    "CheckpointError",
    "Checkpoints",
    "EpochRecord",
    "FitState",
    "TrainData",
    "TrainState",
    "TrainingDiverged",
    "TrainingInterrupted",
    "epoch_shape",
    "finished",
    "fit",
    "init_state",
    "make_epoch",
    "make_score",
    "make_train_data",
]
