"""Users and items by the ids they have outside the dataset."""

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from isolator_jax.data.mmrec import read_id_mapping
from isolator_jax.errors import brief
from isolator_jax.runs.config import RunConfig

# A sign before something that is not just a number; control characters hide what follows.
_FORMULA = re.compile(r"[=@\t\r\n]|[+-](?![0-9.]+$)")


class Ids(NamedTuple):
    """Original ids by the dataset's own, `[U]` and `[I]`: those again where there is no mapping."""

    users: np.ndarray
    items: np.ndarray

    @classmethod
    def of(cls, original: Mapping[str, np.ndarray], num_users: int, num_items: int) -> "Ids":
        """The ids of a result of `original_ids`."""
        return cls(original.get("userID", np.arange(num_users)), original.get("itemID", np.arange(num_items)))


def ids_of(config: RunConfig, num_users: int, num_items: int) -> Ids:
    """The ids of a run's users and items.

    Raises:
      DataError: a malformed mapping.
    """
    original: dict[str, np.ndarray] = {}
    if config.data_dir is not None and config.dataset is not None:
        original = original_ids(Path(config.data_dir) / config.dataset, num_users, num_items)
    return Ids.of(original, num_users, num_items)


def original_ids(folder: Path, num_users: int, num_items: int) -> dict[str, np.ndarray]:
    """What a folder's `u_id_mapping.csv` and `i_id_mapping.csv` say of `userID` and `itemID`, as far as there are such.

    Raises:
      DataError: a malformed mapping.
    """
    counts = {"userID": num_users, "itemID": num_items}
    found = {column: read_id_mapping(folder, column, count) for column, count in counts.items()}
    return {column: mapping for column, mapping in found.items() if mapping is not None}


def warn_of_formulas(path: Path, ids: np.ndarray) -> None:
    """Warns where a CSV file will hold ids that a spreadsheet takes for formulas.

    Ids are data: they are written as they are, so that they can be joined with their origin.

    Args:
      path: the file.
      ids: what is written.
    """
    formulas = [original for original in np.unique(ids.astype(str)).tolist() if _FORMULA.match(original)]
    if formulas:
        warnings.warn(
            f"{path}: {len(formulas)} ids, such as {brief(repr(formulas[0]))}, begin like formulas of a spreadsheet; "
            "they are written as they are: import the columns as text, or write .parquet",
            stacklevel=2,
        )
