"""UCBias with another cause held equal: how active users are, or how popular their held-out items."""

from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike

from isolator_jax import checks
from isolator_jax.evaluation import entry
from isolator_jax.evaluation.bias import Groups, checked_groups, weighted_mean


class EqualActivity(NamedTuple):
    """The users of both groups whose number of training interactions is near the median.

    Attributes:
      median: the lower median of the users' training interactions.
      fewest, most: the window of numbers taken, even around the median.
      groups: their weights, zero outside the window and for users without a value; zero for all where
        the window holds everybody, so that nothing is held equal.
    """

    median: int
    fewest: int
    most: int
    groups: Groups


def equal_activity(
    groups: Groups, lengths: ArrayLike, users: ArrayLike, per_user: ArrayLike, *, least: int = 100
) -> EqualActivity:
    """Groups cut down to users with the median number of training interactions (Sec. 3.5, Fig. 3).

    The lower median over users with training interactions, so that it is a number that users have.
    Where a group has fewer than `least` users (their weights summed), or than half of its own, with
    exactly that many and with a value, the window grows by one at both sides until both have. Where
    it comes to hold everybody nothing is held equal, and the groups are empty. `ucbias` and
    `bootstrap_ucbias` take the groups that come back.

    Args:
      groups: weights of all U users.
      lengths: n_u, `[U]`.
      users: `[N]` ids of measured users.
      per_user: `[N]` their values; those with NaN are not counted.
      least: users wanted of each group that has twice as many.

    Raises:
      TypeError, ValueError: as `ucbias`; lengths that are no counts of these users, or all zero.

    Examples:
      >>> groups = Groups(consistent=np.array([1.0, 1.0, 0.0, 0.0]), diverse=np.array([0.0, 0.0, 1.0, 1.0]))
      >>> equal = equal_activity(groups, [3, 9, 3, 4], np.arange(4), np.ones(4), least=1)
      >>> (equal.fewest, equal.most), equal.groups.consistent.tolist(), equal.groups.diverse.tolist()
      ((3, 3), [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0])
    """
    groups, least = checked_groups(groups), checks.count("least", least, least=1)
    count = groups.consistent.size
    lengths = checks.host_array("lengths", lengths, shape=("U",), sizes={"U": count}, dtype="int")
    values, ids = entry.per_user_of(per_user, users, count)
    active = lengths > 0
    if not active.any():
        raise ValueError("lengths must be above 0 for somebody; nobody has training interactions")
    median = int(np.percentile(lengths[active], 50, method="lower"))
    measured = np.zeros(count, bool)
    measured[ids] = ~np.isnan(values)
    distance = np.abs(lengths - median)
    # The narrowest window with enough of both groups: users join at their distance.
    width = max(_enough(distance, np.where(measured & active, group, 0.0), least) for group in groups[:2])
    inside = measured & active & (distance <= width)
    if 0 < distance[active].max() <= width:
        inside[:] = False
    consistent, diverse = (np.where(inside, group, 0.0) for group in groups[:2])
    return EqualActivity(median, max(1, median - width), median + width, Groups(consistent, diverse, groups.tied))


def _enough(distance: np.ndarray, weights: np.ndarray, least: int) -> int:
    """The smallest distance within which the weights sum to `least`, or to half of their sum."""
    distances, rows = np.unique(distance, return_inverse=True)
    sums = np.cumsum(np.bincount(rows, weights))
    return int(distances[np.searchsorted(sums, min(least, sums[-1] / 2) - 1e-9)])


class EqualPopularity(NamedTuple):
    """UCBias among held-out items of like popularity.

    Attributes:
      ucbias: the mean of the bins' differences.
      consistent, diverse: each bin's Recall of the groups, `[bins]`, NaN where nobody has items there.
      interactions: held-out interactions of each bin, `[bins]`.
      fewest, most: training interactions of the bin's items, `[bins]`.
    """

    ucbias: float
    consistent: np.ndarray
    diverse: np.ndarray
    interactions: np.ndarray
    fewest: np.ndarray
    most: np.ndarray


def ucbias_at_equal_popularity(
    users: ArrayLike, popularity: ArrayLike, hits: ArrayLike, groups: Groups, *, bins: int = 5
) -> EqualPopularity:
    """UCBias where both groups' held-out items are equally popular.

    Held-out interactions are cut by their item's popularity into bins of as nearly equal size as
    whole popularities allow: each popularity belongs to the bin that its middle interaction lies
    in. Within a bin a user's Recall is over its held-out items there, a group's the weighted mean
    over its users who have some. The bins count alike, and for both groups.

    Args:
      users: `[P]` ids, one for each held-out interaction.
      popularity: `[P]`, training interactions of the held-out item.
      hits: `[P] bool`, whether the user's list has it (`held_out_hits`).
      groups: weights of all U users.
      bins: how many.

    Returns:
      NaN where no bin has users of both groups.

    Raises:
      TypeError, ValueError: arrays that are not one for one, or users and weights that do not fit each other.

    Examples:
      >>> groups = Groups(consistent=np.array([1.0, 0.0]), diverse=np.array([0.0, 1.0]))
      >>> equal = ucbias_at_equal_popularity([0, 0, 1, 1], [1, 9, 1, 9], [1, 1, 0, 1], groups, bins=2)
      >>> equal.ucbias, equal.consistent.tolist(), equal.diverse.tolist()
      (0.5, [1.0, 1.0], [0.0, 1.0])
    """
    groups = checked_groups(groups)
    entry.check_sizes(bins=bins)
    ids = np.asarray(entry.users_of(users, groups.consistent.size))
    sizes = {"N": ids.size}
    counts = checks.host_array("popularity", popularity, shape=("N",), sizes=sizes, dtype="int")
    found = checks.host_array("hits", hits, shape=("N",), sizes=sizes, finite=True)
    if not np.isin(found, (0, 1)).all():
        raise ValueError(f"hits must be true or false, got {found[~np.isin(found, (0, 1))][0]:g}")
    _, blocks, sizes_of = np.unique(counts, return_inverse=True, return_counts=True)
    ends = np.cumsum(sizes_of)
    # 2 * middle place, so that all is in whole numbers.
    bin_of = ((2 * ends - sizes_of) * bins // max(2 * ids.size, 1))[blocks] if ids.size else blocks
    recalls = np.full((2, bins), np.nan)
    interactions, fewest, most = (np.zeros(bins, np.int64) for _ in range(3))
    for place in range(bins):
        inside = bin_of == place
        if not inside.any():
            continue
        interactions[place] = inside.sum()
        fewest[place], most[place] = counts[inside].min(), counts[inside].max()
        having, rows = np.unique(ids[inside], return_inverse=True)
        per_user = np.bincount(rows, found[inside]) / np.bincount(rows)
        recalls[:, place] = [weighted_mean(per_user, group[having]) for group in groups[:2]]
    differences = recalls[0] - recalls[1]
    both = ~np.isnan(differences)
    value = float(differences[both].mean()) if both.any() else float("nan")
    return EqualPopularity(value, recalls[0], recalls[1], interactions, fewest, most)
