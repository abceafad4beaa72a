"""One table over the public functions: what each takes, what it refuses; the form of the input does not matter.

`GOOD` has the arguments of a right call of each function; `BAD` has changes of them, each with
words that the refusal must hold. A new public function needs an entry in both.
"""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import isolator_jax
from isolator_jax import (
    Histories,
    build_similarity,
    content_consistency,
    content_factor,
    content_gate,
    d_score,
    elu_prime,
    fill_undefined,
    fuse_channels,
    history_similarity,
    item_similarity,
    list_similarity,
    losses,
    make_content,
    mean_item_similarity,
    normalize_features,
    training_score,
    u_score,
)
from isolator_jax import graph as graphs
from isolator_jax.histories import contains, fold_histories, sample_unseen
from isolator_jax.neighbours import (
    Neighbours,
    enhanced_graph,
    item_graph,
    nearest_neighbours,
    unite,
    unweighted_graph,
    user_rows,
)

# Multiples of 1/8, which every type of float holds.
EIGHTHS = np.random.default_rng(0).integers(-8, 9, (3, 6, 6)).astype(np.float32) / 8
F, S, C = EIGHTHS[0, 0, :3], EIGHTHS[1, :2, :3], EIGHTHS[2, :2, :3]
FEATURES, OTHER = EIGHTHS[0][:, :3], EIGHTHS[1][:, :2]
SQUARE = EIGHTHS[2]
PAIRS = (np.array([0, 0, 1, 1, 2, 3, 3]), np.array([0, 1, 2, 3, 0, 4, 5]))
HISTORIES = Histories.from_pairs(*PAIRS, 4)
USERS = np.array([0, 3, 1])
LISTS = np.array([[4, 5], [0, 1], [5, 5]])
GRAPH = graphs.bipartite_graph(*PAIRS, 4, 6)
EDGES = np.arange(14, dtype=np.float32) / 8
NODES = np.tile(EIGHTHS[0], (2, 1))[:10]
NEIGHBOURS = nearest_neighbours(FEATURES, 3)
TABLE = build_similarity(fuse_channels([FEATURES]), HISTORIES)
ON_THE_FLY = build_similarity(fuse_channels([FEATURES]), HISTORIES, table_budget_bytes=144 - 1)
U = {"alpha": 2.0, "beta": 4.0, "iota": 0.5}
KEY = jax.random.key(0)


def total(histories, users):
    """`fold_histories` with its other arguments in place."""
    count = lambda counts, rows, items: counts.at[rows].add(1, mode="drop")
    return fold_histories(histories, users, jnp.zeros(np.shape(users), jnp.int32), count)


