"""Runs on disk: configuration, problem, learner, folder, training, search."""

from isolator_jax.runs.folder import (
    check_run_folder,
    is_finished,
    locked,
    read_config,
    read_metrics,
    read_report,
    write_report,
)
from isolator_jax.runs.learner import (
    encode,
    initial_state,
    make_optimizer,
    prepare_inputs,
    run_backbone,
    train_function,
    validation_function,
)
from isolator_jax.runs.problem import Problem, evaluate_problem, load_dataset, make_problem
from isolator_jax.runs.train import load_model, load_run, strategies_of, train_run

__all__ = [
    "Problem",
    "check_run_folder",
    "encode",
    "evaluate_problem",
    "initial_state",
    "is_finished",
    "load_dataset",
    "load_model",
    "load_run",
    "locked",
    "make_optimizer",
    "make_problem",
    "prepare_inputs",
    "read_config",
    "read_metrics",
    "read_report",
    "run_backbone",
    "strategies_of",
    "train_function",
    "train_run",
    "validation_function",
    "write_report",
]
