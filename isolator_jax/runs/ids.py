"""Users and items by the ids they have outside the dataset."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from isolator_jax.data.mmrec import read_id_mapping
from isolator_jax.errors import brief
from isolator_jax.runs.config import RunConfig


class OriginalIds(NamedTuple):
    """Original ids by the dataset's own, `[U]` and `[I]`: those again where there is no mapping."""

    users: np.ndarray
    items: np.ndarray

    @classmethod
    def of(cls, mappings: Mapping[str, np.ndarray], num_users: int, num_items: int) -> "OriginalIds":
        """The ids of a result of `id_mappings`."""
        return cls(mappings.get("userID", np.arange(num_users)), mappings.get("itemID", np.arange(num_items)))


def original_ids(config: RunConfig, num_users: int, num_items: int) -> OriginalIds:
    """The ids of a run's users and items.

    Raises:
      DataError: a malformed mapping.
    """
    mappings: dict[str, np.ndarray] = {}
    if config.data_dir is not None and config.dataset is not None:
        mappings = id_mappings(Path(config.data_dir) / config.dataset, num_users, num_items)
    return OriginalIds.of(mappings, num_users, num_items)


def with_training_items(users: np.ndarray, lengths: np.ndarray, original: np.ndarray) -> np.ndarray:
    """Those of some users who can be recommended to; warns of the others, of whom a model has learnt nothing.

    Args:
      users: `[N]` dense ids.
      lengths: `[U]` how many training items each user has.
      original: `[U]` ids to name them by.
    """
    cold = users[lengths[users] == 0]
    if cold.size:
        first = brief(repr(str(original[cold[0]])))
        warnings.warn(f"users: {cold.size} without training items, {first} the first; they get no list", stacklevel=4)
    return users[lengths[users] > 0]


def id_mappings(folder: Path, num_users: int, num_items: int) -> dict[str, np.ndarray]:
    """What a folder's `u_id_mapping.csv` and `i_id_mapping.csv` say of `userID` and `itemID`, as far as there are such.

    Raises:
      DataError: a malformed mapping.
    """
    counts = {"userID": num_users, "itemID": num_items}
    found = {column: read_id_mapping(folder, column, count) for column, count in counts.items()}
    return {column: mapping for column, mapping in found.items() if mapping is not None}
