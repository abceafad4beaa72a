"""Measures a backbone's training step, epoch, validation and memory on this machine.

  python -m experiments.benchmark --backbone=lightgcn --data_dir=data --dataset=baby \\
      --random_features=image:4096,text:384 --json=lightgcn.json

Every time is the median over --repeats runs after compilation and one warm-up; compile
time is apart. Times are comparable within one run, not across machines or loads.
"""

import dataclasses
import resource
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from tabulate import tabulate

from experiments import cli, run_flags
from experiments.parsing import parse_widths
from isolator_jax import scoring
from isolator_jax.backbones import get_backbone
from isolator_jax.config import ConfigError, RunConfig
from isolator_jax.data import Dataset
from isolator_jax.evaluation import top_k_lists, users_to_validate
from isolator_jax.files import write_json
from isolator_jax.graph import Graph, propagate
from isolator_jax.run import Problem, initial_state, load_dataset, make_optimizer, make_problem
from isolator_jax.training import epoch_shape, make_epoch

flags.adopt_module_key_flags(run_flags)
_REPEATS = flags.DEFINE_integer("repeats", 5, "Timed runs of each measurement.", 1)
_RANDOM_FEATURES = flags.DEFINE_list(
    "random_features",
    None,
    "Replace the dataset's features by Gaussian ones, as name:width,name:width; for speed on data without content.",
)
_JSON = flags.DEFINE_string("json", None, "Also write the measurements to this file.")


def main() -> None:
    config = run_flags.config_from_flags()
    dataset = load_dataset(config)
    if _RANDOM_FEATURES.value is not None:
        dataset = with_random_features(dataset, parse_widths("random_features", _RANDOM_FEATURES.value))
    if not dataset.features:
        raise ConfigError(
            f"dataset {dataset.name} has no features; add --random_features=image:4096,text:384 to measure with"
        )
    results = measure(config, dataset, _REPEATS.value)
    rows = [[name, f"{value:.6g}" if isinstance(value, float) else value] for name, value in results.items()]
    print(tabulate(rows, ["measurement", "value"], tablefmt="github", disable_numparse=True))
    if _JSON.value is not None:
        write_json(_JSON.value, {"config": config.to_dict(), "dataset": dataset.counts(), **results})


def measure(config: RunConfig, dataset: Dataset, repeats: int) -> dict[str, Any]:
    """Runs all measurements of one configuration; seconds and bytes by name."""
    started = time.perf_counter()
    problem = make_problem(config, dataset)
    backbone, hyperparameters = get_backbone(config.backbone), config.hyperparameters
    inputs = jax.block_until_ready(backbone.prepare(dataset, hyperparameters))
    prepared = time.perf_counter()

    state = initial_state(config, problem).train
    gamma = jnp.float32(config.gamma) if config.training_strategy else None
    similarity = problem.content.similarity if config.training_strategy else None
    epoch = jax.jit(
        make_epoch(backbone, hyperparameters, make_optimizer(config, problem), config.batch_size), donate_argnums=0
    )
    arguments = (inputs, problem.train, similarity, gamma)
    compile_started = time.perf_counter()
    compiled = epoch.lower(state, *arguments).compile()
    compile_seconds = time.perf_counter() - compile_started

    def train() -> None:
        nonlocal state
        state, loss, _ = compiled(state, *arguments)
        jax.block_until_ready((state, loss))

    train_seconds, train_spread = timed(train, repeats)
    steps, rows = epoch_shape(problem.train.users.shape[0], config.batch_size)
    plain = _validation(config, problem, inputs, state.params, {"f": scoring.vanilla().key})
    u_key = scoring.u_isolator(config.alpha, config.beta, config.iota).key
    with_u = _validation(config, problem, inputs, state.params, {"u": u_key})
    plain_seconds, _ = timed(plain, repeats)
    u_seconds, _ = timed(with_u, repeats)
    results = {
        "device": jax.devices()[0].device_kind,
        "prepare_seconds": prepared - started,
        "compile_seconds": compile_seconds,
        "steps": steps,
        "batch_rows": rows,
        "step_seconds": train_seconds / steps,
        "epoch_train_seconds": train_seconds,
        "epoch_train_spread": train_spread,
        "validation_plain_seconds": plain_seconds,
        "validation_seconds": u_seconds,
        "epoch_with_validation_seconds": train_seconds + u_seconds,
        "validation_u_over_plain": u_seconds / plain_seconds,
    }
    if config.backbone == "lightgcn":
        results |= _share_of_propagation(inputs["graph"], hyperparameters, train_seconds / steps, repeats)
    results["peak_host_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return results


def timed(function: Callable[[], None], repeats: int) -> tuple[float, float]:
    """Median seconds of a call after one warm-up, and the interquartile range."""
    function()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - started)
    low, median, high = np.percentile(seconds, [25, 50, 75])
    return float(median), float(high - low)


def with_random_features(dataset: Dataset, widths: dict[str, int]) -> Dataset:
    """The dataset with Gaussian features of these widths."""
    rng = np.random.default_rng(0)
    features = {
        name: rng.standard_normal((dataset.num_items, width), dtype=np.float32) for name, width in widths.items()
    }
    return dataclasses.replace(dataset, features=features)


def _validation(config: RunConfig, problem: Problem, inputs: Any, params: Any, keys: dict) -> Callable[[], None]:
    """One validation pass, encoder included, ranking by the given keys."""
    backbone, hyperparameters = get_backbone(config.backbone), config.hyperparameters
    users = users_to_validate(problem.train.histories, problem.validation)

    @jax.jit
    def rank(params, inputs, users, histories, keys, similarity, consistency):
        encoded = backbone.encode(params, inputs, hyperparameters)
        return top_k_lists(encoded.users, encoded.items, users, histories, keys, similarity, consistency, k=20)

    content = problem.content
    arguments = (inputs, users, problem.train.histories, keys, content.similarity, content.channel_consistency)
    return lambda: jax.block_until_ready(rank(params, *arguments))


def _share_of_propagation(graph: Graph, hyperparameters: Any, step_seconds: float, repeats: int) -> dict[str, float]:
    """How much of LightGCN's step its own sparse products are: L forward and L backward."""
    x = jnp.ones((graph.num_senders, hyperparameters.dim))
    count = 2 * hyperparameters.layers

    @jax.jit
    def products(graph, x):
        return jax.lax.fori_loop(0, count, lambda _, x: propagate(graph, x), x)

    seconds, _ = timed(lambda: jax.block_until_ready(products(graph, x)), 10 * repeats)
    return {"spmm_seconds_per_step": seconds, "step_over_spmm": step_seconds / seconds}


if __name__ == "__main__":
    cli.run(main)
