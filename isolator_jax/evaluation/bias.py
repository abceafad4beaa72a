"""Bias metrics: user groups by content consistency, UCBias and rho."""

from typing import NamedTuple

import numpy as np

from isolator_jax import checks
from isolator_jax.evaluation import entry
from isolator_jax.evaluation.metrics import nan_mean


class Groups(NamedTuple):
    """Content-Consistent and Content-Diverse users: `[U] bool` masks, disjoint, equal in size."""

    consistent: np.ndarray
    diverse: np.ndarray


def consistency_groups(consistency: np.ndarray, percent: float = 20) -> Groups:
    """The top and bottom `percent` of the users with a defined c_u (Sec. 3).

    Args:
      consistency: c_u, `[U]`, NaN where undefined; such users belong to no group. Users
        of equal c_u are ordered by id.
      percent: share of each group, above 0 and at most 50.

    Raises:
      ValueError: a percentage out of that range.

    Examples:
      >>> consistency = np.array([0.1, np.nan, 0.9, 0.4, 0.5, 0.6])
      >>> groups = consistency_groups(consistency, percent=40)
      >>> np.flatnonzero(groups.consistent).tolist(), np.flatnonzero(groups.diverse).tolist()
      ([2, 5], [0, 3])
    """
    checks.host_array("consistency", consistency, shape=("U",))
    if not 0 < float(checks.scalar("percent", percent)) <= 50:
        raise ValueError(f"percent, a group's share, must be above 0 and at most 50, got {percent}")
    consistency = np.asarray(consistency, np.float64)
    defined = np.flatnonzero(~np.isnan(consistency))
    ascending = defined[np.argsort(consistency[defined], kind="stable")]
    size = int(defined.size * percent // 100)
    groups = Groups(np.zeros(consistency.size, bool), np.zeros(consistency.size, bool))
    groups.diverse[ascending[:size]] = True
    groups.consistent[ascending[defined.size - size :]] = True
    return groups


def ucbias(per_user: np.ndarray, users: np.ndarray, groups: Groups) -> float:
    """UCBias: a metric's mean over consistent users minus its mean over diverse ones (Eq. 4).

    Args:
      per_user: `[N]` metric values (the paper: Recall@20); NaN users are left out.
      users: `[N]` their ids.
      groups: masks over all U users.

    Returns:
      The difference, NaN where a group has nobody with a value.

    Examples:
      >>> groups = Groups(consistent=np.array([True, True, False]), diverse=np.array([False, False, True]))
      >>> ucbias(np.array([0.5, 1.0, 0.25]), np.array([0, 1, 2]), groups)
      0.5
    """
    checks.instance("groups", groups, Groups)
    per_user, users = entry.per_user_of(per_user, users, len(groups.consistent))
    return nan_mean(per_user[groups.consistent[users]]) - nan_mean(per_user[groups.diverse[users]])


def rho(list_similarity: np.ndarray, lists: np.ndarray) -> float:
    """Average content similarity of recommendation lists to their users' histories (Eq. 2).

    Args:
      list_similarity: s_uj of the list items, `[N, K]`.
      lists: `[N, K]` item ids, negative where a list has no further item.

    Returns:
      Mean over users of the mean over list items; users with an empty list are left out.

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
