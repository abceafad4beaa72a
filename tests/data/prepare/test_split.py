"""Splits against slow references and the properties they promise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isolator_jax.data.prepare.split import held_out_counts, label_by_time, label_last, leave_one_out_counts

ratios = st.tuples(*[st.integers(1, 9)] * 3)
histories = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), min_size=1, max_size=40)


@pytest.mark.parametrize(
    ("count", "validation", "test"), [(0, 0, 0), (1, 0, 0), (2, 0, 1), (3, 1, 1), (10, 1, 1), (19, 1, 1), (30, 3, 3)]
)
def test_eight_one_one_of_a_user(count, validation, test):
    assert [int(x[0]) for x in held_out_counts(np.array([count]), (8, 1, 1))] == [validation, test]


@given(st.integers(1, 500), ratios)
def test_a_user_always_trains_and_no_share_is_exceeded_but_for_the_least_one(count, ratios):
    validation, test = (int(x[0]) for x in held_out_counts(np.array([count]), ratios))
    assert validation >= 0 and test >= 0 and validation + test < count
    assert validation <= max(1, count * ratios[1] / sum(ratios)) and test <= max(1, count * ratios[2] / sum(ratios))


@given(histories, ratios, st.booleans())
def test_each_users_last_are_for_test_and_those_before_for_validation(rows, ratios, leave_one_out):
    users, keys = np.array(rows).T
    counts = np.bincount(users, minlength=6)
    validation, test = leave_one_out_counts(counts) if leave_one_out else held_out_counts(counts, ratios)
    labels = label_last(users, keys, validation, test)
    for user in set(users):
        own = [row for _, row in sorted((key, row) for row, key in enumerate(keys) if users[row] == user)]
        expected = [0] * (len(own) - validation[user] - test[user]) + [1] * validation[user] + [2] * test[user]
        assert labels[own].tolist() == expected


@given(st.lists(st.integers(0, 12), min_size=1, max_size=60), ratios)
def test_cut_in_time_no_moment_is_in_two_splits_and_none_is_larger_than_it_may(times, ratios):
    times = np.array(times, np.float64)
    labels = label_by_time(times, ratios)
    assert (np.diff(labels[np.argsort(times, kind="stable")]) >= 0).all()
    assert all(len(set(labels[times == time])) == 1 for time in times)
    assert (labels == 0).sum() <= ratios[0] * times.size / sum(ratios)
    if len(set(times)) == times.size:
        assert (labels == 0).sum() == ratios[0] * times.size // sum(ratios)
