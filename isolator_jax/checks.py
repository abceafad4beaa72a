"""Checks at the entry of public functions: one conversion rule, and refusals that name the argument.

What is like an array of numbers (numpy, jax, lists, DataFrames, scalars) is taken:

  floats, integers and booleans become float32, whatever their width;
  ids become int32 after a check of their range; floats are ids where all are whole numbers.

Shapes and types are known under `jit`, `vmap` and `grad` and are checked there too. Values
are checked only where they are there: on arrays that are not traced. Numbers refused by
their type raise TypeError, by their shape or value ValueError.
"""

import math
from collections.abc import Mapping, Sequence
from types import EllipsisType
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from isolator_jax.errors import brief

# The most entries that int32 offsets reach; ids lie below it.
MOST = 2**31 - 1

# Of large arrays looked at at once.
_CELLS = 1 << 22

# A size by name ("U"), a size, or any number of axes (...).
Shape = Sequence[str | int | EllipsisType]


def array(
    name: str,
    value: Any,
    *,
    shape: Shape,
    sizes: Mapping[str, int] | None = None,
    dtype: str = "float",
    finite: bool = False,
    least: int = 0,
    below: int = MOST,
) -> Array:
    """An argument as a device array of float32 or int32.

    Args:
      name: the argument, for messages.
      value: what the caller gave.
      shape: its axes; names in messages as written, integers must match.
      sizes: named axes of which the size is known.
      dtype: `float` or `int`.
      finite: refuse NaN and infinity.
      least, below: range of ids, `below` itself left out.

    Raises:
      TypeError: no numbers, or numbers of another kind.
      ValueError: another shape, or values out of range.

    Examples:
      >>> array("users", [0, 1], shape=("B",), dtype="int", below=2).dtype.name
      'int32'
      >>> array("users", [0, 5], shape=("B",), dtype="int", below=2)
      Traceback (most recent call last):
      ValueError: users must be at least 0 and below 2, got 5
    """
    return jnp.asarray(_converted(name, value, shape, sizes, dtype, finite, least, below))


def host_array(
    name: str,
    value: Any,
    *,
    shape: Shape,
    sizes: Mapping[str, int] | None = None,
    dtype: str = "float",
    finite: bool = False,
    least: int = 0,
    below: int = MOST,
) -> np.ndarray:
    """As `array`, for a function that works on the host: a numpy array, and traced arrays are refused."""
    untraced(name, value)
    return np.asarray(_converted(name, value, shape, sizes, dtype, finite, least, below))


