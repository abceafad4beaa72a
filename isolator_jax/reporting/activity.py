"""UCBias among users with like numbers of training interactions (Fig. 3)."""

from typing import NamedTuple

import numpy as np

from isolator_jax.evaluation import Groups
from isolator_jax.reporting.model import RECALL, Model, share_groups

LEAST = 100


class EqualActivity(NamedTuple):
    """The users of both groups whose number of training interactions is near the median.

    Attributes:
      median: the lower median of the users' training interactions.
      fewest, most: the window of numbers taken, even around the median.
      groups: their weights, zero outside the window and for users without held-out items.
      consistent, diverse: how many users each group has there.
    """

    median: int
    fewest: int
    most: int
    groups: Groups
    consistent: int
    diverse: int


def equal_activity(model: Model, least: int = LEAST) -> EqualActivity:
    """The groups of UCBias (20 %) cut down to users with the median number of training interactions.

    The lower median over users with training interactions, so that it is a number that users have.
    Where a group has fewer than `least` users (their weights summed) with exactly that many and with
    held-out items, the window grows by one at both sides until both have, or it holds all users.
    """
    lengths = np.asarray(model.lengths)
    median = int(np.percentile(lengths[lengths > 0], 50, method="lower"))
    groups = share_groups(model)
    tested = np.zeros(lengths.size, bool)
    tested[model.users] = ~np.isnan(next(iter(model.evaluations.values()))[0].per_user[RECALL])
    distance = np.abs(lengths - median)
    for width in range(int(distance[lengths > 0].max()) + 1):
        inside = tested & (distance <= width)
        weights = [np.where(inside, group, 0.0) for group in (groups.consistent, groups.diverse)]
        if min(group.sum() for group in weights) >= least:
            break
    return EqualActivity(
        median=median,
        fewest=max(1, median - width),
        most=median + width,
        groups=groups._replace(consistent=weights[0], diverse=weights[1]),
        consistent=int(np.count_nonzero(weights[0])),
        diverse=int(np.count_nonzero(weights[1])),
    )


def repeated_draws(
    model: Model, recall: np.ndarray, groups: Groups, *, draws: int, seed: int
) -> tuple[int, np.ndarray]:
    """Differences of the mean recalls of equally many users of both groups, drawn without replacement.

    Each sample has half as many users as the smaller group, at least one; a user's chance is
    proportional to its weight.

    Args:
      model: whose users they are.
      recall: `[N]`.
      groups: of `equal_activity`.
      draws: number of samples.
      seed: of the samples.

    Returns:
      The size of a sample, and the differences `[draws]`, NaN where a group has nobody.
    """
    weights = [group[model.users] for group in (groups.consistent, groups.diverse)]
    size = max(1, int(min(group.sum() for group in weights)) // 2)
    if min(np.count_nonzero(group) for group in weights) < size:
        return size, np.full(draws, np.nan)
    rng = np.random.default_rng(seed)

    def means(group: np.ndarray) -> np.ndarray:
        values, chances = recall[group > 0], group[group > 0] / group.sum()
        return np.array([rng.choice(values, size, replace=False, p=chances).mean() for _ in range(draws)])

    return size, means(weights[0]) - means(weights[1])
