"""Reader of the MMRec format, refusing what is malformed before any work starts.

`DIR/NAME/NAME.inter` is tab-separated with a header that has at least `userID`, `itemID`
and `x_label` (0 training, 1 validation, 2 test); `DIR/NAME/*_feat.npy` holds one feature
matrix for each modality, row i belonging to item i.
"""

import csv
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from isolator_jax.data.dataset import SPLITS, DataError, Dataset, Interactions

COLUMNS = ("userID", "itemID", "x_label")
FEATURE_SUFFIX = "_feat.npy"
_MAX_ID = np.iinfo(np.int32).max - 1
_CHECK_BYTES = 64 << 20


def read_dataset(data_dir: str | Path, name: str, modalities: Sequence[str] | None = None) -> Dataset:
    """Reads and checks `data_dir/name`.

    Args:
      data_dir: the folder that holds the dataset's folder.
      name: the dataset's name.
      modalities: which `MODALITY_feat.npy` to use and in which order; None takes all
        there are, by name. An empty sequence reads no features.

    Returns:
      The dataset, features memory-mapped. The catalogue has as many items as the feature
      files have rows, or as the largest item id asks where there are no features.

    Raises:
      DataError: anything missing or malformed, with file, line or row, and remedy.
    """
    folder = Path(data_dir) / name
    path = folder / f"{name}.inter"
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; --data_dir must contain a folder {name!r}")
    if not path.is_file():
        raise DataError(f"{path}: no such file; an MMRec dataset keeps its interactions there")
    table = _read_interactions(path)
    rows_of_splits = [table[table["x_label"] == label] for label in range(len(SPLITS))]
    for label, (split, rows) in enumerate(zip(SPLITS, rows_of_splits, strict=True)):
        if rows.empty:
            raise DataError(
                f"{path}: the {split} split is empty (no line with x_label {label}); "
                "give every split at least one interaction"
            )
    least_items = int(table["itemID"].max()) + 1
    features = {
        modality: _read_features(folder / f"{modality}{FEATURE_SUFFIX}", least_items)
        for modality in _modalities(folder, modalities)
    }
    train, validation, test = (
        Interactions.from_pairs(rows["userID"].to_numpy(), rows["itemID"].to_numpy()) for rows in rows_of_splits
    )
    return Dataset(
        name=name,
        num_users=int(table["userID"].max()) + 1,
        num_items=_catalogue_size(folder, features, least_items),
        train=train,
        validation=validation,
        test=test,
        features=features,
    )


def _read_interactions(path: Path) -> pd.DataFrame:
    layout = {"sep": "\t", "quoting": csv.QUOTE_NONE, "skip_blank_lines": False}
    try:
        header = pd.read_csv(path, nrows=0, **layout).columns
        missing = [column for column in COLUMNS if column not in header]
        if missing:
            raise DataError(
                f"{path}, line 1: no column {', '.join(missing)}; the header must name "
                f"{', '.join(COLUMNS)} (tab-separated), found: {', '.join(header)}"
            )
        # Read as text, so that what a number parser would coerce is seen as it stands.
        text = pd.read_csv(path, dtype=str, keep_default_na=False, **layout)
    except pd.errors.EmptyDataError:
        raise DataError(f"{path}: the file is empty; line 1 must name {', '.join(COLUMNS)}") from None
    except pd.errors.ParserError as error:
        raise DataError(f"{path}: {error}; every line needs the header's columns, tab-separated") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error}); save it as tab-separated UTF-8") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    if not isinstance(text.index, pd.RangeIndex):  # pandas takes surplus fields for row labels
        raise DataError(f"{path}, line 2: more fields than the header names; every line needs the same columns")
    table = pd.DataFrame({column: _integers(path, column, text[column]) for column in COLUMNS})
    _refuse(
        path,
        table["x_label"] > 2,
        lambda row: f"x_label {table['x_label'][row]} is not 0 (training), 1 (validation) or 2 (test)",
    )
    return _drop_duplicates(path, table)


def _integers(path: Path, column: str, text: pd.Series) -> np.ndarray:
    """Non-negative 32-bit integers, or an error that names the first line that is none."""
    stripped = text.str.strip()
    _refuse(
        path,
        ~stripped.str.fullmatch(r"[0-9]+", na=False),
        lambda row: f"{column} {text[row]!r} is not a non-negative integer; ids are 0-based integers",
    )
    long = stripped.str.len() > 18
    _refuse(path, long, lambda row: f"{column} {text[row]} is too large; renumber the ids densely from 0")
    values = stripped.astype(np.int64)
    _refuse(
        path,
        values > _MAX_ID,
        lambda row: f"{column} {text[row]} is too large; renumber the ids densely from 0",
    )
    return values.to_numpy()