def host_numbers(name: str, value: Any, *, shape: Shape, finite: bool = False) -> np.ndarray:
    """Numbers on the host as they are stored, memory-mapped or not, for a function that converts by the block.

    Those wider than float64, which few operations take, become float64.
    """
    untraced(name, value)
    numbers = _numbers(name, value)
    _check_shape(name, numbers, shape, {})
    numbers = np.asarray(numbers)
    if finite:
        rows = max(1, _CELLS * len(numbers) // max(1, numbers.size))
        for start in range(0, len(numbers), rows):
            _floats(name, numbers[start : start + rows], True, start)
    wider = numbers.dtype.kind == "f" and numbers.dtype.itemsize > 8
    return numbers.astype(np.float64) if wider else numbers


def rows_lost(rows: np.ndarray) -> np.ndarray:
    """Which rows of `[N, F]` are not zero, but so small that float32 takes them for zero."""
    if not (jnp.issubdtype(rows.dtype, jnp.floating) and rows.size):
        return np.zeros(len(rows), bool)
    largest = np.maximum(rows.max(axis=1), -rows.min(axis=1))
    return (largest > 0) & (largest < np.finfo(np.float32).tiny)


def not_lost(name: str, features: Any) -> None:
    """Refuses rows of `[I, F]` that are not zero, but would be in float32."""
    rows = host_numbers(name, features, shape=("I", "F"))
    lost = np.flatnonzero(rows_lost(rows))
    if lost.size:
        largest = np.abs(rows[lost[0]]).max()
        raise ValueError(f"{name} must be scaled up: row {lost[0]} is lost in float32, its largest is {largest:g}")


def unmasked(name: str, value: Any) -> None:
    """Refuses masked entries, whose values would be taken for numbers."""
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise TypeError(f"{name} must hold numbers, got masked entries: fill them first")


def untraced(name: str, value: Any) -> None:
    """Refuses what has no values yet, for a function that works on the host."""
    if isinstance(value, Tracer):
        raise TypeError(f"{name} has no values yet: this function works on the host, outside jit, vmap and grad")


def scalar(name: str, value: Any, *, least: float = -math.inf, above: float = -math.inf) -> Array:
    """A parameter as a float32 scalar, at least `least` or above `above`, finite; traced ones have no value yet."""
    number = _converted(name, value, (), None, "float", False, 0, MOST)
    if known(number) and not (least <= float(number) < math.inf and above < float(number)):
        bound = f"above {above:g}" if above > -math.inf else f"at least {least:g}" if least > -math.inf else "finite"
        raise ValueError(f"{name} must be {bound}, got {float(number):g}")
    return jnp.asarray(number)


def count(name: str, value: Any, *, least: int = 0) -> int:
    """A whole number of things, as a Python integer."""
    untraced(name, value)
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {brief(repr(value), 40)}")
    if not least <= value <= MOST:
        raise ValueError(f"{name} must be at least {least} and at most {MOST}, got {int(value)}")
    return int(value)


def entries(name: str, number: int) -> None:
    """Refuses more entries than int32 offsets reach."""
    if number > MOST:
        raise ValueError(f"{name} must be at most {MOST}, got {number}")


def option(name: str, value: Any, allowed: Sequence[str]) -> None:
    """One of a few words."""
    if value not in allowed:
        raise ValueError(f"{name} {value!r} is not one of {', '.join(allowed)}")


def instance(name: str, value: Any, kind: type | tuple[type, ...]) -> None:
    """An object of the library's own."""
    if not isinstance(value, kind):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        expected = " or ".join(k.__name__ for k in kinds)
        raise TypeError(f"{name} must be of type {expected}, got {type(value).__name__}")


def equal_shapes(**arrays: Array | np.ndarray) -> None:
    """Arguments that belong together element by element."""
    try:
        chex.assert_equal_shape(list(arrays.values()))
    except AssertionError:
        listed = ", ".join(f"{name} {list(value.shape)}" for name, value in arrays.items())
        raise ValueError(f"{' and '.join(arrays)} must have the same shape, got {listed}") from None


def known(value: Array | np.ndarray) -> bool:
    """Whether values can be looked at here: not traced, and not spread over other processes."""
    if isinstance(value, Tracer):
        return False
    return not isinstance(value, jax.Array) or value.is_fully_addressable


def _converted(
    name: str,
    value: Any,
    shape: Shape,
    sizes: Mapping[str, int] | None,
    dtype: str,
    finite: bool,
    least: int,
    below: int,
) -> Array | np.ndarray:
    numbers = _numbers(name, value)
    _check_shape(name, numbers, shape, sizes or {})
    return _ids(name, numbers, least, below) if dtype == "int" else _floats(name, numbers, finite)


def _numbers(name: str, value: Any) -> Array | np.ndarray:
    if not isinstance(value, jax.Array):
        unmasked(name, value)
        try:
            value = np.asarray(value)
            if value.dtype == object:  # a table's columns of different types
                value = np.asarray(value.tolist())
        except jax.errors.TracerArrayConversionError:  # a list of traced numbers
            value = jnp.asarray(value)
        except (ValueError, TypeError):
            raise TypeError(f"{name} must be an array of numbers, got rows of different lengths") from None
    if not (jnp.issubdtype(value.dtype, jnp.floating) or jnp.issubdtype(value.dtype, jnp.integer)):
        if value.dtype != bool:
            what = "text" if value.dtype.kind in "US" else f"values of type {value.dtype}"
            raise TypeError(f"{name} must hold numbers, got {what}")
    return value


def _check_shape(name: str, value: Array | np.ndarray, shape: Shape, sizes: Mapping[str, int]) -> None:
    expected = [sizes.get(axis) if isinstance(axis, str) else axis for axis in shape]
    try:
        chex.assert_shape(value, expected)
    except AssertionError:
        axes = ", ".join("..." if axis is ... else str(axis) for axis in shape)
        fixed = ", ".join(f"{axis} = {sizes[axis]}" for axis in shape if isinstance(axis, str) and axis in sizes)
        where = f" with {fixed}" if fixed else ""
        raise ValueError(f"{name} must have shape [{axes}]{where}, got {list(value.shape)}") from None


def _floats(name: str, value: Array | np.ndarray, finite: bool, first: int = 0) -> Array | np.ndarray:
    """As float32; `first` is the place of its first row among all that are told of."""
    with np.errstate(over="ignore"):
        value = value if value.dtype == np.float32 else value.astype(np.float32)
    if finite and known(value):
        there = np.asarray(value)  # not jnp: inside a trace it would be traced as well
        if not np.isfinite(there).all():
            place = np.argwhere(~np.isfinite(there))[0].tolist()
            found = float(there[tuple(place)])
            place[:1] = [first + row for row in place[:1]]
            raise ValueError(f"{name} must be finite in float32, got {found:g} at {place}")
    return value


def _ids(name: str, value: Array | np.ndarray, least: int, below: int) -> Array | np.ndarray:
    if value.dtype == bool:
        raise TypeError(f"{name} must hold integers, got booleans")
    if not value.size:
        return np.zeros(value.shape, np.int32)
    if jnp.issubdtype(value.dtype, jnp.floating):
        if not known(value):
            raise TypeError(f"{name} must hold integers, got {value.dtype}")
        value = _whole(name, np.asarray(value))
    if known(value):
        there = np.asarray(value)
        lowest, highest = int(there.min()), int(there.max())
        if lowest < least or highest >= below:
            raise ValueError(
                f"{name} must be at least {least} and below {below}, got {lowest if lowest < least else highest}"
            )
    return value.astype(np.int32)


def _whole(name: str, value: np.ndarray) -> np.ndarray:
    """Floats that are whole numbers as integers; not those so large that neighbours of theirs are lost."""
    exact = 2.0 ** (jnp.finfo(value.dtype).nmant + 1)
    wide = value.astype(np.float64)
    wrong = ~((np.abs(wide) <= exact) & (np.floor(wide) == wide))
    if wrong.any():
        raise ValueError(f"{name} must hold whole numbers that {value.dtype} holds exactly, got {wide[wrong][0]:g}")
    return wide.astype(np.int64)