GOOD = {
    "elu_prime": (elu_prime, {"x": F}),
    "content_gate": (content_gate, {"x": F, "alpha": 2.0, "beta": 4.0}),
    "content_factor": (content_factor, {"s": S, "gamma": 0.5}),
    "d_score": (d_score, {"f": F}),
    "training_score": (training_score, {"f": F, "s": S, "gamma": 0.5}),
    "u_score": (u_score, {"f": F, "s": S, "c": C, **U}),
    "Histories.from_pairs": (Histories.from_pairs, {"users": PAIRS[0], "items": PAIRS[1], "num_users": 4}),
    "histories.contains": (contains, {"histories": HISTORIES, "user": np.int32(1), "item": np.int32(2)}),
    "histories.sample_unseen": (
        sample_unseen,
        {"key": KEY, "histories": HISTORIES, "users": USERS, "num_items": 6},
    ),
    "histories.fold_histories": (total, {"histories": HISTORIES, "users": USERS}),
    "normalize_features": (normalize_features, {"features": FEATURES}),
    "fuse_channels": (fuse_channels, {"features": [FEATURES, OTHER], "fusion": "mean"}),
    "item_similarity": (item_similarity, {"channel": FEATURES}),
    "mean_item_similarity": (mean_item_similarity, {"channel": FEATURES}),
    "content_consistency": (content_consistency, {"channel": FEATURES, "histories": HISTORIES}),
    "fill_undefined": (fill_undefined, {"consistency": np.float32([[1, np.nan, 0.5]])}),
    "history_similarity": (history_similarity, {"item_sim": SQUARE, "histories": HISTORIES, "users": USERS}),
    "list_similarity": (
        list_similarity,
        {"item_sim": SQUARE, "histories": HISTORIES, "users": USERS, "lists": LISTS},
    ),
    "build_similarity": (build_similarity, {"channels": [FEATURES], "histories": HISTORIES}),
    "SimilarityTable": (TABLE.lists, {"users": USERS, "items": LISTS}),
    "SimilarityTable.rows": (TABLE.rows, {"users": USERS, "start": np.int32(1), "width": 3}),
    "SimilarityTable.pairs": (TABLE.pairs, {"users": USERS, "items": LISTS[:, 0]}),
    "SimilarityOnTheFly": (ON_THE_FLY.lists, {"users": USERS, "items": LISTS}),
    "make_content": (make_content, {"features": {"image": FEATURES, "text": OTHER}, "histories": HISTORIES}),
    "losses.bpr": (losses.bpr, {"positive": F, "negative": S[0]}),
    "losses.l2_normalize": (losses.l2_normalize, {"x": FEATURES}),
    "losses.info_nce": (losses.info_nce, {"anchors": FEATURES, "positives": OTHER[:, [0, 1, 1]], "temperature": 0.5}),
    "losses.in_batch_softmax": (losses.in_batch_softmax, {"logits": SQUARE}),
    "losses.table_nce": (losses.table_nce, {"anchors": FEATURES[:3], "table": FEATURES, "positives": USERS}),
    "graph.make_graph": (
        graphs.make_graph,
        {"senders": [0, 2], "receivers": [1, 1], "weights": np.float32([1, 0.5]), "num_nodes": 3},
    ),
    "graph.user_item_block": (
        graphs.user_item_block,
        {"users": PAIRS[0], "items": PAIRS[1], "weights": EDGES[:7], "num_users": 4, "num_items": 6},
    ),
    "graph.bipartite_graph": (
        graphs.bipartite_graph,
        {"users": PAIRS[0], "items": PAIRS[1], "num_users": 4, "num_items": 6},
    ),
    "graph.propagate": (graphs.propagate, {"graph": GRAPH, "x": NODES, "weights": EDGES}),
    "graph.propagate_back": (graphs.propagate_back, {"graph": GRAPH, "y": NODES}),
    "graph.edge_dots": (graphs.edge_dots, {"graph": GRAPH, "a": NODES, "b": NODES[::-1]}),
    "graph.mean_of_layers": (graphs.mean_of_layers, {"graph": GRAPH, "x": NODES, "layers": 2}),
    "graph.edge_softmax": (graphs.edge_softmax, {"graph": GRAPH, "logits": EDGES, "over": "receivers"}),
    "neighbours.nearest_neighbours": (nearest_neighbours, {"features": FEATURES, "k": 3}),
    "neighbours.item_graph": (item_graph, {"neighbours": NEIGHBOURS}),
    "neighbours.unweighted_graph": (unweighted_graph, {"neighbours": NEIGHBOURS}),
    "neighbours.unite": (unite, {"graphs": [item_graph(NEIGHBOURS)] * 2, "combine": np.add}),
    "neighbours.enhanced_graph": (
        enhanced_graph,
        {"users": PAIRS[0], "items": PAIRS[1], "num_users": 4, "num_items": 6, "neighbours": [NEIGHBOURS]},
    ),
    "neighbours.user_rows": (user_rows, {"graph": GRAPH, "num_users": 4}),
}

