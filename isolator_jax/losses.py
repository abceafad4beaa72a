"""Losses and regularisers shared by the backbones. Means over the batch, gradients finite."""

import functools

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax
from jax.custom_derivatives import SymbolicZero
from jax.typing import ArrayLike

from isolator_jax import checks
from isolator_jax._sparse import add_rows


def bpr(positive: ArrayLike, negative: ArrayLike) -> Array:
    """-mean log sigmoid(positive - negative) (Eq. 5; Rendle et al., UAI 2009). `[...], [...] -> []`.

    Raises:
      ValueError: scores of different shapes, or none.
    """
    positive, negative = (
        checks.array("positive", positive, shape=(...,)),
        checks.array("negative", negative, shape=(...,)),
    )
    checks.equal_shapes(positive=positive, negative=negative)
    if not positive.size:
        raise ValueError(f"positive must hold at least one score, got shape {list(positive.shape)}")
    return -jnp.mean(jax.nn.log_sigmoid(positive - negative))


def l2_normalize(x: ArrayLike) -> Array:
    """Rows divided by max(norm, 1e-12). `[..., D] -> [..., D]`; zero rows stay zero."""
    x = checks.array("x", x, shape=(..., "D"))
    return x / jnp.maximum(optax.safe_norm(x, 0.0, axis=-1, keepdims=True), 1e-12)


def frobenius_penalty(*blocks: ArrayLike) -> Array:
    """Sum of the blocks' Frobenius norms (not squared) divided by the batch size.

    Args:
      *blocks: `[B, D]` embedding rows of a batch.

    Raises:
      ValueError: no block, no row, or blocks of different lengths.
    """
    if not blocks:
        raise ValueError("blocks must be the embedding rows of a batch, got none")
    first = checks.array("blocks[0]", blocks[0], shape=("B", "D"))
    sizes = {"B": first.shape[0]}
    if not sizes["B"]:
        raise ValueError(f"blocks[0] must have at least one row, got shape {list(first.shape)}")
    arrays = [checks.array(f"blocks[{n}]", x, shape=("B", "D"), sizes=sizes) for n, x in enumerate(blocks)]
    return sum((optax.safe_norm(x, 0.0) for x in arrays), jnp.float32(0)) / sizes["B"]


def info_nce(anchors: ArrayLike, positives: ArrayLike, temperature: ArrayLike) -> Array:
    """InfoNCE with in-batch negatives: row b of `positives` is the positive of anchor b.

    -mean_b (a_b . p_b / t - logsumexp_j a_b . p_j / t) (van den Oord et al., 2018). The
    positive counts in the denominator, duplicates are kept. For the cosine form pass rows
    through `l2_normalize`.

    The B x B exponentials are all that the gradient needs: their rows are scaled, and the
    positives taken off, on the B x D side of its two products. The derivative is a rule
    for forward mode whose tangent is linear, so that both modes work and cost the same.

    Args:
      anchors, positives: `[B, D]`, B at least 1.
      temperature: t, above 0; differentiable.

    Returns:
      `[]`.

    Raises:
      ValueError: rows of different shapes, or none; a temperature that is not above 0.
    """
    anchors, positives = (
        checks.array("anchors", anchors, shape=("B", "D")),
        checks.array("positives", positives, shape=("B", "D")),
    )
    checks.equal_shapes(anchors=anchors, positives=positives)
    if not anchors.shape[0]:
        raise ValueError(f"anchors must have at least one row, got shape {list(anchors.shape)}")
    return _info_nce(anchors, positives, checks.scalar("temperature", temperature, above=0))


@jax.custom_jvp
def _info_nce(anchors: Array, positives: Array, temperature: Array) -> Array:
    return _info_nce_parts(anchors, positives, temperature)[0]


def _info_nce_parts(anchors: Array, positives: Array, temperature: Array) -> tuple[Array, Array, Array, Array]:
    """The loss, the positives' logits `[B]`, the exponentials `[B, B]` and their rows' sums `[B, 1]`."""
    largest, exponentials, totals = _row_exponentials(anchors @ positives.T, 1 / temperature)
    matches = jnp.sum(anchors * positives, axis=1)
    loss = jnp.mean((largest - matches) / temperature + jnp.log(totals))
    return loss, matches, exponentials, totals[:, None]


def _info_nce_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    anchors, positives, temperature = primals
    loss, matches, exponentials, totals = _info_nce_parts(*primals)
    by_anchors, by_positives, by_temperature = tangents
    # softmax(logits / t) @ positives, by rows: the slope in the anchors, and of use in that in t.
    expected = (exponentials @ positives) / totals
    scale = 1 / (temperature * anchors.shape[0])
    tangent = jnp.zeros_like(loss)
    if not isinstance(by_anchors, SymbolicZero):
        tangent += jnp.sum(scale * (expected - positives) * by_anchors)
    if not isinstance(by_positives, SymbolicZero):
        tangent += jnp.sum(scale * (exponentials.T @ (anchors / totals) - anchors) * by_positives)
    if not isinstance(by_temperature, SymbolicZero):
        tangent += jnp.sum(matches - jnp.sum(anchors * expected, axis=1)) * scale / temperature * by_temperature
    return loss, tangent


_info_nce.defjvp(_info_nce_jvp, symbolic_zeros=True)


