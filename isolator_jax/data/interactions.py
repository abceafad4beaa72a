"""Reader of user-item pairs from text tables, parquet and sparse matrices."""

import csv
import warnings
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import scipy.sparse
from numpy.typing import ArrayLike

from isolator_jax.data.arrays import refuse_more_than_memory
from isolator_jax.errors import DataError, brief

COLUMNS = ("userID", "itemID", "x_label")
FORMATS = (".inter", ".csv", ".parquet", ".npz")
_RENAMED = {"user": "userID", "item": "itemID"}
_MAX_ID = np.iinfo(np.int32).max - 1

# Columns that may say of a pair that it is no interaction. They are not read.
_RATINGS = ("rating", "ratings", "score", "value", "weight", "label", "feedback", "click", "clicked", "like", "target")


class Source(NamedTuple):
    """Where a table came from, for messages.

    Attributes:
      path: the file.
      unit: what its rows are called.
      first: the number of the first row.
      delimiter: of a text whose fields may be quoted, and so go over several lines; else None.
      names: the file's own names of columns that are called otherwise here.
    """

    path: Path
    unit: str
    first: int
    delimiter: str | None = None
    names: Mapping[str, str] = {}

    def at(self, row: int) -> str:
        number = row + self.first
        return f"{self.unit} {number if self.delimiter is None else _line_of(self.path, self.delimiter, number)}"

    def name(self, column: str) -> str:
        return self.names.get(column, column)


def text_source(path: Path, delimiter: str | None = None) -> Source:
    """A text file with a header; its fields may be quoted where it ends in `.csv`."""
    return Source(path, "line", 2, delimiter or ("," if path.suffix == ".csv" else None))


def _line_of(path: Path, delimiter: str, record: int) -> int:
    """The line on which a record begins, both counted from 1."""
    line = 1
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=delimiter)
            for _ in range(record - 1):
                next(reader)
                line = reader.line_num + 1
    except (csv.Error, StopIteration):  # pandas reads it otherwise
        return record
    return line


def read_interactions(
    path: Path, num_users: int, num_items: int, original: Mapping[str, np.ndarray] | None = None
) -> pd.DataFrame:
    """Reads and checks user-item pairs of a model with so many users and items.

    Args:
      path: tab-separated `.inter` or `.csv` with a header, `.parquet`, or a scipy sparse
        matrix users x items in `.npz`, whose entries other than zero are the pairs. Tables
        have columns `userID` and `itemID`, or `user` and `item`, 0-based integers; and, if
        they hold all splits, `x_label` (0 training, 1 validation, 2 test).
      num_users, num_items: U and I, the shape of a sparse matrix.
      original: original ids by 0-based id, `[U]` of `userID` and `[I]` of `itemID`; of what is in it, columns
        called `user` and `item` hold the original ids.

    Returns:
      `userID`, `itemID` and, where the file has it, `x_label`, `int64`, each pair once.

    Raises:
      DataError: unreadable or malformed, an id out of range, or a pair in two splits, with
        line or row; or a file that unpacks to more than fits into memory.
    """
    if path.suffix not in FORMATS:
        raise DataError(f"{path}: interactions are read from {', '.join(FORMATS)}")
    if not path.is_file():
        raise DataError(f"{path}: {'not a file' if path.exists() else 'no such file'}")
    if path.suffix == ".npz":
        matrix = read_sparse(path)
        if matrix.shape != (num_users, num_items):
            raise DataError(f"{path}: shape {matrix.shape}, but the model has {num_users} users and {num_items} items")
        return pd.DataFrame({"userID": matrix.row.astype(np.int64), "itemID": matrix.col.astype(np.int64)})
    if path.suffix == ".parquet":
        table, source = _read_parquet(path), Source(path, "row", 0)
    else:
        table, source = read_text_table(path), text_source(path)
    renamed = {old: new for old, new in _RENAMED.items() if new not in table.columns}
    source = source._replace(names={new: old for old, new in renamed.items() if old in table.columns})
    missing = [column for column in COLUMNS[:2] if column not in table.columns and source.name(column) == column]
    if missing:
        raise DataError(
            f"{path}: no column {', '.join(missing)}; it needs userID and itemID, or user and item, "
            f"found: {brief(', '.join(map(repr, table.columns)))}"
        )
    table = table.rename(columns=renamed)
    for column in source.names.keys() & (original or {}).keys():
        table[column] = _dense(source, column, table[column], (original or {})[column])
    pairs = checked_pairs(table, source)
    for column, count, what in (("userID", num_users, "users"), ("itemID", num_items, "items")):
        wrong = pairs.index[pairs[column] >= count]
        if len(wrong):
            raise DataError(
                f"{path}, {source.at(wrong[0])}: {source.name(column)} {pairs[column][wrong[0]]}, but the model has "
                f"{count} {what}; ids are the 0-based rows of its arrays"
            )
    return pairs


