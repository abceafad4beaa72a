"""Training, validation and test: pure functions of arrays. Labels are 0, 1 and 2."""

from collections.abc import Sequence

import numpy as np

TRAIN, VALIDATION, TEST = range(3)


def held_out_counts(counts: np.ndarray, ratios: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """How many of a user's interactions are for validation and for test.

    The ratio's share, rounded down, but at least one where the ratio is above 0: a user of
    two interactions has one for training and one for test, one of three has one of each.
    At least one is left for training.

    Args:
      counts: `[U]` interactions of each user.
      ratios: three integers from 0 on, as 8, 1, 1; the first above 0.

    Returns:
      `(validation, test)`, `[U]` each.
    """
    _, validation_ratio, test_ratio = ratios
    counts = counts.astype(np.int64)
    test = np.minimum(np.maximum(counts * test_ratio // sum(ratios), test_ratio > 0), np.maximum(counts - 1, 0))
    validation = np.maximum(counts * validation_ratio // sum(ratios), validation_ratio > 0)
    return np.minimum(validation, np.maximum(counts - 1 - test, 0)), test


def leave_one_out_counts(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One for test of a user with two interactions or more, one for validation with three or more."""
    return (counts >= 3).astype(np.int64), (counts >= 2).astype(np.int64)


def in_time(times: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """`[E]` ranks by time, those of one time in the order of their draws."""
    ranks = np.empty(times.size, np.int64)
    ranks[np.lexsort((draws, times))] = np.arange(times.size)
    return ranks


def users_parted_in_a_moment(users: np.ndarray, times: np.ndarray, labels: np.ndarray) -> int:
    """How many users have interactions of the same time in two splits."""
    order = np.lexsort((labels, times, users))
    users, times, labels = users[order], times[order], labels[order]
    parted = (users[1:] == users[:-1]) & (times[1:] == times[:-1]) & (labels[1:] != labels[:-1])
    return np.unique(users[1:][parted]).size


def label_last(users: np.ndarray, keys: np.ndarray, validation: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Labels each user's last interactions as test, those before them as validation.

    Args:
      users: `[E]` integers from 0 on.
      keys: `[E]` what last means: ranks in time, or random numbers. Ties keep the order of the arrays.
      validation, test: `[U]` how many of each user.

    Returns:
      `[E] int8` labels.
    """
    order = np.lexsort((keys, users))
    counts = np.bincount(users, minlength=validation.size)
    ends = np.cumsum(counts)
    sorted_users = users[order]
    from_end = ends[sorted_users] - 1 - np.arange(users.size)
    held_out = (from_end < (validation + test)[sorted_users]).astype(np.int8)
    labels = np.empty(users.size, np.int8)
    labels[order] = held_out + (from_end < test[sorted_users])
    return labels


def label_by_time(times: np.ndarray, ratios: Sequence[int]) -> np.ndarray:
    """Cuts all interactions at two points in time.

    The cuts lie where the ratios' shares end; interactions of the same time are never parted
    but go to the later split.

    Args:
      times: `[E]`, finite.
      ratios: three integers, as 8, 1, 1.

    Returns:
      `[E] int8` labels.
    """
    in_order = np.sort(times)
    ends = np.cumsum(ratios)[:2] * times.size // sum(ratios)
    cuts = [in_order[end] if end < times.size else np.inf for end in ends]
    return ((times >= cuts[0]).astype(np.int8) + (times >= cuts[1])).astype(np.int8)