NAN = np.where(np.arange(18).reshape(6, 3) == 4, np.nan, FEATURES)
BAD = [
    ("elu_prime", {"x": "text"}, "x must hold numbers"),
    ("content_gate", {"alpha": 0.0}, "alpha must be above 0, got 0"),
    ("content_gate", {"beta": np.nan}, "beta must be above 0, got nan"),
    ("content_factor", {"s": 0.5}, r"s must have shape \[T, ...\], got \[\]"),
    ("content_factor", {"gamma": -1}, "gamma must be at least 0, got -1"),
    ("content_factor", {"gamma": [0.1, 0.2]}, r"gamma must have shape \[\], got \[2\]"),
    ("d_score", {"f": None}, "f must hold numbers"),
    ("training_score", {"s": F}, r"s must have shape \[T, 3\]"),
    ("training_score", {"s": S[:0]}, "s must have at least one channel"),
    ("training_score", {"gamma": np.inf}, "gamma must be at least 0, got inf"),
    ("u_score", {"s": F, "c": F}, r"s must have shape \[T, 3\]"),
    ("u_score", {"s": S[:1]}, r"c must have shape \[T, ...\] with T = 1, got \[2, 3\]"),
    ("u_score", {"c": C[:, :2]}, r"c must have the shape of s, \[2, 3\]"),
    ("u_score", {"c": C[:, 0]}, r"c must have the shape of s, \[2, 3\]"),
    ("u_score", {"iota": -0.1}, "iota must be at least 0"),
    ("Histories.from_pairs", {"users": [0, 5, 0, 0, 0, 0, 0]}, "users must be at least 0 and below 4, got 5"),
    ("Histories.from_pairs", {"items": [0, -1, 0, 0, 0, 0, 0]}, "items must be at least 0 and below .*, got -1"),
    ("Histories.from_pairs", {"items": [2**32 + 5] * 7}, "got 4294967301"),
    ("Histories.from_pairs", {"items": [1.5] * 7}, "items must hold whole numbers .*, got 1.5"),
    ("Histories.from_pairs", {"items": [np.nan] * 7}, "items must hold whole numbers .*, got nan"),
    ("Histories.from_pairs", {"items": ["9"] * 7}, "items must hold numbers, got text"),
    ("Histories.from_pairs", {"items": [0]}, r"users and items must have the same shape, got users \[7\], items \[1\]"),
    ("Histories.from_pairs", {"num_users": 4.0}, "num_users must be an integer"),
    ("Histories.from_pairs", {"num_users": -1}, "num_users must be at least 0"),
    ("histories.contains", {"user": 4}, "user must be at least 0 and below 4, got 4"),
    ("histories.contains", {"histories": None}, "histories must be of type Histories, got NoneType"),
    ("histories.sample_unseen", {"users": [4]}, "users must be at least 0 and below 4"),
    ("histories.sample_unseen", {"num_items": 5}, "histories must hold items below 5, .* got 5"),
    ("histories.fold_histories", {"users": [-1]}, "users must be at least 0 and below 4"),
    ("histories.fold_histories", {"users": [[0]]}, r"users must have shape \[B\], got \[1, 1\]"),
    ("normalize_features", {"features": NAN}, r"features must be finite in float32, got nan at \[1, 1\]"),
    ("normalize_features", {"features": FEATURES[0]}, r"features must have shape \[I, F\], got \[3\]"),
    ("normalize_features", {"features": FEATURES * 1e-42}, "features must be scaled up: row"),
    ("normalize_features", {"features": np.float64(FEATURES) * 1e300}, "features must be finite in float32"),
    ("fuse_channels", {"features": []}, "at least one modality"),
    ("fuse_channels", {"features": [FEATURES, OTHER[:4]]}, r"features\[1\] must have a row for each of the 6 items"),
    ("fuse_channels", {"features": [OTHER, NAN]}, r"features\[1\] must be finite"),
    ("fuse_channels", {"fusion": "sum"}, "fusion 'sum' is not one of mean, per_modality"),
    ("item_similarity", {"channel": F}, r"channel must have shape \[I, F\]"),
    ("mean_item_similarity", {"channel": F}, r"channel must have shape \[I, F\]"),
    ("content_consistency", {"channel": FEATURES[:3]}, "histories must hold items below 3, .* got 5"),
    ("content_consistency", {"channel": NAN}, "channel must be finite"),
    ("content_consistency", {"histories": PAIRS}, "histories must be of type Histories"),
    ("fill_undefined", {"consistency": 0.5}, r"consistency must have shape \[..., U\]"),
    ("history_similarity", {"item_sim": SQUARE[:3]}, "histories must hold items below 3"),
    ("history_similarity", {"users": [0, 4]}, "users must be at least 0 and below 4, got 4"),
    ("list_similarity", {"lists": LISTS + 1}, "lists must be at least 0 and below 6, got 6"),
    ("list_similarity", {"lists": LISTS[:2]}, r"lists must have shape \[B, K\] with B = 3, got \[2, 2\]"),
    ("list_similarity", {"users": ["a", "b", "c"]}, "users must hold numbers, got text"),
    ("build_similarity", {"channels": []}, "channels must hold at least one"),
    ("build_similarity", {"channels": [FEATURES, OTHER[:5]]}, r"channels\[1\] must have a row for each of the 6"),
    ("build_similarity", {"channels": [FEATURES[:5]]}, "histories must hold items below 5"),
    ("build_similarity", {"table_dtype": jnp.int32}, "table_dtype 'int32' is not one of float32, float16, bfloat16"),
    ("SimilarityTable", {"users": [0, 1, 4]}, "users must be at least 0 and below 4"),
    ("SimilarityTable", {"items": LISTS - 1}, "items must be at least 0 and below 6, got -1"),
    ("SimilarityTable.pairs", {"items": [6, 0, 0]}, "items must be at least 0 and below 6, got 6"),
    ("SimilarityTable.rows", {"start": 4}, "start must be at least 0 and below 4, got 4"),
    ("SimilarityOnTheFly", {"items": LISTS + 1}, "items must be at least 0 and below 6, got 6"),
    ("make_content", {"features": {}}, "at least one modality"),
    ("make_content", {"features": [FEATURES]}, "features must be of type Mapping, got list"),
    ("make_content", {"features": {"a": FEATURES[:3]}}, "histories must hold items below 3"),
    ("make_content", {"features": {"a": FEATURES, "b": OTHER[:3]}}, r"features\['b'\] must have a row for each"),
    ("make_content", {"features": {"a": NAN}}, r"features\['a'\] must be finite"),
    ("make_content", {"fusion": "sum"}, "fusion 'sum' is not one of"),
    ("losses.bpr", {"negative": F[:, None]}, "positive and negative must have the same shape"),
    ("losses.bpr", {"positive": [], "negative": []}, "positive must hold at least one score"),
    ("losses.l2_normalize", {"x": 1.0}, r"x must have shape \[..., D\]"),
    ("losses.info_nce", {"positives": OTHER}, "anchors and positives must have the same shape"),
    ("losses.info_nce", {"temperature": 0.0}, "temperature must be above 0, got 0"),
    ("losses.in_batch_softmax", {"logits": FEATURES}, r"logits must have shape \[B, B\]"),
    ("losses.table_nce", {"positives": USERS + 3}, "positives must be at least 0 and below 6"),
    ("losses.table_nce", {"table": SQUARE}, r"table must have shape \[R, D\] with D = 3"),
    ("graph.make_graph", {"senders": [0, 3]}, "senders must be at least 0 and below 3, got 3"),
    ("graph.make_graph", {"weights": [1.0]}, "senders and receivers and weights must have the same shape"),
    ("graph.make_graph", {"weights": [1.0, np.nan]}, "weights must be finite"),
    ("graph.make_graph", {"senders": [2, 2]}, "an edge must be given once, got senders 2, receivers 1"),
    ("graph.make_graph", {"symmetric": True}, "weights must be the same in both directions"),
    ("graph.user_item_block", {"items": PAIRS[1] + 1}, "items must be at least 0 and below 6, got 6"),
    ("graph.bipartite_graph", {"num_users": 3}, "users must be at least 0 and below 3, got 3"),
    ("graph.propagate", {"x": NODES[:9]}, r"x must have shape \[S, D\] with S = 10"),
    ("graph.propagate", {"weights": EDGES[:3]}, r"weights must have shape \[E\] with E = 14"),
    ("graph.propagate_back", {"y": NODES[:9]}, r"y must have shape \[R, D\] with R = 10"),
    ("graph.edge_dots", {"b": NODES[:, :2]}, r"b must have shape \[S, D\] with S = 10, D = 6"),
    ("graph.mean_of_layers", {"x": NODES[0]}, r"x must have shape \[N, D\] with N = 10"),
    ("graph.edge_softmax", {"over": "edges"}, "over 'edges' is not one of receivers, senders"),
    ("graph.edge_softmax", {"logits": EDGES[:3]}, r"logits must have shape \[E\] with E = 14"),
    ("neighbours.nearest_neighbours", {"features": NAN}, "features must be finite, got a row that is not: 1"),
    ("neighbours.nearest_neighbours", {"k": 0}, "k must be at least 1"),
    ("neighbours.item_graph", {"neighbours": NEIGHBOURS.items}, "neighbours must be of type Neighbours"),
    (
        "neighbours.item_graph",
        {"neighbours": Neighbours(NEIGHBOURS.items + 4, NEIGHBOURS.cosines)},
        "neighbours.items must be at least 0 and below 6",
    ),
    ("neighbours.unweighted_graph", {"neighbours": NEIGHBOURS.items}, "neighbours must be of type Neighbours"),
    ("neighbours.unite", {"graphs": []}, "graphs must hold at least one graph"),
    ("neighbours.unite", {"graphs": [item_graph(NEIGHBOURS), GRAPH]}, "graphs must have the same nodes, got 6 and 10"),
    ("neighbours.enhanced_graph", {"neighbours": []}, "neighbours must hold the lists of at least one modality"),
    ("neighbours.enhanced_graph", {"num_items": 7}, r"neighbours\[0\].items must have shape \[I, K\] with I = 7"),
    ("neighbours.user_rows", {"num_users": 11}, "num_users must be at most the graph's 10 nodes"),
]

