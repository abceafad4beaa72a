"""Reference rankers, values of single users, and UCBias with another cause held equal."""

import numpy as np
import pandas as pd
import pytest

from isolator_jax import (
    Groups,
    bootstrap_ucbias,
    consistency_groups,
    d_isolator,
    equal_activity,
    evaluate,
    evaluate_lists,
    held_out_hits,
    make_content,
    per_user_table,
    reference_lists,
    ucbias,
    ucbias_at_equal_popularity,
    vanilla,
)

NAN = float("nan")


@pytest.fixture(scope="module")
def problem(small_dataset):
    histories = small_dataset.train.histories(small_dataset.num_users)
    truth = small_dataset.test.histories(small_dataset.num_users)
    return small_dataset, histories, truth, make_content(small_dataset.features, histories)


def test_reference_rankers_rank_by_popularity_and_by_similarity_with_ties_to_the_lower_id(problem):
    dataset, histories, _, content = problem
    lists = reference_lists(None, histories, content, num_items=dataset.num_items, k=7)
    counts = np.bincount(dataset.train.items, minlength=dataset.num_items)
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in map(np.float64, dataset.features.values())]
    similarity = np.mean([x @ x.T for x in unit], axis=0)
    for user in range(dataset.num_users):
        own = dataset.train.items[dataset.train.users == user]
        unseen = np.setdiff1d(np.arange(dataset.num_items), own)
        by_popularity = sorted(unseen, key=lambda item: (-counts[item], item))[:7]
        assert lists["popularity"][user].tolist() == by_popularity
        s = similarity[:, own].mean(axis=1)
        np.testing.assert_allclose(s[lists["content"][user]], np.sort(s[unseen])[::-1][:7], atol=1e-6)
    assert list(reference_lists([3], histories, num_items=dataset.num_items, k=2)) == ["popularity"]


def test_the_table_has_a_row_for_each_user_in_original_ids_and_its_means_are_the_metrics(problem):
    dataset, histories, truth, content = problem
    rng = np.random.default_rng(0)
    model = rng.standard_normal((dataset.num_users, dataset.num_items))
    results = evaluate(model, None, histories, {"vanilla": vanilla(), "d": d_isolator()}, content, truth=truth)
    ids = np.array([f"u{user}" for user in range(dataset.num_users)])
    table = per_user_table(results, content, ids)
    assert table["user"].tolist() == ids.tolist()
    for name, result in results.items():
        for metric in result.per_user:
            assert table[f"{metric}/{name}"].mean() == pytest.approx(result.metrics[metric], abs=1e-12)
        recall = table[f"recall@20/{name}"]
        defined = recall.notna()
        means = [
            np.average(recall[defined], weights=table[weight][defined])
            for weight in ("weight_consistent", "weight_diverse")
        ]
        assert means[0] - means[1] == pytest.approx(result.metrics["ucbias@20"], abs=1e-12)
    assert set(table["group"]) == {"", "consistent", "diverse"}
    np.testing.assert_array_equal(table["c_u"], content.consistency)
    assert list(per_user_table(results).columns[:2]) == ["user", "recall@10/vanilla"]
    assert isinstance(table, pd.DataFrame) and len(table) == dataset.num_users


def test_hits_of_held_out_interactions_add_up_to_recall(problem):
    dataset, histories, truth, content = problem
    lists = reference_lists(None, histories, num_items=dataset.num_items, k=20)
    result = evaluate_lists(lists, np.arange(dataset.num_users), histories, truth, content)["popularity"]
    users, popularity, hits = held_out_hits(result, histories, truth)
    assert users.size == len(dataset.test)
    recall = np.bincount(users, hits, dataset.num_users) / np.bincount(users, minlength=dataset.num_users)
    np.testing.assert_allclose(recall, result.per_user["recall@20"])
    counts = np.bincount(dataset.train.items, minlength=dataset.num_items)
    np.testing.assert_array_equal(popularity, counts[dataset.test.items])
    # In one bin nothing is held equal.
    groups = consistency_groups(content.consistency)
    one = ucbias_at_equal_popularity(users, popularity, hits, groups, bins=1)
    assert one.ucbias == pytest.approx(result.metrics["ucbias@20"])
    five = ucbias_at_equal_popularity(users, popularity, hits, groups)
    assert five.interactions.sum() == users.size
    assert (five.fewest[1:] > five.most[:-1]).all()


def test_a_bias_that_is_popularitys_alone_vanishes_at_equal_popularity():
    # Popular items are found, others are not; consistent users (0 to 9) hold out more of the popular.
    users = np.repeat(np.arange(20), 4)
    popularity = np.where(np.arange(80) % 4 < np.where(users < 10, 3, 1), 50, 2)
    hits = popularity == 50
    groups = Groups(np.repeat([1.0, 0.0], 10), np.repeat([0.0, 1.0], 10))
    recall = np.bincount(users, hits) / 4
    assert ucbias(recall, np.arange(20), groups) == 0.5
    equal = ucbias_at_equal_popularity(users, popularity, hits, groups, bins=2)
    assert equal.ucbias == 0 and equal.interactions.tolist() == [40, 40]
    # A bin that one group has nothing in is left out; without any, nothing is known.
    alone = ucbias_at_equal_popularity(users[:40], popularity[:40], hits[:40], groups, bins=2)
    assert np.isnan(alone.ucbias) and np.isnan(alone.diverse).all()


def test_groups_at_equal_activity_have_the_lower_median_or_the_narrowest_window_with_enough_users():
    lengths = np.array([4, 5, 5, 3, 9, 4, 5, 8, 5, 0])
    groups = Groups(np.array([1.0, 1, 1, 0, 0, 0, 0, 0, 0, 1]), np.array([0.0, 0, 0, 1, 1, 1, 1, 0.5, 0, 0]), (0, 2))
    users, values = np.arange(9), np.array([0.1, 0.2, NAN, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
    exact = equal_activity(groups, lengths, users, values, least=1)
    assert (exact.median, exact.fewest, exact.most) == (5, 5, 5)
    assert np.flatnonzero(exact.groups.consistent).tolist() == [1]  # user 2 has no value
    assert np.flatnonzero(exact.groups.diverse).tolist() == [6]
    assert ucbias(values, users, exact.groups) == pytest.approx(0.2 - 0.6)
    wider = equal_activity(groups, lengths, users, values, least=2)
    assert (wider.fewest, wider.most) == (4, 6)
    assert np.flatnonzero(wider.groups.diverse).tolist() == [5, 6]
    half = equal_activity(groups, lengths, users, values, least=100)
    assert (half.fewest, half.most) == (3, 7)
    assert np.flatnonzero(half.groups.diverse).tolist() == [3, 5, 6]
    # In a window of everybody nothing is held equal, so that nothing is said; of equally active users something is.
    far = Groups(groups.consistent, np.where(lengths == 9, 1.0, 0.0))
    everybody = equal_activity(far, lengths, users, values, least=100)
    assert (everybody.fewest, everybody.most) == (1, 9)
    assert np.isnan(ucbias(values, users, everybody.groups)) and not np.any(everybody.groups.consistent)
    alike = equal_activity(groups, np.full(10, 4), users, values, least=100)
    assert alike.groups.diverse[7] == 0.5 and alike.groups.consistent[9] == 0
    assert not np.isnan(bootstrap_ucbias(values, users, alike.groups)).any()
