"""ISOLATOR's scores: training score, D-ISOLATOR, U-ISOLATOR. Pure functions of one or of many (u, i).

The pairs may have any shape F; one rule holds for the channels, which come first:

  f: `[*F]`, the backbone's raw scores f(u, i).
  s: `[T, *F]`, history similarity s_ui of each channel (`features.fuse_channels`).
  c: `[T, *F]` or with axes of size 1 in F's places, content consistency c_u of each channel.

Anything else is refused: no score takes the pairs of a batch for channels. With one channel
these are the paper's equations; with one channel a modality, the sigmoids are averaged
before the power, as the authors' release does. Arguments are converted by the rule of
`checks`, and scores are float32. Ranking uses the logarithms in `_fast`.
"""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from isolator_jax import checks

# Down to here sigmoid(x) is a normal float32 number; similarities lie in [-1, 1].
_LEAST_LOGIT = -80.0

# exp of it is the last normal float32 number, to an integer.
_LEAST_EXPONENT = -87.0


def elu_prime(x: ArrayLike) -> Array:
    """ELU'(x) = exp(x) for x <= 0, x + 1 otherwise (Eq. 8). Positive and increasing. `[...] -> [...]`.

    exp only sees arguments of -87 to 0, so neither branch overflows, and none is flushed to
    zero: below -87 the value stays that of -87, 1.6e-38. The slope is
    min(ELU'(x), 1), finite everywhere and cheaper than the derivative of the choice.

    Raises:
      TypeError: no numbers.

    Examples:
      >>> [round(float(x), 4) for x in elu_prime(jnp.array([-1.0, 0.0, 2.0]))]
      [0.3679, 1.0, 3.0]
    """
    return _elu_prime(checks.array("x", x, shape=(...,)))


@jax.custom_jvp
def _elu_prime(x: Array) -> Array:
    return jnp.where(x > 0, x + 1.0, jnp.exp(jnp.clip(x, _LEAST_EXPONENT, 0.0)))


@_elu_prime.defjvp
def _elu_prime_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    value = _elu_prime(*primals)
    return value, jnp.minimum(value, 1.0) * tangents[0]


def content_gate(x: ArrayLike, alpha: ArrayLike, beta: ArrayLike) -> Array:
    """g(x) = exp(-alpha x) for x >= 0, 4 / (1 + exp(-beta x)) - 1 for x < 0 (Eq. 12). `[...] -> [...]`.

    g(0) = 1; the range is (-1, 1], with -1 reached in floating point for large -beta x.

    Raises:
      ValueError: alpha or beta below 0.

    Examples:
      >>> gate = content_gate(jnp.array([-0.2, 0.0, 0.2]), alpha=2.0, beta=5.0)
      >>> [round(float(x), 4) for x in gate]
      [0.0758, 1.0, 0.6703]
    """
    x = checks.array("x", x, shape=(...,))
    alpha, beta = checks.scalar("alpha", alpha, least=0), checks.scalar("beta", beta, least=0)
    # Each branch sees its own arguments only, and so neither overflows.
    above, below = jnp.where(x >= 0, x, 0.0), jnp.where(x >= 0, 0.0, x)
    return jnp.where(x >= 0, jnp.exp(-alpha * above), 4.0 * jax.nn.sigmoid(beta * below) - 1.0)


def content_factor(s: ArrayLike, gamma: ArrayLike) -> Array:
    """The training strategy's multiplier (mean_t sigmoid(s_ui))^gamma (Eq. 7). `[T, *F] -> [*F]`.

    Raises:
      ValueError: gamma below 0.

    Examples:
      >>> print(f"{content_factor(jnp.array([0.5]), gamma=0.1):.4f}")  # one channel
      0.9537
    """
    s = _channels(s)
    return _power_of_mean_sigmoid(s, checks.scalar("gamma", gamma, least=0))