# What works on the host, or has arguments that are no arrays in a way that jit cannot take.
ON_THE_HOST = {
    "Histories.from_pairs", "content_consistency", "build_similarity", "make_content", "neighbours.nearest_neighbours",
    "neighbours.item_graph", "neighbours.unweighted_graph", "neighbours.unite", "neighbours.enhanced_graph",
    "neighbours.user_rows", "graph.make_graph",
    "graph.user_item_block", "graph.bipartite_graph",
}  # fmt: skip
STATIC = {"fusion", "over", "layers", "width", "num_items", "num_users", "num_nodes", "k"}

FORMS = {
    "list": lambda x: x.tolist(),
    "DataFrame": lambda x: pd.DataFrame(x) if x.ndim == 2 else pd.Series(x) if x.ndim == 1 else x,
    "float64": lambda x: x.astype(np.float64),
    "float16": lambda x: x.astype(np.float16),
    "bfloat16": lambda x: jnp.asarray(x, jnp.bfloat16),
    "jax": jnp.asarray,
}


def call(name):
    function, arguments = GOOD[name]
    return function(**arguments)


def leaves(result):
    return [np.asarray(x) for x in jax.tree.leaves(result)]


def assert_same(found, expected):
    for actual, wanted in zip(leaves(found), leaves(expected), strict=True):
        assert actual.dtype == wanted.dtype
        np.testing.assert_allclose(actual, wanted, rtol=1e-6, atol=1e-6)


