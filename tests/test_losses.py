"""Losses against float64 references, and their gradients where norms vanish."""

import chex
import jax
import jax.numpy as jnp
import numpy as np

from isolator_jax import losses

RNG = np.random.default_rng(0)


def test_bpr_is_minus_the_mean_log_sigmoid_and_survives_huge_differences():
    positive, negative = RNG.normal(size=(2, 30)).astype(np.float32)
    difference = np.float64(positive) - np.float64(negative)
    np.testing.assert_allclose(losses.bpr(positive, negative), np.mean(np.log1p(np.exp(-difference))), rtol=1e-6)
    value, gradient = jax.value_and_grad(losses.bpr)(jnp.array([-1e6, 1e6]), jnp.array([1e6, -1e6]))
    np.testing.assert_allclose(value, 1e6)
    chex.assert_tree_all_finite(gradient)


def test_frobenius_penalty_takes_norms_not_squares():
    blocks = RNG.normal(size=(3, 8, 4)).astype(np.float32)
    expected = sum(np.sqrt((np.float64(block) ** 2).sum()) for block in blocks) / 8
    np.testing.assert_allclose(losses.frobenius_penalty(*blocks), expected, rtol=1e-6)


def test_gradients_are_finite_at_zero():
    zeros = jnp.zeros((4, 3))
    for function in (
        lambda x: losses.frobenius_penalty(x, x, x),
        lambda x: jnp.sum(losses.l2_normalize(x)),
        lambda x: losses.info_nce(losses.l2_normalize(x), losses.l2_normalize(x), 0.2),
    ):
        value, gradient = jax.value_and_grad(function)(zeros)
        chex.assert_tree_all_finite((value, gradient))


def test_l2_normalize_gives_unit_rows_and_keeps_zero_rows():
    x = RNG.normal(size=(5, 4)).astype(np.float32)
    x[2] = 0
    expected = np.divide(x, np.linalg.norm(x, axis=1, keepdims=True), out=np.zeros_like(x), where=x != 0)
    np.testing.assert_allclose(losses.l2_normalize(x), expected, atol=1e-6)


def test_info_nce_counts_the_positive_and_keeps_duplicates():
    anchors, positives = RNG.normal(size=(2, 7, 5)).astype(np.float32)
    positives[3] = positives[1]
    logits = np.float64(anchors) @ np.float64(positives).T / 0.3
    expected = -np.mean(np.diag(logits) - np.log(np.exp(logits).sum(axis=1)))
    np.testing.assert_allclose(losses.info_nce(anchors, positives, 0.3), expected, rtol=1e-5)


def test_info_nce_does_not_overflow_at_low_temperature():
    x = 100 * jnp.eye(3)
    value, gradient = jax.value_and_grad(lambda x: losses.info_nce(x, x, 1e-3))(x)
    assert value == 0
    chex.assert_tree_all_finite(gradient)
