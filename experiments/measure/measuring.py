"""The measurements of one configuration: training, ranking, content and propagation."""

import dataclasses
import functools
import time
from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from isolator_jax._ordered import compiler_options
from isolator_jax.backbones import Encoded
from isolator_jax.data import Dataset
from isolator_jax.evaluation import Settings, evaluate, evaluate_settings, mean_recall, top_k_lists, users_to_validate
from isolator_jax.features import fuse_channels
from isolator_jax.graph import Graph, bipartite_graph, edge_dots, propagate
from isolator_jax.neighbours import nearest_neighbours
from isolator_jax.precision import in_float32
from isolator_jax.runs import Learner, Problem, make_learner, make_problem
from isolator_jax.runs.config import RunConfig
from isolator_jax.similarity import build_similarity
from isolator_jax.strategies import u_isolator, vanilla

from . import page, rates
from .floor import Products, count_products, floor_seconds
from .rates import Timing, Work, timed
from .traffic import step_traffic

# What can be measured.
PARTS = ("training", "ranking", "sweep", "content", "propagation")

_NEIGHBOURS = 10


def measure(
    config: RunConfig,
    dataset: Dataset,
    repeats: int,
    parts: Collection[str] = PARTS,
    ranked_users: int | None = None,
) -> dict[str, Any]:
    """Measures one configuration; seconds, bytes and rates by name.

    Args:
      config, dataset: what is measured.
      repeats: timed runs of each measurement.
      parts: which measurements, of `PARTS`.
      ranked_users: rank for so many users, drawn at random; None: for all.
    """
    results = {"device": jax.devices()[0].device_kind, "start_host_bytes": rates.peak_host_bytes()}
    started = time.perf_counter()
    problem = make_problem(config, dataset)
    learner = make_learner(config, problem)
    jax.block_until_ready((learner.inputs, problem.content, problem.train))
    results["prepare_seconds"] = time.perf_counter() - started

    work: dict[str, Work] = {}
    params = learner.initial_state(config.seed).train.params
    if "training" in parts:
        training, work["step"], products, params = measure_training(learner, config.seed, repeats)
        results |= training
    if "ranking" in parts:
        results |= measure_ranking(config, learner, params, repeats, ranked_users)
        results["embeddings_error"] = precision_error(learner, params)
    if {"training", "ranking"} <= set(parts):
        results["epoch_with_validation_seconds"] = results["epoch_train_seconds"] + results["validation_seconds"]
    if "sweep" in parts:
        results |= measure_sweep(config, learner, params, repeats)
    if "content" in parts:
        results |= measure_content(config, problem, repeats)
    if "propagation" in parts:
        train, dim = dataset.train, config.hyperparameters.dim
        graph = bipartite_graph(train.users, train.items, dataset.num_users, dataset.num_items)
        results |= measure_propagation(graph, dim, repeats) | {"edges": graph.weights.size, "width": dim}
        terms = graph.weights.size * dim
        work["propagation"] = rates.propagation_work(graph.weights.size, graph.num_receivers, dim)
        if "training" in parts and products.sparse_terms:
            # The step's own sparse products, forward and backward.
            seconds = products.sparse_terms / terms * results["propagation_seconds"]
            results |= {"spmm_seconds_per_step": seconds, "step_over_spmm": results["step_seconds"] / seconds}
    results |= rates.peak_device_bytes() | {"peak_host_bytes": rates.peak_host_bytes()}
    # Last, as its arrays would count towards the peak.
    ceilings = rates.measure_ceilings(repeats)
    results["copy_bytes_per_second"] = ceilings.bytes_per_second
    results["matmul_flops_per_second"] = ceilings.flops_per_second
    results["launch_seconds"] = page.launch_seconds(repeats)
    for name, counted in work.items():
        results |= rates.achieved(name, counted, results[f"{name}_seconds"], ceilings)
    if {"training", "propagation"} <= set(parts):
        sparse, dots = (results[f"{name}_seconds"] / terms for name in ("propagation", "edge_dots"))
        results |= floor_seconds(products, results["state_bytes"], ceilings, sparse, dots)
        results["step_over_floor"] = results["step_seconds"] / results["floor_seconds"]
    return results


def measure_training(learner: Learner, seed: int, repeats: int) -> tuple[dict[str, Any], Work, Products, Any]:
    """An epoch, a step's work by count, its products, and the parameters after it.

    A step is its share of the epoch.
    """
    state, train_data = learner.initial_state(seed).train, learner.problem.train
    epoch, arguments = learner.epoch_program, learner.epoch_arguments()
    started = time.perf_counter()
    compiled = epoch.lower(state, *arguments).compile()
    compile_seconds = time.perf_counter() - started
    steps, rows = learner.epoch_shape
    # Counted of an epoch of one step.
    one_batch = dataclasses.replace(train_data, users=train_data.users[:rows], items=train_data.items[:rows])
    one_step = epoch.trace(state, *learner.epoch_arguments(one_batch))
    products, traffic = count_products(one_step.jaxpr.jaxpr), step_traffic(one_step.jaxpr.jaxpr)

    loss: Any = jnp.float32(jnp.nan)

    def train() -> None:
        nonlocal state, loss
        state, loss, _ = compiled(state, *arguments)
        jax.block_until_ready((state, loss))

    timing = timed(train, repeats)
    flops = products.dense_flops + 2 * (products.sparse_terms + products.dot_terms)
    results = {
        "compile_seconds": compile_seconds,
        "loss": float(loss),
        "steps": steps,
        "batch_rows": rows,
        "product_flops": flops,
        **{f"traffic_{name}_bytes": moved for name, moved in traffic._asdict().items() if name != "kernels"},
        "traffic_bytes": traffic.bytes,
        "traffic_kernels": traffic.kernels,
        "state_bytes": sum(leaf.nbytes for leaf in jax.tree.leaves((state.params, state.opt_state))),
        "step_seconds": timing.median / steps,
        "epoch_train_seconds": timing.median,
        "epoch_train_spread": timing.spread,
    }
    return results, Work(traffic.bytes, flops), products, state.params


