"""Logarithms of the scores, as ranking computes them: fast forms of the equations in `scoring`.

Ranking uses logarithms: the order is the same, and scores far outside the range of exp do
not collapse into ties at zero. Nothing is checked here: these run for every user and item,
under `vmap`, on arguments that have been checked before. f is `[]`, s and c are `[T]`.
"""

import math

import jax
import jax.numpy as jnp
from jax import Array

# log cosh(y) is the sum of these times y^2, y^4, ...; for |y| <= 1/2 what is left out is below 2e-8.
_LOG_COSH = (1 / 2, -1 / 12, 1 / 45, -17 / 2520, 31 / 14175, -691 / 935550)


def raw_score(f: Array, s: Array | None, c: Array | None) -> Array:
    """f itself: the ranking of a plain model and of D-ISOLATOR."""
    del s, c
    return f


def log_training_score(f: Array, s: Array, c: Array | None, *, gamma: Array) -> Array:
    """log of `scoring.training_score`; `c` is not used."""
    del c
    return log_elu_prime(f) + log_content_factor(s, gamma)


def log_u_score(f: Array, s: Array, c: Array, *, alpha: Array, beta: Array, iota: Array) -> Array:
    """log of `scoring.u_score`."""
    return log_elu_prime(f) + log_gate_factor(s - c, alpha, beta, iota)


def log_elu_prime(x: Array) -> Array:
    """log ELU'(x) = x for x <= 0, log(1 + x) otherwise.

    log1p, since 1 + x would round small positive scores to the same number, and rank them by id.
    """
    return jnp.where(x > 0, jnp.log1p(jnp.maximum(x, 0.0)), x)


def log_content_factor(x: Array, power: Array) -> Array:
    """power * log(mean_t sigmoid(x_t)) over the channels `[T]`."""
    # Not jax.nn.log_sigmoid: its log1p takes twice the time, for digits far from zero that no score sees.
    log_sigmoid = jnp.minimum(x, 0.0) - jnp.log(1.0 + jnp.exp(-jnp.abs(x)))
    if x.shape[0] == 1:
        return power * log_sigmoid[0]
    return power * (jax.nn.logsumexp(log_sigmoid, axis=0) - math.log(x.shape[0]))


def log_gate_factor(x: Array, alpha: Array, beta: Array, iota: Array) -> Array:
    """iota * log(mean_t sigmoid(g(x_t))): log of U-ISOLATOR's multiplier. `[T] -> []`.

    g lies in [-1, 1], so its sigmoid needs no guard against underflow.
    """
    gate = content_gate(x, alpha, beta)
    if x.shape[0] == 1:
        return iota * _log_sigmoid_of_gate(gate[0])
    return iota * jnp.log(jnp.mean(jax.nn.sigmoid(gate), axis=0))


def content_gate(x: Array, alpha: Array, beta: Array) -> Array:
    """g (Eq. 12) from one exp for both branches, whose argument is never positive."""
    decay = jnp.exp(jnp.where(x >= 0, -alpha * x, beta * x))
    return jnp.where(x >= 0, decay, 4.0 * decay / (1.0 + decay) - 1.0)


def _log_sigmoid_of_gate(x: Array) -> Array:
    """log sigmoid(x) = x / 2 - log 2 - log cosh(x / 2) for |x| <= 1, within 2e-7.

    Scoring every user and item takes a quarter less time than with exp and log.
    """
    z = jnp.square(x / 2)
    log_cosh = jnp.zeros_like(z)
    for coefficient in reversed(_LOG_COSH):
        log_cosh = (log_cosh + coefficient) * z
    return x / 2 - math.log(2) - log_cosh
