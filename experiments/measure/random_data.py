"""Random data of any size, made fast: for measuring speed and memory, with nothing to learn in it."""

import dataclasses

import numpy as np

from isolator_jax.data import Dataset, Interactions
from isolator_jax.errors import ConfigError

_POPULARITY_EXPONENT = 0.6
_HELD_OUT_SHARE = 0.1


def check_sizes(users: int, items: int, interactions: int) -> None:
    """Refuses sizes that `random_dataset` has no data of.

    Raises:
      ConfigError: as it.
    """
    if max(users, items, interactions) >= 2**31:
        raise ConfigError("users, items and interactions must be below 2**31")
    if min(users, items) < 1 or not 10 <= interactions <= users * items // 4:
        raise ConfigError(
            "users and items must be at least 1, interactions at least 10 and at most a quarter of users x items; "
            f"got {users}, {items} and {interactions}"
        )


def random_dataset(users: int, items: int, interactions: int, seed: int = 0) -> Dataset:
    """Unique interactions of uniform users with items of skewed popularity, without features.

    Args:
      users, items: U and I; some may have no interaction.
      interactions: of all splits; a tenth each is held out for validation and test.

    Raises:
      ConfigError: too few interactions for three splits, more than a quarter of all pairs, or too large a count.
    """
    check_sizes(users, items, interactions)
    rng = np.random.default_rng(seed)
    popularity = np.cumsum((1.0 + rng.permutation(items)) ** -_POPULARITY_EXPONENT)
    popularity /= popularity[-1]
    pairs = np.empty(0, np.int64)
    while pairs.size < interactions:
        count = interactions + interactions // 8 - pairs.size
        drawn = rng.integers(users, size=count) * items + np.searchsorted(popularity, rng.random(count))
        pairs = np.union1d(pairs, drawn)
    pairs = rng.permutation(pairs)[:interactions]
    held_out = int(interactions * _HELD_OUT_SHARE)
    parts = np.split(pairs, [held_out, 2 * held_out])
    validation, test, train = (Interactions.from_pairs(*np.divmod(part, items)) for part in parts)
    return Dataset("random", users, items, train, validation, test, features={})


def with_random_features(dataset: Dataset, widths: dict[str, int]) -> Dataset:
    """The dataset with Gaussian features of these widths."""
    rng = np.random.default_rng(0)
    features = {
        name: rng.standard_normal((dataset.num_items, width), dtype=np.float32) for name, width in widths.items()
    }
    return dataclasses.replace(dataset, features=features)