def measure_ranking(
    config: RunConfig, learner: Learner, params: Any, repeats: int, ranked_users: int | None
) -> dict[str, float]:
    """Validation as training has it, whose hits are counted; by lists of f and of U-ISOLATOR; and lists alone.

    All but the last with the encoder; lists alone are of given embeddings.
    """
    u = {"u": u_isolator(config.alpha, config.beta, config.iota)}
    f = {"f": vanilla()}
    problem = learner.problem
    content, histories = problem.content, problem.train.histories
    assert content is not None, "U-ISOLATOR needs content"
    users = users_to_validate(histories, problem.validation)
    if ranked_users is not None:
        users = jax.random.permutation(jax.random.key(0), users)[:ranked_users]

    def lists(encoded: Encoded, *arguments: Any) -> Any:
        return top_k_lists(encoded, *arguments, k=20)

    @functools.partial(jax.jit, compiler_options=compiler_options())
    @in_float32
    def validate(params: Any, inputs: Any, hyperparameters: Any, *arguments: Any) -> Any:
        return lists(learner.backbone.encode(params, inputs, hyperparameters), *arguments)

    @functools.partial(jax.jit, compiler_options=compiler_options())
    @in_float32
    def count(params: Any, inputs: Any, hyperparameters: Any, *arguments: Any) -> Any:
        return mean_recall(learner.backbone.encode(params, inputs, hyperparameters), *arguments)

    def ranking(function: Callable[..., Any], first: tuple, strategies: dict) -> Callable[[], None]:
        arguments = (*first, users, histories, strategies, content)
        return lambda: jax.block_until_ready(function(*arguments))

    model, encoded = (params, learner.inputs, learner.hyperparameters), (learner.encode(params),)
    results: dict[str, float] = {"ranked_users": users.size}
    counting = (*model, users, histories, problem.validation)
    results |= seconds_and_spread("validation_counted", timed(lambda: jax.block_until_ready(count(*counting)), repeats))
    results |= seconds_and_spread("validation_plain", timed(ranking(validate, model, f), repeats))
    results |= seconds_and_spread("validation", timed(ranking(validate, model, u), repeats))
    results |= seconds_and_spread("top_k", timed(ranking(lists, encoded, f), repeats))
    results |= seconds_and_spread("top_k_u", timed(ranking(lists, encoded, u), repeats))
    return results | {"validation_u_over_plain": results["validation_seconds"] / results["validation_plain_seconds"]}


def measure_sweep(config: RunConfig, learner: Learner, params: Any, repeats: int) -> dict[str, float]:
    """All of U-ISOLATOR's settings on the validation data, against one evaluation of a single one."""
    problem, encoded = learner.problem, learner.encode(params)
    histories, truth = problem.train.histories, problem.validation
    u, content = {"u": u_isolator(config.alpha, config.beta, config.iota)}, problem.content
    assert content is not None, "U-ISOLATOR needs content"
    # Both end on the host.
    settings = timed(lambda: evaluate_settings(encoded, None, histories, Settings(), content, truth=truth), repeats)
    single = timed(lambda: evaluate(encoded, None, histories, u, content, truth=truth), repeats)
    results = seconds_and_spread("sweep", settings) | seconds_and_spread("evaluation", single)
    return results | {"sweep_over_evaluation": settings.median / single.median}


def measure_content(config: RunConfig, problem: Problem, repeats: int) -> dict[str, float]:
    """The similarity store from features, and nearest neighbours (on the host) of all modalities."""
    features = list(problem.dataset.features.values())

    def similarity() -> None:
        channels = fuse_channels(features, config.fusion)
        budget, dtype = config.similarity_budget_mb << 20, jnp.dtype(config.similarity_dtype)
        store = build_similarity(channels, problem.train.histories, table_budget_bytes=budget, table_dtype=dtype)
        jax.block_until_ready(store)

    def neighbours() -> None:
        for feature in features:
            nearest_neighbours(feature, _NEIGHBOURS)

    results = seconds_and_spread("similarity", timed(similarity, repeats))
    return results | seconds_and_spread("neighbours", timed(neighbours, repeats))


def measure_propagation(graph: Graph, dim: int, repeats: int) -> dict[str, float]:
    """One sparse product with a matrix `[N, D]`, averaged over six in a row, and the dot products of all edges."""
    count = 6
    x = jnp.ones((graph.num_senders, dim))
    products = jax.jit(lambda graph, x: jax.lax.fori_loop(0, count, lambda _, x: propagate(graph, x), x))
    timing = timed(lambda: jax.block_until_ready(products(graph, x)), 10 * repeats)
    results = {"propagation_seconds": timing.median / count, "propagation_spread": timing.spread / count}
    dots = jax.jit(edge_dots)
    return results | seconds_and_spread("edge_dots", timed(lambda: jax.block_until_ready(dots(graph, x, x)), repeats))


def precision_error(learner: Learner, params: Any) -> float:
    """The embeddings' largest difference from those in float32, over the largest of these."""
    found = learner.encode(params)
    with jax.default_matmul_precision("float32"):
        exact = learner.encode(params)
    pairs = ((found.users, exact.users), (found.items, exact.items))
    return float(np.max([jnp.max(jnp.abs(a - b)) / jnp.max(jnp.abs(b)) for a, b in pairs]))


def seconds_and_spread(name: str, timing: Timing) -> dict[str, float]:
    return {f"{name}_seconds": timing.median, f"{name}_spread": timing.spread}
