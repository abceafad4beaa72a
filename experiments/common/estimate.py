"""What a run will take, from its compiled epoch and a few of its steps."""

import os
import time
from typing import Any

import jax
from tabulate import tabulate

from isolator_jax.errors import ConfigError
from isolator_jax.runs import Problem, make_learner
from isolator_jax.runs.config import RunConfig

from ..measure.rates import timed

# Enough to time, few enough to be quick on any data.
_STEPS = 5
_REPEATS = 3


def estimate(config: RunConfig, problem: Problem, *, trainings: int) -> dict[str, Any]:
    """Measures a few steps and one validation, and reads the compiler's memory plan.

    Args:
      config, problem: the run.
      trainings: how many are trained, one after the other.

    Returns:
      Seconds and bytes by name; `most_seconds` is that of all epochs of all trainings.

    Raises:
      ConfigError: training needs more memory than the device has.
    """
    started = time.perf_counter()
    learner = make_learner(config, problem)
    train = learner.initial_state(config.seed).train
    prepare_seconds = time.perf_counter() - started
    parameter_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(train.params))
    epoch = learner.epoch_program
    plan = epoch.lower(train, *learner.epoch_arguments()).compile().memory_analysis()
    # The state comes out where it went in; the best parameters are kept beside it.
    needed = plan.argument_size_in_bytes + plan.temp_size_in_bytes + parameter_bytes
    available = available_bytes()
    if needed > available:
        raise ConfigError(
            f"training needs {_size(needed)} of memory and the device has {_size(available)}; lower --batch_size or "
            "--similarity_budget_mb, take a smaller dim, or more --devices"
        )

    steps, rows = learner.epoch_shape
    timed_steps = min(steps, _STEPS)
    few = slice(0, timed_steps * rows)
    data = problem.train.replace(users=problem.train.users[few], items=problem.train.items[few])

    def train_few() -> None:
        nonlocal train
        train, *_ = jax.block_until_ready(epoch(train, *learner.epoch_arguments(data)))

    training = timed(train_few, _REPEATS)
    validation = timed(lambda: jax.block_until_ready(learner.validate(train.params)), 1)
    step_seconds = training.median / timed_steps
    epoch_seconds = steps * step_seconds + validation.median
    return {
        "device": f"{problem.placement.size} x {jax.devices()[0].device_kind}",
        "parameters": parameter_bytes // 4,
        "needed_bytes": needed,
        "available_bytes": available,
        "prepare_seconds": prepare_seconds,
        "steps": steps,
        "step_seconds": step_seconds,
        "validation_seconds": validation.median,
        "epoch_seconds": epoch_seconds,
        "most_seconds": trainings * config.max_epochs * epoch_seconds,
        "trainings": trainings,
        "max_epochs": config.max_epochs,
        "patience": config.patience,
    }


def available_bytes() -> int:
    """Memory of the first device; of the host where that is the CPU."""
    limit = (jax.devices()[0].memory_stats() or {}).get("bytes_limit")
    return limit or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def estimate_table(estimated: dict[str, Any]) -> str:
    """The estimate as a table to print."""
    rows = [
        ("device", estimated["device"]),
        ("parameters", f"{estimated['parameters']:,}"),
        ("memory of training", f"{_size(estimated['needed_bytes'])} of {_size(estimated['available_bytes'])}"),
        ("preparation", f"{estimated['prepare_seconds']:.3g} s"),
        ("a step", f"{estimated['step_seconds']:.3g} s, {estimated['steps']:,} an epoch"),
        ("a validation", f"{estimated['validation_seconds']:.3g} s"),
        ("an epoch with validation", f"{estimated['epoch_seconds']:.3g} s"),
        (
            "the whole run, at most",
            f"{estimated['most_seconds'] / 3600:.3g} h: {estimated['trainings']} x {estimated['max_epochs']} epochs; "
            f"a training ends {estimated['patience']} epochs after its best one",
        ),
    ]
    return tabulate(rows, tablefmt="github", headers=("dry run, nothing written", ""))


def _size(count: int) -> str:
    return f"{count / 1e9:.3g} GB"
