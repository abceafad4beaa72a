"""Intervals and tests over users: how far a difference could be chance."""

from collections.abc import Sequence

import numpy as np
import scipy

from isolator_jax import checks
from isolator_jax.evaluation.bias import Groups, group_values


def bootstrap_ucbias(
    per_user: np.ndarray,
    users: np.ndarray,
    groups: Groups,
    *,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile bootstrap interval of UCBias (Eq. 4).

    Each draw takes as many users with a value from each group as the group has, with
    replacement; the groups themselves and their users' weights stay as they are.

    Args:
      per_user: `[N]` metric values (the paper: Recall@20); NaN users are left out.
      users: `[N]` their ids.
      groups: weights of all U users.
      draws: number of resamples.
      seed: of the resamples.
      level: share of the resamples between the two ends.

    Returns:
      The ends `(low, high)`; NaN where a group has fewer than two users with a value.

    Raises:
      TypeError, ValueError: as `ucbias`; draws below 1, or a level that is no share.

    Examples:
      >>> inside = np.arange(40) < 20
      >>> groups = Groups(consistent=1.0 * inside, diverse=1.0 * ~inside)
      >>> recall = np.where(inside, 0.5, 0.2) + np.tile([-0.1, 0.1], 20)
      >>> low, high = bootstrap_ucbias(recall, np.arange(40), groups)
      >>> low < 0.3 < high
      True
    """
    values, ids, groups = group_values(per_user, users, groups)
    checks.count("draws", draws, least=1)
    checks.count("seed", seed)
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level}")
    members = [np.flatnonzero(group[ids]) for group in (groups.consistent, groups.diverse)]
    if min(map(len, members)) < 2:
        return float("nan"), float("nan")

    def difference(consistent: np.ndarray, diverse: np.ndarray, axis: int) -> np.ndarray:
        means = [
            np.sum(group[ids[drawn]] * values[drawn], axis=axis) / np.sum(group[ids[drawn]], axis=axis)
            for group, drawn in ((groups.consistent, consistent), (groups.diverse, diverse))
        ]
        return means[0] - means[1]

    result = scipy.stats.bootstrap(
        members,
        difference,
        n_resamples=draws,
        batch=100,  # resamples held in memory at a time
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def paired_test(first: np.ndarray, second: np.ndarray) -> float:
    """Two-sided p-value of the paired t-test between two sets of per-user values.

    Args:
      first, second: `[N]` values of the same users (or seeds) in the same order; those
        with NaN in either are left out.

    Returns:
      The p-value; 1 where all differences are zero; NaN, undefined, where fewer than two are
      left, or where all are equal and not zero but for rounding: such values have no spread to
      hold the difference against.

    Raises:
      ValueError: arrays of different shape.

    Examples:
      >>> print(f"{paired_test([0.5, 0.4, 0.9, 0.3], [0.1, 0.2, 0.7, 0.2]):.4f}")
      0.0374
    """
    for name, values in (("first", first), ("second", second)):
        checks.unmasked(name, values)
    rounding = max(map(_rounding, (first, second)))
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if first.shape != second.shape:
        raise ValueError(f"a paired test needs values of the same users, got shapes {first.shape} and {second.shape}")
    differences = first - second
    defined = ~np.isnan(differences)
    differences = differences[defined]
    if differences.size < 2:
        return float("nan")
    if not differences.any():
        return 1.0
    largest = max(np.abs(first[defined]).max(), np.abs(second[defined]).max())
    if np.ptp(differences) <= 4 * rounding * largest:
        return float("nan")
    return float(scipy.stats.ttest_1samp(differences, 0.0).pvalue)


def _rounding(values: np.ndarray) -> float:
    """The relative rounding of the type that values come in."""
    dtype = np.asarray(values).dtype
    return float(np.finfo(dtype if dtype.kind == "f" else np.float64).eps)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Holm-Bonferroni adjusted p-values, in the order given.

    The k-th smallest of m (k from 0) becomes the largest of `(m - j) p_j` over j <= k, at
    most 1. NaN stays NaN and does not count towards m. `[m] -> [m] float64`.

    Source: Holm, "A simple sequentially rejective multiple test procedure", 1979.

    Raises:
      TypeError, ValueError: no numbers, or some outside of 0 .. 1.
    """
    p = checks.host_numbers("p_values", p_values, shape=("m",)).astype(np.float64)
    if ((p < 0) | (p > 1)).any():
        raise ValueError(f"p_values must be at least 0 and at most 1, got {p[(p < 0) | (p > 1)][0]:g}")
    adjusted = np.full(p.shape, np.nan)
    defined = np.flatnonzero(~np.isnan(p))
    ascending = defined[np.argsort(p[defined], kind="stable")]
    factors = np.arange(ascending.size, 0, -1)
    adjusted[ascending] = np.minimum(np.maximum.accumulate(factors * p[ascending]), 1.0)
    return adjusted
