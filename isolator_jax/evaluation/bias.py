"""Bias metrics: user groups by content consistency, UCBias and rho.

Groups are weights: users tied at a group's cut share the places that are left, so that no order
among them is preferred.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from jax.typing import ArrayLike

from isolator_jax import checks
from isolator_jax.evaluation import entry


class Groups(NamedTuple):
    """Content-Consistent and Content-Diverse users.

    Attributes:
      consistent, diverse: each user's weight in the group, `[U] float64`: 1 inside, 0 outside, and
        (places left) / (users tied) for those tied at the cut.
      tied: how many users share the places at the consistent and at the diverse cut, 0 where the
        cut lies between different c_u.
    """

    consistent: np.ndarray
    diverse: np.ndarray
    tied: tuple[int, int] = (0, 0)

    def summary(self) -> dict[str, dict[str, Any]]:
        """For a report: of each group its users, by weight, and how many of them are tied at its cut."""
        return {
            name: {"users": _total(weight), "tied": tied}
            for name, weight, tied in zip(("consistent", "diverse"), self[:2], self.tied, strict=True)
        }


def _total(weights: np.ndarray) -> float:
    return round(float(weights.sum()), 6)


def consistency_groups(consistency: np.ndarray, percent: float = 20) -> Groups:
    """The top and bottom `percent` of the users with a defined c_u (Sec. 3).

    Args:
      consistency: c_u, `[U]`, NaN where undefined; such users belong to no group. Users
        of equal c_u are equal here: those at a cut share the places left by weight.
      percent: share of each group, above 0 and at most 50; a group has that share of the
        defined users, rounded down.

    Raises:
      ValueError: a percentage out of that range.

    Examples:
      >>> groups = consistency_groups(np.array([0.1, np.nan, 0.9, 0.4, 0.5, 0.6]), percent=40)
      >>> np.flatnonzero(groups.consistent).tolist(), np.flatnonzero(groups.diverse).tolist()
      ([2, 5], [0, 3])
      >>> groups = consistency_groups(np.array([0.0, 0.0, 0.0, 0.5, 0.7]), percent=20)
      >>> groups.diverse.round(3).tolist(), groups.tied  # three share one place
      ([0.333, 0.333, 0.333, 0.0, 0.0], (0, 3))
    """
    checks.host_array("consistency", consistency, shape=("U",))
    if not 0 < float(checks.scalar("percent", percent)) <= 50:
        raise ValueError(f"percent, a group's share, must be above 0 and at most 50, got {percent}")
    consistency = np.asarray(consistency, np.float64)
    defined = int(np.count_nonzero(~np.isnan(consistency)))
    size = math.floor(defined * Fraction(str(percent)) / 100)  # as it is written: 18.4 % of 750 are 138
    consistent, diverse = shared_places(consistency, [(defined - size, defined), (0, size)])
    tied = tuple(int(np.count_nonzero((weight > 0) & (weight < 1))) for weight in (consistent, diverse))
    return Groups(consistent, diverse, (tied[0], tied[1]))


def activity_groups(lengths: np.ndarray, groups: int = 5) -> np.ndarray:
    """Users by number of training interactions, in groups of equal size; ties as in `consistency_groups`.

    Args:
      lengths: n_u, `[U]`; users with none belong to no group.
      groups: G, how many.

    Returns:
      Weights `[G, U] float64`, the least active first.

    Raises:
      TypeError, ValueError: lengths that are no counts, or no groups at all.

    Examples:
      >>> activity_groups(np.array([3, 0, 1, 1]), groups=3).tolist()
      [[0.0, 0.0, 0.5, 0.5], [0.0, 0.0, 0.5, 0.5], [1.0, 0.0, 0.0, 0.0]]
    """
    lengths = checks.host_array("lengths", lengths, shape=("U",), dtype="int")
    entry.check_sizes(groups=groups)
    active = np.where(lengths > 0, lengths, np.nan)
    count = int(np.count_nonzero(lengths > 0))
    cuts = [count * place // groups for place in range(groups + 1)]
    return shared_places(active, list(zip(cuts[:-1], cuts[1:], strict=True)))


def shared_places(values: np.ndarray, places: Sequence[tuple[int, int]]) -> np.ndarray:
    """Weights of users in groups that are stretches of the ascending order of their values.

    Args:
      values: `[U] float`, NaN for users without one.
      places: first place, and the one after the last, of each of G groups.

    Returns:
      `[G, U] float64`: the part of the places that a user and those tied with it have in common
      which lies in the group.
    """
    weights = np.zeros((len(places), values.size))
    defined = np.flatnonzero(~np.isnan(values))
    _, blocks, counts = np.unique(values[defined], return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    for weight, (first, last) in zip(weights, places, strict=True):
        inside = np.minimum(ends, last) - np.maximum(ends - counts, first)
        weight[defined] = (np.maximum(inside, 0) / np.maximum(counts, 1))[blocks]
    return weights


def ucbias(per_user: ArrayLike, users: ArrayLike, groups: Groups) -> float:
    """UCBias: a metric's mean over consistent users minus its mean over diverse ones (Eq. 4).

    Args:
      per_user: `[N]` metric values (the paper: Recall@20); NaN users are left out.
      users: `[N]` their ids.
      groups: weights of all U users.

    Returns:
      The difference of the weighted means, NaN where a group has nobody with a value.

    Raises:
      TypeError, ValueError: values and users that are not one for one, users or weights that do not fit each other.

    Examples:
      >>> groups = Groups(consistent=np.array([1.0, 1.0, 0.0]), diverse=np.array([0.0, 0.0, 1.0]))
      >>> ucbias([0.5, 1.0, 0.25], [0, 1, 2], groups)
      0.5
    """
    values, ids, groups = group_values(per_user, users, groups)
    return weighted_mean(values, groups.consistent[ids]) - weighted_mean(values, groups.diverse[ids])


def checked_groups(groups: Groups) -> Groups:
    """The groups with their weights as `[U] float64` on the host.

    Raises:
      TypeError, ValueError: no `Groups`, or weights that are negative or not one for one.
    """
    checks.instance("groups", groups, Groups)
    consistent, diverse = (
        checks.host_numbers(f"groups.{name}", getattr(groups, name), shape=("U",), finite=True).astype(np.float64)
        for name in ("consistent", "diverse")
    )
    checks.equal_shapes(**{"groups.consistent": consistent, "groups.diverse": diverse})
    for name, weights in (("consistent", consistent), ("diverse", diverse)):
        if (weights < 0).any():
            raise ValueError(f"groups.{name} must be weights of at least 0, got {weights.min():g}")
    return Groups(consistent, diverse, groups.tied)


def group_values(per_user: ArrayLike, users: ArrayLike, groups: Groups) -> tuple[np.ndarray, np.ndarray, Groups]:
    """The values that are not NaN, their users' ids, and the groups, all checked."""
    groups = checked_groups(groups)
    values, ids = entry.per_user_of(per_user, users, groups.consistent.size)
    defined = ~np.isnan(values)
    return values[defined], ids[defined], groups


