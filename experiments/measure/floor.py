"""The floor under a training step: the time of the work that no exact form of it can leave out."""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.extend import core
from jax.interpreters import partial_eval

from .rates import Ceilings


class Products(NamedTuple):
    """The products of one call of a program.

    Attributes:
      dense_flops: floating-point operations of dense products.
      sparse_terms: edges times width, summed over the sparse products.
      dot_terms: edges times width, summed over the dot products of edges.
    """

    dense_flops: float = 0.0
    sparse_terms: float = 0.0
    dot_terms: float = 0.0


def count_products(jaxpr: core.Jaxpr) -> Products:
    """Counts the products that a traced program's results need, whatever platform it is for.

    Args:
      jaxpr: of the program, as `jax.make_jaxpr` gives it. The body of a while loop counts once.
    """
    needed, _ = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    return _total(_products_of(equation) for equation in needed.eqns)


def _total(parts: Iterable[Products]) -> Products:
    return Products(*map(sum, zip(Products(), *parts, strict=True)))


def _products_of(equation: core.JaxprEqn) -> Products:
    name, params = equation.primitive.name, equation.params
    out: Any = equation.outvars[0].aval
    operands: list[Any] = [variable.aval for variable in equation.invars]
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        left = operands[0].shape
        return Products(dense_flops=2.0 * math.prod(out.shape) * math.prod(left[axis] for axis in contracted))
    if name == "cond":
        first, last = operands[1], operands[-1]
        of_edges = first.ndim == 1 and jnp.issubdtype(first.dtype, jnp.integer) and last.ndim == 2
        if params.get("branches_platforms") and of_edges:
            # An operation of `graph`, of edges and node values: a product has rows, dots have one number an edge.
            terms = float(first.shape[0] * last.shape[1])
            return Products(sparse_terms=terms) if out.ndim == 2 else Products(dot_terms=terms)
        return Products(*map(max, zip(*(count_products(branch.jaxpr) for branch in params["branches"]), strict=True)))
    times = params["length"] if name == "scan" else 1
    inner = _total(count_products(part) for part in core.jaxprs_in_params(params))
    return Products(*(times * count for count in inner))


def floor_seconds(
    products: Products,
    state_bytes: int,
    ceilings: Ceilings,
    seconds_per_sparse_term: float,
    seconds_per_dot_term: float,
) -> dict[str, float]:
    """Each kind of work at the rate this device was seen to reach on it alone, and their sum.

    Args:
      products: of a step.
      state_bytes: parameters and their moments: each is read and written once.
      ceilings: of dense products and of memory.
      seconds_per_sparse_term, seconds_per_dot_term: of a sparse product and of dot products of edges.

    Returns:
      Seconds by name: of each kind, and `floor_seconds`, their sum.
    """
    parts = {
        "dense": products.dense_flops / ceilings.flops_per_second,
        "sparse": products.sparse_terms * seconds_per_sparse_term,
        "dots": products.dot_terms * seconds_per_dot_term,
        "state": 2 * state_bytes / ceilings.bytes_per_second,
    }
    return {f"floor_{name}_seconds": seconds for name, seconds in parts.items()} | {
        "floor_seconds": sum(parts.values())
    }
