"""Graph operations and their derivatives against dense matrices; both lowerings; other platforms."""

import jax
import jax.numpy as jnp
import jraph
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import export

from isolator_jax import _sparse
from isolator_jax import graph as graphs

WIDTH = 4


def random_graph(seed, edges, senders, receivers):
    """A graph and its dense matrix `[receivers, senders]`."""
    rng = np.random.default_rng(seed)
    cells = rng.choice(senders * receivers, size=edges, replace=False)
    rows, columns = np.divmod(cells, senders)
    weights = rng.standard_normal(edges)
    dense = np.zeros((receivers, senders))
    dense[rows, columns] = weights
    if senders == receivers:
        return graphs.make_graph(columns, rows, weights, senders), dense
    return graphs.user_item_block(rows, columns, weights, receivers, senders), dense


def values(seed, nodes):
    return np.random.default_rng(seed).standard_normal((nodes, WIDTH)).astype(np.float32)


@jax.jit
def operations(graph, x, y, weights):
    """Each operation's result and its pullbacks of y, x and the graph's weights."""
    results = {}
    for name, function, argument, cotangent in (
        ("propagate", graphs.propagate, x, y),
        ("propagate_back", graphs.propagate_back, y, x),
    ):
        out, pull = jax.vjp(lambda argument, function=function: function(graph, argument), argument)
        results[name] = out, *pull(cotangent)
        out, pull = jax.vjp(lambda argument, w, function=function: function(graph, argument, w), argument, weights)
        results[f"{name} with weights"] = out, *pull(cotangent)
    out, pull = jax.vjp(lambda y, x: graphs.edge_dots(graph, y, x), y, x)
    results["edge_dots"] = out, *pull(weights)
    return results


def assert_equals_dense(graph, dense, seed=0):
    x, y = values(seed, graph.num_senders), values(seed + 1, graph.num_receivers)
    own, other = np.asarray(graph.weights), values(seed + 2, graph.weights.size)[:, 0]
    ends = np.asarray(graph.receivers), np.asarray(graph.senders)
    reweighted = np.zeros_like(dense)
    reweighted[ends] = other
    dots = (np.float64(y) @ np.float64(x).T)[ends]
    np.testing.assert_allclose(dense[ends], own, rtol=1e-6)
    expected = {
        "propagate": (dense @ x, dense.T @ y),
        "propagate with weights": (reweighted @ x, reweighted.T @ y, dots),
        "propagate_back": (dense.T @ y, dense @ x),
        "propagate_back with weights": (reweighted.T @ y, reweighted @ x, dots),
        "edge_dots": (dots, reweighted @ x, reweighted.T @ y),
    }
    actual = operations(graph, x, y, other)
    assert actual.keys() == expected.keys()
    for name in expected:
        for place, (found, wanted) in enumerate(zip(actual[name], expected[name], strict=True)):
            np.testing.assert_allclose(found, wanted, atol=2e-5, err_msg=f"{name}, result {place}")


# Edges, senders, receivers: sparse with isolated nodes, complete, both kinds of oblong, one node.
@pytest.mark.parametrize("shape", [(12, 9, 9), (81, 9, 9), (15, 4, 7), (15, 7, 4), (3, 1, 5), (1, 1, 1)])
@settings(max_examples=15)
@given(seed=st.integers(0, 10**6))
def test_operations_and_their_derivatives_equal_dense_products(shape, seed):
    assert_equals_dense(*random_graph(seed, *shape), seed)


@pytest.mark.parametrize("edges", [_sparse._DOT_BLOCK, _sparse._DOT_BLOCK + 1, 2 * _sparse._DOT_BLOCK + 500])
def test_edges_beyond_one_block_of_dots_are_all_there(edges):
    assert_equals_dense(*random_graph(0, edges, 80, 90))


def test_derivatives_of_derivatives_equal_dense_ones():
    graph, _ = random_graph(0, 12, 6, 7)
    x, y = values(0, 6), values(1, 7)

    def dense_propagate(graph, x, w):
        return jnp.zeros((7, 6)).at[graph.receivers, graph.senders].set(w) @ x

    def dense_dots(graph, y, x):
        return (y @ x.T)[graph.receivers, graph.senders]

    def penalty(propagate, dots, x, w):
        """A loss with curvature in everything, and its gradient's norm."""
        loss = lambda x, w: jnp.sum(jnp.sin(propagate(graph, x, w * dots(graph, jnp.cos(y), x))))
        by_x, by_w = jax.grad(loss, argnums=(0, 1))(x, w)
        return jnp.sum(by_x**2) + jnp.sum(by_w**2)

    slopes = [
        jax.jit(jax.grad(lambda x, w, p=p, d=d: penalty(p, d, x, w), argnums=(0, 1)))(x, graph.weights)
        for p, d in ((graphs.propagate, graphs.edge_dots), (dense_propagate, dense_dots))
    ]
    for actual, expected in zip(*slopes, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-3)


