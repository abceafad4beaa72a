"""Losses against float64 references, and their gradients where norms vanish."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

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


def test_in_batch_softmax_takes_the_diagonal_as_the_targets_of_rows():
    logits = RNG.normal(size=(6, 6)).astype(np.float32)
    wide = np.float64(logits)
    expected = np.mean(np.log(np.exp(wide).sum(axis=1)) - np.diag(wide))
    value, gradient = jax.value_and_grad(losses.in_batch_softmax)(logits)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    softmax = np.exp(wide) / np.exp(wide).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(gradient, (softmax - np.eye(6)) / 6, atol=1e-7)


def test_gradients_of_norms_equal_their_formula():
    x = RNG.normal(size=(4, 3)).astype(np.float32)
    gradient = jax.grad(losses.frobenius_penalty)(x)
    np.testing.assert_allclose(gradient, x / np.linalg.norm(x) / 4, atol=1e-6)
    x[1] = 0
    direction = RNG.normal(size=(4, 3)).astype(np.float32)
    norm = np.linalg.norm(np.float64(x), axis=1, keepdims=True)
    unit = np.divide(x, norm, out=np.zeros((4, 3)), where=norm > 0)
    along = np.sum(direction * unit, axis=1, keepdims=True)
    expected = np.divide(direction - along * unit, norm, out=np.zeros((4, 3)), where=norm > 0)
    found = jax.grad(lambda x: jnp.sum(direction * losses.l2_normalize(x)))(x)
    kept = np.array([0, 2, 3])
    np.testing.assert_allclose(found[kept], expected[kept], atol=1e-6)


def plain_info_nce(anchors, positives, temperature):
    logits = anchors @ positives.T / temperature
    return jnp.mean(jax.nn.logsumexp(logits, axis=1) - jnp.diagonal(logits))


def plain_softmax(logits):
    return jnp.mean(jax.nn.logsumexp(logits, axis=1) - jnp.diagonal(logits))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loss", "plain", "arguments"),
    [
        (losses.info_nce, plain_info_nce, (*RNG.normal(size=(2, 7, 5)).astype(np.float32), np.float32(0.7))),
        (losses.in_batch_softmax, plain_softmax, (RNG.normal(size=(6, 6)).astype(np.float32),)),
    ],
)
def test_contrasts_differentiate_in_both_modes_and_in_every_argument(loss, plain, arguments):
    places = tuple(range(len(arguments)))
    tangents = tuple(np.float32(RNG.normal(size=np.shape(x))) for x in arguments)
    value, slope = jax.jit(jax.jvp, static_argnums=0)(plain, arguments, tangents)
    found = jax.jit(jax.jvp, static_argnums=0)(loss, arguments, tangents)
    np.testing.assert_allclose(found, (value, slope), rtol=1e-5)
    for argument in places:  # alone, and all at once
        np.testing.assert_allclose(
            jax.grad(loss, argument)(*arguments), jax.grad(plain, argument)(*arguments), rtol=1e-4, atol=1e-6
        )
    for actual, expected in zip(jax.grad(loss, places)(*arguments), jax.grad(plain, places)(*arguments), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6)
    second, expected = (jax.grad(lambda x, f=f: jnp.sum(jax.grad(f)(x, *arguments[1:]) ** 2)) for f in (loss, plain))
    np.testing.assert_allclose(second(arguments[0]), expected(arguments[0]), rtol=1e-4, atol=1e-6)
    batches = [np.stack([x, 2 * x]) for x in arguments]
    np.testing.assert_allclose(jax.vmap(loss)(*batches), jax.vmap(plain)(*batches), rtol=1e-5)


def test_gradients_of_normalised_rows_are_finite_for_rows_of_any_size():
    x = np.float32(10) ** np.arange(-38, 19, 2, dtype=np.float32)[:, None] * np.float32([1, -2, 0.5])
    value, gradient = jax.value_and_grad(lambda x: jnp.sum(losses.l2_normalize(x)))(x)
    chex.assert_tree_all_finite((value, gradient))
    normal = np.abs(x).max(axis=1) > 1e-10
    norms = np.linalg.norm(losses.l2_normalize(x), axis=1)
    np.testing.assert_allclose(norms[normal], 1, rtol=1e-5)
    assert (norms <= 1 + 1e-5).all()


def plain_table_nce(anchors, table, positives):
    logits = anchors @ table.T
    return jnp.sum(jax.scipy.special.logsumexp(logits, axis=1) - logits[jnp.arange(len(anchors)), positives])


@pytest.mark.slow
@pytest.mark.parametrize(("anchors", "rows", "block"), [(7, 5, 6), (33, 4, 20), (1, 1, 1)])
def test_table_nce_in_blocks_equals_the_whole_and_so_does_its_gradient(anchors, rows, block, monkeypatch):
    monkeypatch.setattr(losses, "_BLOCK_LOGITS", block)
    monkeypatch.setattr(losses, "_BLOCK_ROWS", 1)
    rng = np.random.default_rng(anchors)
    a, t = (jnp.asarray(4 * rng.normal(size=(n, 3)), jnp.float32) for n in (anchors, rows))
    positives = jnp.asarray(rng.integers(rows, size=anchors), jnp.int32)
    value, gradients = jax.value_and_grad(losses.table_nce, (0, 1))(a, t, positives)
    expected, slopes = jax.value_and_grad(plain_table_nce, (0, 1))(a, t, positives)
    np.testing.assert_allclose(losses.table_nce(a, t, positives), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-5)
    for found, slope in zip(gradients, slopes, strict=True):
        np.testing.assert_allclose(found, slope, atol=1e-5 * max(1, np.abs(slope).max()))
    _, tangent = jax.jvp(lambda a, t: losses.table_nce(a, t, positives), (a, t), (a, t))
    np.testing.assert_allclose(
        tangent, sum(jnp.vdot(x, slope) for x, slope in zip((a, t), slopes, strict=True)), rtol=1e-4
    )


def test_table_nce_of_huge_logits_is_finite():
    value, gradients = jax.value_and_grad(losses.table_nce, (0, 1))(
        jnp.array([[300.0], [-300.0]]), jnp.array([[1.0], [-1.0]]), jnp.array([0, 0])
    )
    np.testing.assert_allclose(value, 600, rtol=1e-6)
    chex.assert_tree_all_finite(gradients)


def test_the_memory_of_table_nce_is_that_of_a_block_and_the_table():
    """What is compiled for 2,048 anchors and 200,000 rows: their logits would take 1.6 GB."""
    shapes = (
        jax.ShapeDtypeStruct(shape, kind) for shape, kind in (((2048, 8), "f4"), ((200_000, 8), "f4"), ((2048,), "i4"))
    )
    compiled = jax.jit(jax.grad(losses.table_nce, (0, 1))).lower(*shapes).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 100e6
