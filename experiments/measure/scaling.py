"""How time and memory grow with users, items, interactions and width: one doubled at a time."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ..common.progress import progress

AXES = ("users", "items", "interactions", "dim")
# The memory that the runtime takes by itself is left out: it would hide the growth.
MEASURED = {
    "step_seconds": lambda result: result["step_seconds"],
    "epoch_train_seconds": lambda result: result["epoch_train_seconds"],
    "validation_seconds": lambda result: result["validation_seconds"],
    "similarity_seconds": lambda result: result["similarity_seconds"],
    "top_k_u_seconds": lambda result: result["top_k_u_seconds"],
    "grown_host_bytes": lambda result: result["peak_host_bytes"] - result["start_host_bytes"],
}

Sizes = dict[str, int]
Point = tuple[str | None, Sizes]


def points(base: Sizes, doublings: int = 3) -> list[Point]:
    """The base, and each axis doubled up to `doublings` times with the others at the base.

    Args:
      base: a size for each of `AXES`.

    Returns:
      The sizes of each point and what is doubled there, None for the base.
    """
    doubled = [(axis, {**base, axis: base[axis] << n}) for axis in AXES for n in range(1, doublings + 1)]
    return [(None, base), *doubled]


def study(points: Sequence[Point], measure: Callable[[Sizes], Mapping[str, float]]) -> list[dict]:
    """Measures each point.

    Args:
      points: as `points` makes them.
      measure: the measurements at some sizes; must hold what `MEASURED` reads.

    Returns:
      A row of sizes and measurements for each point; `axis` is what was doubled there.
    """
    rows = []
    for axis, sizes in progress(points, desc="scaling", unit="size"):
        result = measure(sizes)
        rows.append({"axis": axis, **sizes, **{name: read(result) for name, read in MEASURED.items()}})
    return rows


def exponents(rows: list[dict]) -> dict[str, dict[str, float]]:
    """Least-squares slopes of log measurement over log size, by axis and measurement.

    An exponent of 1 is linear growth; NaN where a measurement is not positive.
    """
    fitted = {}
    for axis in AXES:
        points = [row for row in rows if row["axis"] in (None, axis)]
        sizes = np.log([row[axis] for row in points])
        fitted[axis] = {name: _slope(sizes, [row[name] for row in points]) for name in MEASURED}
    return fitted


def _slope(log_sizes: np.ndarray, values: list[float]) -> float:
    return float(np.polyfit(log_sizes, np.log(values), 1)[0]) if min(values) > 0 else math.nan