def training_score(f: ArrayLike, s: ArrayLike, gamma: ArrayLike) -> Array:
    """ELU'(f) * (mean_t sigmoid(s_ui))^gamma (Eq. 7). `[*F], [T, *F] -> [*F]`.

    Raises:
      ValueError: shapes that do not follow the rule for channels, gamma below 0.

    Examples:
      >>> print(f"{training_score(2.0, jnp.array([0.5]), gamma=0.1):.4f}")
      2.8611
    """
    f, s = _scores_and_similarities(f, s)
    return elu_prime(f) * content_factor(s, gamma)


def d_score(f: ArrayLike) -> Array:
    """D-ISOLATOR: ELU'(f), content similarity removed (Eq. 10). Ranks as f does. `[*F] -> [*F]`.

    Raises:
      TypeError: no numbers.

    Examples:
      >>> print(f"{d_score(2.0):.4f}")
      3.0000
    """
    return elu_prime(checks.array("f", f, shape=(...,)))


def u_score(f: ArrayLike, s: ArrayLike, c: ArrayLike, alpha: ArrayLike, beta: ArrayLike, iota: ArrayLike) -> Array:
    """U-ISOLATOR: ELU'(f) * (mean_t sigmoid(g(s_ui - c_u)))^iota (Eq. 11, 13). `[*F] -> [*F]`.

    Raises:
      ValueError: shapes that do not follow the rule for channels, parameters out of range.

    Examples:
      >>> parameters = {"alpha": 2.0, "beta": 5.0, "iota": 1.0}
      >>> for s in (0.3, 0.5, 0.7):  # less similar than the user's taste, just as similar, more
      ...     print(f"{u_score(2.0, jnp.array([s]), jnp.array([0.5]), **parameters):.4f}")
      1.5568
      2.1932
      1.9847
    """
    f, s = _scores_and_similarities(f, s)
    c = checks.array("c", c, shape=("T", ...), sizes={"T": s.shape[0]})
    if c.ndim != s.ndim or any(own not in (1, other) for own, other in zip(c.shape, s.shape, strict=True)):
        raise ValueError(f"c must have the shape of s, {list(s.shape)}, or 1 in places after T, got {list(c.shape)}")
    gate = content_gate(s - c, alpha, beta)
    return elu_prime(f) * _power_of_mean_sigmoid(gate, checks.scalar("iota", iota, least=0))


def _scores_and_similarities(f: ArrayLike, s: ArrayLike) -> tuple[Array, Array]:
    f, s = checks.array("f", f, shape=(...,)), _channels(s)
    if s.shape[1:] != f.shape:
        expected = ", ".join(["T", *map(str, f.shape)])
        raise ValueError(f"s must have shape [{expected}], channels before the shape of f, got {list(s.shape)}")
    return f, s


def _channels(s: ArrayLike) -> Array:
    s = checks.array("s", s, shape=("T", ...))
    if not s.shape[0]:
        raise ValueError(f"s must have at least one channel, got shape {list(s.shape)}")
    return s


def _power_of_mean_sigmoid(x: Array, exponent: Array) -> Array:
    """(mean_t sigmoid(x_t))^exponent. `[T, *F] -> [*F]`."""
    # By exp and log: XLA's own power is a loop over scalars on the CPU.
    return jnp.exp(exponent * _log_mean_sigmoid(x))


@jax.custom_jvp
def _log_mean_sigmoid(x: Array) -> Array:
    return jnp.log(jnp.mean(_sigmoid(x), axis=0))


@_log_mean_sigmoid.defjvp
def _log_mean_sigmoid_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    # sigmoid' = sigmoid (1 - sigmoid), divided by the sum before anything can overflow.
    sigmoids = _sigmoid(*primals)
    total = jnp.sum(sigmoids, axis=0)
    slopes = sigmoids / total[None] * (1.0 - sigmoids)
    return jnp.log(total / sigmoids.shape[0]), jnp.sum(slopes * tangents[0], axis=0)


def _sigmoid(x: Array) -> Array:
    return jax.nn.sigmoid(jnp.maximum(x, _LEAST_LOGIT))
