"""Ids, pairs and features in memory: DataFrames and arrays, checked, with ids as text.

Ids are text or whole numbers.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from isolator_jax import checks
from isolator_jax.data.interactions import Source, warn_of_ratings
from isolator_jax.data.raw import RawTable, find_column, id_texts, listing, without_index
from isolator_jax.errors import DataError, brief


class Ids(NamedTuple):
    """Original ids as text, and whether they were whole numbers.

    Attributes:
      texts: an Arrow array of text without blanks around it, none of them empty.
      whole: whether their type was one of numbers.
    """

    texts: pa.Array
    whole: bool


class Pairs(NamedTuple):
    """User-item pairs in original ids; `name` is the argument they were given as."""

    name: str
    users: Ids
    items: Ids


def ids_of(name: str, values: Any) -> Ids:
    """Ids in memory as text, blanks around them dropped.

    Args:
      name: the argument, for messages.
      values: `[N]`, anything array-like or a column of a table.

    Raises:
      DataError: neither text nor whole numbers, of mixed types, an empty one, with its row, or two that differ by
        blanks around them alone.
    """
    try:
        # numpy would make text of all that is in a list with text, NaN and numbers too.
        values = np.asarray(values, object if isinstance(values, list | tuple) else None)
        try:
            array = pa.array(values, from_pandas=True)
        except OverflowError:  # Python's integers above int64
            array = pa.array(values, pa.uint64(), from_pandas=True)
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise DataError(
            f"{name}: ids must be one column of text or of whole numbers ({brief(error)}); convert them to text"
        ) from None
    table = RawTable(Path(name), (), "parquet")  # which names rows, not lines
    given = id_texts(table, "id", array, 0) if len(array) else pa.array([], pa.string())
    texts = pc.utf8_trim_whitespace(given)
    different = given.unique()
    trimmed = pd.Series(pc.utf8_trim_whitespace(different).to_pylist())
    if (again := trimmed.duplicated() & trimmed.astype(bool)).any():
        raise DataError(
            f"{name}: ids {brief(repr(trimmed[again.argmax()]))} differ by blanks around them alone, which are "
            "dropped; make them equal or different"
        )
    if not all(texts.unique().to_pylist()):
        row = next(row for row, text in enumerate(texts.to_pylist()) if not text)
        raise DataError(f"{name}, row {row}: the id is missing; every row needs one")
    return Ids(texts, not (pa.types.is_string(array.type) or pa.types.is_large_string(array.type)))


def read_pairs(name: str, value: Any) -> Pairs:
    """User-item pairs in memory.

    Args:
      name: the argument, for messages.
      value: a DataFrame with columns of users and items, found by their usual names
        (`raw.columns.USUAL_NAMES`); a tuple `(users, items)` of two columns; or `[E, 2]`.

    Raises:
      DataError: none of these, or ids that are none, or rows of several splits.
    """
    users: Any
    items: Any
    if isinstance(value, pd.DataFrame):
        columns = [str(column) for column in value.columns]
        found = {role: find_column(Path(name), role, None, columns) for role in ("user", "item")}
        for role, column in found.items():
            if column is None:
                raise DataError(
                    f"{name}: no column of {role}s found among {listing(columns)}; name the columns user and item"
                )
        split = find_column(Path(name), "split", None, columns)
        if split is not None and value.iloc[:, columns.index(split)].nunique(dropna=False) > 1:
            raise DataError(
                f"{name}: its column {brief(split)} names several splits; give each by itself, the rows of training as "
                "interactions, those held out as validation and test"
            )
        warn_of_ratings(Source(Path(name), "row", 0), value)
        users, items = (value.iloc[:, columns.index(str(column))] for column in found.values())
    elif isinstance(value, tuple) and len(value) == 2:
        users, items = value
    else:
        table = np.asarray(value, object if isinstance(value, list) else None)
        if table.ndim != 2 or table.shape[1] != 2:
            raise DataError(
                f"{name} must be a DataFrame with columns user and item, a tuple (users, items), or an array [E, 2]; "
                f"got {type(value).__name__} of shape {list(table.shape)}"
            )
        users, items = table.T
    pairs = Pairs(name, ids_of(f"{name}, users", users), ids_of(f"{name}, items", items))
    if len(pairs.users.texts) != len(pairs.items.texts):
        raise DataError(f"{name}: {len(pairs.users.texts)} users and {len(pairs.items.texts)} items; they go in pairs")
    if not len(pairs.users.texts):
        raise DataError(f"{name}: has no pairs; give at least one")
    return pairs


def own_ids(modality: str, value: Any) -> Any:
    """The items of a pandas table's rows: a column, or the index but where it only counts rows. None of anything else.

    Raises:
      DataError: several columns may be of items.
    """
    if not isinstance(value, pd.DataFrame | pd.Series):
        return None
    columns = [str(column) for column in value.columns] if isinstance(value, pd.DataFrame) else []
    column = find_column(Path(_named(modality)), "item", None, columns)
    if column is not None:
        return value.iloc[:, columns.index(column)]
    return None if value.index.equals(pd.RangeIndex(len(value))) else value.index


def _named(modality: str) -> str:
    return f"features[{modality!r}]"


def _rows(name: str, value: Any) -> Any:
    """The features of the rows, one array or table of numbers."""
    if isinstance(value, pd.Series):
        value = value.to_frame()
    if not isinstance(value, pd.DataFrame):
        return value
    columns = [str(column) for column in value.columns]
    column = find_column(Path(name), "item", None, columns)
    kept = without_index(name, [other for other in columns if other != column])
    rows = value.iloc[:, [columns.index(other) for other in kept]]
    if rows.shape[1] != 1 or not len(rows) or np.ndim(rows.iat[0, 0]) != 1:
        return rows
    vectors = rows.iloc[:, 0].to_list()
    if len({np.shape(vector) for vector in vectors}) > 1:
        raise DataError(f"{name}: its vectors have different lengths; give each item one of the same length")
    return np.stack(vectors)


def read_features(modality: str, value: Any, item_ids: Any) -> tuple[dict[str, int], np.ndarray]:
    """One modality's features.

    Args:
      modality: its name.
      value, item_ids: as of `identified.identify`.

    Returns:
      The row of each item, and the features `[rows, F] float32`.

    Raises:
      DataError, TypeError, ValueError: no finite matrix, or ids that are none, too few, or there twice.
    """
    name = _named(modality)
    if not isinstance(modality, str) or not modality.isidentifier():
        raise DataError(f"{name}: a modality needs a name of letters and digits, such as image or text")
    own = own_ids(modality, value)
    of_rows, value = item_ids if own is None else own, _rows(name, value)
    values = checks.host_array(name, value, shape=("I", "F"), finite=True)
    checks.not_lost(name, value)
    of_rows = np.arange(len(values)) if of_rows is None else of_rows
    texts = ids_of(f"{name}, items", of_rows).texts.to_pylist()
    if len(texts) != len(values) or not values.shape[1]:
        raise DataError(
            f"{name}: shape {list(values.shape)} for {len(texts)} item_ids; it needs a row for each, and a column"
        )
    row_of = {text: row for row, text in enumerate(texts)}
    if len(row_of) < len(texts):
        twice = next(text for row, text in enumerate(texts) if row_of[text] != row)
        raise DataError(f"{name}: item {brief(repr(twice))} is there twice; give each item one row")
    return row_of, values