def measured_summary(per_user: ArrayLike, users: ArrayLike, groups: Groups) -> dict[str, dict[str, Any]]:
    """`Groups.summary`, and how many users of each group have a value.

    Args:
      per_user: `[N]` metric values, NaN where a user has none.
      users: `[N]` their ids.
      groups: weights of all U users.

    Returns:
      For `consistent` and `diverse`, besides `users` and `tied`: `evaluated`, the users with a value
      by weight, and `members`, those users counting the tied ones whole.

    Raises:
      TypeError, ValueError: as `ucbias`.

    Examples:
      >>> groups = Groups(np.array([1.0, 0.5, 0.5, 0.0]), np.array([0.0, 0.0, 0.0, 1.0]), tied=(2, 0))
      >>> measured_summary(np.array([0.2, np.nan, 0.1, 0.0]), np.arange(4), groups)["consistent"]
      {'users': 2.0, 'tied': 2, 'evaluated': 1.5, 'members': 2}
    """
    _, ids, groups = group_values(per_user, users, groups)
    measured = {name: getattr(groups, name)[ids] for name in ("consistent", "diverse")}
    return {
        name: summary | {"evaluated": _total(measured[name]), "members": int(np.count_nonzero(measured[name]))}
        for name, summary in groups.summary().items()
    }


def weighted_mean(values: np.ndarray, weights: np.ndarray) -> float:
    """`[N], [N] -> []`; NaN where all weights are zero."""
    total = float(weights.sum())
    return float(values @ weights / total) if total > 0 else float("nan")


def rho(list_similarity: np.ndarray, lists: np.ndarray) -> float:
    """Average content similarity of recommendation lists to their users' histories (Eq. 2).

    Args:
      list_similarity: s_uj of the list items, `[N, K]`.
      lists: `[N, K]` item ids, negative where a list has no further item.

    Returns:
      Mean over users of the mean over list items; users with an empty list are left out.

    Raises:
      TypeError, ValueError: arrays of other shapes, or that are no numbers.

    Examples:
      >>> rho(np.array([[0.25, 0.75], [1.0, 0.0]]), lists=np.array([[4, 7], [2, -1]]))
      0.75
    """
    list_similarity = checks.host_array("list_similarity", list_similarity, shape=("N", "K"))
    lists = checks.host_array("lists", lists, shape=list_similarity.shape, dtype="int", least=-checks.MOST)
    filled = lists >= 0
    counts = filled.sum(axis=1)
    sums = np.where(filled, list_similarity, 0.0).sum(axis=1, dtype=np.float64)
    return float(np.mean(sums[counts > 0] / counts[counts > 0])) if counts.any() else float("nan")
