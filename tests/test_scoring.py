"""Scores: properties over the whole float32 range, and equality with float64 references."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isolator_jax import _fast, losses, scoring
from isolator_jax.strategies import d_isolator, training_strategy, u_isolator

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
# s - c of these is itself a float32.
HALF = st.floats(-(2.0**126), 2.0**126, width=32)
COSINE = st.floats(-1, 1, width=32)
POSITIVE = st.floats(2**-10, 20, width=32)
POWER = st.floats(0, 2, width=32)

# All take f, s, c and three parameters.
SCORES = {
    "training": lambda f, s, c, a, b, p: scoring.training_score(f, s, p),
    "d": lambda f, s, c, a, b, p: scoring.d_score(f),
    "u": scoring.u_score,
    "log training": lambda f, s, c, a, b, p: _fast.log_training_score(f, s, c, gamma=p),
    "log u": lambda f, s, c, a, b, p: _fast.log_u_score(f, s, c, alpha=a, beta=b, iota=p),
}
VALUES = {name: jax.jit(score) for name, score in SCORES.items()}
SLOPES = {name: jax.jit(jax.grad(score, argnums=(0, 1, 2))) for name, score in SCORES.items()}

elu_prime = jax.jit(scoring.elu_prime)
elu_prime_slope = jax.jit(jax.grad(scoring.elu_prime))
log_elu_prime = jax.jit(jax.value_and_grad(_fast.log_elu_prime))
gate = jax.jit(scoring.content_gate)


def reference_elu_prime(x):
    x = np.asarray(x, np.float64)
    return np.where(x > 0, x + 1, np.exp(np.minimum(x, 0)))


def reference_log_elu_prime(x):
    x = np.asarray(x, np.float64)
    return np.where(x > 0, np.log1p(np.maximum(x, 0)), x)


def reference_gate(x, alpha, beta):
    x = np.asarray(x, np.float64)
    return np.where(x >= 0, np.exp(-alpha * np.maximum(x, 0)), 4 / (1 + np.exp(-beta * np.minimum(x, 0))) - 1)


def reference_factor(x, power):
    """Mean of sigmoids over the leading axis, to a power."""
    return np.mean(1 / (1 + np.exp(-np.asarray(x, np.float64))), axis=0) ** power


@given(FINITE, FINITE)
def test_elu_prime_is_increasing_and_positive_where_exp_is(x, y):
    low, high = sorted((x, y))
    low_value, high_value = elu_prime(np.float32(low)), elu_prime(np.float32(high))
    assert 0 < low_value <= high_value
    if -80 < low:
        if low + 1e-3 * max(1, abs(low)) < high:
            assert low_value < high_value


@given(FINITE)
def test_elu_prime_its_logarithm_and_both_slopes_equal_the_reference(x):
    x = np.float32(x)
    np.testing.assert_allclose(elu_prime(x), reference_elu_prime(x), rtol=1e-6, atol=1e-37)
    log_value, log_slope = log_elu_prime(x)
    np.testing.assert_allclose(log_value, reference_log_elu_prime(x), rtol=1e-6, atol=1e-37)
    slope = 1.0 if x > 0 else np.exp(np.float64(x))
    np.testing.assert_allclose(elu_prime_slope(x), slope, rtol=1e-6, atol=1e-37)
    np.testing.assert_allclose(log_slope, 1 / (1 + max(np.float64(x), 0)), rtol=1e-6, atol=1e-37)


def test_small_positive_scores_are_told_apart():
    f = np.unique(np.linspace(0, 1e-3, 100_001, dtype=np.float32))
    keys = np.asarray(_fast.log_elu_prime(f))
    assert np.unique(keys).size > 0.98 * f.size and (np.diff(keys) >= 0).all()


def test_elu_prime_is_smooth_at_zero():
    for zero in (0.0, -0.0):
        assert scoring.elu_prime(zero) == 1
        assert jax.grad(scoring.elu_prime)(zero) == 1
        assert jax.grad(_fast.log_elu_prime)(zero) == 1


@given(FINITE, POSITIVE, POSITIVE)
def test_gate_has_the_range_of_the_paper(x, alpha, beta):
    value = gate(np.float32(x), alpha, beta)
    assert -1 <= value <= 1
    assert gate(np.float32(0), alpha, beta) == 1
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(value, reference_gate(x, alpha, beta), rtol=1e-5, atol=1e-6)


@given(st.lists(COSINE, min_size=2, max_size=2), POSITIVE, POSITIVE)
def test_gate_rises_below_zero_and_falls_above(pair, alpha, beta):
    low, high = sorted(np.float32(pair))
    if high <= 0:
        assert gate(low, alpha, beta) <= gate(high, alpha, beta)
    if low >= 0:
        assert gate(low, alpha, beta) >= gate(high, alpha, beta)


def test_log_factor_of_one_channel_is_exact_over_the_whole_range_of_the_gate():
    x = np.concatenate([-np.logspace(-6, 2, 4000), [0], np.logspace(-6, 2, 4000)]).astype(np.float32)
    alpha, beta = np.float32(2), np.float32(5)
    found = jax.vmap(_fast.log_gate_factor, (0, None, None, None))(x[:, None], alpha, beta, np.float32(1))
    gated = reference_gate(x, 2, 5)
    assert gated.min() < -0.999 and gated.max() == 1
    np.testing.assert_allclose(found, np.log(reference_factor(gated[None], 1)), rtol=0, atol=4e-7)


@pytest.mark.parametrize("name", SCORES)
@given(f=FINITE, s=st.tuples(HALF, HALF), c=st.tuples(HALF, COSINE), alpha=POSITIVE, beta=POSITIVE, power=POWER)
def test_values_and_gradients_are_finite_everywhere(name, f, s, c, alpha, beta, power):
    arguments = (np.float32(f), np.float32(s), np.float32(c), alpha, beta, power)
    assert np.isfinite(VALUES[name](*arguments))
    by_f, by_s, by_c = SLOPES[name](*arguments)
    assert np.isfinite(by_f)
    if abs(f) < 1e30:  # the product of f and the factor's slope must itself be float32
        assert np.isfinite(by_s).all() and np.isfinite(by_c).all()


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_scores_equal_the_float64_reference(channels, compiled):
    transform = jax.jit if compiled else lambda function: function
    rng = np.random.default_rng(channels)
    f = np.concatenate([rng.normal(0, 3, 200), [-50.0, 0.0, 1e4]]).astype(np.float32)
    s, c = rng.uniform(-1, 1, (2, channels, f.size)).astype(np.float32)
    s[:, :5] = c[:, :5]  # g at zero
    alpha, beta, iota, gamma = 4.0, 5.0, 0.5, 0.7
    gated = reference_gate(np.float64(s) - np.float64(c), alpha, beta)
    expected = {
        "training": reference_elu_prime(f) * reference_factor(s, gamma),
        "d": reference_elu_prime(f),
        "u": reference_elu_prime(f) * reference_factor(gated, iota),
    }
    actual = {
        "training": transform(jax.vmap(scoring.training_score, (0, 1, None)))(f, s, gamma),
        "d": transform(jax.vmap(scoring.d_score))(f),
        "u": transform(jax.vmap(scoring.u_score, (0, 1, 1, None, None, None)))(f, s, c, alpha, beta, iota),
    }
    for name, reference in expected.items():
        np.testing.assert_allclose(actual[name], reference, rtol=2e-6)
    strategies = {
        "training": training_strategy(gamma),
        "d": d_isolator(),
        "u": u_isolator(alpha, beta, iota),
    }
    for name, strategy in strategies.items():
        key = transform(jax.vmap(strategy.key, (0, 1, 1)))(f, s, c)
        np.testing.assert_allclose(strategy.score(key), expected[name], rtol=1e-5)
        if name != "d":
            np.testing.assert_allclose(key, np.log(expected[name]), rtol=2e-6, atol=2e-6)


def test_vmap_over_users_and_items_scores_every_pair():
    users, items, channels = 3, 4, 2
    rng = np.random.default_rng(0)
    f = rng.normal(0, 3, (users, items)).astype(np.float32)
    s = rng.uniform(-1, 1, (channels, users, items)).astype(np.float32)
    c = rng.uniform(-1, 1, (channels, users)).astype(np.float32)
    parameters = (2.0, 5.0, 0.5)
    for name, score in SCORES.items():
        one = lambda f, s, c, score=score: score(f, s, c, *parameters)
        all_pairs = jax.jit(jax.vmap(jax.vmap(one, (0, 1, None)), (0, 1, 1)))(f, s, c)
        for user in range(users):
            for item in range(items):
                alone = VALUES[name](f[user, item], s[:, user, item], c[:, user], *parameters)
                np.testing.assert_allclose(all_pairs[user, item], alone, rtol=1e-6, err_msg=name)


def test_vmap_over_settings_equals_one_setting_at_a_time():
    f, s, c = jnp.float32(0.3), jnp.array([0.5, -0.1]), jnp.array([0.2, 0.2])
    grid = np.float32([[2, 1, 0.001], [10, 20, 1], [6, 5, 0.1]])
    together = jax.vmap(SCORES["log u"], (None, None, None, 0, 0, 0))(f, s, c, *grid.T)
    np.testing.assert_allclose(together, [VALUES["log u"](f, s, c, *row) for row in grid], rtol=1e-6)


def reference_scores(f, s, c, alpha, beta, power):
    """Each score in float64."""
    training = reference_elu_prime(f) * reference_factor(s, power)
    u = reference_elu_prime(f) * reference_factor(reference_gate(s - c, alpha, beta), power)
    return {
        "training": training, "d": reference_elu_prime(f), "u": u, "log training": np.log(training), "log u": np.log(u),
    }  # fmt: skip


def test_gradients_equal_finite_differences_of_the_float64_reference():
    step = 1e-6
    for f in (-2.3, -0.1, 0.4, 5.0):
        for s in (-0.7, 0.2, 0.8):
            point = (np.array(f), np.array([s, 0.1]), np.array([0.3, 0.3]))
            slopes = {name: slope(*point, 2.0, 5.0, 0.7) for name, slope in SLOPES.items()}
            for argument, values in enumerate(point):
                for place in np.ndindex(values.shape):
                    shifted = []
                    for sign in (1, -1):
                        moved = [x.copy() for x in point]
                        moved[argument][place] += sign * step
                        shifted.append(reference_scores(*moved, 2.0, 5.0, 0.7))
                    for name in SCORES:
                        expected = (shifted[0][name] - shifted[1][name]) / (2 * step)
                        found = slopes[name][argument][place]
                        np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-6, err_msg=name)


def test_the_fast_forms_are_the_logarithms_of_the_printed_ones():
    rng = np.random.default_rng(0)
    f = np.concatenate([rng.normal(0, 3, 200), [0.0, 1e4]]).astype(np.float32)
    for channels in (1, 2, 3):
        s, c = rng.uniform(-1, 1, (2, channels, f.size)).astype(np.float32)
        s[:, :5] = c[:, :5]  # g at zero
        alike = {
            "elu": (_fast.log_elu_prime(f), scoring.elu_prime(f)),
            "content": (_fast.log_content_factor(s, 0.7), scoring.content_factor(s, 0.7)),
            "gate": (_fast.log_gate_factor(s - c, 2.0, 5.0, 0.5), scoring.u_score(f * 0, s, c, 2.0, 5.0, 0.5)),
            "training": (_fast.log_training_score(f, s, None, gamma=0.7), scoring.training_score(f, s, 0.7)),
            "u": (_fast.log_u_score(f, s, c, alpha=2.0, beta=5.0, iota=0.5), scoring.u_score(f, s, c, 2.0, 5.0, 0.5)),
        }
        for name, (logarithm, printed) in alike.items():
            np.testing.assert_allclose(logarithm, np.log(np.float64(printed)), rtol=1e-6, atol=1e-6, err_msg=name)
    x = rng.uniform(-2, 2, 200).astype(np.float32)
    np.testing.assert_allclose(_fast.content_gate(x, 2.0, 5.0), scoring.content_gate(x, 2.0, 5.0), atol=5e-7)


def test_pairs_of_any_shape_are_scored_each_by_its_own_channels():
    rng = np.random.default_rng(0)
    f = rng.normal(0, 3, (3, 4)).astype(np.float32)
    s = rng.uniform(-1, 1, (2, 3, 4)).astype(np.float32)
    c = rng.uniform(-1, 1, (2, 3, 1)).astype(np.float32)
    expected = jax.vmap(jax.vmap(VALUES["u"], (0, 1, None, *[None] * 3)), (0, 1, 1, *[None] * 3))(
        f, s, c[..., 0], 2.0, 5.0, 0.5
    )
    np.testing.assert_allclose(scoring.u_score(f, s, c, 2.0, 5.0, 0.5), expected, rtol=1e-6)
    training = jax.vmap(jax.vmap(scoring.training_score, (0, 1, None)), (0, 1, None))(f, s, 0.3)
    np.testing.assert_allclose(scoring.training_score(f, s, 0.3), training, rtol=1e-6)
    for wrong_s, wrong_c in ((s[0], c), (s, c[0]), (s, c[:1]), (s[:1], c), (s, c[:, :2]), (s[:0], c[:0])):
        with pytest.raises(ValueError, match="^[sc] must have"):
            scoring.u_score(f, wrong_s, wrong_c, 2.0, 5.0, 0.5)


@given(st.lists(FINITE, min_size=12, max_size=12, unique=True))
def test_d_ranks_as_f(values):
    f = np.array(values, np.float32)
    order = np.argsort(-f, kind="stable")
    strategy = d_isolator()
    key = strategy.key(f, None, None)
    np.testing.assert_array_equal(np.argsort(-key, kind="stable"), order)
    scores = np.asarray(elu_prime(f))
    np.testing.assert_array_equal(scores, strategy.score(key))
    assert (np.diff(scores[order]) <= 0).all()


def test_gamma_zero_is_bpr_on_elu_prime_of_f():
    rng = np.random.default_rng(0)
    f = rng.normal(size=(2, 50)).astype(np.float32)
    s = rng.uniform(-1, 1, (2, 1, 50)).astype(np.float32)

    def with_content(f):
        return losses.bpr(*(scoring.training_score(f[side], s[side], 0.0) for side in (0, 1)))

    def without(f):
        return losses.bpr(scoring.elu_prime(f[0]), scoring.elu_prime(f[1]))

    assert with_content(f) == without(f)
    np.testing.assert_array_equal(jax.grad(with_content)(f), jax.grad(without)(f))


@given(f=FINITE, s=st.tuples(COSINE, COSINE), c=st.tuples(COSINE, COSINE), alpha=POSITIVE, beta=POSITIVE, power=POWER)
def test_log_scores_are_the_logarithms_over_the_whole_range_of_f(f, s, c, alpha, beta, power):
    arguments = (np.float32(f), np.float32(s), np.float32(c), alpha, beta, power)
    log_f = reference_log_elu_prime(np.float32(f))
    gated = reference_gate(np.float64(arguments[1]) - np.float64(arguments[2]), alpha, beta)
    expected = {
        "log training": log_f + np.log(reference_factor(arguments[1], power)),
        "log u": log_f + np.log(reference_factor(gated, power)),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(VALUES[name](*arguments), value, rtol=1e-6, atol=5e-6, err_msg=name)


def test_scores_far_outside_the_range_of_exp_are_still_told_apart():
    f = jnp.array([-300.0, -200.0, -400.0])
    s = jnp.zeros((1, 3))
    keys = jax.vmap(u_isolator(2.0, 5.0, 0.1).key, (0, 1, 1))(f, s, s)
    np.testing.assert_array_equal(np.argsort(-keys), [1, 0, 2])
