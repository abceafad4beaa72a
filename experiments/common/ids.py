"""Original ids in files that spreadsheets open."""

import re
import warnings
from pathlib import Path

import numpy as np

from isolator_jax.errors import brief

# A sign before something that is not just a number; control characters hide what follows.
_FORMULA = re.compile(r"[=@\t\r\n]|[+-](?![0-9.]+$)")


def warn_of_formulas(path: Path, ids: np.ndarray) -> None:
    """Warns where a CSV file will hold ids that a spreadsheet takes for formulas.

    Ids are data: they are written as they are, so that they can be joined with their origin.

    Args:
      path: the file.
      ids: what is written.
    """
    formulas = [original for original in sorted(set(map(str, ids))) if _FORMULA.match(original)]
    if formulas:
        warnings.warn(
            f"{path}: {len(formulas)} ids, such as {brief(repr(formulas[0]))}, begin like formulas of a spreadsheet; "
            "they are written as they are: import the columns as text, or write .parquet",
            stacklevel=2,
        )