def _dense(source: Source, column: str, values: pd.Series, original: np.ndarray) -> np.ndarray:
    """0-based ids of original ones."""
    texts = _whole(values).map(str).astype(str).str.strip()
    places = pd.Index(original).get_indexer(pd.Index(texts))
    refuse(
        source,
        places < 0,
        lambda row: (
            f"{source.name(column)} {brief(repr(values.iloc[row]))} is not in the id mapping beside the histories; "
            f"0-based ids go in a column {column}"
        ),
    )
    return places


def read_sparse(path: Path) -> scipy.sparse.coo_array:
    """A sparse matrix from `.npz`, without its stored zeros.

    Raises:
      DataError: not a valid sparse matrix.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        refuse_more_than_memory(path, unpacked)
        matrix = scipy.sparse.load_npz(path)  # never unpickles
        if hasattr(matrix, "check_format"):
            matrix.check_format(full_check=True)
        matrix = scipy.sparse.coo_array(matrix)
        matrix.sum_duplicates()
        matrix.eliminate_zeros()
        finite, negative = np.isfinite(matrix.data), int((matrix.data < 0).sum())
    except (MemoryError, DataError):
        raise
    except Exception as error:  # of many types, from zip files to numpy headers
        reason = brief(error)
        raise DataError(
            f"{path}: not a readable sparse matrix ({reason}); save it with scipy.sparse.save_npz"
        ) from None
    if not finite.all():
        entry = int(np.argmin(finite))
        raise DataError(
            f"{path}: the entry of user {matrix.row[entry]} and item {matrix.col[entry]} is {matrix.data[entry]}, not "
            "finite; entries other than zero are interactions, so leave out what is none"
        )
    if negative:
        warnings.warn(f"{path}: {negative} entries are below zero and count as interactions", stacklevel=3)
    return matrix


def checked_pairs(table: pd.DataFrame, source: Source) -> pd.DataFrame:
    """`userID`, `itemID` and, where it is there, `x_label` of a table as integers, each pair once.

    Raises:
      DataError: a value that is no id or label, or a pair in two splits.
    """
    if not isinstance(table.index, pd.RangeIndex):  # pandas takes surplus fields for row labels
        raise DataError(
            f"{source.path}, {source.at(0)}: more fields than the header names; every line needs the same columns"
        )
    warn_of_ratings(source, table)
    columns = [column for column in COLUMNS if column in table.columns]
    pairs = pd.DataFrame({column: integers(source, column, table[column]) for column in columns})
    if "x_label" in columns:
        refuse(
            source,
            pairs["x_label"] > 2,
            lambda row: f"x_label {pairs['x_label'][row]} is not 0 (training), 1 (validation) or 2 (test)",
        )
    return _drop_duplicates(source, pairs)


def read_text_table(path: Path) -> pd.DataFrame:
    """A table as text, so that what a number parser would coerce is seen as it stands.

    Args:
      path: comma-separated if it ends in `.csv`, else tab-separated without quoting.

    Raises:
      DataError: empty, not UTF-8, a needed column twice, or a line with more fields than the others.
    """
    layout = {"skip_blank_lines": False, "dtype": str, "keep_default_na": False}
    if path.suffix != ".csv":
        layout |= {"sep": "\t", "quoting": csv.QUOTE_NONE}
    try:
        table = pd.read_csv(path, **layout)
        if len(table.columns) > 1:  # pandas has renamed what is there twice
            _refuse_repeated_columns(text_source(path), pd.read_csv(path, header=None, nrows=1, **layout).iloc[0])
        return table
    except pd.errors.EmptyDataError:
        raise DataError(f"{path}: the file is empty; line 1 must name {', '.join(COLUMNS)}") from None
    except pd.errors.ParserError as error:
        raise DataError(f"{path}: {brief(error)}; every line needs the header's columns") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error}); save it as UTF-8") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def integers(source: Source, column: str, values: pd.Series) -> np.ndarray:
    """Non-negative 32-bit integers from text or integers, or an error that names the first row that is none.

    Raises:
      DataError: with the row.
    """
    values = _whole(values)
    too_large = lambda row: f"{source.name(column)} {brief(values[row])} is too large; renumber the ids densely from 0"
    if values.dtype.kind in "iu":
        refuse(source, values < 0, lambda row: f"{source.name(column)} {values[row]} is below 0; ids are from 0 on")
        refuse(source, values > _MAX_ID, too_large)
        return values.to_numpy(np.int64)
    text = values.map(str).astype(str).str.strip()
    refuse(
        source,
        ~text.str.fullmatch(r"[0-9]+", na=False),
        lambda row: (
            f"{source.name(column)} {brief(repr(values[row]))} is not a non-negative integer; ids are 0-based integers"
        ),
    )
    refuse(source, text.str.len() > 18, too_large)
    numbers = text.astype(np.int64)
    refuse(source, numbers > _MAX_ID, too_large)
    return numbers.to_numpy()


def _whole(values: pd.Series) -> pd.Series:
    """Integers where all are whole numbers stored as floats, as joined tables have them; else the values themselves."""
    whole = values.dtype.kind == "f" and bool(((values % 1 == 0) & (values.abs() < 2**53)).all())
    return values.astype(np.int64) if whole else values


def refuse(source: Source, wrong: ArrayLike, message: Callable[[int], str]) -> None:
    """Raises a DataError at the first row that is wrong, if there is one."""
    wrong = np.asarray(wrong, bool)
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(f"{source.path}, {source.at(row)}: {message(row)}")


def _read_parquet(path: Path) -> pd.DataFrame:
    """The columns that matter, those that pandas wrote as the table's index among them."""
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            _refuse_repeated_columns(Source(path, "row", 0), names)
            wanted = [name for name in names if name in COLUMNS or name in _RENAMED or _is_rating(name)]
            if not {"userID", "user"} & set(wanted) or not {"itemID", "item"} & set(wanted):
                return pd.DataFrame(columns=names)  # for the message that says what there is
            refuse_more_than_memory(path, file.metadata.num_rows * 8 * len(wanted))
            return file.read(columns=wanted).to_pandas(ignore_metadata=True)
    except (MemoryError, DataError):
        raise
    except Exception as error:  # of many types, from pyarrow
        raise DataError(f"{path}: not a readable parquet file ({brief(error)})") from None


