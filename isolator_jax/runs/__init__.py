"""Runs on disk: configuration, problem, learner, folder, training, search."""

from isolator_jax.runs.folder import (
    begin_run,
    check_run_folder,
    data_folder,
    finished_report,
    is_finished,
    read_config,
    read_report,
    vanilla_folder,
    write_report,
)
from isolator_jax.runs.ids import OriginalIds, id_mappings, original_ids
from isolator_jax.runs.learner import Learner, make_learner
from isolator_jax.runs.load import load_model, load_run
from isolator_jax.runs.lock import locked
from isolator_jax.runs.metrics import read_metrics
from isolator_jax.runs.problem import (
    Problem,
    evaluate_problem,
    load_dataset,
    make_problem,
    recommendations,
)
from isolator_jax.runs.train import strategies_of, time_to_save, train_run, train_with_vanilla

__all__ = [
    "Learner",
    "OriginalIds",
    "Problem",
    "begin_run",
    "check_run_folder",
    "data_folder",
    "evaluate_problem",
    "finished_report",
    "id_mappings",
    "is_finished",
    "load_dataset",
    "load_model",
    "load_run",
    "locked",
    "make_learner",
    "make_problem",
    "original_ids",
    "read_config",
    "read_metrics",
    "read_report",
    "recommendations",
    "strategies_of",
    "time_to_save",
    "train_run",
    "train_with_vanilla",
    "vanilla_folder",
    "write_report",
]
