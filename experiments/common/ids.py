"""Users and items by the ids they have outside the dataset."""

import re
import warnings
from pathlib import Path

import numpy as np

from isolator_jax.data.mmrec import read_id_mapping
from isolator_jax.errors import brief
from isolator_jax.runs.config import RunConfig

# A sign before something that is not just a number; control characters hide what follows.
_FORMULA = re.compile(r"[=@\t\r\n]|[+-](?![0-9.]+$)")


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


def warn_of_formulas(path: Path, ids: np.ndarray) -> None:
    """Warns where a CSV file will hold ids that a spreadsheet takes for formulas.

    Ids are data: they are written as they are, so that they can be joined with their origin.

    Args:
      path: the file.
      ids: what is written.
    """
    formulas = [original for original in map(str, np.unique(ids)) if _FORMULA.match(original)]
    if formulas:
        warnings.warn(
            f"{path}: {len(formulas)} ids, such as {brief(repr(formulas[0]))}, begin like formulas of a spreadsheet; "
            "they are written as they are: import the columns as text, or write .parquet",
            stacklevel=2,
        )
