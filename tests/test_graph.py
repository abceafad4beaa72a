"""Propagation and its derivatives against dense matrices; both lowerings; other platforms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isolator_jax import graph as graphs

NODES, WIDTH = 9, 4


def random_graph(seed=0, edges=20, senders=NODES, receivers=NODES):
    rng = np.random.default_rng(seed)
    num_senders, num_receivers = senders, receivers
    cells = rng.choice(num_senders * num_receivers, size=min(edges, num_senders * num_receivers), replace=False)
    receivers, senders = np.divmod(cells, num_senders)
    weights = rng.standard_normal(cells.size)
    graph = graphs.make_graph(senders, receivers, weights, num_senders, num_receivers)
    dense = np.zeros((num_receivers, num_senders))
    dense[receivers, senders] = weights
    return graph, dense


def values(seed=1, nodes=NODES):
    return np.random.default_rng(seed).standard_normal((nodes, WIDTH)).astype(np.float32)


def assert_equals_dense(graph, dense):
    """The three operations and all their derivatives equal those of dense matrices."""
    x, y = values(1, graph.num_senders), values(2, graph.num_receivers)
    np.testing.assert_allclose(graphs.propagate(graph, x), dense @ x, atol=1e-5)
    np.testing.assert_allclose(graphs.propagate_back(graph, y), dense.T @ y, atol=1e-5)
    by_edge = (np.float64(y) @ np.float64(x).T)[graph.receivers, graph.senders]
    np.testing.assert_allclose(graphs.edge_dots(graph, y, x), by_edge, atol=1e-5)

    for weights in (None, graph.weights):
        _, pull = jax.vjp(lambda x, w=weights: graphs.propagate(graph, x, w), x)
        np.testing.assert_allclose(pull(y)[0], dense.T @ y, atol=1e-5)
        _, pull = jax.vjp(lambda y, w=weights: graphs.propagate_back(graph, y, w), y)
        np.testing.assert_allclose(pull(x)[0], dense @ x, atol=1e-5)
    _, pull = jax.vjp(lambda w: graphs.propagate(graph, x, w), graph.weights)
    np.testing.assert_allclose(pull(y)[0], by_edge, atol=1e-5)
    _, pull = jax.vjp(lambda w: graphs.propagate_back(graph, y, w), graph.weights)
    np.testing.assert_allclose(pull(x)[0], by_edge, atol=1e-5)
    _, pull = jax.vjp(lambda y, x: graphs.edge_dots(graph, y, x), y, x)
    by_receiver, by_sender = pull(graph.weights)
    np.testing.assert_allclose(by_receiver, dense @ x, atol=1e-5)
    np.testing.assert_allclose(by_sender, dense.T @ y, atol=1e-5)


@given(st.integers(0, 10**6), st.integers(1, NODES * NODES), st.sampled_from([(9, 9), (4, 7), (7, 4), (1, 5)]))
def test_operations_and_their_derivatives_equal_dense_products(seed, edges, shape):
    assert_equals_dense(*random_graph(seed, edges, *shape))


def test_edges_beyond_one_block_of_dots_are_all_there():
    assert_equals_dense(*random_graph(0, 2500, 60, 50))


def test_edge_softmax_sums_to_one_over_each_node_and_survives_large_logits():
    graph, dense = random_graph(3, 30)
    logits = graph.weights * 1000
    full = np.full(dense.shape, -np.inf)
    full[graph.receivers, graph.senders] = np.float64(logits)
    for over, axis in (("receivers", 1), ("senders", 0)):
        shifted = np.exp(full - np.max(full, axis=axis, keepdims=True, initial=-1e9))
        expected = shifted / np.maximum(shifted.sum(axis=axis, keepdims=True), 1e-300)
        alpha = graphs.edge_softmax(graph, logits, over=over)
        np.testing.assert_allclose(alpha, expected[graph.receivers, graph.senders], atol=1e-5)
        slope = jax.grad(lambda z, over=over: graphs.edge_softmax(graph, z, over=over)[0])(logits)
        assert np.isfinite(slope).all()


def test_the_normalised_bipartite_graph_equals_its_definition_and_keeps_isolated_rows_zero():
    users, items = np.array([0, 0, 2, 2, 2]), np.array([0, 3, 0, 1, 3])  # user 1 and item 2 isolated
    graph = graphs.bipartite_graph(users, items, 3, 4)
    adjacency = np.zeros((7, 7))
    adjacency[users, items + 3] = adjacency[items + 3, users] = 1
    degree = adjacency.sum(axis=1)
    scale = np.where(degree > 0, 1 / np.sqrt(np.maximum(degree, 1)), 0)
    dense = scale[:, None] * adjacency * scale[None, :]
    assert_equals_dense(graph, dense)
    x = values(3, 7)
    out = np.asarray(graphs.propagate(graph, x))
    assert (out[[1, 5]] == 0).all()
    expected = sum(np.linalg.matrix_power(dense, layer) @ x for layer in range(4)) / 4
    np.testing.assert_allclose(graphs.mean_of_layers(graph, x, 3), expected, atol=1e-5)


@pytest.mark.parametrize("nodes", [1, 5])
def test_a_graph_without_edges_sends_nothing(nodes):
    graph = graphs.make_graph(*np.zeros((3, 0)), nodes, nodes, symmetric=True)
    x = values(0, nodes)
    assert (graphs.propagate(graph, x) == 0).all()
    assert (jax.grad(lambda x: graphs.propagate(graph, x).sum())(x) == 0).all()


def test_one_node_with_a_loop():
    graph = graphs.make_graph([0], [0], [2.5], 1, 1, symmetric=True)
    np.testing.assert_allclose(graphs.propagate(graph, jnp.ones((1, 3))), 2.5 * np.ones((1, 3)))


def test_the_lowerings_agree():
    graph, _ = random_graph(5, 40)
    arguments = (graph.senders, graph.receivers, graph.offsets, graph.weights, values())
    np.testing.assert_allclose(
        jax.jit(graphs._csr_product)(*arguments), jax.jit(graphs._segment_product)(*arguments), atol=1e-5
    )


def test_a_second_graph_of_the_same_shape_does_not_compile_again():
    propagate = jax.jit(graphs.propagate)
    for seed in range(3):
        propagate(random_graph(seed)[0], values(seed))
    assert propagate._cache_size() == 1


def test_other_platforms_get_no_cpu_kernel():
    graph, _ = random_graph()
    gradient = jax.grad(lambda x, graph, w: jnp.sum(graphs.propagate(graph, x, w) ** 2), argnums=(0, 2))
    traced = jax.jit(gradient).trace(values(), graph, graph.weights)
    for platform, has_kernel in (("cpu", True), ("cuda", False), ("tpu", False)):
        module = traced.lower(lowering_platforms=(platform,)).as_text()
        assert ("cpu_csr" in module) == has_kernel, platform
        assert ("scatter" in module) != has_kernel, platform
