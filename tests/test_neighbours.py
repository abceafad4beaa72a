"""Neighbour lists against sorting in exact arithmetic; graphs against dense definitions."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isolator_jax import neighbours as nn


def sorted_lists(cosines, k):
    """Item ids by falling cosine, the lower id first among equals."""
    return [sorted(range(len(row)), key=lambda j: (-row[j], j))[:k] for row in cosines]


def random_features(rng, items, width):
    """Small integers, so that many rows are equal, opposite or zero."""
    return rng.integers(-1, 2, size=(items, width)).astype(np.float32)


def exact_order(features):
    """An integer for each pair that orders each row's cosines: sign(p) p^2 / |x_j|^2, scaled."""
    rows = [[int(v) for v in row] for row in features]
    squares = [sum(v * v for v in row) for row in rows]
    common = np.lcm.reduce([s for s in squares if s] or [1])
    order = np.zeros((len(rows), len(rows)), object)
    for i, a in enumerate(rows):
        for j, b in enumerate(rows):
            product = sum(x * y for x, y in zip(a, b, strict=True))
            order[i, j] = product * abs(product) * int(common) // squares[j] if squares[j] else 0
    return order


def test_of_no_items_there_is_a_graph_without_nodes():
    nobody = nn.nearest_neighbours(np.zeros((0, 3)), 2)
    assert [make(nobody).num_senders for make in (nn.item_graph, nn.unweighted_graph)] == [0, 0]


@given(st.integers(0, 10**6), st.integers(1, 25), st.integers(1, 6), st.integers(1, 30))
def test_lists_are_exact_and_do_not_depend_on_the_blocks(seed, items, width, k):
    features = random_features(np.random.default_rng(seed), items, width)
    lists = nn.nearest_neighbours(features, k)
    assert lists.items.shape == lists.cosines.shape == (items, min(k, items))
    np.testing.assert_array_equal(lists.items, sorted_lists(exact_order(features), k))
    wide = features.astype(np.float64)
    norms = np.linalg.norm(wide, axis=1)
    cosines = wide @ wide.T / np.maximum(np.outer(norms, norms), 1e-300)
    np.testing.assert_allclose(lists.cosines, np.take_along_axis(cosines, lists.items, 1), atol=6e-8)
    for memory in (1, 1000):
        in_blocks = nn.nearest_neighbours(features, k, memory_bytes=memory)
        np.testing.assert_array_equal(in_blocks.items, lists.items)
        np.testing.assert_array_equal(in_blocks.cosines, lists.cosines)


def test_equal_sums_of_unequal_terms_tie():
    # Weighted one-hot codes: cosines are sums of matched weights, added up in different orders
    # in different columns. In float32 they come out a rounding apart.
    rng = np.random.default_rng(0)
    codes = rng.integers(3, size=(150, 4))
    weights = np.array([8, 4, 2, 1])
    features = np.zeros((150, 4, 3), np.float16)
    for level in range(4):
        features[np.arange(150), level, codes[:, level]] = np.sqrt(weights[level] / 15)
    matched = (codes[:, None] == codes[None]) @ weights
    lists = nn.nearest_neighbours(features.reshape(150, 12), 10)
    np.testing.assert_array_equal(lists.items, sorted_lists(matched, 10))


def test_cosines_of_zero_tie_whatever_rounding_makes_of_them():
    features = np.array([[0.1, 0.2, 0.3], [-1, -1, 1], [1, 1, -1], [2, -1, 0], [-3, 0, 1], [3, 0, -1]])
    assert set(np.sign(features[1:] @ features[0])) == {-1, 0, 1}  # all are zero in decimals
    np.testing.assert_array_equal(nn.nearest_neighbours(features, 6).items[0], range(6))


def test_scale_does_not_matter_and_storage_type_only_by_its_rounding():
    features = np.random.default_rng(1).standard_normal((30, 5))
    lists = nn.nearest_neighbours(features, 6)
    for scale in (2.0**300, 2.0**-300, 2.0**-800):
        scaled = nn.nearest_neighbours(features * scale, 6)
        np.testing.assert_array_equal(scaled.items, lists.items)
        np.testing.assert_array_equal(scaled.cosines, lists.cosines)
    half = nn.nearest_neighbours(features.astype(np.float16), 6)
    np.testing.assert_allclose(half.cosines, lists.cosines, atol=2e-3)


def test_working_memory_stays_within_its_bound():
    features = np.random.default_rng(2).standard_normal((3000, 8)).astype(np.float32)
    bound = 4 << 20  # an item-by-item matrix of float32 is 36 MB
    nn.nearest_neighbours(features[:10], 10)
    tracemalloc.start()
    lists = nn.nearest_neighbours(features, 10, memory_bytes=bound)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < bound + 4 * lists.items.nbytes


def dense(graph):
    matrix = np.zeros((graph.num_receivers, graph.num_senders))
    matrix[np.asarray(graph.receivers), np.asarray(graph.senders)] = graph.weights
    return matrix


