"""Similarities and consistencies against double loops in float64, and their invariances."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isolator_jax.consistency import content_consistency, fill_undefined
from isolator_jax.content import make_content
from isolator_jax.features import fuse_channels, item_similarity, mean_item_similarity, normalize_features
from isolator_jax.histories import Histories
from isolator_jax.similarity import (
    SimilarityFromFeatures,
    SimilarityOnTheFly,
    SimilarityTable,
    build_similarity,
    build_table,
    history_similarity,
    list_similarity,
)

U, I = 7, 11

all_rows = jax.jit(history_similarity)
rows_of = jax.jit(lambda store, users, start, width: store.rows(users, start, width), static_argnums=3)
lists_of = jax.jit(lambda store, users, items: store.lists(users, items))
pairs_of = jax.jit(lambda store, users, items: store.pairs(users, items))


def make_problem(modalities=2, seed=0):
    """Features with a zero row, and histories that include an empty one and one of length one."""
    rng = np.random.default_rng(seed)
    features = [rng.standard_normal((I, 5 + m)).astype(np.float32) for m in range(modalities)]
    features[0][4] = 0.0
    sets = [rng.choice(I, size=n, replace=False) for n in (0, 1, 2, 3, 5, 8, I)]
    users = np.concatenate([np.full(len(items), user) for user, items in enumerate(sets)])
    return features, sets, users, np.concatenate(sets)


def reference_similarity(features):
    x = np.asarray(features, np.float64)
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    unit = np.divide(x, norm, out=np.zeros_like(x), where=norm > 0)
    return unit @ unit.T


def reference_channels(features, fusion):
    per_modality = np.stack([reference_similarity(x) for x in features])
    return per_modality if fusion == "per_modality" else per_modality.mean(axis=0, keepdims=True)


def reference_history(similarity, sets):
    return np.array([[similarity[list(s), i].mean() if len(s) else 0.0 for i in range(I)] for s in sets])


def reference_consistency(similarity, sets):
    values = []
    for s in sets:
        n = len(s)
        pairs = [similarity[i, j] for i in s for j in s if i != j]
        values.append(sum(pairs) / (n * (n - 1)) if n > 1 else np.nan)
    return np.array(values)


def all_stores(channels, histories):
    return (
        build_similarity(channels, histories),
        SimilarityOnTheFly(jnp.stack([item_similarity(x) for x in channels]), histories),
        SimilarityFromFeatures(tuple(channels), histories),
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fusion", "modalities"),
    [("mean", 1), ("mean", 2), ("mean", 3), ("per_modality", 1), ("per_modality", 2), ("per_modality", 3)],
)
def test_all_stores_equal_the_reference(fusion, modalities):
    features, sets, users, items = make_problem(modalities)
    histories = Histories.from_pairs(users, items, U)
    expected = np.stack([reference_history(s, sets) for s in reference_channels(features, fusion)])

    for store in all_stores(fuse_channels(features, fusion), histories):
        np.testing.assert_allclose(rows_of(store, np.arange(U), 0, I), expected, atol=1e-6)
        some = rows_of(store, np.array([5, 2]), 3, 4)
        np.testing.assert_allclose(some, expected[:, [5, 2], 3:7], atol=1e-6)
        one_each, other = np.array([3, 0, 6]), np.array([10, 4, 0])
        np.testing.assert_allclose(pairs_of(store, one_each, other), expected[:, one_each, other], atol=1e-6)
        many = np.arange(300) % U
        grid = expected[:, many][:, :, other]
        np.testing.assert_allclose(pairs_of(store, many[:, None], other[None, :]), grid, atol=1e-6)
        lists = np.stack([other, other[::-1], other])
        expected_lists = expected[:, one_each[:, None], lists]
        np.testing.assert_allclose(lists_of(store, one_each, lists), expected_lists, atol=1e-6)


def test_stores_answer_outside_jit_and_for_one_pair():
    features, sets, users, items = make_problem(1)
    histories = Histories.from_pairs(users, items, U)
    expected = reference_history(reference_similarity(features[0]), sets)
    for store in all_stores(fuse_channels(features), histories):
        np.testing.assert_allclose(store.rows(jnp.array([3]), 2, 3), expected[None, 3:4, 2:5], atol=1e-6)
        pair = store.pairs(jnp.int32(6), jnp.int32(1))
        assert pair.shape == (1,)
        np.testing.assert_allclose(pair, expected[6:, 1], atol=1e-6)
        assert store.pairs(np.zeros(0, int), np.zeros(0, int)).shape == (1, 0)
        assert store.pairs(np.zeros((2, 1), int), np.zeros((1, 0), int)).shape == (1, 2, 0)
        for width in (-1, 2.0, 1000):
            with pytest.raises((TypeError, ValueError), match="width must be"):
                store.rows(jnp.array([3]), 0, width)


def test_a_table_of_numpy_answers_as_one_of_jax_and_another_shape_is_refused():
    table = np.random.default_rng(0).random((1, 4, 3), np.float32)
    store = SimilarityTable(table)
    users, items = np.array([0, 3]), np.array([[2, 0], [1, 1]])
    for found, expected in (
        (store.lists(users, items), table[:, users[:, None], items]),
        (store.pairs(users[:, None], np.arange(3)[None]), table[:, users]),
        (store.rows(users, 1, 2), table[:, users, 1:]),
    ):
        np.testing.assert_array_equal(found, expected)
    with pytest.raises(ValueError, match=r"table must have shape \[T, U, I\], got \[4, 3\]"):
        SimilarityTable(table[0]).pairs(0, 0)


def test_stores_without_a_row_for_every_item_of_their_histories_are_refused():
    features, _, users, items = make_problem(1)
    histories = Histories.from_pairs(users, items, U)
    (few,) = fuse_channels([features[0][: I - 1]])
    for store in (SimilarityOnTheFly(item_similarity(few)[None], histories), SimilarityFromFeatures((few,), histories)):
        for ask in (
            lambda store: store.lists([0], [[1]]),
            lambda store: store.rows([0], 1, 2),
            lambda store: store.pairs(0, 1),
            lambda store: store.pairs([[0]], [[1, 2]]),
        ):
            with pytest.raises(ValueError, match=f"histories must hold items below {I - 1}, .* got {I - 1}"):
                ask(store)


@pytest.mark.parametrize("num_users", [U, 10 * I])
def test_the_table_is_stored_exactly_where_it_and_s_fit_the_budget(num_users):
    features, _, users, items = make_problem(2)
    histories = Histories.from_pairs(users, items, num_users)
    for fusion, dtype, table in (("mean", jnp.float32, 4), ("per_modality", jnp.float16, 2 * 2)):
        size = max(table * num_users * I, 4 * I**2)  # the table is made of S
        channels = fuse_channels(features, fusion)
        without = SimilarityOnTheFly if len(channels) * 4 * I**2 < size else SimilarityFromFeatures
        for budget, kind in ((size, SimilarityTable), (size - 1, without)):
            store = build_similarity(channels, histories, table_budget_bytes=budget, table_dtype=dtype)
            assert isinstance(store, kind)


def test_without_a_table_s_is_stored_exactly_where_it_fits_the_budget():
    features, _, users, items = make_problem(2)
    many_users = Histories.from_pairs(users, items, 10 * I)
    for fusion, size in (("mean", 4 * I**2), ("per_modality", 2 * 4 * I**2)):
        channels = fuse_channels(features, fusion)
        for budget, kind in ((size, SimilarityOnTheFly), (size - 1, SimilarityFromFeatures)):
            assert isinstance(build_similarity(channels, many_users, table_budget_bytes=budget), kind)


@pytest.mark.parametrize(("dtype", "bound"), [(jnp.float16, 2**-11), (jnp.bfloat16, 2**-8)])
def test_half_precision_tables_err_by_their_rounding(dtype, bound):
    features, _, users, items = make_problem()
    histories = Histories.from_pairs(users, items, U)
    exact = np.asarray(build_similarity(fuse_channels(features), histories).table)
    stored = build_similarity(fuse_channels(features), histories, table_dtype=dtype)
    assert stored.table.dtype == dtype
    for values in (rows_of(stored, np.arange(U), 0, I), pairs_of(stored, np.arange(U)[:, None], np.arange(I))):
        assert values.dtype == jnp.float32
        assert 0 < np.abs(values - exact).max() <= bound


def test_consistency_and_means_equal_the_double_sums():
    features, sets, users, items = make_problem()
    histories = Histories.from_pairs(users, items, U)
    for x in features:
        channel, similarity = normalize_features(x), reference_similarity(x)
        expected = reference_consistency(similarity, sets)
        assert np.isnan(expected[:2]).all() and not np.isnan(expected[2:]).any()
        np.testing.assert_allclose(content_consistency(channel, histories), expected, atol=1e-6)
        off_diagonal = similarity.sum() - np.trace(similarity)
        np.testing.assert_allclose(mean_item_similarity(channel), off_diagonal / (I * (I - 1)), atol=1e-6)


@pytest.mark.parametrize("memory", [1, 1000, 10**6])
def test_consistency_does_not_depend_on_the_blocks(memory):
    features, sets, users, items = make_problem(1)
    histories = Histories.from_pairs(users, items, U)
    expected = reference_consistency(reference_similarity(features[0]), sets)
    actual = content_consistency(normalize_features(features[0]), histories, memory_bytes=memory)
    np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_equal_consistencies_are_equal_to_the_bit_whatever_the_fusion_and_the_order_of_columns():
    rng = np.random.default_rng(0)
    # Codes of 4 groups of 3 levels: c_u is a multiple of 1/12 over pairs, and often exactly 0.
    codes = rng.integers(3, size=(60, 4))
    one_hot = np.eye(3, dtype=np.float32)[codes].reshape(60, 12) * np.float32(0.1)
    users = np.repeat(np.arange(200), 2)
    items = np.concatenate([rng.choice(60, 2, replace=False) for _ in range(200)])
    histories = Histories.from_pairs(users, items, 200)
    matched = (codes[items[::2]] == codes[items[1::2]]).sum(axis=1)
    expected = np.round(matched / 4, 6)
    assert (expected == 0).sum() > 10
    other = one_hot[:, rng.permutation(12)] * 7
    for features in (one_hot, other, np.float64(one_hot) * 1e-3):
        for fusion in ("mean", "per_modality"):
            content = make_content({"image": features, "text": other}, histories, fusion=fusion)
            assert content.consistency.dtype == np.float64
            np.testing.assert_array_equal(content.consistency, expected)
            assert not np.signbit(content.consistency).any()
    np.testing.assert_array_equal(content_consistency(normalize_features(one_hot), histories), expected)


def test_means_over_more_pairs_than_32_bits_count():
    result = jax.eval_shape(mean_item_similarity, jax.ShapeDtypeStruct((100_000, 4), jnp.float32))
    assert result.shape == ()


def test_mean_similarity_of_a_single_item_is_undefined():
    assert np.isnan(mean_item_similarity(jnp.ones((1, 3))))


@pytest.mark.parametrize("fusion", ["mean", "per_modality"])
def test_content_holds_the_consistency_of_channels_and_of_their_mean(fusion):
    features, sets, users, items = make_problem()
    histories = Histories.from_pairs(users, items, U)
    dataset = types.SimpleNamespace(features={"sound": features[0], "taste": features[1]})
    content = make_content(dataset.features, histories, fusion=fusion)
    channels = np.stack([reference_consistency(s, sets) for s in reference_channels(features, fusion)])
    np.testing.assert_allclose(content.consistency, channels.mean(axis=0), atol=1e-6)
    filled = np.where(np.isnan(channels), np.nanmean(channels, axis=1, keepdims=True), channels)
    np.testing.assert_allclose(content.channel_consistency, filled, atol=1e-6)
    assert list(content.modalities) == ["sound", "taste"]
    for normalized, x in zip(content.modalities.values(), features, strict=True):
        np.testing.assert_allclose(item_similarity(normalized), reference_similarity(x), atol=1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 7.0, 1e30])
@settings(max_examples=10)
@given(seed=st.integers(0, 10**6))
def test_scale_of_features_and_order_of_histories_do_not_matter(scale, seed):
    features, _, users, items = make_problem(1, seed)
    channel, scaled = normalize_features(features[0]), normalize_features(features[0] * np.float32(scale))
    np.testing.assert_allclose(channel, scaled, atol=1e-6)
    order = np.random.default_rng(seed).permutation(users.size)
    first, second = Histories.from_pairs(users, items, U), Histories.from_pairs(users[order], items[order], U)
    np.testing.assert_allclose(content_consistency(channel, first), content_consistency(scaled, second), atol=1e-6)
    np.testing.assert_allclose(
        all_rows(item_similarity(channel), first, np.arange(U)),
        all_rows(item_similarity(scaled), second, np.arange(U)),
        atol=1e-6,
    )


def test_rows_at_the_ends_of_the_float_range_are_normalised():
    big, small = np.finfo(np.float32).max, np.finfo(np.float32).tiny
    rows = np.array(
        [
            [big, big, -big],
            [small, -small, 0],
            [1e30, 1e-30, 1.0],
            [1e-30, 2e-30, -3e-30],
            [-big, small, 0],
            [0, 0, 0],
            [0, -1e-25, 0],
        ],
        np.float32,
    )
    unit = np.asarray(normalize_features(rows))
    norms = np.ones(len(rows))
    norms[5] = 0
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), norms, atol=1e-6)
    np.testing.assert_allclose(item_similarity(unit), reference_similarity(rows), atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_features_of_any_float_type_become_unit_rows_in_float32(dtype):
    x = np.random.default_rng(0).standard_normal((6, 4)).astype(dtype)
    unit = normalize_features(x)
    assert unit.dtype == jnp.float32
    np.testing.assert_allclose(np.float64(unit) @ np.float64(unit).T, reference_similarity(x), atol=1e-6)


def test_a_modality_without_any_content_gives_zeros():
    _, sets, users, items = make_problem()
    histories = Histories.from_pairs(users, items, U)
    channel = normalize_features(np.zeros((I, 3)))
    expected = reference_consistency(np.zeros((I, I)), sets)
    np.testing.assert_array_equal(content_consistency(channel, histories), expected)
    assert (build_similarity([channel], histories).table == 0).all()


def test_list_similarity_is_the_listed_part_of_the_rows():
    features, sets, users, items = make_problem(1)
    histories = Histories.from_pairs(users, items, U)
    similarity = item_similarity(normalize_features(features[0]))
    chosen = np.array([6, 0, 2, 2])
    lists = np.random.default_rng(0).integers(I, size=(4, 5))
    expected = reference_history(reference_similarity(features[0]), sets)[chosen[:, None], lists]
    np.testing.assert_allclose(list_similarity(similarity, histories, chosen, lists), expected, atol=1e-6)


def test_fill_undefined_uses_each_channels_mean_of_the_defined():
    c = jnp.array([[0.2, jnp.nan, 0.4], [jnp.nan, jnp.nan, jnp.nan]])
    np.testing.assert_allclose(fill_undefined(c), [[0.2, 0.3, 0.4], [0, 0, 0]], atol=1e-7)


def test_similarity_is_multiplied_in_full_precision_on_accelerators():
    traced = jax.jit(item_similarity).trace(jnp.ones((3, 2)))
    for platform in ("cuda", "tpu"):
        assert "precision = [HIGHEST, HIGHEST]" in traced.lower(lowering_platforms=(platform,)).as_text()


def test_unknown_fusions_and_missing_features_are_refused():
    with pytest.raises(ValueError, match="mean, per_modality"):
        fuse_channels([np.ones((2, 2))], "sum")
    with pytest.raises(ValueError, match="at least one modality"):
        fuse_channels([])


@pytest.mark.parametrize("users", [3072, 3000])
def test_a_table_is_made_in_place(users):
    """Whether users fill the last chunk or not: beside the table there are chunks of it, and no copy."""
    histories = Histories.from_pairs(np.arange(users), np.arange(users) % 90, users)
    of_shape = jax.ShapeDtypeStruct((90, 90), jnp.float32)
    memory = build_table.lower(of_shape, histories, jnp.dtype(jnp.float32)).compile().memory_analysis()
    assert memory.output_size_in_bytes == 4 * users * 90 and memory.temp_size_in_bytes < 0.3 * 4 * users * 90
    channels, made = fuse_channels([np.eye(90)]), []

    def make(*arguments):
        made.append(build_table(*arguments))
        return made[0]

    assert build_similarity(channels, histories, make_table=make).table is made[0]