def reformed(arguments, form):
    is_data = lambda x: isinstance(x, np.ndarray | np.generic)
    change = lambda x: FORMS[form](np.asarray(x)) if is_data(x) else x
    return {
        name: value if isinstance(value, Histories | graphs.Graph | Neighbours) else jax.tree.map(change, value)
        for name, value in arguments.items()
    }


def test_every_primitive_has_its_good_and_its_bad_inputs():
    assert {name for name, *_ in BAD} == set(GOOD)
    own = {f"isolator_jax.{module}" for module in ("scoring", "features", "consistency", "content", "similarity")}
    public = {name: getattr(isolator_jax, name) for name in isolator_jax.__all__}
    functions = {name for name, x in public.items() if isinstance(x, types.FunctionType) and x.__module__ in own}
    assert len(functions) > 10 and functions <= set(GOOD)


@pytest.mark.parametrize(("name", "change", "words"), BAD, ids=[f"{name}-{'-'.join(x)}" for name, x, _ in BAD])
def test_bad_inputs_are_refused_by_name(name, change, words):
    function, arguments = GOOD[name]
    with pytest.raises((ValueError, TypeError), match=words) as caught:
        function(**{**arguments, **change})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", GOOD)
def test_the_form_of_the_input_does_not_matter(name):
    function, arguments = GOOD[name]
    expected = call(name)
    assert all(x.dtype != np.float64 for x in leaves(expected) if name not in ("content_consistency", "make_content"))
    for form in FORMS:
        assert_same(function(**reformed(arguments, form)), expected)


