"""Reductions of runs of rows in a fixed order, for GPUs: XLA's scatter adds there as its threads happen to come.

A run is reduced `_WIDTH` rows at a time, then what came of that again, until all of it fits into one step:
gathers and dense reductions of static shapes, no atomic operation.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

_WIDTH = 16


def compiler_options() -> dict[str, bool]:
    """Options of `jax.jit` under which a program on a GPU is compiled alike in each process.

    XLA would choose among its kernels by how long they took just then.
    """
    return {"xla_gpu_deterministic_ops": True} if jax.default_backend() == "gpu" else {}


def reduce_runs(
    rows: Callable[[Array], Array],
    starts: Array,
    ends: Array,
    total: int,
    longest: int,
    reduce: Callable[..., Array] = jnp.sum,
) -> Array:
    """Each run of rows reduced to one row.

    Args:
      rows: the rows at some places, `[..., D]`.
      starts, ends: `[R] int32`, the places that each run begins and ends at; in order, and apart.
      total: how many places there are.
      longest: how many rows a run has at most.
      reduce: `jnp.sum` or `jnp.max`.

    Returns:
      `[R, D]`; of a run without rows zero, or minus infinity.
    """
    base, lengths, width = starts, ends - starts, 1
    while longest > _WIDTH:
        rows, base = _shortened(rows, starts, base, lengths, total, width * _WIDTH, reduce)
        lengths, longest, width = -(-lengths // _WIDTH), -(-longest // _WIDTH), width * _WIDTH
    return _reduced(rows, base, lengths, reduce)


def _shortened(rows, starts, base, lengths, total, width, reduce):
    """Runs of a `_WIDTH`-th of the rows, each reduced from `width` of the first: the rows, and where each run begins.

    Run r has its rows from `start // width + r` on: there are as many before the next run's.
    """
    firsts = starts // width + jnp.arange(starts.shape[0], dtype=jnp.int32)
    places = jnp.arange(starts.shape[0] + total // width + 1, dtype=jnp.int32)
    run = jnp.searchsorted(firsts, places, side="right", method="scan_unrolled") - 1
    done = (places - firsts[run]) * _WIDTH
    partial = _reduced(rows, base[run] + done, lengths[run] - done, reduce)
    return lambda at: partial[at], firsts


def _reduced(rows, base, lengths, reduce):
    """The `lengths` rows from `base` on, `_WIDTH` of them at most, reduced."""
    within = jnp.arange(_WIDTH, dtype=jnp.int32)[None]
    inside = within < lengths[:, None]
    values = rows(jnp.where(inside, base[:, None] + within, 0))
    nothing = {jnp.sum: 0, jnp.max: -jnp.inf}[reduce]
    return reduce(jnp.where(inside[..., None], values, nothing), axis=1)
