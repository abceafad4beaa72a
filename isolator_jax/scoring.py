"""ISOLATOR's scores: training score, D-ISOLATOR, U-ISOLATOR. Pure functions of one (u, i).

Each function scores a single user-item pair and is batched with `jax.vmap`:

  f: `[]`, the backbone's raw score f(u, i).
  s: `[T]`, history similarity s_ui of each channel (`similarity.fuse_channels`).
  c: `[T]`, content consistency c_u of each channel.

With one channel these are the paper's equations; with one channel a modality, the
sigmoids are averaged before the power, as the authors' release does.

Ranking uses logarithms of the scores: the order is the same, and scores far outside the
range of exp do not collapse into ties at zero.
"""

import math

import jax
import jax.numpy as jnp
from jax import Array

# log cosh(y) is the sum of these times y^2, y^4, ...; for |y| <= 1/2 what is left out is below 2e-8.
_LOG_COSH = (1 / 2, -1 / 12, 1 / 45, -17 / 2520, 31 / 14175, -691 / 935550)


@jax.custom_jvp
def elu_prime(x: Array) -> Array:
    """ELU'(x) = exp(x) for x <= 0, x + 1 otherwise (Eq. 8). Positive and increasing.

    exp only sees non-positive arguments, so neither branch overflows. The slope is
    min(ELU'(x), 1), finite everywhere and cheaper than the derivative of the choice.

    Examples:
      >>> [round(float(x), 4) for x in elu_prime(jnp.array([-1.0, 0.0, 2.0]))]
      [0.3679, 1.0, 3.0]
    """
    return jnp.where(x > 0, x + 1.0, jnp.exp(jnp.minimum(x, 0.0)))


@elu_prime.defjvp
def _elu_prime_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    value = elu_prime(*primals)
    return value, jnp.minimum(value, 1.0) * tangents[0]


def log_elu_prime(x: Array) -> Array:
    """log ELU'(x) = x for x <= 0, log(1 + x) otherwise.

    Not log1p: 1 + x is what ELU' itself rounds to, and log is twice as fast on the CPU.
    """
    return jnp.where(x > 0, jnp.log(1.0 + jnp.maximum(x, 0.0)), x)


def content_gate(x: Array, alpha: Array, beta: Array) -> Array:
    """g(x) = exp(-alpha x) for x >= 0, 4 / (1 + exp(-beta x)) - 1 for x < 0 (Eq. 12).

    g(0) = 1; the range is (-1, 1], with -1 reached in floating point for large -beta x.
    alpha, beta > 0.

    Examples:
      >>> gate = content_gate(jnp.array([-0.2, 0.0, 0.2]), alpha=2.0, beta=5.0)
      >>> [round(float(x), 4) for x in gate]
      [0.0758, 1.0, 0.6703]
    """
    # One exp serves both branches, and its argument is never positive.
    decay = jnp.exp(jnp.where(x >= 0, -alpha * x, beta * x))
    return jnp.where(x >= 0, decay, 4.0 * decay / (1.0 + decay) - 1.0)


def log_content_factor(x: Array, power: Array) -> Array:
    """power * log(mean_t sigmoid(x_t)) over the channels `[T]`."""
    # Not jax.nn.log_sigmoid: its log1p takes twice the time, for digits far from zero that no score sees.
    log_sigmoid = jnp.minimum(x, 0.0) - jnp.log(1.0 + jnp.exp(-jnp.abs(x)))
    if x.shape[0] == 1:
        return power * log_sigmoid[0]
    return power * (jax.nn.logsumexp(log_sigmoid, axis=0) - jnp.log(float(x.shape[0])))


def content_factor(s: Array, gamma: Array) -> Array:
    """The training strategy's multiplier sigmoid(s_ui)^gamma (Eq. 7). `[T] -> []`.

    Examples:
      >>> print(f"{content_factor(jnp.array([0.5]), gamma=0.1):.4f}")  # one channel
      0.9537
    """
    return jnp.exp(log_content_factor(s, gamma))


def log_gate_factor(x: Array, alpha: Array, beta: Array, iota: Array) -> Array:
    """iota * log(mean_t sigmoid(g(x_t))): log of U-ISOLATOR's multiplier. `[T] -> []`.

    g lies in [-1, 1], so its sigmoid needs no guard against underflow.
    """
    gate = content_gate(x, alpha, beta)
    if x.shape[0] == 1:
        return iota * _log_sigmoid_of_gate(gate[0])
    return iota * jnp.log(jnp.mean(jax.nn.sigmoid(gate), axis=0))


def _log_sigmoid_of_gate(x: Array) -> Array:
    """log sigmoid(x) = x / 2 - log 2 - log cosh(x / 2) for |x| <= 1, within 2e-7.

    Scoring every user and item takes a quarter less time than with exp and log.
    """
    z = jnp.square(x / 2)
    log_cosh = jnp.zeros_like(z)
    for coefficient in reversed(_LOG_COSH):
        log_cosh = (log_cosh + coefficient) * z
    return x / 2 - math.log(2) - log_cosh


def training_score(f: Array, s: Array, gamma: Array) -> Array:
    """ELU'(f) * sigmoid(s_ui)^gamma (Eq. 7).

    Examples:
      >>> print(f"{training_score(2.0, jnp.array([0.5]), gamma=0.1):.4f}")
      2.8611
    """
    return elu_prime(f) * content_factor(s, gamma)


def d_score(f: Array) -> Array:
    """D-ISOLATOR: ELU'(f), content similarity removed (Eq. 10). Ranks as f does.

    Examples:
      >>> print(f"{d_score(2.0):.4f}")
      3.0000
    """
    return elu_prime(f)


def u_score(f: Array, s: Array, c: Array, alpha: Array, beta: Array, iota: Array) -> Array:
    """U-ISOLATOR: ELU'(f) * sigmoid(g(s_ui - c_u))^iota (Eq. 11, 13).

    Examples:
      >>> parameters = {"alpha": 2.0, "beta": 5.0, "iota": 1.0}
      >>> for s in (0.3, 0.5, 0.7):  # less similar than the user's taste, just as similar, more
      ...     print(f"{u_score(2.0, jnp.array([s]), jnp.array([0.5]), **parameters):.4f}")
      1.5568
      2.1932
      1.9847
    """
    return elu_prime(f) * jnp.exp(log_gate_factor(s - c, alpha, beta, iota))


def log_training_score(f: Array, s: Array, c: Array, *, gamma: Array) -> Array:
    """log of `training_score`; `c` is not used."""
    del c
    return log_elu_prime(f) + log_content_factor(s, gamma)


def log_u_score(f: Array, s: Array, c: Array, *, alpha: Array, beta: Array, iota: Array) -> Array:
    """log of `u_score`."""
    return log_elu_prime(f) + log_gate_factor(s - c, alpha, beta, iota)


def raw_score(f: Array, s: Array | None, c: Array | None) -> Array:
    """f itself: the ranking of a plain model and of D-ISOLATOR."""
    del s, c
    return f