def _refuse(path: Path, wrong: pd.Series, message) -> None:
    wrong = np.asarray(wrong, bool)
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(f"{path}, line {row + 2}: {message(row)}")


def _drop_duplicates(path: Path, table: pd.DataFrame) -> pd.DataFrame:
    repeated = table.duplicated(list(COLUMNS))
    if repeated.any():
        first = int(np.asarray(repeated).argmax())
        warnings.warn(
            f"{path}: dropped {int(repeated.sum())} duplicate lines, the first on line {first + 2}",
            stacklevel=4,
        )
        table = table[~repeated]
    crossing = table.duplicated(["userID", "itemID"])
    if crossing.any():
        row = int(crossing.index[np.asarray(crossing).argmax()])
        pair = table.loc[row]
        raise DataError(
            f"{path}, line {row + 2}: user {pair['userID']} and item {pair['itemID']} are in two "
            "splits; keep the pair in one, otherwise evaluation leaks into training"
        )
    return table


def _modalities(folder: Path, requested: Sequence[str] | None) -> list[str]:
    present = sorted(p.name.removesuffix(FEATURE_SUFFIX) for p in folder.glob(f"*{FEATURE_SUFFIX}"))
    if requested is None:
        return present
    for position, modality in enumerate(requested):
        if modality not in present:
            raise DataError(
                f"{folder / (modality + FEATURE_SUFFIX)}: no such file; modalities there: "
                f"{', '.join(present) or 'none'}"
            )
        if modality in requested[:position]:
            raise DataError(f"modality {modality!r} is named twice")
    return list(requested)


def _read_features(path: Path, least_items: int) -> np.ndarray:
    try:
        features = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # of many types: numpy evaluates a broken header as Python
        raise DataError(f"{path}: not a readable .npy array ({error}); save it with numpy.save") from None
    if not isinstance(features, np.ndarray) or features.ndim != 2 or features.shape[1] == 0:
        raise DataError(f"{path}: must be one array of shape (items, dim), found {np.shape(features)}")
    if features.dtype.newbyteorder("=") not in (np.float16, np.float32, np.float64):
        raise DataError(f"{path}: dtype {features.dtype} is not float16, float32 or float64")
    if features.shape[0] < least_items:
        raise DataError(
            f"{path}: {features.shape[0]} rows, but the interactions name item {least_items - 1}; "
            f"it needs at least {least_items} rows, one for each item"
        )
    step = max(1, _CHECK_BYTES // (features.shape[1] * features.dtype.itemsize))
    for start in range(0, features.shape[0], step):
        # In float32, as the models see it: a float64 beyond its range is infinite there.
        with np.errstate(over="ignore"):
            finite = np.isfinite(features[start : start + step].astype(np.float32)).all(axis=1)
        if not finite.all():
            row = start + int((~finite).argmax())
            raise DataError(f"{path}, row {row}: NaN or infinite in float32; replace it, zeros mean no content")
    return features


def _catalogue_size(folder: Path, features: dict[str, np.ndarray], least_items: int) -> int:
    rows = {modality: feature.shape[0] for modality, feature in features.items()}
    if len(set(rows.values())) > 1:
        listing = ", ".join(f"{modality} {count}" for modality, count in rows.items())
        raise DataError(f"{folder}: the modalities have different numbers of rows ({listing})")
    return next(iter(rows.values()), least_items)


def read_id_mapping(folder: Path, column: str, count: int) -> np.ndarray | None:
    """Original ids from `u_id_mapping.csv` or `i_id_mapping.csv`, where the folder has it.

    Args:
      folder: the dataset's folder.
      column: `userID` or `itemID`, the mapping's column of 0-based ids; the other column
        holds the original ids. Tab- or comma-separated.
      count: number of users or items.

    Returns:
      `[count]` original ids as text; None where there is no such file.

    Raises:
      DataError: the file is malformed or does not map every id once.
    """
    path = folder / f"{column[0]}_id_mapping.csv"
    if not path.is_file():
        return None
    try:
        first_line = path.open(encoding="utf-8").readline()
        separator = "\t" if "\t" in first_line else ","
        table = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, index_col=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {error}; it needs two columns, an original id and {column}") from None
    if column not in table.columns or len(table.columns) != 2:
        raise DataError(f"{path}, line 1: needs two columns, an original id and {column}; found {list(table.columns)}")
    ids = _integers(path, column, table[column])
    if not np.array_equal(np.sort(ids), np.arange(count)):
        raise DataError(f"{path}: {column} must name each of 0 .. {count - 1} once")
    (original,) = (name for name in table.columns if name != column)
    mapping = np.empty(count, object)
    mapping[ids] = table[original].to_numpy()
    return mapping