def _row_exponentials(logits: Array, scale: ArrayLike) -> tuple[Array, Array, Array]:
    """Each row's maximum `[B]`, exp(scale * (logits - maximum)) `[B, B]`, and the sums of these `[B]`."""
    # The barrier keeps what made the logits out of the loops over them, where it would be
    # computed again for the maximum and for the exponentials.
    logits = lax.optimization_barrier(logits)
    largest = jnp.max(logits, axis=1)
    exponentials = jnp.exp(scale * (logits - largest[:, None]))
    return largest, exponentials, jnp.sum(exponentials, axis=1)


def in_batch_softmax(logits: ArrayLike) -> Array:
    """Mean cross entropy of each row's diagonal entry: row b's positive is column b. `[B, B] -> []`.

    The exponentials are kept for the gradient: B x B numbers, and none is computed twice.
    Both modes of differentiation work, as for `info_nce`.

    Raises:
      ValueError: logits that are not square, or none.
    """
    logits = checks.array("logits", logits, shape=("B", "B"))
    if logits.shape[0] != logits.shape[1] or not logits.size:
        raise ValueError(f"logits must have shape [B, B] with B at least 1, got {list(logits.shape)}")
    return _in_batch_softmax(logits)


@jax.custom_jvp
def _in_batch_softmax(logits: Array) -> Array:
    return _softmax_parts(logits)[0]


def _softmax_parts(logits: Array) -> tuple[Array, Array, Array]:
    largest, exponentials, totals = _row_exponentials(logits, 1.0)
    return jnp.mean(largest + jnp.log(totals) - jnp.diagonal(logits)), exponentials, totals


@_in_batch_softmax.defjvp
def _in_batch_softmax_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    loss, exponentials, totals = _softmax_parts(*primals)
    rows = exponentials.shape[0]
    positive = jnp.eye(rows, dtype=exponentials.dtype)
    return loss, jnp.sum((exponentials / totals[:, None] - positive) / rows * tangents[0])


# Logits that `table_nce` holds at a time, and its fewest rows of them.
_BLOCK_LOGITS = 1 << 20
_BLOCK_ROWS = 16


def table_nce(anchors: ArrayLike, table: ArrayLike, positives: ArrayLike) -> Array:
    """InfoNCE of anchors against a whole table: sum_b logsumexp_r(a_b . t_r) - a_b . t_{p_b}.

    The B x R logits are made and reduced a few anchors at a time, and not made again for the
    gradient: working memory is that of a block, and for the gradient that of another table.
    Both modes of differentiation work, as for `info_nce`.

    Args:
      anchors: `[B, D]`, B at least 1.
      table: `[R, D]`.
      positives: `[B]`, each anchor's row of the table.

    Returns:
      `[]`.

    Raises:
      ValueError: rows of different widths, no anchor, or a positive that is no row of the table.
    """
    anchors = checks.array("anchors", anchors, shape=("B", "D"))
    rows, width = anchors.shape
    table = checks.array("table", table, shape=("R", "D"), sizes={"D": width})
    positives = checks.array("positives", positives, shape=("B",), sizes={"B": rows}, dtype="int", below=table.shape[0])
    if not rows:
        raise ValueError(f"anchors must have at least one row, got shape {list(anchors.shape)}")
    steps = -(-rows // max(_BLOCK_ROWS, _BLOCK_LOGITS // table.shape[0]))
    return _compiled_table_nce(steps, anchors, table, positives)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _table_nce(steps: int, anchors: Array, table: Array, positives: Array) -> Array:
    def block(total: Array, rows: tuple[Array, Array]) -> tuple[Array, None]:
        largest, _, totals = _row_exponentials(rows[0] @ table.T, 1.0)
        return total + jnp.sum(rows[1] * (largest + jnp.log(totals))), None

    total, _ = lax.scan(block, jnp.float32(0), _in_blocks(anchors, steps))
    return total - jnp.sum(anchors * table[positives])


@_table_nce.defjvp
def _table_nce_jvp(
    steps: int, primals: tuple[Array, Array, Array], tangents: tuple[Array, Array, Array]
) -> tuple[Array, Array]:
    anchors, table, positives = primals

    def block(carry: tuple[Array, Array], rows: tuple[Array, Array]) -> tuple[tuple[Array, Array], Array]:
        total, of_table = carry
        own, used = rows
        largest, exponentials, totals = _row_exponentials(own @ table.T, 1.0)
        total += jnp.sum(used * (largest + jnp.log(totals)))
        of_table += exponentials.T @ (own * (used / totals)[:, None])
        return (total, of_table), (exponentials @ table) / totals[:, None]

    start = jnp.float32(0), jnp.zeros_like(table)
    (total, of_table), of_anchors = lax.scan(block, start, _in_blocks(anchors, steps))
    matches = table[positives]
    of_anchors = of_anchors.reshape(-1, anchors.shape[1])[: anchors.shape[0]] - matches
    of_table = add_rows(of_table, positives, -anchors)
    loss = total - jnp.sum(anchors * matches)
    return loss, jnp.sum(of_anchors * tangents[0]) + jnp.sum(of_table * tangents[1])


# A scan outside `jit` would be compiled at every call; inside, this is part of what is compiled there.
_compiled_table_nce = jax.jit(_table_nce, static_argnums=0, inline=True)


def _in_blocks(anchors: Array, steps: int) -> tuple[Array, Array]:
    """Anchors in S equal blocks, `[S, rows, D]`, and one for each of them, zero for padding, `[S, rows]`."""
    count, width = anchors.shape
    rows = -(-count // steps)
    padded = jnp.pad(anchors, ((0, steps * rows - count), (0, 0)))
    used = jnp.arange(steps * rows) < count
    return padded.reshape(steps, rows, width), used.reshape(steps, rows).astype(anchors.dtype)