def test_a_symmetric_graph_with_other_weights_is_differentiated_by_them():
    graph = graphs.make_graph([0, 1, 1, 2], [1, 0, 2, 1], np.ones(4), 3, symmetric=True)
    x, weights, cotangent = values(0, 3), values(1, 4)[:, 0], jnp.asarray(values(2, 3))
    found, pull = jax.vjp(lambda w, x: graphs.propagate(graph.with_weights(w), x), weights, x)
    wanted, expected = jax.vjp(lambda w, x: graphs.propagate(graph, x, w), weights, x)
    np.testing.assert_array_equal(found, wanted)
    for one, other in zip(pull(cotangent), expected(cotangent), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("nodes", [0, 3])
def test_without_edges_results_and_derivatives_are_zeros(nodes):
    graph = graphs.make_graph([], [], [], nodes)
    x = values(0, nodes)
    for function, size in ((graphs.propagate, x.shape), (graphs.propagate_back, x.shape)):
        out, pull = jax.vjp(lambda x, function=function: function(graph, x), x)
        assert out.shape == pull(out)[0].shape == size and not np.any(out) and not np.any(pull(x)[0])
    dots, pull = jax.vjp(lambda a, b: graphs.edge_dots(graph, a, b), x, x)
    assert dots.shape == (0,) and not any(map(np.any, pull(dots)))
    assert graphs.edge_softmax(graph, dots, over="senders").shape == (0,)


@pytest.mark.parametrize(("over", "axis"), [("receivers", 1), ("senders", 0)])
def test_edge_softmax_and_its_gradient_equal_dense_ones_for_large_logits_too(over, axis):
    graph, dense = random_graph(3, 30, 9, 9)
    ends = np.asarray(graph.receivers), np.asarray(graph.senders)
    direction = values(4, 30)[:, 0]
    for scale in (1.0, 1000.0):
        logits = graph.weights * scale
        full = np.full(dense.shape, -np.inf)
        full[ends] = np.float64(logits)
        shifted = np.exp(full - np.max(full, axis=axis, keepdims=True, initial=-1e9))
        alpha = shifted / np.maximum(shifted.sum(axis=axis, keepdims=True), 1e-300)
        found, pull = jax.vjp(lambda z: graphs.edge_softmax(graph, z, over=over), logits)
        np.testing.assert_allclose(found, alpha[ends], atol=1e-5)
        cotangent = np.zeros(dense.shape)
        cotangent[ends] = direction
        slope = alpha * (cotangent - (alpha * cotangent).sum(axis=axis, keepdims=True))
        np.testing.assert_allclose(pull(direction)[0], slope[ends], atol=1e-5)


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6))
def test_the_normalised_bipartite_graph_equals_its_definition_and_keeps_isolated_rows_zero(seed):
    rng = np.random.default_rng(seed)
    num_users, num_items = 5, 4
    # The last user and item are isolated, and often others too.
    users, items = np.divmod(rng.choice((num_users - 1) * (num_items - 1), 5, replace=False), num_items - 1)
    graph = graphs.bipartite_graph(users, items, num_users, num_items)
    adjacency = np.zeros((num_users + num_items,) * 2)
    adjacency[users, items + num_users] = adjacency[items + num_users, users] = 1
    degree = adjacency.sum(axis=1)
    scale = np.where(degree > 0, 1 / np.sqrt(np.maximum(degree, 1)), 0)
    dense = scale[:, None] * adjacency * scale[None, :]
    assert graph.symmetric
    assert_equals_dense(graph, dense, seed)
    x = values(seed, len(dense))
    out = np.asarray(graphs.propagate(graph, x))
    assert (out[degree == 0] == 0).all() and degree[[num_users - 1, -1]].tolist() == [0, 0]
    expected = sum(np.linalg.matrix_power(dense, layer) @ x for layer in range(4)) / 4
    np.testing.assert_allclose(mean_of_three_layers(graph, x), expected, atol=1e-5)


mean_of_three_layers = jax.jit(lambda graph, x: graphs.mean_of_layers(graph, x, 3))


def test_a_user_item_block_sends_from_items_and_back():
    users, items, weights = np.array([0, 2, 2]), np.array([1, 0, 3]), np.array([0.5, 2.0, -1.0])
    dense = np.zeros((3, 4))
    dense[users, items] = weights
    assert_equals_dense(graphs.user_item_block(users, items, weights, 3, 4), dense)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("nodes", [1, 5])
