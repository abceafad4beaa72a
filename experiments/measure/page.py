"""A page of measurements of all backbones on one device, and what bounds each step on it."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.experimental import sparse
from tabulate import tabulate

from isolator_jax.graph import Graph, propagate

from . import rates

_CHAIN = 100
_CHAIN_SIZE = 8


def bounds(result: Mapping[str, float]) -> dict[str, float]:
    """Seconds that a step takes at least, by what would bound it, at this device's own rates.

    Args:
      result: measurements of a backbone; must hold the rates, and what a step moves and launches.
    """
    return {
        "memory": result["traffic_bytes"] / result["copy_bytes_per_second"],
        "arithmetic": result["product_flops"] / result["matmul_flops_per_second"],
        "launches": result["traffic_kernels"] * result["launch_seconds"],
    }


def launch_seconds(repeats: int) -> float:
    """One kernel with next to nothing to do: a link in a chain of small products."""
    chain, x = jax.jit(_chained), jnp.eye(_CHAIN_SIZE)
    return rates.timed(lambda: jax.block_until_ready(chain(x)), 5 * repeats).fastest / _CHAIN


def _chained(x: Array) -> Array:
    for _ in range(_CHAIN):
        x = x @ x
    return x


def measure_sparse(graph: Graph, dim: int, repeats: int) -> dict[str, dict[str, float]]:
    """Ways to make one sparse product with a matrix `[N, D]`: seconds and bytes a second, by name.

    The bytes are those of `rates.propagation_work`.
    """
    edges, receivers = graph.weights.size, graph.num_receivers
    x = jnp.ones((graph.num_senders, dim))
    mixed = jnp.asarray(np.random.default_rng(0).permutation(edges))
    indices = jnp.stack([graph.receivers, graph.senders], axis=1)

    def summed(order: Array | None) -> Any:
        senders, nodes, weights = (
            values if order is None else values[order] for values in (graph.senders, graph.receivers, graph.weights)
        )

        def product(senders: Array, nodes: Array, weights: Array, x: Array) -> Array:
            rows = x[senders] * weights[:, None]
            return jax.ops.segment_sum(rows, nodes, receivers, indices_are_sorted=order is None)

        return jax.jit(product), (senders, nodes, weights, x)

    def by_bcoo(weights: Array, indices: Array, x: Array) -> Array:
        matrix = sparse.BCOO((weights, indices), shape=(receivers, x.shape[0]), indices_sorted=True)
        return matrix @ x

    by_coordinates = graph.weights, indices, x
    ways: dict[str, tuple[Any, tuple]] = {
        "as the package does it here": (jax.jit(propagate), (graph, x)),
        "segment sums, sorted": summed(None),
        "segment sums, unsorted": summed(mixed),
        "BCOO": (jax.jit(by_bcoo), by_coordinates),
    }
    moved = rates.propagation_work(edges, receivers, dim).bytes

    def measured(function: Any, arguments: tuple) -> dict[str, float]:
        seconds = rates.timed(lambda: jax.block_until_ready(function(*arguments)), 5 * repeats).median
        return {"seconds": seconds, "bytes_per_second": moved / seconds}

    found = {name: measured(*way) for name, way in ways.items()}
    if jax.default_backend() == "gpu":
        option = "jax_bcoo_cusparse_lowering"
        before = getattr(jax.config, option)
        jax.config.update(option, True)
        found["BCOO by cuSPARSE"] = measured(jax.jit(lambda *arguments: by_bcoo(*arguments)), by_coordinates)
        jax.config.update(option, before)
    return found


def write_page(
    results: Mapping[str, Mapping[str, Any]],
    sparse_products: Mapping[str, Mapping[str, float]],
    command: str,
    tests: str,
) -> str:
    """The page, in Markdown.

    Args:
      results: measurements by backbone, with `launch_seconds`.
      sparse_products: of `measure_sparse`.
      command: that made the page.
      tests: how the tests ended.
    """
    first = next(iter(results.values()))
    rows = [_row(name, result) for name, result in results.items()]
    headers = ["backbone", "step ms", "epoch s", "validation f s", "validation U s", "GB a step", "GB/s"]
    headers += ["of a copy", "memory ms", "arithmetic ms", "launches ms", "bound by", "step / bound"]
    copy, products = first["copy_bytes_per_second"], first["matmul_flops_per_second"] / 1e12
    launch = 1e6 * first["launch_seconds"]
    ways = [
        [name, 1e3 * way["seconds"], way["bytes_per_second"] / 1e9, f"{way['bytes_per_second'] / copy:.0%}"]
        for name, way in sparse_products.items()
    ]
    return f"""# Measured on {first["device"]}

{command}

JAX {jax.__version__}. Tests: {tests}. A copy reaches {copy / 1e9:.4g} GB/s, a matrix product {products:.4g} TFLOP/s,
a kernel with nothing to do {launch:.3g} microseconds.

Bytes and kernels of a step are counted on its program, as if it were fused perfectly; what a step takes at least by
each, and by its products, stands beside what it took.

{_table(headers, rows)}

One sparse product of the training graph, {first["edges"]} edges, width {first["width"]}:

{_table(["product", "ms", "GB/s", "of a copy"], ways)}
"""


def _row(name: str, result: Mapping[str, Any]) -> list[Any]:
    least, step = bounds(result), result["step_seconds"]
    bound = max(least, key=lambda kind: least[kind])
    rate = result["traffic_bytes"] / step
    seconds = [result[f"{part}_seconds"] for part in ("epoch_train", "validation_plain", "validation")]
    share = f"{rate / result['copy_bytes_per_second']:.0%}"
    in_ms = [1e3 * least[kind] for kind in ("memory", "arithmetic", "launches")]
    moved = [result["traffic_bytes"] / 1e9, rate / 1e9, share]
    return [name, 1e3 * step, *seconds, *moved, *in_ms, bound, step / least[bound]]


def _table(headers: list[str], rows: list[list[Any]]) -> str:
    cells = [[f"{cell:.3g}" if isinstance(cell, float) else cell for cell in row] for row in rows]
    return tabulate(cells, headers, tablefmt="github", disable_numparse=True)
