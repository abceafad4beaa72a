"""Scores: properties over the whole float32 range, and equality with float64 references."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isolator_jax import losses, scoring

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
COSINE = st.floats(-1, 1, width=32)
POSITIVE = st.floats(2**-10, 20, width=32)

SCORES = {
    "training": lambda f, s, c, a, b, p: scoring.training_score(f, s, p),
    "d": lambda f, s, c, a, b, p: scoring.d_score(f),
    "u": lambda f, s, c, a, b, p: scoring.u_score(f, s, c, a, b, p),
    "log training": lambda f, s, c, a, b, p: scoring.log_training_score(f, s, c, gamma=p),
    "log u": lambda f, s, c, a, b, p: scoring.log_u_score(f, s, c, alpha=a, beta=b, iota=p),
}


def reference_elu_prime(x):
    x = np.asarray(x, np.float64)
    return np.where(x > 0, x + 1, np.exp(np.minimum(x, 0)))


def reference_gate(x, alpha, beta):
    x = np.asarray(x, np.float64)
    return np.where(x >= 0, np.exp(-alpha * np.maximum(x, 0)), 4 / (1 + np.exp(-beta * np.minimum(x, 0))) - 1)


def reference_factor(x, power):
    """Mean of sigmoids over the leading axis, to a power."""
    return np.mean(1 / (1 + np.exp(-np.asarray(x, np.float64))), axis=0) ** power


@given(FINITE, FINITE)
def test_elu_prime_is_increasing_and_not_negative(x, y):
    low, high = sorted((x, y))
    assert 0 <= scoring.elu_prime(jnp.float32(low)) <= scoring.elu_prime(jnp.float32(high))
    if -80 < low and low + 1e-3 * max(1, abs(low)) < high:
        assert 0 < scoring.elu_prime(jnp.float32(low)) < scoring.elu_prime(jnp.float32(high))


@given(FINITE, POSITIVE, POSITIVE)
def test_gate_has_the_range_of_the_paper(x, alpha, beta):
    g = scoring.content_gate(jnp.float32(x), alpha, beta)
    assert -1 <= g <= 1
    assert scoring.content_gate(jnp.float32(0), alpha, beta) == 1


@given(st.lists(COSINE, min_size=2, max_size=2), POSITIVE, POSITIVE)
def test_gate_rises_below_zero_and_falls_above(pair, alpha, beta):
    low, high = sorted(pair)
    gate = lambda x: float(scoring.content_gate(jnp.float32(x), alpha, beta))
    if high <= 0:
        assert gate(low) <= gate(high)
    if low >= 0:
        assert gate(low) >= gate(high)


@pytest.mark.parametrize("name", SCORES)
@given(f=FINITE, s=FINITE, c=COSINE, alpha=POSITIVE, beta=POSITIVE, power=st.floats(0, 2, width=32))
def test_values_and_gradients_are_finite_everywhere(name, f, s, c, alpha, beta, power):
    if name in ("u", "log u"):
        s = max(min(s, 1e30), -1e30)  # s - c and its multiples must themselves be float32
    arguments = (jnp.float32(f), jnp.full(2, s, jnp.float32), jnp.full(2, c), alpha, beta, power)
    value, gradient = jax.value_and_grad(SCORES[name])(*arguments)
    assert np.isfinite(value) and np.isfinite(gradient)
    by_similarity = jax.grad(SCORES[name], argnums=1)(*arguments)
    if abs(f) < 1e30:  # the product of f and the factor's slope must itself be float32
        assert np.isfinite(by_similarity).all()


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_scores_equal_the_float64_reference(channels):
    rng = np.random.default_rng(channels)
    f = np.concatenate([rng.normal(0, 3, 200), [-50.0, 0.0, 1e4]]).astype(np.float32)
    s = rng.uniform(-1, 1, (channels, f.size)).astype(np.float32)
    c = rng.uniform(-1, 1, (channels, f.size)).astype(np.float32)
    alpha, beta, iota, gamma = 4.0, 5.0, 0.5, 0.7
    gate = reference_gate(np.float64(s) - np.float64(c), alpha, beta)
    expected = {
        "training": reference_elu_prime(f) * reference_factor(s, gamma),
        "d": reference_elu_prime(f),
        "u": reference_elu_prime(f) * reference_factor(gate, iota),
    }
    actual = {
        "training": jax.vmap(scoring.training_score, (0, 1, None))(f, s, gamma),
        "d": jax.vmap(scoring.d_score)(f),
        "u": jax.vmap(scoring.u_score, (0, 1, 1, None, None, None))(f, s, c, alpha, beta, iota),
    }
    for name, reference in expected.items():
        np.testing.assert_allclose(actual[name], reference, rtol=2e-6)
    log_u = jax.vmap(scoring.u_isolator(alpha, beta, iota).key, (0, 1, 1))(f, s, c)
    log_training = jax.vmap(scoring.training_strategy(gamma).key, (0, 1, 1))(f, s, c)
    np.testing.assert_allclose(log_u, np.log(expected["u"]), rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(log_training, np.log(expected["training"]), rtol=2e-6, atol=2e-6)


def test_gradients_equal_finite_differences_in_float64():
    with jax.enable_x64(True):
        for f in (-2.3, -0.1, 0.4, 5.0):
            for s in (-0.7, 0.2, 0.8):
                arguments = (f, jnp.array([s, 0.1]), jnp.array([0.3, 0.3]), 2.0, 5.0, 0.7)
                for score in SCORES.values():
                    step = 1e-6
                    shifted = [score(f + sign * step, *arguments[1:]) for sign in (1, -1)]
                    slope = (shifted[0] - shifted[1]) / (2 * step)
                    np.testing.assert_allclose(jax.grad(score)(*arguments), slope, rtol=1e-6, atol=1e-9)


@given(st.lists(FINITE, min_size=3, max_size=20, unique=True))
def test_d_ranks_as_f(values):
    f = jnp.array(values, jnp.float32)
    order = np.argsort(-f, kind="stable")
    key = jax.vmap(scoring.d_isolator().key, (0, None, None))(f, None, None)
    np.testing.assert_array_equal(np.argsort(-key, kind="stable"), order)
    scores = np.asarray(scoring.d_score(f))[order]
    assert (np.diff(scores) <= 0).all()


def test_gamma_zero_is_bpr_on_elu_prime_of_f():
    rng = np.random.default_rng(0)
    positive, negative = rng.normal(size=(2, 50)).astype(np.float32)
    s = rng.uniform(-1, 1, (2, 1, 50)).astype(np.float32)
    with_content = losses.bpr(
        scoring.training_score(positive, s[0], 0.0), scoring.training_score(negative, s[1], 0.0)
    )
    without = losses.bpr(scoring.elu_prime(positive), scoring.elu_prime(negative))
    assert with_content == without


def test_scores_far_outside_the_range_of_exp_are_still_told_apart():
    f = jnp.array([-300.0, -200.0, -400.0])
    s = jnp.zeros((1, 3))
    keys = jax.vmap(scoring.u_isolator(2.0, 5.0, 0.1).key, (0, 1, 1))(f, s, s)
    np.testing.assert_array_equal(np.argsort(-keys), [1, 0, 2])