def test_a_graph_without_edges_sends_nothing(nodes, symmetric):
    graph = graphs.make_graph(*np.zeros((3, 0)), nodes, symmetric=symmetric)
    assert_equals_dense(graph, np.zeros((nodes, nodes)))
    assert graphs.edge_softmax(graph, graph.weights, over="senders").shape == (0,)


def test_one_node_with_a_loop():
    graph = graphs.make_graph([0], [0], [2.5], 1, symmetric=True)
    assert_equals_dense(graph, np.array([[2.5]]))


def test_edges_are_sorted_whatever_their_order():
    senders, receivers, weights = np.array([2, 0, 1, 0]), np.array([1, 1, 0, 3]), np.array([1.0, 2.0, 3.0, 4.0])
    graph = graphs.user_item_block(receivers, senders, weights, 4, 3)
    assert np.asarray(graph.receivers).tolist() == [0, 1, 1, 3]
    assert np.asarray(graph.senders).tolist() == [1, 0, 2, 0]
    assert np.asarray(graph.weights).tolist() == [3, 2, 1, 4]
    assert np.asarray(graph.offsets).tolist() == [0, 1, 3, 3, 4]
    assert np.asarray(graph.transpose_offsets).tolist() == [0, 2, 3, 4]
    assert np.asarray(graph.senders[graph.transpose_order]).tolist() == [0, 0, 1, 2]


def jraph_convolution(graph, nodes, **options):
    convolve = jraph.GraphConvolution(lambda x: x, **options)
    return convolve(graph.to_jraph(nodes)).nodes


def test_propagation_is_jraphs_graph_convolution():
    users, items = np.array([0, 0, 1, 3]), np.array([0, 2, 2, 1])  # user 2 and item 3 have nothing
    graph = graphs.bipartite_graph(users, items, 4, 4)
    x = values(0, 8)
    np.testing.assert_allclose(graphs.propagate(graph, x), jraph_convolution(graph, x), atol=1e-6)
    summed = graphs.propagate(graph, x, jnp.ones(8))
    np.testing.assert_allclose(summed, jraph_convolution(graph, x, symmetric_normalization=False), atol=1e-6)
    # In a block the users come first, and receive from the items alone.
    block = graphs.user_item_block(users, items, np.ones(4), 4, 4)
    found = jraph_convolution(block, x, symmetric_normalization=False)
    np.testing.assert_allclose(found[:4], graphs.propagate(block, x[4:]), atol=1e-6)
    assert (found[4:] == 0).all()


@pytest.mark.parametrize("shape", [(30, 9, 9), (15, 4, 7), (0, 3, 2)])
def test_edge_softmax_is_jraphs_segment_softmax(shape):
    graph, _ = random_graph(3, *shape)
    tuple_, logits = graph.to_jraph(), 5 * graph.weights
    for over, nodes in (("receivers", tuple_.receivers), ("senders", tuple_.senders)):
        expected = jraph.segment_softmax(logits, nodes, int(tuple_.n_node[0]))
        np.testing.assert_allclose(graphs.edge_softmax(graph, logits, over=over), expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(12, 9, 9), (15, 4, 7), (15, 7, 4), (0, 1, 1), (0, 0, 0), (0, 2, 0), (1, 1, 1)])
def test_graphs_are_valid_for_jraph_and_come_back_from_it(shape):
    edges, senders, receivers = shape
    block = senders != receivers
    graph, _ = random_graph(0, *shape) if senders * receivers else (
        graphs.user_item_block([], [], [], receivers, senders) if block else graphs.make_graph([], [], [], 0),
        None,
    )  # fmt: skip
    tuple_ = graph.to_jraph()
    nodes = senders + receivers if block else senders
    assert tuple_.n_node.tolist() == [nodes] and tuple_.n_edge.tolist() == [edges]
    assert {tuple_.senders.dtype, tuple_.receivers.dtype, tuple_.n_node.dtype, tuple_.n_edge.dtype} == {jnp.int32.dtype}
    for ends, first, past in ((tuple_.receivers, 0, receivers), (tuple_.senders, receivers if block else 0, nodes)):
        assert ends.shape == (edges,) and ((ends >= first) & (ends < past)).all()
    padded = jraph.unpad_with_graphs(jraph.pad_with_graphs(tuple_, nodes + 3, edges + 5, 2))
    shuffled = np.random.default_rng(0).permutation(edges)
    parts = (padded.senders[shuffled], padded.receivers[shuffled], padded.edges[shuffled])
    again = graphs.Graph.from_jraph(
        padded._replace(senders=parts[0], receivers=parts[1], edges=parts[2][:, None]),
        num_receivers=receivers if block else None,
    )
    assert jax.tree.structure(again) == jax.tree.structure(graph)
    jax.tree.map(np.testing.assert_array_equal, again, graph)