def _is_rating(name: object) -> bool:
    return str(name).strip().lower().split(":")[0] in _RATINGS


def warn_of_ratings(source: Source, table: pd.DataFrame) -> None:
    """Warns where a column that is not read may say that pairs are no interactions."""
    for place, column in enumerate(table.columns):
        if not _is_rating(column):
            continue
        values = table.iloc[:, place]
        if values.dtype.kind not in "iufb":
            text = values.map(str).str.strip()
            numbers = pd.to_numeric(text, errors="coerce")
            if (numbers.isna() & ~text.str.lower().isin(["", "nan", "none", "null"])).any():
                continue  # words
            values = numbers
        without = int((~(values > 0)).sum())
        if without:
            warnings.warn(
                f"{source.path}: {brief(column)} is 0, less or missing on {without} of {len(table)} {source.unit}s, "
                "which count as interactions all the same; leave out what is none",
                stacklevel=4,
            )


def _refuse_repeated_columns(source: Source, names: Iterable[object]) -> None:
    names = list(names)
    repeated = [name for name in (*COLUMNS, *_RENAMED) if names.count(name) > 1]
    if repeated:
        raise DataError(f"{source.path}: its header names {', '.join(repeated)} twice; keep one column of that name")


def _drop_duplicates(source: Source, pairs: pd.DataFrame) -> pd.DataFrame:
    repeated = np.asarray(pairs.duplicated())
    if repeated.any():
        warnings.warn(
            f"{source.path}: dropped {int(repeated.sum())} duplicate {source.unit}s, "
            f"the first on {source.at(int(repeated.argmax()))}",
            stacklevel=4,
        )
        pairs = pairs[~repeated]
    crossing = pairs.duplicated(["userID", "itemID"])
    if crossing.any():
        row = int(crossing.index[np.asarray(crossing).argmax()])
        pair = pairs.loc[row]
        raise DataError(
            f"{source.path}, {source.at(row)}: user {pair['userID']} and item {pair['itemID']} are in two "
            "splits; keep the pair in one, otherwise evaluation leaks into training"
        )
    return pairs
