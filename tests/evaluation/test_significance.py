"""Intervals and tests against scipy, hand-worked cases and their own definition."""

import math

import numpy as np
import pytest
from scipy import stats

from isolator_jax.evaluation.bias import Groups, ucbias
from isolator_jax.evaluation.significance import bootstrap_ucbias, holm, paired_test

NAN = float("nan")


def groups_of(count, consistent, diverse):
    groups = Groups(np.zeros(count), np.zeros(count))
    groups.consistent[consistent] = 1.0
    groups.diverse[diverse] = 1.0
    return groups


def test_the_interval_is_that_of_a_plain_resampling_within_groups():
    rng = np.random.default_rng(5)
    count = 400
    # Ids in another order than the values, a third of the users without a value.
    users = rng.permutation(1000)[:count]
    values = (rng.random(count) < 0.3).astype(np.float32)
    values[rng.random(count) < 1 / 3] = NAN
    groups = groups_of(1000, np.arange(0, 300), np.arange(700, 1000))
    low, high = bootstrap_ucbias(values, users, groups, draws=4000)

    consistent = values[(groups.consistent[users] > 0) & ~np.isnan(values)]
    diverse = values[(groups.diverse[users] > 0) & ~np.isnan(values)]
    drawn = [
        rng.choice(consistent, consistent.size).mean() - rng.choice(diverse, diverse.size).mean() for _ in range(4000)
    ]
    assert (low, high) == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=0.012)
    assert low < ucbias(values, users, groups) < high
    wider = bootstrap_ucbias(values, users, groups, draws=4000, level=0.99)
    assert wider[0] < low and high < wider[1]


def test_the_interval_repeats_by_seed_and_collapses_where_nothing_varies():
    values = np.array([1.0, 0, 1, 1, 0, 0, 1, 0])
    groups = groups_of(8, [0, 1, 2, 3], [4, 5, 6, 7])
    first, again, other = (bootstrap_ucbias(values, np.arange(8), groups, draws=37, seed=s) for s in (1, 1, 2))
    assert first == again != other
    constant = np.array([0.5, 0.5, 0.5, 0.5, 0.25, 0.25, NAN, 0.25])
    assert bootstrap_ucbias(constant, np.arange(8), groups) == (0.25, 0.25)


def test_the_interval_of_weighted_groups_is_around_the_weighted_difference():
    rng = np.random.default_rng(2)
    values = np.concatenate([rng.normal(0.5, 0.1, 100), rng.normal(0.9, 0.1, 300), rng.normal(0.2, 0.1, 100)])
    weights = np.repeat([1.0, 0.1, 0.0], [100, 300, 100])
    groups = Groups(weights, np.repeat([0.0, 1.0], [400, 100]), (300, 0))
    low, high = bootstrap_ucbias(values, np.arange(500), groups)
    value = ucbias(values, np.arange(500), groups)
    assert value == pytest.approx((0.5 * 100 + 0.9 * 30) / 130 - 0.2, abs=0.03)
    assert low < value < high < low + 0.1


def test_a_group_with_fewer_than_two_values_has_no_interval():
    values = np.array([1.0, 0.0, 1.0, NAN])
    assert all(map(math.isnan, bootstrap_ucbias(values, np.arange(4), groups_of(4, [0, 1], [2, 3]))))
    assert all(map(math.isnan, bootstrap_ucbias(values, np.arange(4), groups_of(4, [0, 1], []))))


def test_the_paired_test_is_scipys_over_the_users_who_have_both_values():
    rng = np.random.default_rng(0)
    first = rng.random(60)
    second = first + rng.normal(0.03, 0.1, 60)
    expected = stats.ttest_rel(first, second).pvalue
    gaps = np.arange(0, 80, 4)
    with_gaps = [np.insert(values, np.minimum(gaps, 60), NAN) for values in (first, second)]
    with_gaps[0] = np.append(with_gaps[0], [7.0, NAN])
    with_gaps[1] = np.append(with_gaps[1], [NAN, 9.0])
    assert paired_test(first, second) == pytest.approx(expected, rel=1e-9)
    assert paired_test(*with_gaps) == pytest.approx(expected, rel=1e-9)


def test_the_paired_test_by_hand():
    # Differences 1, 2, 3: t = 2 / (1 / sqrt 3) with 2 degrees of freedom, whose tail is known in closed form.
    t = 2 * math.sqrt(3)
    assert paired_test([2, 4, 6], [1, 2, 3]) == pytest.approx(1 - t / math.sqrt(2 + t * t), rel=1e-9)


def test_the_paired_test_where_nothing_differs_or_nobody_is_left():
    assert paired_test([0.5, 0.25, NAN], [0.5, 0.25, 1.0]) == 1.0
    assert math.isnan(paired_test([1.0, NAN], [0.5, 0.5]))
    # Equal differences, but for rounding, have no spread to be held against.
    assert math.isnan(paired_test([0.5, 0.75], [0.25, 0.5]))
    assert math.isnan(paired_test(np.float32([0.3, 0.4, 0.5, 0.6]), np.float32([0.2, 0.3, 0.4, 0.5])))
    assert math.isnan(paired_test([0.3, 0.4, 0.9], [0.1, 0.2, 0.7]))
    assert 0 < paired_test([0.3, 0.4, 0.9], [0.1, 0.2, 0.7001]) < 0.01
    with pytest.raises(ValueError, match="same users"):
        paired_test(np.ones(3), np.ones(4))


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.2, 0.9, 0.6], [0.6, 1.0, 1.0]),
        ([0.02, NAN, 0.03], [0.04, NAN, 0.04]),
        ([0.03], [0.03]),
        ([], []),
    ],
)
def test_holm_by_hand(p_values, adjusted):
    np.testing.assert_allclose(holm(p_values), adjusted, rtol=1e-12)