def reference_item_graph(features, k):
    items = len(features)
    norms = np.linalg.norm(features, axis=1)
    weights = np.zeros((items, items))
    for i in range(items):
        cosines = [
            features[i] @ features[j] / (norms[i] * norms[j]) if norms[i] and norms[j] else 0.0 for j in range(items)
        ]
        for j in sorted(range(items), key=lambda j: (-cosines[j], j))[:k]:
            weights[i, j] = max(cosines[j], 0.0)
    sums = weights.sum(axis=1)
    for i, j in np.argwhere(weights):
        weights[i, j] /= np.sqrt(sums[i] * sums[j])
    return weights


@pytest.mark.parametrize("k", [1, 4, 20])
def test_item_graph_equals_its_definition(k):
    features = np.random.default_rng(3).standard_normal((12, 3))
    features[[2, 9]] = 0
    graph = nn.item_graph(nn.nearest_neighbours(features, k))
    expected = reference_item_graph(features, k)
    np.testing.assert_allclose(dense(graph), expected, atol=1e-6)
    assert graph.weights.shape[0] == np.count_nonzero(expected)  # no edge has weight zero
    assert not dense(graph)[[2, 9]].any() and not dense(graph)[:, [2, 9]].any()
    if k == 20:
        assert (expected == 0).sum() > 2 * 12 * 2  # negative cosines were among the neighbours
    if k == 4:
        assert not np.allclose(expected, expected.T)


def test_a_catalogue_without_content_has_no_item_edges():
    graph = nn.item_graph(nn.nearest_neighbours(np.zeros((3, 2)), 2))
    assert graph.weights.shape == (0,) and graph.num_receivers == 3


USERS, ITEMS = 5, 9
TRAIN = np.array([[0, 0, 1, 2, 2, 2, 3], [1, 4, 4, 0, 4, 7, 2]])  # user 4 and items 3, 5, 6, 8 isolated


@pytest.mark.parametrize("modalities", [1, 2, 3])
def test_enhanced_graph_and_its_user_rows_equal_their_definition(modalities):
    rng = np.random.default_rng(4)
    features = [rng.standard_normal((ITEMS, 2)) for _ in range(modalities)]
    features[-1][2] = 0
    lists = [nn.nearest_neighbours(x, 6) for x in features]
    adjacency = np.zeros((USERS + ITEMS, USERS + ITEMS))
    for user, item in TRAIN.T:
        adjacency[user, USERS + item] = adjacency[USERS + item, user] = 1
    for i in range(ITEMS):
        for j in range(ITEMS):
            if i not in (2, j) and all(j in neighbours.items[i] for neighbours in lists):  # 2 has no features
                adjacency[USERS + i, USERS + j] = 1
    edges_between_items = adjacency[USERS:, USERS:]
    assert edges_between_items.any() and (edges_between_items != edges_between_items.T).any()
    sums = adjacency.sum(axis=1)
    scale = np.array([1 / np.sqrt(s) if s else 0.0 for s in sums])
    expected = scale[:, None] * adjacency * scale[None, :]
    graph = nn.enhanced_graph(*TRAIN, USERS, ITEMS, lists)
    np.testing.assert_allclose(dense(graph), expected, atol=1e-6)
    assert not graph.symmetric
    rows = nn.user_rows(graph, USERS)
    assert (rows.num_receivers, rows.num_senders) == (USERS, ITEMS)
    np.testing.assert_allclose(dense(rows), expected[:USERS, USERS:], atol=1e-6)


def test_united_graphs_have_every_edge_once_with_what_their_weights_combine_to():
    rng = np.random.default_rng(6)
    features = [rng.standard_normal((ITEMS, 3)) for _ in range(3)]
    item_graphs = [nn.item_graph(nn.nearest_neighbours(x, k)) for x, k in zip(features, (4, 6, 2), strict=True)]
    matrices = [dense(graph) for graph in item_graphs]
    for combine, expected in ((np.add, sum(matrices)), (np.maximum, np.maximum.reduce(matrices))):
        united = nn.unite(item_graphs, combine)
        np.testing.assert_allclose(dense(united), expected, atol=1e-6)
        assert united.weights.size == np.count_nonzero(expected)
    nothing = nn.item_graph(nn.nearest_neighbours(np.zeros((3, 2)), 2))
    assert nn.unite([nothing, nothing], np.add).weights.shape == (0,)


def test_an_unweighted_graph_ignores_the_cosines():
    features = np.random.default_rng(7).standard_normal((ITEMS, 2))
    features[3] = 0
    lists = nn.nearest_neighbours(features, 6)
    assert (lists.cosines < 0).any()
    expected = np.zeros((ITEMS, ITEMS))
    expected[np.arange(ITEMS)[:, None], lists.items] = 0.5 / 6
    expected[3] = 0  # it has no features, and so receives nothing
    np.testing.assert_allclose(dense(nn.unweighted_graph(lists, 0.5)), expected, atol=1e-7)
