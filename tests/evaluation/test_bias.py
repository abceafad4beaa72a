"""Groups, UCBias and rho on cases worked out by hand, and all metrics against plain numpy."""

import itertools
import math

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isolator_jax.backbones import Encoded
from isolator_jax.content import make_content
from isolator_jax.data import Interactions
from isolator_jax.evaluation import (
    Groups,
    activity_groups,
    consistency_groups,
    evaluate,
    mean_recall,
    rho,
    ucbias,
    users_to_validate,
)
from isolator_jax.evaluation.bias import measured_summary
from isolator_jax.evaluation.metrics import nan_mean
from isolator_jax.strategies import vanilla

NAN = float("nan")


def test_groups_are_the_ends_of_the_defined_users():
    c = np.array([0.5, NAN, 0.1, 0.5, 0.9, 0.1, NAN, 0.3, 0.5, 0.2, 0.4, 0.6])
    groups = consistency_groups(c, 20)
    assert np.flatnonzero(groups.diverse).tolist() == [2, 5]
    assert np.flatnonzero(groups.consistent).tolist() == [4, 11]
    assert groups.tied == (0, 0)


def test_users_tied_at_a_cut_share_the_places_that_are_left():
    # Ten defined users: three below the tie, four tied at 0.2 for one place of the lowest four.
    c = np.array([0.2, 0.9, 0.1, 0.2, NAN, 0.0, 0.2, 0.8, 0.0, 0.2, 0.7])
    groups = consistency_groups(c, 40)
    np.testing.assert_array_equal(groups.diverse, [0.25, 0, 1, 0.25, 0, 1, 0.25, 0, 1, 0.25, 0])
    # The highest four are three alone and one of the same four.
    np.testing.assert_array_equal(groups.consistent, [0.25, 1, 0, 0.25, 0, 0, 0.25, 1, 0, 0.25, 1])
    assert groups.tied == (4, 4)
    assert groups.summary() == {"consistent": {"users": 4.0, "tied": 4}, "diverse": {"users": 4.0, "tied": 4}}
    everybody = consistency_groups(np.full(10, 0.5), 20)
    np.testing.assert_allclose(everybody.diverse, 0.2)
    assert ucbias(np.arange(10.0), np.arange(10), everybody) == 0


@given(st.lists(st.integers(0, 3), min_size=2, max_size=12), st.sampled_from([5, 20, 40, 50]), st.integers(0, 99))
def test_weights_are_the_mean_over_all_orders_of_tied_users_and_know_no_ids(values, percent, seed):
    c = np.array(values, float)
    groups = consistency_groups(c, percent)
    size = c.size * percent // 100
    if c.size <= 5:
        orders = itertools.permutations(range(c.size))
        ascending = [order for order in orders if all(c[a] <= c[b] for a, b in itertools.pairwise(order))]
        share = np.mean([[user in order[:size] for user in range(c.size)] for order in ascending], axis=0)
        np.testing.assert_allclose(groups.diverse, share)
    assert groups.diverse.sum() == pytest.approx(size) and groups.consistent.sum() == pytest.approx(size)
    shuffled = np.random.default_rng(seed).permutation(c.size)
    again = consistency_groups(c[shuffled], percent)
    np.testing.assert_array_equal(again.diverse, groups.diverse[shuffled])
    np.testing.assert_array_equal(again.consistent, groups.consistent[shuffled])


