"""The bootstrap over users of several UCBiases at once, so that their differences and sizes can be compared."""

import numpy as np
import scipy

from isolator_jax.evaluation import Groups

DRAWS = 20_000

# Draws beyond zero, below which their number says more of the seed than of the difference.
_FEWEST = 100

# What equal resamples differ by, as a share of their mean.
_ROUNDING = 1e-12

# Of users drawn at once.
_CELLS = 1 << 22


def resampled_ucbias(
    per_user: np.ndarray, users: np.ndarray, groups: Groups, *, draws: int = DRAWS, seed: int = 0
) -> np.ndarray:
    """UCBias (Eq. 4) of several sets of values on the same resamples of the users.

    Each draw takes as many users with values from each group as the group has, with replacement;
    a user keeps the weight that it has in its group. The same users, groups and seed give the
    same resamples.

    Args:
      per_user: `[N, C]`, C metrics of each user; users with NaN in one of them are left out.
      users: `[N]` their ids.
      groups: weights over all U users.
      draws: number of resamples.
      seed: of the resamples.

    Returns:
      `[draws, C] float64`; NaN where a group has fewer than two users with values.
    """
    defined = ~np.isnan(per_user).any(axis=1)
    rng = np.random.default_rng(seed)
    return np.subtract(
        *(
            _resampled_means(per_user[defined], np.asarray(weights, np.float64)[users][defined], draws, rng)
            for weights in (groups.consistent, groups.diverse)
        )
    )


def _resampled_means(values: np.ndarray, weights: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Weighted means of resamples of the users whose weight is not zero. `[N, C], [N] -> [draws, C]`"""
    values, weights = values[weights > 0].astype(np.float64), weights[weights > 0]
    if weights.size < 2:
        return np.full((draws, values.shape[1]), np.nan)
    weighted = np.concatenate([weights[:, None] * values, weights[:, None]], axis=1)
    sums = []
    at_once = max(1, _CELLS // weights.size)
    for start in range(0, draws, at_once):
        size = min(at_once, draws - start)
        drawn = rng.integers(weights.size, size=(size, weights.size), dtype=np.int32)
        drawn += np.arange(size, dtype=np.int32)[:, None] * np.int32(weights.size)
        counts = np.bincount(drawn.ravel(), minlength=size * weights.size).reshape(size, -1)
        sums.append(counts @ weighted)
    totals = np.concatenate(sums)
    return totals[:, :-1] / totals[:, -1:]


def two_sided_p(draws: np.ndarray) -> float:
    """The p-value of a difference being zero, from its resamples: twice the smaller share on one side of zero.

    Where too few lie there to be counted, it is that of a normal distribution with their mean and
    deviation. NaN where the resamples are, and where they are all the same and not zero: there is no
    spread to hold the difference against.

    Examples:
      >>> print(f"{two_sided_p(np.arange(-300.0, 700.0)):.4f}")
      0.6034
      >>> print(f"{two_sided_p(np.arange(1.0, 1001.0)):.4f}")  # none below zero: a mean of 500, a deviation of 289
      0.0830
    """
    if np.isnan(draws).any():
        return float("nan")
    smaller = min(np.sum(draws <= 0), np.sum(draws >= 0))
    if smaller >= _FEWEST or not draws.any():
        return float(min(1.0, 2 * (1 + smaller) / (draws.size + 1)))
    mean, deviation = abs(np.mean(draws)), np.std(draws)
    if deviation <= _ROUNDING * mean:
        return float("nan")
    return float(2 * scipy.stats.norm.sf(mean / deviation))
