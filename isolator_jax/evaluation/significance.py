"""Intervals and tests over users: how far a difference could be chance."""

from collections.abc import Sequence

import numpy as np
import scipy

from isolator_jax import checks
from isolator_jax.evaluation import entry
from isolator_jax.evaluation.bias import Groups


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
    replacement; the groups themselves stay as they are.

    Args:
      per_user: `[N]` metric values (the paper: Recall@20); NaN users are left out.
      users: `[N]` their ids.
      groups: masks over all U users.
      draws: number of resamples.
      seed: of the resamples.
      level: share of the resamples between the two ends.

    Returns:
      The ends `(low, high)`; NaN where a group has fewer than two users with a value.

    Examples:
      >>> groups = Groups(consistent=np.arange(40) < 20, diverse=np.arange(40) >= 20)
      >>> recall = np.where(groups.consistent, 0.5, 0.2) + np.tile([-0.1, 0.1], 20)
      >>> low, high = bootstrap_ucbias(recall, np.arange(40), groups)
      >>> low < 0.3 < high
      True
    """
    checks.instance("groups", groups, Groups)
    per_user, users = entry.per_user_of(per_user, users, len(groups.consistent))
    checks.count("draws", draws, least=1)
    checks.count("seed", seed)
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level}")
    defined = ~np.isnan(per_user)
    samples = [per_user[defined & group[users]] for group in groups]
    if min(sample.size for sample in samples) < 2:
        return float("nan"), float("nan")
    result = scipy.stats.bootstrap(
        samples,
        lambda consistent, diverse, axis: consistent.mean(axis=axis) - diverse.mean(axis=axis),
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
      The p-value; 1 where all differences are zero, NaN where fewer than two are left.

    Raises:
      ValueError: arrays of different shape.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if first.shape != second.shape:
        raise ValueError(f"a paired test needs values of the same users, got shapes {first.shape} and {second.shape}")
    differences = first - second
    differences = differences[~np.isnan(differences)]
    if differences.size < 2:
        return float("nan")
    if not differences.any():
        return 1.0
    return float(scipy.stats.ttest_1samp(differences, 0.0).pvalue)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Holm-Bonferroni adjusted p-values, in the order given.

    The k-th smallest of m (k from 0) becomes the largest of `(m - j) p_j` over j <= k, at
    most 1. NaN stays NaN and does not count towards m. `[m] -> [m] float64`.

    Source: Holm, "A simple sequentially rejective multiple test procedure", 1979.
    """
    p = np.asarray(p_values, np.float64)
    adjusted = np.full(p.shape, np.nan)
    defined = np.flatnonzero(~np.isnan(p))
    ascending = defined[np.argsort(p[defined], kind="stable")]
    factors = np.arange(ascending.size, 0, -1)
    adjusted[ascending] = np.minimum(np.maximum.accumulate(factors * p[ascending]), 1.0)
    return adjusted