def test_activity_groups_are_quintiles_of_those_with_training_items_and_ties_are_shared():
    groups = activity_groups(np.array([9, 0, 1, 1, 1, 2, 3, 4, 5, 6, 7]))
    assert groups.shape == (5, 11) and groups.sum(axis=1).tolist() == pytest.approx([2] * 5)
    np.testing.assert_allclose(groups[0], [0, 0, *[2 / 3] * 3, 0, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(groups[1], [0, 0, *[1 / 3] * 3, 1, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(groups[4], [1, *[0] * 9, 1])


def test_a_share_is_taken_as_it_is_written():
    # In binary 18.4 % of 750 are less than 138.
    for users, percent, size in ((750, 18.4, 138), (750, 32.8, 246), (2500, np.float64(5.56), 139)):
        groups = consistency_groups(np.arange(float(users)), percent)
        assert groups.consistent.sum() == groups.diverse.sum() == size


@pytest.mark.parametrize("form", [list, lambda x: pd.Series(x, index=[3, 2, 1, 0]), jnp.asarray])
def test_weights_are_taken_by_place_in_any_form(form):
    groups = Groups(form([1.0, 1.0, 0.0, 0.0]), form([0.0, 0.0, 1.0, 1.0]))
    assert ucbias([0.5, 0.6, 0.1, 0.2], [0, 1, 2, 3], groups) == pytest.approx(0.4)


@pytest.mark.parametrize("percent", [5, 10, 12.5, 20.0, 25])
def test_groups_have_the_asked_share_of_the_defined_users(percent):
    c = np.random.default_rng(0).random(1000)
    c[:200] = NAN
    groups = consistency_groups(c, percent)
    assert groups.consistent.sum() == groups.diverse.sum() == int(800 * percent // 100)
    assert not (groups.consistent * groups.diverse).any() and groups.tied == (0, 0)


@pytest.mark.parametrize("percent", [0, 50.5, -5, NAN])
def test_impossible_shares_are_refused(percent):
    with pytest.raises(ValueError, match="percent"):
        consistency_groups(np.ones(10), percent)


def test_too_few_or_no_defined_users_make_empty_groups():
    for c in (np.full(4, NAN), np.array([0.1, NAN, 0.2, 0.3, 0.4])):
        groups = consistency_groups(c, 20)
        assert not groups.consistent.any() and not groups.diverse.any()
        assert math.isnan(ucbias(np.ones(c.size), np.arange(c.size), groups))
    halves = consistency_groups(np.array([0.3, 0.1, 0.2]), 50)
    assert halves.consistent.tolist() == [True, False, False] and halves.diverse.tolist() == [False, True, False]


def test_nan_mean_leaves_out_nan_and_adds_in_float64():
    assert nan_mean(np.array([1.0, NAN, 4.0])) == 2.5
    assert math.isnan(nan_mean(np.array([NAN])))
    many = np.full(2**25, np.float32(0.1))
    assert nan_mean(many) == pytest.approx(np.float64(np.float32(0.1)), rel=1e-12)


def test_ucbias_is_the_difference_of_group_means_over_users_with_a_value():
    c = np.array([0.9, 0.8, 0.5, 0.2, 0.1])
    groups = consistency_groups(c, 40)
    users = np.array([0, 1, 3, 4])
    assert ucbias(np.array([1.0, NAN, 0.25, 0.75]), users, groups) == 1.0 - 0.5
    assert math.isnan(ucbias(np.array([NAN, NAN, 0.25, 0.75]), users, groups))


def test_a_summary_counts_the_users_with_a_value_by_weight_and_whole():
    groups = Groups(np.array([1.0, 0.5, 0.5, 0.0, 0.0]), np.array([0.0, 0.0, 0.0, 1.0, 1.0]), tied=(2, 0))
    users, values = np.array([4, 2, 0, 3]), np.array([NAN, 0.1, 0.2, 0.0])
    assert measured_summary(values, users, groups) == {
        "consistent": {"users": 2.0, "tied": 2, "evaluated": 1.5, "members": 2},
        "diverse": {"users": 2.0, "tied": 0, "evaluated": 1.0, "members": 1},
    }


@pytest.mark.parametrize(
    ("values", "users", "groups", "named"),
    [
        ([0.1, 0.2], [0], Groups([1.0, 0.0], [0.0, 1.0]), "per_user"),
        ([0.1], [2], Groups([1.0, 0.0], [0.0, 1.0]), "users"),
        ([0.1], [-1], Groups([1.0, 0.0], [0.0, 1.0]), "users"),
        ([0.1], [0], Groups([1.0, -1.0], [0.0, 1.0]), "groups.consistent"),
        ([0.1], [0], ([1.0, 0.0], [0.0, 1.0]), "groups"),
    ],
)
@pytest.mark.parametrize("function", [ucbias, measured_summary])
def test_values_that_do_not_fit_users_or_groups_are_refused(function, values, users, groups, named):
    with pytest.raises((TypeError, ValueError), match=named) as refused:
        function(values, users, groups)
    assert len(str(refused.value).splitlines()) == 1


def test_rho_averages_lists_first_and_leaves_out_empty_ones():
    similarity = np.array([[0.2, 0.4], [0.9, 9.0], [9.0, 9.0]])
    lists = np.array([[3, 1], [2, -1], [-1, -1]])
    assert rho(similarity, lists) == pytest.approx((0.3 + 0.9) / 2)
    assert math.isnan(rho(similarity[2:], lists[2:]))


def test_evaluation_equals_plain_numpy_on_every_metric(small_dataset):
    dataset = small_dataset
    rng = np.random.default_rng(0)
    encoded = Encoded(
        rng.standard_normal((dataset.num_users, 5)).astype(np.float32),
        rng.standard_normal((dataset.num_items, 5)).astype(np.float32),
    )
    histories, truth = dataset.train.histories(dataset.num_users), dataset.test.histories(dataset.num_users)
    content = make_content(dataset.features, histories)
    result = evaluate(encoded, None, histories, {"vanilla": vanilla()}, content, truth=truth)["vanilla"]

    trained = [set() for _ in range(dataset.num_users)]
    for user, item in zip(dataset.train.users, dataset.train.items, strict=True):
        trained[user].add(item)
    held_out = [set() for _ in range(dataset.num_users)]
    for user, item in zip(dataset.test.users, dataset.test.items, strict=True):
        held_out[user].add(item)
    similarity = {}
    for name, x in dataset.features.items():
        unit = np.float64(x) / np.linalg.norm(np.float64(x), axis=1, keepdims=True)
        similarity[name] = unit @ unit.T

    scores = np.float64(encoded.users) @ np.float64(encoded.items).T
    recalls, rhos, consistency = np.full(dataset.num_users, NAN), {name: [] for name in similarity}, []
    for user in range(dataset.num_users):
        own = list(trained[user])
        ranked = [i for i in np.argsort(-scores[user]) if i not in trained[user]][:20]
        if held_out[user]:
            recalls[user] = len(set(ranked) & held_out[user]) / len(held_out[user])
        for name, matrix in similarity.items():
            rhos[name].append(matrix[np.ix_(own, ranked)].mean())
        mean = np.mean([matrix[np.ix_(own, own)] for matrix in similarity.values()], axis=0)
        n = len(own)
        consistency.append((mean.sum() - np.trace(mean)) / (n * (n - 1)))
    # A tie at a cut would need weights; random features have none.
    order = np.argsort(consistency)
    size = dataset.num_users // 5
    expected = {
        "recall@20": np.nanmean(recalls),
        "ucbias@20": np.nanmean(recalls[order[-size:]]) - np.nanmean(recalls[order[:size]]),
        "rho/image": np.mean(rhos["image"]),
        "rho/text": np.mean(rhos["text"]),
        "rho": (np.mean(rhos["image"]) + np.mean(rhos["text"])) / 2,
    }
    for name, value in expected.items():
        assert result.metrics[name] == pytest.approx(value, abs=1e-6), name


def test_users_without_training_or_held_out_items_are_left_out():
    train = Interactions.from_pairs(np.array([0, 0, 1, 3]), np.array([0, 1, 2, 3]))
    test = Interactions.from_pairs(np.array([0, 2, 3]), np.array([2, 0, 4]))
    histories, truth = train.histories(4), test.histories(4)
    # Everyone likes the low ids best: user 0 finds item 2 at rank 1, user 3 finds item 4 at rank 4.
    encoded = Encoded(np.ones((4, 1), np.float32), np.arange(5, 0, -1, dtype=np.float32)[:, None])
    result = evaluate(encoded, None, histories, {"vanilla": vanilla()}, truth=truth, ks=(1, 4))["vanilla"]
    assert result.users.tolist() == [0, 1, 3]
    assert result.lists[:, :4].tolist() == [[2, 3, 4, -1], [0, 1, 3, 4], [0, 1, 2, 4]]
    np.testing.assert_array_equal(result.per_user["recall@1"], [1, NAN, 0])
    np.testing.assert_array_equal(result.per_user["recall@4"], [1, NAN, 1])
    assert result.metrics["recall@1"] == 0.5 and result.metrics["recall@4"] == 1
    assert result.metrics["ndcg@4"] == pytest.approx((1 + 1 / math.log2(5)) / 2, abs=1e-6)
    assert result.metrics["map@4"] == pytest.approx((1 + 1 / 4) / 2, abs=1e-6)
    assert "rho" not in result.metrics and "ucbias@20" not in result.metrics
    users = users_to_validate(histories, truth)
    assert np.asarray(users).tolist() == [0, 3]
    assert mean_recall(encoded, users, histories, truth, k=1) == 0.5
