"""Full ranking against a sort of the whole matrix, and on what it takes and refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isolator_jax.backbones import Encoded
from isolator_jax.content import Content
from isolator_jax.evaluation import count_hits, hits
from isolator_jax.evaluation.metrics import NO_ITEM
from isolator_jax.evaluation.ranking import list_hits, rank, top_k_lists
from isolator_jax.evaluation.scores import InnerProducts
from isolator_jax.features import fuse_channels
from isolator_jax.histories import Histories
from isolator_jax.similarity import build_similarity
from isolator_jax.strategies import d_isolator, training_strategy, u_isolator, vanilla

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


def content_of(similarity, consistency, features):
    """Content with any c_u `[T, U]`."""
    return Content(similarity, consistency, np.asarray(consistency[0]), dict(zip("ab", features, strict=True)))


def brute_force(scores, sets, k):
    """Sorted by falling score, then rising id, without the history, padded."""
    lists = []
    for user, row in enumerate(scores):
        order = [i for i in np.lexsort((np.arange(row.size), -row)) if i not in set(sets[user])][:k]
        lists.append(order + [NO_ITEM] * (k - len(order)))
    return np.array(lists)


# Chunk sizes are static: every example compiles.
@pytest.mark.slow
@settings(max_examples=15)
@given(st.integers(0, 50), st.integers(1, U + 3), st.integers(1, I + 3), st.integers(1, I + 4))
def test_lists_equal_a_full_sort_with_ties_to_the_lower_id_whatever_the_chunks(seed, user_chunk, item_chunk, k):
    users, items, sets, histories, _ = make_problem(seed)
    lists, keys = top_k_lists(
        Encoded(users, items), np.arange(U), histories, {"f": vanilla()},
        k=k, user_chunk=user_chunk, item_chunk=item_chunk,
    )["f"]  # fmt: skip
    scores = users @ items.T
    np.testing.assert_array_equal(lists, brute_force(scores, sets, k))
    filled = np.asarray(lists) != NO_ITEM
    np.testing.assert_array_equal(np.asarray(keys)[filled], scores[np.nonzero(filled)[0], np.asarray(lists)[filled]])
    assert np.isneginf(np.asarray(keys)[~filled]).all()


@pytest.mark.parametrize(("seed", "k"), [(0, 1), (1, 4), (2, 20), (3, I + 4)])
def test_hits_counted_are_those_of_the_lists(monkeypatch, seed, k):
    """Equal scores abound; some held-out items are in the history, some users are there twice or have none."""
    monkeypatch.setattr(hits, "_CELLS_ON_CPU", 4 * I)
    users, items, _, histories, _ = make_problem(seed)
    rng = np.random.default_rng(seed)
    truth = Histories.from_pairs(*np.argwhere(rng.random((U, I)) < np.linspace(0, 0.6, U)[:, None]).T, U)
    ranked = rng.integers(U, size=2 * U + 1)
    lists, _ = top_k_lists(Encoded(users, items), ranked, histories, {"f": vanilla()}, k=k)["f"]
    expected = np.asarray(list_hits(lists, truth, ranked)).sum(axis=1)
    assert expected.any() and (expected < np.asarray(truth.lengths)[ranked]).any()
    np.testing.assert_array_equal(count_hits(Encoded(users, items), ranked, histories, truth, k=k), expected)


def test_hits_of_most_users_are_ruled_out_by_a_few_items_and_none_that_is_there():
    rng = np.random.default_rng(0)
    users, items = (rng.standard_normal((n, 8)).astype(np.float32) for n in (60, 320))
    items *= np.linspace(1, 6, 320, dtype=np.float32)[:, None]
    truth = Histories.from_pairs(np.arange(50), rng.integers(320, size=50), 60)
    histories = Histories.from_pairs(np.arange(60), np.full(60, 319), 60)
    model, everyone = Encoded(users, items), np.arange(60)
    lists, _ = top_k_lists(model, everyone, histories, {"f": vanilla()}, k=5)["f"]
    expected = np.asarray(list_hits(lists, truth, everyone)).sum(axis=1)
    np.testing.assert_array_equal(count_hits(model, everyone, histories, truth, k=5), expected)
    scores = InnerProducts(jnp.asarray(users), jnp.asarray(items))
    left = hits._may_hit(scores, jnp.arange(319, 299, -1), jnp.arange(60), histories, truth, 5)
    assert 0 < expected.sum() <= np.asarray(left)[expected > 0].sum() and left.sum() < 20


def test_hits_are_counted_where_histories_are_long():
    """Their 6,000 entries are read in blocks of more than the least size."""
    rng = np.random.default_rng(1)
    users, items = (rng.standard_normal((n, 8)).astype(np.float32) for n in (60, 320))
    everyone, seen = np.arange(60), np.argsort(rng.random((60, 320)))[:, :100]
    relevant = rng.integers(320, size=60)
    histories = Histories.from_pairs(np.repeat(everyone, 100), seen.ravel(), 60)
    truth = Histories.from_pairs(everyone, relevant, 60)
    expected = (brute_force(users @ items.T, seen, 60) == relevant[:, None]).any(axis=1)
    assert 5 < expected.sum() < 55
    np.testing.assert_array_equal(count_hits(Encoded(users, items), everyone, histories, truth, k=60), expected)


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
    content = content_of(similarity, jnp.linspace(-0.5, 0.5, U)[None], features)
    strategies = {"u": u_isolator(2.0, 5.0, 1.0), "f": vanilla()}
    chosen = np.array([7, 2, 0, 1, 5], np.int32)
    scores = (users @ items.T).astype(dtype).view(Watched)
    Watched.reads = []
    stored = top_k_lists(
        scores, chosen, histories, strategies, content, k=6, user_chunk=user_chunk, item_chunk=item_chunk
    )
    assert 0 < max(Watched.reads) <= user_chunk
    embedded = top_k_lists(Encoded(users, items), chosen, histories, strategies, content, k=6)
    on_device = top_k_lists(jnp.asarray(np.float32(scores)), chosen, histories, strategies, content, k=6)
    assert list(stored) == list(embedded) == ["u", "f"]
    assert not np.array_equal(stored["f"][0], stored["u"][0])
    for name in strategies:
        for lists in (stored, on_device):
            np.testing.assert_array_equal(lists[name][0], embedded[name][0])
            np.testing.assert_allclose(lists[name][1], embedded[name][1], rtol=1e-6)


def test_nobody_to_rank_for_gives_no_lists():
    users, items, _, histories, _ = make_problem()
    for model in (Encoded(users, items), users @ items.T):
        for nobody in ([], np.zeros(0, np.int32)):
            lists, keys = top_k_lists(model, nobody, histories, {"f": vanilla()}, k=4)["f"]
            assert lists.shape == keys.shape == (0, 4)
    assert count_hits(Encoded(users, items), [], histories, histories, k=4).shape == (0,)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "int8"])
def test_embeddings_of_any_type_rank_as_their_values_in_float32(dtype):
    rng = np.random.default_rng(1)
    scale = 300 if dtype == "float16" else 40  # inner products pass float16's range
    users, items = (jnp.asarray(np.clip(scale * rng.standard_normal((n, 64)), -127, 127), dtype) for n in (3, 500))
    if dtype == "float16":
        users, items = 4 * users, 4 * items
    exact = np.asarray(users, np.float64) @ np.asarray(items, np.float64).T
    none = Histories.from_pairs([], [], 3)
    lists, _ = top_k_lists(Encoded(users, items), np.arange(3), none, {"f": vanilla()}, k=20)["f"]
    assert (np.asarray(lists) == np.argsort(-exact, axis=1, kind="stable")[:, :20]).mean() > 0.97


def test_a_table_and_nested_lists_rank_as_the_array_they_hold():
    users, items, _, histories, _ = make_problem()
    scores = users @ items.T
    expected = top_k_lists(scores, np.arange(U), histories, {"f": vanilla()}, k=5)["f"]
    for model in (pd.DataFrame(scores), scores.tolist(), Encoded(pd.DataFrame(users), items.tolist())):
        found = top_k_lists(model, list(range(U)), histories, {"f": vanilla()}, k=5)["f"]
        np.testing.assert_array_equal(found[0], expected[0])


def test_ranking_runs_under_every_strict_mode_of_jax():
    users, items, sets, histories, features = make_problem()
    similarity = build_similarity(fuse_channels(features), histories)
    content = content_of(similarity, jnp.linspace(-0.5, 0.5, U)[None], features)
    strategies = {"f": vanilla(), "u": u_isolator(2.0, 5.0, 1.0)}
    expected = top_k_lists(Encoded(users, items), np.arange(U), histories, strategies, content, k=6, item_chunk=9)
    for x64 in (False, True):
        strict = jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"), jax.debug_nans(True)
        with strict[0], strict[1], strict[2], jax.enable_x64(x64):
            found = top_k_lists(Encoded(users, items), np.arange(U), histories, strategies, content, k=6, item_chunk=9)
            for name in strategies:
                np.testing.assert_array_equal(found[name][0], expected[name][0])


def test_sets_that_are_constants_of_a_jitted_function_are_checked_all_the_same():
    users, items, sets, histories, _ = make_problem()
    lists = jax.jit(lambda model: top_k_lists(model, np.arange(U), histories, {"f": vanilla()}, k=4)["f"][0])
    np.testing.assert_array_equal(lists(Encoded(users, items)), brute_force(users @ items.T, sets, 4))


def test_parameters_are_arguments_so_that_other_ones_compile_nothing():
    users, items, _, histories, features = make_problem()
    similarity = build_similarity(fuse_channels(features), histories)
    content = content_of(similarity, jnp.linspace(-0.5, 0.5, U)[None], features)
    first = {"f": vanilla(), "u": u_isolator(2.0, 5.0, 1.0)}
    top_k_lists(Encoded(users, items), np.arange(U), histories, first, content, k=6, item_chunk=9)
    again = {"f": vanilla(), "u": u_isolator(4.0, 1.0, 0.5)}
    compiled = rank._cache_size()
    top_k_lists(Encoded(users, items), np.arange(U), histories, again, content, k=6, item_chunk=9)
    assert rank._cache_size() == compiled


def test_zeros_of_either_sign_are_ties():
    histories = Histories.from_pairs(np.array([0]), np.array([2]), 2)
    items = np.array([[-1.0], [1.0], [-1.0], [1.0]], np.float32)
    for chunk in (1, 3, 4):
        model = Encoded(jnp.zeros((2, 1)), items)
        lists, keys = top_k_lists(model, jnp.arange(2), histories, {"f": vanilla()}, k=4, item_chunk=chunk)["f"]
        np.testing.assert_array_equal(lists, [[0, 1, 3, NO_ITEM], [0, 1, 2, 3]])
        assert not np.signbit(keys)[1].any()


def test_users_with_every_item_get_empty_lists_and_many_items_one_chunk_at_a_time():
    everything = Histories.from_pairs(np.repeat([0, 1], [3, 1]), np.array([0, 1, 2, 1]), 2)
    lists, keys = top_k_lists(
        Encoded(jnp.ones((2, 1)), jnp.ones((3, 1))), jnp.arange(2), everything, {"f": vanilla()}, k=2, item_chunk=1
    )["f"]
    np.testing.assert_array_equal(lists, [[NO_ITEM, NO_ITEM], [0, 2]])
    np.testing.assert_array_equal(keys, [[-np.inf, -np.inf], [1, 1]])


def test_scores_are_multiplied_in_full_precision_on_accelerators():
    users, items, _, histories, _ = make_problem()
    rank = jax.jit(lambda u, i, h: top_k_lists(Encoded(u, i), jnp.arange(U), h, {"f": vanilla()}, k=4))
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
        "d": d_isolator(),
        "ts": training_strategy(gamma),
        "u": u_isolator(alpha, beta, iota),
    }
    content = content_of(similarity, jnp.asarray(c, jnp.float32), features)
    results = top_k_lists(Encoded(users, items), jnp.arange(U), histories, strategies, content, k=5, item_chunk=7)
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
    lists, _ = top_k_lists(Encoded(users, items), chosen, histories, {"f": vanilla()}, k=4)["f"]
    np.testing.assert_array_equal(lists, brute_force(users @ items.T, sets, 4)[[7, 2]])


def test_hits_are_list_items_in_the_truth_and_padding_never_hits():
    truth = Histories.from_pairs(np.array([0, 0, 2]), np.array([1, 4, 0]), 3)
    lists = jnp.array([[4, 0, 1], [0, 1, 2], [NO_ITEM, NO_ITEM, 0]])
    expected = [[True, False, True], [False, False, False], [False, False, True]]
    np.testing.assert_array_equal(list_hits(lists, truth, jnp.arange(3)), expected)
