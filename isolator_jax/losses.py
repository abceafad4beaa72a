"""Losses and regularisers shared by the backbones. Means over the batch, gradients finite."""

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike


def bpr(positive: Array, negative: Array) -> Array:
    """-mean log sigmoid(positive - negative) (Eq. 5; Rendle et al., UAI 2009). `[B], [B] -> []`."""
    return -jnp.mean(jax.nn.log_sigmoid(positive - negative))


def safe_norm(x: Array, axis: int | None = None, keepdims: bool = False) -> Array:
    """Euclidean norm whose gradient at zero is zero instead of NaN."""
    squares = jnp.sum(jnp.square(x), axis=axis, keepdims=keepdims)
    positive = squares > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squares, 1.0)), 0.0)


def l2_normalize(x: Array) -> Array:
    """Rows divided by max(norm, 1e-12). `[..., D] -> [..., D]`; zero rows stay zero."""
    return x / jnp.maximum(safe_norm(x, axis=-1, keepdims=True), 1e-12)


def frobenius_penalty(*blocks: Array) -> Array:
    """Sum of the blocks' Frobenius norms (not squared) divided by the batch size.

    Args:
      *blocks: `[B, D]` embedding rows of a batch.
    """
    return sum((safe_norm(block) for block in blocks), jnp.float32(0)) / blocks[0].shape[0]


@jax.custom_vjp
def info_nce(anchors: Array, positives: Array, temperature: ArrayLike) -> Array:
    """InfoNCE with in-batch negatives: row b of `positives` is the positive of anchor b.

    -mean_b (a_b . p_b / t - logsumexp_j a_b . p_j / t) (van den Oord et al., 2018), t above 0.
    The positive counts in the denominator, duplicates are kept. `[B, D], [B, D] -> []`. For
    the cosine form pass rows through `l2_normalize`.

    The B x B exponentials are kept for the gradient, and are all of it: their rows are
    scaled, and the positives taken off, on the B x D side of its two products.
    """
    return _info_nce_forward(anchors, positives, temperature)[0]


def _info_nce_forward(anchors: Array, positives: Array, temperature: ArrayLike) -> tuple[Array, tuple[ArrayLike, ...]]:
    largest, exponentials, totals = _row_exponentials(anchors @ positives.T, 1 / temperature)
    matches = jnp.sum(anchors * positives, axis=1)
    loss = jnp.mean((largest - matches) / temperature + jnp.log(totals))
    return loss, (anchors, positives, exponentials, totals[:, None], temperature)


def _info_nce_backward(saved: tuple[Array, ...], out: Array) -> tuple[Array, Array, None]:
    anchors, positives, exponentials, totals, temperature = saved
    scale = out / (temperature * anchors.shape[0])
    of_anchors = (exponentials @ positives) / totals - positives
    of_positives = exponentials.T @ (anchors / totals) - anchors
    return scale * of_anchors, scale * of_positives, None


info_nce.defvjp(_info_nce_forward, _info_nce_backward)


def _row_exponentials(logits: Array, scale: ArrayLike) -> tuple[Array, Array, Array]:
    """Each row's maximum `[B]`, exp(scale * (logits - maximum)) `[B, B]`, and the sums of these `[B]`."""
    # The barrier keeps what made the logits out of the loops over them, where it would be
    # computed again for the maximum and for the exponentials.
    logits = lax.optimization_barrier(logits)
    largest = jnp.max(logits, axis=1)
    exponentials = jnp.exp(scale * (logits - largest[:, None]))
    return largest, exponentials, jnp.sum(exponentials, axis=1)


@jax.custom_vjp
def in_batch_softmax(logits: Array) -> Array:
    """Mean cross entropy of each row's diagonal entry: row b's positive is column b. `[B, B] -> []`.

    The exponentials are kept for the gradient: B x B numbers, and none is computed twice.
    """
    return _softmax_forward(logits)[0]


def _softmax_forward(logits: Array) -> tuple[Array, tuple[Array, Array]]:
    largest, exponentials, totals = _row_exponentials(logits, 1.0)
    return jnp.mean(largest + jnp.log(totals) - jnp.diagonal(logits)), (exponentials, totals)


def _softmax_backward(saved: tuple[Array, Array], out: Array) -> tuple[Array]:
    exponentials, totals = saved
    rows = exponentials.shape[0]
    positive = jnp.arange(rows)[:, None] == jnp.arange(rows)
    return (out / rows * (exponentials / totals[:, None] - positive),)


in_batch_softmax.defvjp(_softmax_forward, _softmax_backward)


# Logits that `table_nce` holds at a time, and its fewest rows of them.
_BLOCK_LOGITS = 1 << 20
_BLOCK_ROWS = 16


@jax.custom_vjp
def table_nce(anchors: Array, table: Array, positives: Array) -> Array:
    """InfoNCE of anchors against a whole table: sum_b logsumexp_r(a_b . t_r) - a_b . t_{p_b}.

    The B x R logits are made and reduced a few anchors at a time, and those of a gradient no
    second time: working memory is that of a block, and of another table.

    Args:
      anchors: `[B, D]`.
      table: `[R, D]`.
      positives: `[B] int32`, each anchor's row of the table.

    Returns:
      `[]`.
    """

    def block(total: Array, rows: tuple[Array, Array]) -> tuple[Array, None]:
        largest, _, totals = _row_exponentials(rows[0] @ table.T, 1.0)
        return total + jnp.sum(rows[1] * (largest + jnp.log(totals))), None

    total, _ = lax.scan(block, jnp.float32(0), _in_blocks(anchors, table.shape[0]))
    return total - jnp.sum(anchors * table[positives])


def _table_forward(anchors: Array, table: Array, positives: Array) -> tuple[Array, tuple[Array, ...]]:
    def block(carry: tuple[Array, Array], rows: tuple[Array, Array]) -> tuple[tuple[Array, Array], Array]:
        total, of_table = carry
        own, used = rows
        largest, exponentials, totals = _row_exponentials(own @ table.T, 1.0)
        total += jnp.sum(used * (largest + jnp.log(totals)))
        of_table += exponentials.T @ (own * (used / totals)[:, None])
        return (total, of_table), (exponentials @ table) / totals[:, None]

    start = jnp.float32(0), jnp.zeros_like(table)
    (total, of_table), of_anchors = lax.scan(block, start, _in_blocks(anchors, table.shape[0]))
    matches = table[positives]
    of_anchors = of_anchors.reshape(-1, anchors.shape[1])[: anchors.shape[0]] - matches
    return total - jnp.sum(anchors * matches), (of_anchors, of_table.at[positives].add(-anchors))


def _table_backward(saved: tuple[Array, Array], out: Array) -> tuple[Array, Array, None]:
    of_anchors, of_table = saved
    return out * of_anchors, out * of_table, None


table_nce.defvjp(_table_forward, _table_backward)


def _in_blocks(anchors: Array, columns: int) -> tuple[Array, Array]:
    """Anchors in blocks of few logits, `[S, rows, D]`, and one for each of them, zero for padding, `[S, rows]`."""
    count, width = anchors.shape
    steps = -(-count // max(_BLOCK_ROWS, _BLOCK_LOGITS // columns))
    rows = -(-count // steps)
    padding = steps * rows - count
    padded = jnp.pad(anchors, ((0, padding), (0, 0)))
    return padded.reshape(steps, rows, width), (jnp.arange(steps * rows) < count).reshape(steps, rows) * 1.0
