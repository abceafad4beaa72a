"""The bytes that a training step moves on an accelerator, counted on its program: nothing is run.

The count takes the compiler to fuse perfectly. Every array that a kernel needs or makes is
written once; it is read once by each kernel that needs it whole, and once by all of the
element-wise work and reductions together, which read nothing of what they make themselves. A
gather reads its indices and the rows it takes; a scatter reads its indices and updates, and
reads and writes the rows it adds to. Products, gathers, scatters, sorts and reductions are a
kernel each, and element-wise work that must be stored is one more, so the kernels are the
fewest launches that there can be. Caches are not counted, nor are padded tiles, which double
rows of 64 numbers on a TPU.
"""

import math
from typing import Any, NamedTuple

from jax.extend import core
from jax.interpreters import partial_eval

# Whose sums are counted: plain segment sums, which read each row once. Those of a GPU mask what they read besides.
_PLATFORM = "tpu"
_CALLS = {"jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", "remat", "checkpoint"}
_KERNELS = {"dot_general": "products", "sort": "others", "fft": "others", "top_k": "others", "while": "others"}
_KERNELS |= {name: "others" for name in ("cumsum", "cumprod", "cummax", "conv_general_dilated", "scan", "cond")}


class Traffic(NamedTuple):
    """Bytes moved by one call of a program, by what moves them, and its kernels."""

    products: float = 0.0
    gathers: float = 0.0
    scatters: float = 0.0
    elementwise: float = 0.0
    others: float = 0.0
    kernels: float = 0.0

    @property
    def bytes(self) -> float:
        return sum(self[:-1])


class _Value:
    """An array of a program. Each is itself alone, however often the program that makes it is called."""

    def __init__(self, aval: Any) -> None:
        self.bytes = math.prod(aval.shape) * aval.dtype.itemsize if hasattr(aval, "shape") else 0


class _Operation(NamedTuple):
    """An equation and its arrays; operands are None where they are literal numbers."""

    name: str
    params: dict[str, Any]
    operands: list[Any]
    results: list[_Value]

    @property
    def is_reduction(self) -> bool:
        return self.name.startswith(("reduce_", "arg")) and self.name != "reduce_precision"

    @property
    def is_fused(self) -> bool:
        return not (self.name in _KERNELS or self.name == "gather" or self.name.startswith("scatter"))


def step_traffic(jaxpr: core.Jaxpr) -> Traffic:
    """Counts a step of an epoch: the body of that of its outermost scans which moves most.

    Args:
      jaxpr: of the epoch, as `jax.make_jaxpr` gives it.
    """
    operations, _ = _inlined(jaxpr)
    bodies = [operation.params["jaxpr"].jaxpr for operation in operations if operation.name == "scan"]
    return max((count_traffic(body) for body in bodies), key=lambda traffic: traffic.bytes)


def count_traffic(jaxpr: core.Jaxpr) -> Traffic:
    """Counts one call of a program whose arguments and results lie in memory. A while loop runs once."""
    operations, results = _inlined(jaxpr)
    made = {value for operation in operations for value in operation.results}
    kernels = {value for operation in operations if not operation.is_fused for value in operation.results}
    reduced = {value for operation in operations if operation.is_reduction for value in operation.results}
    costs = [_cost(operation) for operation in operations]
    whole = {value for _, needed in costs for value in needed} | set(results)
    written = (whole & made) - kernels - reduced
    stored = kernels | reduced
    read = {
        value
        for operation in operations
        if operation.is_fused
        for value in operation.operands
        if value in stored or value not in made
    }
    moved = sum(value.bytes for value in (*read, *written) if value is not None)
    own = Traffic(elementwise=moved, kernels=sum(value is not None for value in written))
    return Traffic(*map(sum, zip(own, *(cost for cost, _ in costs), strict=True)))


def _cost(operation: _Operation) -> tuple[Traffic, list[Any]]:
    """What an operation moves and launches by itself, and the operands that must lie in memory for it."""
    name, params, operands = operation.name, operation.params, operation.operands
    size = lambda value: 0 if value is None else value.bytes
    out = sum(value.bytes for value in operation.results)
    if name == "gather":
        return Traffic(gathers=2 * out + size(operands[1]), kernels=1), operands[:1]
    if name.startswith("scatter"):
        start, indices, updates = operands[:3]
        return Traffic(scatters=size(start) + size(indices) + 3 * size(updates), kernels=1), []
    if name == "scan":
        body = count_traffic(params["jaxpr"].jaxpr)
        return Traffic(*(params["length"] * part for part in body)), operands
    if name == "while":
        return count_traffic(params["body_jaxpr"].jaxpr), operands
    if name == "cond":
        branches = [count_traffic(branch.jaxpr) for branch in params["branches"]]
        return max(branches, key=lambda traffic: traffic.bytes), operands
    if operation.is_reduction:
        return Traffic(elementwise=out, kernels=1), []
    if name in _KERNELS:
        return Traffic(**{_KERNELS[name]: sum(map(size, operands)) + out, "kernels": 1}), operands
    return Traffic(), []


def _inlined(jaxpr: core.Jaxpr) -> tuple[list[_Operation], list[Any]]:
    """The operations that a program's results need, in order, without the calls around them, and the results."""
    operations: list[_Operation] = []

    def inline(jaxpr: core.Jaxpr, arguments: list[Any]) -> list[Any]:
        jaxpr, used = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
        values: dict[Any, Any] = {variable: _Value(variable.aval) for variable in jaxpr.constvars}
        values |= zip(jaxpr.invars, (value for value, kept in zip(arguments, used, strict=True) if kept), strict=True)
        of = lambda variable: None if isinstance(variable, core.Literal) else values[variable]
        for equation in jaxpr.eqns:
            operands, inner = [of(variable) for variable in equation.invars], _inner(equation)
            if inner is None:
                results = [_Value(variable.aval) for variable in equation.outvars]
                operations.append(_Operation(equation.primitive.name, equation.params, operands, results))
            else:
                results = inline(inner, operands[len(operands) - len(inner.invars) :])
            values |= zip(equation.outvars, results, strict=True)
        return [of(variable) for variable in jaxpr.outvars]

    results = inline(jaxpr, [_Value(variable.aval) for variable in jaxpr.invars])
    return operations, results


def _inner(equation: core.JaxprEqn) -> core.Jaxpr | None:
    """The program that an equation stands for: of a call, or of a choice by platform; None for others."""
    params = equation.params
    if equation.primitive.name in _CALLS:
        return next(iter(core.jaxprs_in_params(params)))
    if equation.primitive.name == "cond" and params.get("branches_platforms"):
        for branch, platforms in zip(params["branches"], params["branches_platforms"], strict=True):
            if platforms is None or _PLATFORM in platforms:
                return branch.jaxpr
    return None
