"""The test over users and seeds: its equation, and that it holds its level where training itself varies."""

import numpy as np
import pytest
from scipy import stats

from isolator_jax.evaluation.significance import paired_test
from isolator_jax.reporting.model import Measured
from isolator_jax.reporting.noise import p_over_users_and_seeds, spread


def number(values):
    """Of `[seeds, N]` values of users."""
    values = np.asarray(values, np.float64)
    return Measured(float(np.nanmean(values)), np.nanmean(values, axis=1), values)


def test_the_p_value_is_that_of_two_crossed_samples():
    rng = np.random.default_rng(0)
    pairs = [rng.normal(size=(2, 3, 50)) + rng.normal(0, 0.2, size=(2, 3, 1)) for _ in range(2)]
    pairs[1] = pairs[1][:, :2]  # two seeds
    p = p_over_users_and_seeds(
        [np.mean(x) - np.mean(y) for x, y in pairs], [spread(number(x), number(y)) for x, y in pairs]
    )
    differences = [x - y for x, y in pairs]
    pooled = (2 * differences[0].mean(axis=1).var(ddof=1) + differences[1].mean(axis=1).var(ddof=1)) / 3
    for d, found in zip(differences, p, strict=True):
        count, size = d.shape
        of_users = d.mean(axis=0).var(ddof=1) / size
        residuals = d - d.mean(axis=0) - d.mean(axis=1, keepdims=True) + d.mean()
        both = (residuals**2).sum() / ((count - 1) * (size - 1) * count * size)
        variance = of_users + max(0, pooled / count - both)
        freedom = variance**2 / (of_users**2 / (size - 1) + (pooled / count) ** 2 / 3)
        assert found == pytest.approx(2 * stats.t.sf(abs(d.mean()) / np.sqrt(variance), freedom), rel=1e-9)


def test_what_trainings_differ_by_is_no_difference_between_models():
    """Twice as much over seeds as over users: the test over users calls a third of nothing a difference at .05."""
    rng = np.random.default_rng(0)
    over_both, over_users = [], []
    for _ in range(60):
        pairs = []
        for _ in range(8):
            first, second = rng.normal(size=(2, 2, 100))
            second += rng.normal(0, 2 * np.sqrt(2 / 100), size=(2, 1))
            pairs.append((number(first), number(second)))
            over_users.append(paired_test(first.mean(axis=0), second.mean(axis=0)))
        differences = [first.value - second.value for first, second in pairs]
        over_both += list(p_over_users_and_seeds(differences, [spread(*pair) for pair in pairs]))
    assert 0.02 < np.mean(np.array(over_both) < 0.05) < 0.08 and np.mean(np.array(over_both) < 0.005) < 0.015
    assert np.mean(np.array(over_users) < 0.05) > 0.25


def test_sizes_of_resampled_values_are_compared_with_their_signs():
    """-.3 is larger than .2: by .1, with the spread of the resamples' sizes."""
    noise = np.random.default_rng(0).normal(0, 0.01, size=(2, 1000))
    one, two = (Measured(value, np.full(2, value), draws=value + noise) for value in (-0.3, 0.2))
    found = spread(one, two, sizes=True)
    assert found.users == pytest.approx(np.var(2 * noise.mean(axis=0), ddof=1))
    assert found.seeds == 0 and found.shared == 2
    assert spread(one, two).users == pytest.approx(0, abs=1e-20)


def test_without_users_or_a_second_seed_there_is_no_p_value():
    one, two = np.zeros((1, 9)), np.arange(9.0)[None]
    assert np.isnan(p_over_users_and_seeds([4.0], [spread(number(one), number(two))])).all()
    assert spread(Measured(1.0, np.ones(2)), Measured(2.0, np.ones(2))) is None
    # A model with one seed beside others with two takes their variance over seeds.
    both = [spread(number(one), number(two)), spread(number(np.tile(one, (2, 1))), number(np.tile(two, (2, 1))))]
    p = p_over_users_and_seeds([4.0, 4.0], both)
    np.testing.assert_allclose(p, stats.ttest_1samp(np.arange(9.0), 0).pvalue)


def test_users_without_held_out_items_count_for_nothing():
    values = np.random.default_rng(0).normal(size=(2, 2, 40))
    holes = np.concatenate([values, np.full((2, 2, 5), np.nan)], axis=2)
    assert spread(*map(number, holes)) == pytest.approx(spread(*map(number, values)))
