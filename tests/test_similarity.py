"""Similarities and consistencies against double loops in float64, and their invariances."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isolator_jax.content import make_content
from isolator_jax.histories import Histories
from isolator_jax.similarity import (
    SimilarityOnTheFly,
    SimilarityTable,
    build_similarity,
    content_consistency,
    fill_undefined,
    fuse_channels,
    history_similarity,
    item_similarity,
    list_similarity,
    mean_item_similarity,
    normalize_features,
)

U, I = 7, 11


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


def reference_history(similarity, sets):
    return np.array([[similarity[list(s), i].mean() if len(s) else 0.0 for i in range(I)] for s in sets])


def reference_consistency(similarity, sets):
    values = []
    for s in sets:
        n = len(s)
        pairs = [similarity[i, j] for i in s for j in s if i != j]
        values.append(sum(pairs) / (n * (n - 1)) if n > 1 else np.nan)
    return np.array(values)


@pytest.mark.parametrize("modalities", [1, 2, 3])
@pytest.mark.parametrize("fusion", ["mean", "per_modality"])
def test_both_stores_equal_the_reference(modalities, fusion):
    features, sets, users, items = make_problem(modalities)
    histories = Histories.from_pairs(users, items, U)
    per_modality = np.stack([reference_similarity(x) for x in features])
    channels = per_modality if fusion == "per_modality" else per_modality.mean(axis=0, keepdims=True)
    expected = np.stack([reference_history(similarity, sets) for similarity in channels])

    table = build_similarity(fuse_channels(features, fusion), histories)
    on_the_fly = build_similarity(fuse_channels(features, fusion), histories, table_budget_bytes=0)
    assert isinstance(table, SimilarityTable) and isinstance(on_the_fly, SimilarityOnTheFly)
    all_users = jnp.arange(U)
    for store in (table, on_the_fly):
        np.testing.assert_allclose(store.rows(all_users, 0, I), expected, atol=1e-6)
        np.testing.assert_allclose(store.rows(jnp.array([5, 2]), 3, 4), expected[:, [5, 2], 3:7], atol=1e-6)
        pair_users, pair_items = jnp.array([3, 0, 6]), jnp.array([10, 4, 0])
        np.testing.assert_allclose(
            store.pairs(pair_users, pair_items), expected[:, pair_users, pair_items], atol=1e-6
        )
        grid = store.pairs(pair_users[:, None], pair_items[None, :])
        np.testing.assert_allclose(grid, expected[:, pair_users][:, :, pair_items], atol=1e-6)


def test_half_precision_tables_err_by_their_rounding():
    features, _, users, items = make_problem()
    histories = Histories.from_pairs(users, items, U)
    exact = build_similarity(fuse_channels(features), histories).table
    for dtype, bound in ((jnp.float16, 2**-11), (jnp.bfloat16, 2**-8)):
        stored = build_similarity(fuse_channels(features), histories, table_dtype=dtype)
        assert stored.table.dtype == dtype
        rows = stored.rows(jnp.arange(U), 0, I)
        assert rows.dtype == jnp.float32
        assert 0 < np.abs(rows - exact).max() <= bound


def test_consistency_and_means_equal_the_double_sums():
    features, sets, users, items = make_problem()
    histories = Histories.from_pairs(users, items, U)
    for x in features:
        channel = normalize_features(x)
        similarity = reference_similarity(x)
        expected = reference_consistency(similarity, sets)
        for chunk in (1, 3, 100):
            np.testing.assert_allclose(content_consistency(channel, histories, chunk), expected, atol=1e-6)
        off_diagonal = similarity.sum() - np.trace(similarity)
        np.testing.assert_allclose(mean_item_similarity(channel), off_diagonal / (I * (I - 1)), atol=1e-6)
    content = make_content_of(features, histories)
    mean = np.mean([reference_consistency(reference_similarity(x), sets) for x in features], axis=0)
    np.testing.assert_allclose(content.consistency, mean, atol=1e-6)
    filled = np.where(np.isnan(mean), np.nanmean(mean), mean)
    np.testing.assert_allclose(content.channel_consistency[0], filled, atol=1e-6)


def make_content_of(features, histories):
    class Features:
        pass

    dataset = Features()
    dataset.features = {f"m{index}": x for index, x in enumerate(features)}
    return make_content(dataset, histories)


@given(st.integers(0, 1000), st.sampled_from([1e-30, 1e-3, 7.0, 1e30]))
def test_scale_of_features_and_order_of_histories_do_not_matter(seed, scale):
    features, _, users, items = make_problem(1, seed)
    channel, scaled = normalize_features(features[0]), normalize_features(features[0] * np.float32(scale))
    np.testing.assert_allclose(channel, scaled, atol=1e-6)
    order = np.random.default_rng(seed).permutation(users.size)
    first, second = (Histories.from_pairs(users[o], items[o], U) for o in (slice(None), order))
    for function in (
        lambda h: content_consistency(scaled, h),
        lambda h: history_similarity(item_similarity(scaled), h, jnp.arange(U)),
    ):
        np.testing.assert_allclose(function(first), function(second), atol=1e-6)


def test_list_similarity_is_the_listed_part_of_the_rows():
    features, sets, users, items = make_problem(1)
    histories = Histories.from_pairs(users, items, U)
    similarity = item_similarity(normalize_features(features[0]))
    lists = jnp.asarray(np.random.default_rng(0).integers(I, size=(U, 4)))
    expected = np.take_along_axis(reference_history(reference_similarity(features[0]), sets), lists, axis=1)
    np.testing.assert_allclose(list_similarity(similarity, histories, jnp.arange(U), lists), expected, atol=1e-6)


def test_fill_undefined_uses_each_channels_mean_of_the_defined():
    c = jnp.array([[0.2, jnp.nan, 0.4], [jnp.nan, jnp.nan, jnp.nan]])
    np.testing.assert_allclose(fill_undefined(c), [[0.2, 0.3, 0.4], [0, 0, 0]], atol=1e-7)


def test_unknown_fusions_and_missing_features_are_refused():
    with pytest.raises(ValueError, match="mean, per_modality"):
        fuse_channels([np.ones((2, 2))], "sum")
    with pytest.raises(ValueError, match="at least one modality"):
        fuse_channels([])
