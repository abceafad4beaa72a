"""Trade-offs between what should be high and what should be low."""

import numpy as np

from isolator_jax import checks


def pareto_front(gain: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """The points that no other beats: none has a higher gain at no higher cost, or a lower cost at no lower gain.

    Args:
      gain: `[N]`, higher is better.
      cost: `[N]`, lower is better. A point with NaN in either is never on the front.

    Returns:
      Their places `[P] int`, by ascending gain (and so by ascending cost). Of equal points the
      first is kept.

    Raises:
      TypeError, ValueError: no numbers, or points of one coordinate.
    """
    points = (("gain", gain), ("cost", cost))
    gain, cost = (checks.host_numbers(name, x, shape=("N",)).astype(np.float64) for name, x in points)
    checks.equal_shapes(gain=gain, cost=cost)
    defined = np.flatnonzero(~np.isnan(gain) & ~np.isnan(cost))
    # From the highest gain down, equal gains by the lower cost: a point is on the front where
    # its cost is below that of all points before it.
    order = defined[np.lexsort((cost[defined], -gain[defined]))]
    lowest_before = np.minimum.accumulate(np.concatenate([[np.inf], cost[order]]))[:-1]
    return order[cost[order] < lowest_before][::-1]
