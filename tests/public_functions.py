"""The public functions, each with the arguments of a right call: what `test_bad_inputs` changes and runs."""

import jax
import jax.numpy as jnp
import numpy as np

from isolator_jax import (
    Encoded,
    Groups,
    Histories,
    Settings,
    UParameters,
    activity_groups,
    bootstrap_ucbias,
    build_similarity,
    choose_setting,
    consistency_groups,
    content_consistency,
    content_factor,
    content_gate,
    d_isolator,
    d_score,
    elu_prime,
    equal_activity,
    evaluate,
    evaluate_lists,
    evaluate_settings,
    fill_undefined,
    fuse_channels,
    held_out_hits,
    history_similarity,
    item_similarity,
    list_similarity,
    losses,
    make_content,
    mean_item_similarity,
    normalize_features,
    paired_test,
    per_user_table,
    reference_lists,
    rescore,
    rho,
    summarize_scores,
    top_k_lists,
    training_score,
    training_strategy,
    tune,
    u_isolator,
    u_score,
    ucbias,
    ucbias_at_equal_popularity,
)
from isolator_jax import graph as graphs
from isolator_jax.data import Dataset, Interactions, SyntheticConfig, make_dataset
from isolator_jax.devices.mesh import make_mesh
from isolator_jax.devices.ranking import count_hits_on, top_k_lists_on
from isolator_jax.evaluation import count_hits, list_hits, mean_recall, users_to_validate
from isolator_jax.evaluation.evaluate import Evaluation
from isolator_jax.evaluation.rescoring import Rescored
from isolator_jax.evaluation.significance import holm
from isolator_jax.evaluation.tradeoff import pareto_front
from isolator_jax.histories import contains, fold_histories, sample_unseen
from isolator_jax.neighbours import (
    enhanced_graph,
    item_graph,
    nearest_neighbours,
    unite,
    unweighted_graph,
    user_rows,
)
from isolator_jax.similarity import similarity_on_the_fly

# Multiples of 1/8, which every type of float holds.
EIGHTHS = np.random.default_rng(0).integers(-8, 9, (3, 6, 6)).astype(np.float32) / 8
F, S, C = EIGHTHS[0, 0, :3], EIGHTHS[1, :2, :3], EIGHTHS[2, :2, :3]
FEATURES, OTHER = EIGHTHS[0][:, :3], EIGHTHS[1][:, :2]
SQUARE = EIGHTHS[2]
U, I = 4, 6
PAIRS = (np.array([0, 0, 1, 1, 2, 3, 3]), np.array([0, 1, 2, 3, 0, 4, 5]))
HISTORIES = Histories.from_pairs(*PAIRS, U)
USERS = np.array([0, 3, 1])
LISTS = np.array([[4, 5], [0, 1], [5, 5]])
GRAPH = graphs.bipartite_graph(*PAIRS, U, I)
EDGES = np.arange(14, dtype=np.float32) / 8
NODES = np.tile(EIGHTHS[0], (2, 1))[:10]
NEIGHBOURS = nearest_neighbours(FEATURES, 3)
STORES = {
    "SimilarityTable": build_similarity(fuse_channels([FEATURES]), HISTORIES),
    "SimilarityOnTheFly": similarity_on_the_fly(fuse_channels([FEATURES]), HISTORIES),
    "SimilarityFromFeatures": similarity_on_the_fly(fuse_channels([FEATURES]), HISTORIES, budget_bytes=0),
}
OF_STORES = {
    "lists": {"users": USERS, "items": LISTS},
    "rows": {"users": USERS, "start": np.int32(1), "width": 3},
    "pairs": {"users": USERS, "items": LISTS[:, 0]},
    "pairs of all with all": {"users": USERS[:, None], "items": LISTS[:1]},
}
PARAMETERS = {"alpha": 2.0, "beta": 4.0, "iota": 0.5}
KEY = jax.random.key(0)


def total(histories, users):
    """`fold_histories` with its other arguments in place."""
    count = lambda counts, rows, items: counts.at[rows].add(1, mode="drop")
    return fold_histories(histories, users, jnp.zeros(np.shape(users), jnp.int32), count)


def penalty(blocks):
    """`frobenius_penalty` with its blocks under one name."""
    return losses.frobenius_penalty(*blocks)


# Arrays in, arrays out: they take whatever is like an array, and most of them are compiled with their callers.
PRIMITIVES = {
    "elu_prime": (elu_prime, {"x": F}),
    "content_gate": (content_gate, {"x": F, "alpha": 2.0, "beta": 4.0}),
    "content_factor": (content_factor, {"s": S, "gamma": 0.5}),
    "d_score": (d_score, {"f": F}),
    "training_score": (training_score, {"f": F, "s": S, "gamma": 0.5}),
    "u_score": (u_score, {"f": F, "s": S, "c": C, **PARAMETERS}),
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
    **{
        f"{store}.{method}": (getattr(STORES[store], method.split()[0]), arguments)
        for store in STORES
        for method, arguments in OF_STORES.items()
    },
    "make_content": (make_content, {"features": {"image": FEATURES, "text": OTHER}, "histories": HISTORIES}),
    "losses.bpr": (losses.bpr, {"positive": F, "negative": S[0]}),
    "losses.l2_normalize": (losses.l2_normalize, {"x": FEATURES}),
    "losses.info_nce": (losses.info_nce, {"anchors": FEATURES, "positives": OTHER[:, [0, 1, 1]], "temperature": 0.5}),
    "losses.in_batch_softmax": (losses.in_batch_softmax, {"logits": SQUARE}),
    "losses.table_nce": (losses.table_nce, {"anchors": FEATURES[:3], "table": FEATURES, "positives": USERS}),
    "losses.frobenius_penalty": (penalty, {"blocks": [FEATURES, OTHER]}),
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

TRUTH = Histories.from_pairs(np.arange(U), np.array([4, 5, 4, 0]), U)
CONTENT = make_content({"a": FEATURES}, HISTORIES)
MODEL = Encoded(EIGHTHS[1, :U], EIGHTHS[0])
D, BOTH = {"d": d_isolator()}, {"d": d_isolator(), "u": u_isolator(2.0, 5.0, 0.1)}
GRID = Settings(alphas=(2.0,), betas=(5.0,), iotas=(0.1, 1.0))
TOP = np.array([[2, 3, 4, 5, -1]] * U)
GROUPS = Groups(np.array([1.0, 0, 0, 0]), np.array([0, 0, 0, 1.0]))
RESULT: Evaluation = evaluate_lists({"m": TOP}, np.arange(U), HISTORIES, TRUTH, ks=(3,))["m"]
PART: Evaluation = evaluate_lists({"m": TOP[:1]}, [0], HISTORIES, TRUTH, ks=(3,))["m"]
MADE, _ = make_dataset(SyntheticConfig(users=5, items=10, clusters=2, styles=2, modalities={"image": 2}))
RANKED = {"model": MODEL, "users": np.arange(2), "histories": HISTORIES, "strategies": BOTH, "content": CONTENT, "k": 3}
HIT = {"users": [0, 3], "popularity": [1, 1], "hits": [True, False], "groups": GROUPS}

# They rank, measure and hold data: from the host, with objects of the library's own among their arguments.
EVALUATION = {
    "top_k_lists": (top_k_lists, RANKED),
    "devices.top_k_lists_on": (top_k_lists_on, {"mesh": make_mesh(1), **RANKED}),
    "evaluate": (
        evaluate,
        {"model": MODEL, "users": None, "histories": HISTORIES, "strategies": D, "truth": TRUTH, "ks": (3,)},
    ),
    "evaluate_lists": (
        evaluate_lists,
        {"lists": {"m": TOP}, "users": np.arange(U), "histories": HISTORIES, "truth": TRUTH, "ks": (3,)},
    ),
    "evaluate_settings": (
        evaluate_settings,
        {"model": MODEL, "users": None, "histories": HISTORIES, "settings": GRID, "content": CONTENT, "truth": TRUTH},
    ),
    "rescore": (
        rescore,
        {"model": MODEL, "histories": HISTORIES, "content": CONTENT, "parameters": UParameters(2.0, 5.0, 0.1), "k": 3},
    ),
    "tune": (
        tune,
        {"model": MODEL, "histories": HISTORIES, "validation": TRUTH, "content": CONTENT, "settings": GRID},
    ),
    "mean_recall": (mean_recall, {"model": MODEL, "users": np.arange(2), "histories": HISTORIES, "truth": TRUTH}),
    "count_hits": (
        count_hits,
        {"model": MODEL, "users": np.arange(2), "histories": HISTORIES, "truth": TRUTH, "k": 3},
    ),
    "devices.count_hits_on": (
        count_hits_on,
        {"mesh": make_mesh(1), "model": MODEL, "users": np.arange(2), "histories": HISTORIES, "truth": TRUTH, "k": 3},
    ),
    "users_to_validate": (users_to_validate, {"histories": HISTORIES, "truth": TRUTH}),
    "list_hits": (list_hits, {"lists": TOP, "truth": TRUTH, "users": np.arange(U)}),
    "choose_setting": (choose_setting, {"recall": np.ones(2), "ucbias": np.ones(2)}),
    "rho": (rho, {"list_similarity": np.ones((2, 3)), "lists": np.ones((2, 3), int)}),
    "consistency_groups": (consistency_groups, {"consistency": np.ones(U)}),
    "activity_groups": (activity_groups, {"lengths": np.ones(U, int)}),
    "ucbias": (ucbias, {"per_user": np.ones(U), "users": np.arange(U), "groups": GROUPS}),
    "bootstrap_ucbias": (
        bootstrap_ucbias,
        {"per_user": np.ones(U), "users": np.arange(U), "groups": GROUPS, "draws": 5},
    ),
    "equal_activity": (
        equal_activity,
        {"groups": GROUPS, "lengths": np.ones(U, int), "users": np.arange(U), "per_user": np.ones(U)},
    ),
    "ucbias_at_equal_popularity": (ucbias_at_equal_popularity, HIT),
    "paired_test": (paired_test, {"first": np.ones(3), "second": np.zeros(3)}),
    "significance.holm": (holm, {"p_values": [0.01, 0.5]}),
    "tradeoff.pareto_front": (pareto_front, {"gain": [1.0, 2.0], "cost": [1.0, 2.0]}),
    "reference_lists": (reference_lists, {"users": None, "histories": HISTORIES, "num_items": I, "k": 2}),
    "per_user_table": (per_user_table, {"evaluations": {"a": RESULT}}),
    "held_out_hits": (held_out_hits, {"evaluation": RESULT, "histories": HISTORIES, "truth": TRUTH, "k": 3}),
    "summarize_scores": (
        summarize_scores,
        {"rescored": Rescored(np.arange(1), {"vanilla": LISTS[:1]}, {"vanilla": np.float32([[2.0, 1.0]])})},
    ),
    "training_strategy": (training_strategy, {"gamma": 0.5}),
    "u_isolator": (u_isolator, PARAMETERS),
    "data.Interactions.from_pairs": (Interactions.from_pairs, {"users": PAIRS[0], "items": PAIRS[1]}),
    "data.Dataset": (
        Dataset,
        {
            "name": "made",
            "num_users": 5,
            "num_items": 10,
            "train": MADE.train,
            "validation": MADE.validation,
            "test": MADE.test,
            "features": MADE.features,
        },
    ),
    "data.SyntheticConfig": (SyntheticConfig, {"users": 5, "items": 10}),
}

GOOD = PRIMITIVES | EVALUATION
