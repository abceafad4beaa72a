"""The precision of matrix products: float32 on every device, where GPUs and TPUs round the factors by default."""

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax import lax

# Of scores, similarities and consistency, whatever JAX is set to.
EXACT = lax.Precision.HIGHEST


def in_float32(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its matrix products in float32, unless JAX is set to another precision.

    Its setting is `jax.default_matmul_precision`, or `JAX_DEFAULT_MATMUL_PRECISION` in the environment.
    Take derivatives inside: `in_float32(jax.grad(loss))`.
    """

    @functools.wraps(function)
    def traced(*arguments: Any) -> Any:
        with jax.default_matmul_precision(jax.default_matmul_precision.value or "float32"):
            return function(*arguments)

    return traced
