"""Users and items by the ids they have outside the dataset."""

from pathlib import Path

import numpy as np

from isolator_jax.data.mmrec import read_id_mapping
from isolator_jax.runs.config import RunConfig


def original_ids(config: RunConfig, column: str, count: int) -> np.ndarray:
    """`[count]` original ids of a run's users or items, or the dataset's own where there is no mapping.

    Args:
      config: the run's configuration.
      column: `userID` or `itemID`.
      count: number of users or items.

    Raises:
      DataError: a malformed mapping.
    """
    mapping = None
    if config.data_dir is not None and config.dataset is not None:
        mapping = read_id_mapping(Path(config.data_dir) / config.dataset, column, count)
    return np.arange(count) if mapping is None else mapping
