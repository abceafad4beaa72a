"""How far a difference between trained models may be noise: of the users measured, and of training anew."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy

from isolator_jax.reporting.model import Measured


class Spread(NamedTuple):
    """What a difference of two numbers, averaged over seeds, varies by.

    Attributes:
      users: its variance over samples of users.
      seeds: variance of one seed's difference over the seeds that both numbers have; NaN of one seed.
      both: what of the average's variance over seeds is that of users who differ by seed; NaN of one seed.
      shared: how many seeds those are.
      size: how many users; infinite where they were resampled.
    """

    users: float
    seeds: float
    both: float
    shared: int
    size: float


def spread(subject: Measured, other: Measured, *, sizes: bool = False) -> Spread | None:
    """The spread of `subject - other`, or of their sizes; None where neither users nor resamples are measured."""
    shared = min(subject.seeds.size, other.seeds.size)
    signs = np.sign([subject.value, other.value]) if sizes else np.ones(2)
    first, second = signs[0] * subject.seeds[:shared], signs[1] * other.seeds[:shared]
    if subject.users is not None and other.users is not None:
        defined = ~np.isnan(subject.users[0] - other.users[0])
        one, two = subject.users[:, defined], other.users[:, defined]
        whole, size, per_user = one.mean(axis=0) - two.mean(axis=0), float(defined.sum()), float(defined.sum())
    elif subject.draws is not None and other.draws is not None:
        one, two = subject.draws, other.draws
        means = [np.abs(draws.mean(axis=0)) if sizes else draws.mean(axis=0) for draws in (one, two)]
        whole, size, per_user = means[0] - means[1], np.inf, 1.0
    else:
        return None
    if size < 2:
        return None
    of_seeds = signs[0] * one[:shared] - signs[1] * two[:shared]
    own = of_seeds - of_seeds.mean(axis=0)
    both = np.var(own, axis=1, ddof=1).sum() / per_user / (shared * (shared - 1)) if shared > 1 else np.nan
    return Spread(
        users=float(np.var(whole, ddof=1) / per_user),
        seeds=float(np.var(first - second, ddof=1)) if shared > 1 else np.nan,
        both=float(both),
        shared=shared,
        size=size,
    )


def p_over_users_and_seeds(differences: Sequence[float], spreads: Sequence[Spread | None]) -> np.ndarray:
    """Two-sided p-values of differences of one kind, taken over users and seeds alike.

    A difference's variance is V_users + max(0, V_seeds - V_both), that of a mean over two crossed samples
    (Cameron, Gelbach and Miller, "Robust inference with multiway clustering", 2011). Few seeds say little of
    V_seeds, so the variance over seeds is pooled over the differences; the degrees of freedom are Satterthwaite's.

    Args:
      differences: of several models, say, by the same claim.
      spreads: of each.

    Returns:
      `[m]`, NaN where there is no spread over users, and for all where no difference has two seeds.
    """
    pooled = [(s.seeds, s.shared - 1) for s in spreads if s is not None and s.shared > 1]
    degrees = sum(count for _, count in pooled)
    if not degrees:
        return np.full(len(spreads), np.nan)
    variance = sum(value * count for value, count in pooled) / degrees
    return np.array(
        [
            np.nan if of is None or not of.users else _p(difference, of, variance, degrees)
            for difference, of in zip(differences, spreads, strict=True)
        ]
    )


def _p(difference: float, of: Spread, variance: float, degrees: int) -> float:
    of_seeds = variance / of.shared
    total = of.users + max(0.0, of_seeds - np.nan_to_num(of.both))
    uncertain = of.users**2 / (of.size - 1) + of_seeds**2 / degrees
    freedom = total**2 / uncertain if uncertain else np.inf
    return float(2 * scipy.stats.t.sf(abs(difference) / np.sqrt(total), freedom))
