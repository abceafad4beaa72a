"""What a run will take, from its compiled epoch and a few of its steps."""

import dataclasses
import time
from typing import Any

import jax
from tabulate import tabulate

from isolator_jax import processes
from isolator_jax.data import Dataset
from isolator_jax.devices.placement import Placement
from isolator_jax.errors import ConfigError
from isolator_jax.memory import host_bytes, resident_bytes
from isolator_jax.runs import make_learner, make_problem
from isolator_jax.runs.config import RunConfig
from isolator_jax.runs.plan import parameter_shapes, plan_memory

from ..measure.rates import timed

# Enough to time, few enough to be quick on any data.
_STEPS = 5
_REPEATS = 3


def estimate(config: RunConfig, dataset: Dataset, placement: Placement, *, trainings: int) -> dict[str, Any]:
    """Plans the memory, and if it is there measures a few steps and one validation.

    Args:
      config, dataset, placement: the run.
      trainings: how many are trained, one after the other.

    Returns:
      Seconds and bytes by name; `most_seconds` is that of all epochs of all trainings.

    Raises:
      ConfigError: training needs more memory than the devices have.
    """
    available = available_bytes(placement)
    needed = base_bytes() + plan_memory(config, dataset, placement, available).total
    if needed > available:
        raise ConfigError(
            f"training needs {_size(needed)} of memory and there are {_size(available)}; lower --batch_size or "
            "--similarity_budget_mb, take a smaller dim, or more --devices"
        )
    started = time.perf_counter()
    problem = make_problem(config, dataset, placement)
    learner = make_learner(config, problem)
    train = learner.initial_state(config.seed).train
    jax.block_until_ready((learner.inputs, problem.content, train))
    prepare_seconds = time.perf_counter() - started
    params = parameter_shapes(config, dataset)  # without the rows that fill up the devices' shares
    epoch = learner.epoch_program
    steps, rows = learner.epoch_shape
    timed_steps = min(steps, _STEPS)
    few = slice(0, timed_steps * rows)
    data = dataclasses.replace(problem.train, users=problem.train.users[few], items=problem.train.items[few])

    def train_few() -> None:
        nonlocal train
        train, *_ = jax.block_until_ready(epoch(train, *learner.epoch_arguments(data)))

    training = timed(train_few, _REPEATS)
    validation = timed(lambda: jax.block_until_ready(learner.validate(train.params)), 1)
    step_seconds = training.median / timed_steps
    epoch_seconds = steps * step_seconds + validation.median
    return {
        "device": f"{problem.placement.size} x {jax.devices()[0].device_kind}",
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
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


def available_bytes(placement: Placement) -> int:
    """Memory of all the devices, if they are alike; where they are CPUs, what the processes may hold."""
    limit = (jax.devices()[0].memory_stats() or {}).get("bytes_limit")
    return limit * placement.size if limit else host_bytes() * processes.count()


def base_bytes() -> int:
    """What this process holds now, where the devices share its memory."""
    return 0 if jax.devices()[0].memory_stats() else resident_bytes()


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
            "all epochs, at most",
            f"{estimated['most_seconds'] / 3600:.3g} h: {estimated['trainings']} x {estimated['max_epochs']} epochs",
        ),
        ("a training ends", f"{estimated['patience']} epochs after its best one"),
    ]
    return tabulate(rows, tablefmt="github", headers=("dry run, nothing written", ""))


def _size(count: int) -> str:
    return f"{count / 1e9:.3g} GB"