def test_graphs_of_a_jraph_batch_become_one_and_weigh_one_without_values():
    one = graphs.make_graph([0, 1], [1, 0], [1.0, 1.0], 2).to_jraph()._replace(edges=None)
    graph = graphs.Graph.from_jraph(jraph.batch([one, one]), symmetric=True)
    assert graph.senders.tolist() == [1, 0, 3, 2] and graph.receivers.tolist() == [0, 1, 2, 3]
    assert graph.weights.tolist() == [1, 1, 1, 1] and graph.symmetric
    with pytest.raises(ValueError, match="num_receivers 2 must be above all receivers"):
        graphs.Graph.from_jraph(jraph.batch([one, one]), num_receivers=2)


def test_inverse_sqrt_of_zero_is_zero():
    np.testing.assert_array_equal(graphs.inverse_sqrt(np.array([0, 4, 0.25])), [0, 0.5, 2])


@pytest.mark.parametrize("shape", [(40, 9, 9), (40, 8, 11), (3000, 70, 60)])
def test_the_lowerings_agree(shape):
    graph, _ = random_graph(5, *shape)
    x, y = values(1, shape[1]), values(2, shape[2])
    arguments = (graph.senders, graph.receivers, graph.offsets, graph.weights, x)
    np.testing.assert_allclose(
        jax.jit(_sparse._csr_product)(*arguments), jax.jit(_sparse._segment_product)(*arguments), atol=1e-5
    )
    arguments = (graph.receivers, graph.senders, y, x)
    np.testing.assert_allclose(
        jax.jit(_sparse._dots_in_blocks)(*arguments), jax.jit(_sparse._dots_at_once)(*arguments), atol=1e-5
    )


def test_a_second_graph_of_the_same_shape_does_not_compile_again():
    step = jax.jit(jax.grad(lambda x, graph, w: jnp.sum(graphs.propagate(graph, x, w) ** 2), argnums=(0, 2)))
    for seed in range(3):
        graph, _ = random_graph(seed, 20, 9, 9)
        step(values(seed, 9), graph, graph.weights)
    assert step._cache_size() == 1


def gradient_and_arguments():
    graph, _ = random_graph(0, 20, 9, 9)

    def loss(x, graph, w):
        alpha = graphs.edge_softmax(graph, graphs.edge_dots(graph, x, x), over="receivers")
        return jnp.sum(graphs.propagate(graph, x, w * alpha) ** 2)

    return jax.jit(jax.grad(loss, argnums=(0, 2))), (values(0, 9), graph, graph.weights)


@pytest.mark.parametrize("platform, scatters", [("cuda", False), ("tpu", True)])
def test_other_platforms_get_no_cpu_kernel_and_a_gpu_no_scatter(platform, scatters):
    gradient, arguments = gradient_and_arguments()
    # Refuses custom calls that are not known to be stable, as the CPU kernel's is not.
    module = export.export(gradient, platforms=(platform,))(*arguments).mlir_module()
    assert "stablehlo.custom_call" not in module
    assert ("stablehlo.scatter" in module) == scatters


def test_one_export_serves_cpu_cuda_and_tpu():
    gradient, arguments = gradient_and_arguments()
    allowed = [export.DisabledSafetyCheck.custom_call("cpu_csr_sparse_dense_ffi")]
    exported = export.export(gradient, platforms=("cpu", "cuda", "tpu"), disabled_checks=allowed)(*arguments)
    assert "cpu_csr_sparse_dense_ffi" in exported.mlir_module()
    for found, expected in zip(exported.call(*arguments), gradient(*arguments), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("senders", [9, 13])
def test_a_subgraph_is_the_graph_of_its_edges(senders, share):
    graph, _ = random_graph(3, edges=40, senders=senders, receivers=13)
    kept = np.random.default_rng(3).random(40) < share
    found = jax.jit(graphs.Graph.subgraph, static_argnums=2)(graph, kept, int(kept.sum()))
    ends = [np.asarray(x)[kept] for x in (graph.receivers, graph.senders, graph.weights)]
    if senders == 13:
        expected = graphs.make_graph(ends[1], ends[0], ends[2], 13)
    else:
        expected = graphs.user_item_block(*ends, 13, senders)
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype
