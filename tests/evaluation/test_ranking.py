"""Full ranking against a sort of the whole matrix, and metrics against their definitions."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isolator_jax import scoring
from isolator_jax.evaluation.ranking import METRICS, NO_ITEM, list_hits, top_k_lists, top_k_lists_from_scores
from isolator_jax.features import fuse_channels
from isolator_jax.histories import Histories
from isolator_jax.similarity import build_similarity

U, I, D = 9, 23, 3


def make_problem(seed=0):
    """Embeddings of small integers, so that exact ties abound; user 0 has no history, user 1 nearly all."""
    rng = np.random.default_rng(seed)
    users = rng.integers(-1, 2, size=(U, D)).astype(np.float32)
    items = rng.integers(-1, 2, size=(I, D)).astype(np.float32)
    sets = [np.array([], int), np.delete(np.arange(I), [3, 8]), *(rng.choice(I, 6, False) for _ in range(U - 2))]
    pair_users = np.concatenate([np.full(len(s), user) for user, s in enumerate(sets)])
    histories = Histories.from_pairs(pair_users, np.concatenate(sets).astype(int), U)
    features = [rng.standard_normal((I, 4)), rng.standard_normal((I, 5))]
    return users, items, sets, histories, features


def brute_force(scores, sets, k):
    """Sorted by falling score, then rising id, without the history, padded."""
    lists = []
    for user, row in enumerate(scores):
        order = [i for i in np.lexsort((np.arange(I), -row)) if i not in set(sets[user])][:k]
        lists.append(order + [NO_ITEM] * (k - len(order)))
    return np.array(lists)


# Chunk sizes are static: every example compiles.
@settings(max_examples=15)
@given(st.integers(0, 50), st.integers(1, U + 3), st.integers(1, I + 3), st.integers(1, I + 4))
def test_lists_equal_a_full_sort_with_ties_to_the_lower_id_whatever_the_chunks(seed, user_chunk, item_chunk, k):
    users, items, sets, histories, _ = make_problem(seed)
    lists, keys = top_k_lists(
        users, items, jnp.arange(U), histories, {"f": scoring.vanilla().key},
        k=k, user_chunk=user_chunk, item_chunk=item_chunk,
    )["f"]  # fmt: skip
    scores = users @ items.T
    np.testing.assert_array_equal(lists, brute_force(scores, sets, k))
    filled = np.asarray(lists) != NO_ITEM
    np.testing.assert_array_equal(np.asarray(keys)[filled], scores[np.nonzero(filled)[0], np.asarray(lists)[filled]])
    assert np.isneginf(np.asarray(keys)[~filled]).all()


class Watched(np.ndarray):
    """A score matrix that notes how many rows are read at a time."""

    reads: list[int] = []

    def __getitem__(self, key):
        rows = np.asarray(super().__getitem__(key))
        self.reads.append(len(rows))
        return rows


@pytest.mark.parametrize("dtype", [np.float16, np.float32, ">f8"])
@pytest.mark.parametrize(("user_chunk", "item_chunk"), [(1, 5), (4, 100), (100, 23)])
def test_lists_of_stored_scores_equal_those_of_embeddings_and_few_rows_are_read_at_a_time(
    dtype, user_chunk, item_chunk
):
    users, items, _, histories, features = make_problem()
    similarity = build_similarity(fuse_channels(features), histories)
    consistency = jnp.linspace(-0.5, 0.5, U)[None]
    keys = {"f": scoring.vanilla().key, "u": scoring.u_isolator(2.0, 5.0, 1.0).key}
    chosen = np.array([7, 2, 0, 1, 5], np.int32)
    scores = (users @ items.T).astype(dtype).view(Watched)
    Watched.reads = []
    stored = top_k_lists_from_scores(
        scores, chosen, histories, keys, similarity, consistency, k=6, user_chunk=user_chunk, item_chunk=item_chunk
    )
    assert max(Watched.reads) <= user_chunk
    embedded = top_k_lists(users, items, jnp.asarray(chosen), histories, keys, similarity, consistency, k=6)
    assert not np.array_equal(stored["f"][0], stored["u"][0])
    for name in keys:
        np.testing.assert_array_equal(stored[name][0], embedded[name][0])
        np.testing.assert_allclose(stored[name][1], embedded[name][1], rtol=1e-6)


def test_nobody_to_rank_for_gives_no_lists_from_scores():
    users, items, _, histories, _ = make_problem()
    nobody = np.zeros(0, np.int32)
    lists, keys = top_k_lists_from_scores(users @ items.T, nobody, histories, {"f": scoring.vanilla().key}, k=4)["f"]
    assert lists.shape == keys.shape == (0, 4)


def test_zeros_of_either_sign_are_ties():
    histories = Histories.from_pairs(np.array([0]), np.array([2]), 2)
    items = np.array([[-1.0], [1.0], [-1.0], [1.0]], np.float32)
    for chunk in (1, 3, 4):
        lists, keys = top_k_lists(
            jnp.zeros((2, 1)), items, jnp.arange(2), histories, {"f": scoring.vanilla().key}, k=4, item_chunk=chunk
        )["f"]
        np.testing.assert_array_equal(lists, [[0, 1, 3, NO_ITEM], [0, 1, 2, 3]])
        assert not np.signbit(keys)[1].any()


def test_nobody_to_rank_for_gives_no_lists():
    users, items, _, histories, _ = make_problem()
    nobody = jnp.zeros(0, jnp.int32)
    lists, keys = top_k_lists(users, items, nobody, histories, {"f": scoring.vanilla().key}, k=4)["f"]
    assert lists.shape == keys.shape == (0, 4)


def test_users_with_every_item_get_empty_lists_and_many_items_one_chunk_at_a_time():
    everything = Histories.from_pairs(np.repeat([0, 1], [3, 1]), np.array([0, 1, 2, 1]), 2)
    lists, keys = top_k_lists(
        jnp.ones((2, 1)), jnp.ones((3, 1)), jnp.arange(2), everything, {"f": scoring.vanilla().key}, k=2, item_chunk=1
    )["f"]
    np.testing.assert_array_equal(lists, [[NO_ITEM, NO_ITEM], [0, 2]])
    np.testing.assert_array_equal(keys, [[-np.inf, -np.inf], [1, 1]])


def test_scores_are_multiplied_in_full_precision_on_accelerators():
    users, items, _, histories, _ = make_problem()
    rank = jax.jit(lambda u, i, h: top_k_lists(u, i, jnp.arange(U), h, {"f": scoring.vanilla().key}, k=4))
    traced = rank.trace(users, items, histories)
    for platform in ("cuda", "tpu"):
        assert "precision = [HIGHEST, HIGHEST]" in traced.lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.parametrize("fusion", ["mean", "per_modality"])
def test_strategies_share_one_pass_and_rank_by_their_scores(fusion):
    users, items, sets, histories, features = make_problem()
    rng = np.random.default_rng(1)
    users, items = users + rng.normal(0, 0.1, users.shape), items + rng.normal(0, 0.1, items.shape)
    similarity = build_similarity(fuse_channels(features, fusion), histories)
    s = np.asarray(similarity.table, np.float64)
    c = rng.uniform(-0.5, 0.5, s.shape[:2])
    alpha, beta, iota, gamma = 2.0, 5.0, 1.0, 0.7
    strategies = {
        "d": scoring.d_isolator(),
        "ts": scoring.training_strategy(gamma),
        "u": scoring.u_isolator(alpha, beta, iota),
    }
    results = top_k_lists(
        jnp.asarray(users, jnp.float32), jnp.asarray(items, jnp.float32), jnp.arange(U), histories,
        {name: strategy.key for name, strategy in strategies.items()}, similarity, jnp.asarray(c, jnp.float32),
        k=5, item_chunk=7,
    )  # fmt: skip
    f = users @ items.T
    elu = np.where(f > 0, f + 1, np.exp(np.minimum(f, 0)))
    x = s - c[:, :, None]
    gate = np.where(x >= 0, np.exp(-alpha * np.maximum(x, 0)), 4 / (1 + np.exp(-beta * np.minimum(x, 0))) - 1)
    expected = {
        "d": elu,
        "ts": elu * np.mean(1 / (1 + np.exp(-s)), axis=0) ** gamma,
        "u": elu * np.mean(1 / (1 + np.exp(-gate)), axis=0) ** iota,
    }
    assert not np.array_equal(results["d"][0], results["u"][0])
    for name, (lists, keys) in results.items():
        np.testing.assert_array_equal(lists, brute_force(expected[name], sets, 5))
        filled = np.asarray(lists) != NO_ITEM
        scores = np.asarray(strategies[name].score(keys))[filled]
        np.testing.assert_allclose(scores, expected[name][np.nonzero(filled)[0], lists[filled]], rtol=1e-5)


def test_only_the_users_asked_for_are_ranked_in_their_order():
    users, items, sets, histories, _ = make_problem()
    chosen = jnp.array([7, 2])
    lists, _ = top_k_lists(users, items, chosen, histories, {"f": scoring.vanilla().key}, k=4)["f"]
    np.testing.assert_array_equal(lists, brute_force(users @ items.T, sets, 4)[[7, 2]])


def test_hits_are_list_items_in_the_truth_and_padding_never_hits():
    truth = Histories.from_pairs(np.array([0, 0, 2]), np.array([1, 4, 0]), 3)
    lists = jnp.array([[4, 0, 1], [0, 1, 2], [NO_ITEM, NO_ITEM, 0]])
    expected = [[True, False, True], [False, False, False], [False, False, True]]
    np.testing.assert_array_equal(list_hits(lists, truth, jnp.arange(3)), expected)


COMPILED = {name: jax.jit(function, static_argnums=2) for name, function in METRICS.items()}


@pytest.mark.parametrize("k", [1, 4, 10])
@given(seed=st.integers(0, 10**6), density=st.sampled_from([0.0, 0.4, 1.0]))
def test_metrics_equal_their_definitions(k, seed, density):
    rng = np.random.default_rng(seed)
    hits = rng.random((6, 10)) < density
    relevant = hits.sum(axis=1) + rng.integers(0, 3, size=6)
    hits[0], relevant[0] = False, 0
    for name, function in COMPILED.items():
        values = np.asarray(function(hits, relevant, k))
        assert np.isnan(values[0])
        for row, count, value in zip(hits[:, :k], relevant, values, strict=True):
            if count == 0:
                assert math.isnan(value)
                continue
            gain = sum(1 / math.log2(rank + 2) for rank in np.flatnonzero(row))
            ideal = sum(1 / math.log2(rank + 2) for rank in range(min(count, k)))
            precisions = [row[: rank + 1].mean() for rank in np.flatnonzero(row)]
            expected = {
                "recall": row.sum() / count,
                "precision": row.sum() / k,
                "ndcg": gain / ideal,
                "map": sum(precisions) / min(count, k),
            }[name]
            assert value == pytest.approx(expected, abs=1e-6)