@pytest.mark.parametrize("name", sorted(set(GOOD) - ON_THE_HOST))
def test_compiled_calls_equal_plain_ones(name):
    function, arguments = GOOD[name]
    fixed = {key: value for key, value in arguments.items() if key in STATIC}
    traced = {key: value for key, value in arguments.items() if key not in STATIC}
    found = jax.jit(lambda traced: function(**traced, **fixed))(traced)
    assert_same(found, call(name))


@pytest.mark.parametrize("name", ["content_consistency", "Histories.from_pairs", "graph.bipartite_graph"])
def test_host_functions_say_so_under_jit(name):
    function, arguments = GOOD[name]
    first = next(iter(arguments))
    with pytest.raises(TypeError, match=f"{first} has no values yet: this function works on the host"):
        jax.jit(lambda x: function(**{**arguments, first: x}))(arguments[first])


SETTINGS = {
    "rank promotion": lambda: jax.numpy_rank_promotion("raise"),
    "dtype promotion": lambda: jax.numpy_dtype_promotion("strict"),
    "NaNs": lambda: jax.debug_nans(True),
    "64 bits": lambda: jax.enable_x64(True),
}


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
def test_everything_runs_under_strict_settings(setting):
    expected = {name: call(name) for name in GOOD}
    with SETTINGS[setting]():
        for name, (function, arguments) in GOOD.items():
            with_numpy = function(**arguments)
            assert_same(with_numpy, expected[name])
            if setting == "64 bits" and name != "fill_undefined":
                assert_same(function(**reformed(arguments, "float64")), expected[name])


def test_content_is_an_argument_of_compiled_functions():
    content = make_content({"text": FEATURES, "image": OTHER}, HISTORIES, fusion="per_modality")
    read = jax.jit(
        lambda content, users: content.channel_consistency[:, users] + content.similarity.rows(users, 0, 1)[..., 0]
    )
    np.testing.assert_allclose(
        read(content, USERS), content.channel_consistency[:, USERS] + content.similarity.table[:, USERS, 0], rtol=1e-6
    )
    assert list(jax.tree.map(lambda x: x, content).modalities) == ["text", "image"]
    assert len(jax.tree.leaves(content)) == 5


def test_scores_are_mapped_and_differentiated():
    score = functools.partial(u_score, **U)
    whole = score(F, S, C)
    np.testing.assert_allclose(jax.vmap(score, (0, 1, 1))(F, S, C), whole, rtol=1e-6)
    value, slope = jax.jvp(score, (F, S, C), (np.ones_like(F), np.zeros_like(S), np.zeros_like(C)))
    np.testing.assert_allclose(value, whole, rtol=1e-6)
    np.testing.assert_allclose(slope, jax.grad(lambda f: jnp.sum(score(f, S, C)))(F), rtol=1e-6)
