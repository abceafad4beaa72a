"""Sums in a fixed order, as GPUs make them, against sums by scatter; compiled here for the CPU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isolator_jax import _sparse
from isolator_jax._ordered import reduce_runs
from isolator_jax.graph import bipartite_graph

rng = np.random.default_rng(0)


def runs(count, rows):
    """Runs of rows of very unequal lengths, some empty: their offsets."""
    ids = rng.zipf(1.3, rows) % count
    return np.concatenate([[0], np.cumsum(np.bincount(ids, minlength=count))]).astype(np.int32)


@pytest.mark.parametrize("reduce, of_slice", [(jnp.sum, np.sum), (jnp.max, np.max)], ids=["sum", "max"])
@pytest.mark.parametrize("count, rows", [(1, 1), (3, 16), (3, 17), (40, 200), (5, 5000), (300, 9000)])
def test_each_run_is_reduced_whatever_its_length(count, rows, reduce, of_slice):
    offsets, values = runs(count, rows), rng.normal(size=(rows, 3)).astype(np.float32)
    longest = int(np.diff(offsets).max())
    reduced = jax.jit(
        lambda values, offsets: reduce_runs(lambda at: values[at], offsets[:-1], offsets[1:], rows, longest, reduce)
    )(values, offsets)
    bounds = list(zip(offsets[:-1], offsets[1:], strict=True))
    wide = values.astype(np.float64)
    nothing = np.full(3, 0.0 if reduce is jnp.sum else -np.inf)
    expected = np.stack([of_slice(wide[a:b], axis=0) if b > a else nothing for a, b in bounds])
    np.testing.assert_allclose(reduced, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rows", [0, 1, 15, 300, 4000])
def test_rows_are_added_where_their_ids_say_and_left_out_where_there_is_no_such_place(rows):
    table = rng.normal(size=(50, 4)).astype(np.float32)
    ids, added = (rng.zipf(1.2, rows) % 53).astype(np.int32), rng.normal(size=(rows, 4)).astype(np.float32)
    expected = table.astype(np.float64)
    np.add.at(expected, ids[ids < 50], added[ids < 50].astype(np.float64))
    found = jax.jit(_sparse._add_in_order)(table, ids, added)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_a_node_that_is_not_finite_spoils_its_neighbours_alone():
    graph = bipartite_graph(np.array([0, 0, 1]), np.array([0, 1, 1]), 2, 3)
    x = jnp.ones((5, 2)).at[2].set(jnp.nan)  # item 0, which user 0 alone has
    product = _sparse._run_product(graph.senders, graph.receivers, graph.offsets, graph.weights, x)
    assert np.isnan(product).any(axis=1).tolist() == [True, False, False, False, False]


def test_a_sparse_product_by_runs_equals_that_of_the_platform():
    pairs = np.unique(np.stack([rng.integers(0, 300, 4000), rng.zipf(1.3, 4000) % 200], axis=1), axis=0)
    graph = bipartite_graph(pairs[:, 0], pairs[:, 1], 300, 200)
    x = rng.normal(size=(500, 7)).astype(np.float32)
    by_runs = jax.jit(_sparse._run_product)(graph.senders, graph.receivers, graph.offsets, graph.weights, x)
    np.testing.assert_allclose(by_runs, graph.product(graph.weights, x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(0,), (5,), (3, 4)])
def test_the_derivative_of_taking_rows_is_that_of_indexing(shape):
    table = rng.normal(size=(6, 2)).astype(np.float32)
    ids, weights = rng.integers(0, 6, shape), rng.normal(size=(*shape, 2))
    gradients = [
        jax.grad(lambda table, take=take: jnp.sum(take(table, ids) ** 2 * weights))(table)
        for take in (_sparse.take_rows, lambda table, ids: table[ids])
    ]
    np.testing.assert_allclose(*gradients, rtol=1e-6)
