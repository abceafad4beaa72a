"""Reader of the MMRec format, refusing what is malformed before any work starts.

`DIR/NAME/NAME.inter` is tab-separated with a header that has at least `userID`, `itemID`
and `x_label` (0 training, 1 validation, 2 test); `DIR/NAME/*_feat.npy` holds one feature
matrix for each modality, row i belonging to item i.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from isolator_jax.data.arrays import read_features, read_matrix
from isolator_jax.data.dataset import SPLITS, Dataset, Interactions, warn_of_users_without_training
from isolator_jax.data.interactions import COLUMNS, checked_pairs, integers, read_text_table, refuse, text_source
from isolator_jax.errors import DataError, brief

FEATURE_SUFFIX = "_feat.npy"

# More ids without any interaction than this mean that ids were not renumbered, and would cost
# gigabytes of tables that nothing trains.
_MAX_UNUSED_IDS = 1_000_000


def read_dataset(data_dir: str | Path, name: str, modalities: Sequence[str] | None = None) -> Dataset:
    """Reads and checks `data_dir/name`.

    Args:
      data_dir: the folder that holds the dataset's folder.
      name: the dataset's name.
      modalities: which `MODALITY_feat.npy` to use and in which order; None takes all
        there are, by name. An empty sequence reads no features, only how many rows the files have.

    Returns:
      The dataset, features memory-mapped; its validation split may be empty. The catalogue has
      as many items as the features have rows, those of all files where none is asked for; or as
      the largest item id asks, where that is more or there are no files.

    Raises:
      DataError: anything missing or malformed, with file, line or row, and remedy.
    """
    folder = Path(data_dir) / name
    path = folder / f"{name}.inter"
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; data_dir is the folder that holds the dataset's folder {name!r}")
    if not path.is_file():
        raise DataError(f"{path}: no such file; an MMRec dataset keeps its interactions there")
    table = _read_inter(path)
    rows_of_splits = [table[table["x_label"] == label] for label in range(len(SPLITS))]
    for label, (split, rows) in enumerate(zip(SPLITS, rows_of_splits, strict=True)):
        if rows.empty and split != "validation":
            raise DataError(
                f"{path}: the {split} split is empty (no line with x_label {label}); give it at least one interaction"
            )
    _refuse_unranked_splits(path, rows_of_splits)
    _refuse_sparse_ids(path, table["userID"])
    _warn_of_unused_users(path, table["userID"])
    least_items = int(table["itemID"].max()) + 1
    features = {
        modality: read_features(folder / f"{modality}{FEATURE_SUFFIX}", least_items)
        for modality in _modalities(folder, modalities)
    }
    num_items = _catalogue_size(folder, features, least_items)
    if not features:
        _refuse_sparse_ids(path, table["itemID"])
    train, validation, test = (
        Interactions.from_pairs(rows["userID"].to_numpy(), rows["itemID"].to_numpy()) for rows in rows_of_splits
    )
    dataset = Dataset(
        name=name,
        num_users=int(table["userID"].max()) + 1,
        num_items=num_items,
        train=train,
        validation=validation,
        test=test,
        features=features,
    )
    warn_of_users_without_training(dataset, dict.fromkeys(SPLITS, path))
    return dataset


def _read_inter(path: Path) -> pd.DataFrame:
    table = read_text_table(path)
    missing = [column for column in COLUMNS if column not in table.columns]
    if missing:
        raise DataError(
            f"{path}, line 1: no column {', '.join(missing)}; the header must name "
            f"{', '.join(COLUMNS)} (tab-separated), found: {brief(', '.join(map(repr, table.columns)))}"
        )
    return checked_pairs(table, text_source(path))


def _refuse_unranked_splits(path: Path, rows_of_splits: Sequence[pd.DataFrame]) -> None:
    """Refuses a held-out split that no list is made for: its metrics would be undefined."""
    trained = rows_of_splits[0]["userID"]
    for split, rows in zip(SPLITS[1:], rows_of_splits[1:], strict=True):
        if len(rows) and not rows["userID"].isin(trained).any():
            raise DataError(
                f"{path}: no user of the {split} split has training interactions, so there is nothing to measure "
                "on it; split each user's interactions"
            )


def _refuse_sparse_ids(path: Path, ids: pd.Series) -> None:
    largest, used = int(ids.max()), ids.nunique()
    if largest + 1 - used > _MAX_UNUSED_IDS:
        raise DataError(
            f"{path}: {ids.name} goes up to {largest}, but only {used} ids occur; renumber them densely from 0"
        )


def _warn_of_unused_users(path: Path, ids: pd.Series) -> None:
    count, used = int(ids.max()) + 1, ids.nunique()
    if used < count:
        warnings.warn(
            f"{path}: {count - used} of the {count} users up to the largest id have no interaction, and are counted; "
            "number users from 0 without gaps",
            stacklevel=4,
        )


def _modalities(folder: Path, requested: Sequence[str] | None) -> list[str]:
    present = sorted(p.name.removesuffix(FEATURE_SUFFIX) for p in folder.glob(f"*{FEATURE_SUFFIX}"))
    for modality in present:
        if not modality.isprintable() or not modality:
            raise DataError(
                f"{folder}: {modality + FEATURE_SUFFIX!r} names no modality; name the file MODALITY{FEATURE_SUFFIX}"
            )
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


def _catalogue_size(folder: Path, features: dict[str, np.ndarray], least_items: int) -> int:
    # Features that are not asked for still tell how many items there are.
    matrices = features or {
        modality: read_matrix(folder / f"{modality}{FEATURE_SUFFIX}", "(items, dim)")
        for modality in _modalities(folder, None)
    }
    rows = {modality: matrix.shape[0] for modality, matrix in matrices.items()}
    if len(set(rows.values())) > 1:
        listing = ", ".join(f"{modality} {count}" for modality, count in rows.items())
        raise DataError(f"{folder}: the modalities have different numbers of rows ({listing})")
    return max(least_items, next(iter(rows.values()), 0))


def read_id_mapping(folder: Path, column: str, count: int) -> np.ndarray | None:
    """Original ids from `u_id_mapping.csv` or `i_id_mapping.csv`, where the folder has it.

    Args:
      folder: the dataset's folder.
      column: `userID` or `itemID`, the mapping's column of 0-based ids; the other column
        holds the original ids. Tab- or comma-separated.
      count: number of users or items.

    Returns:
      `[count]` original ids as text, blanks around them dropped; None where there is no such file.

    Raises:
      DataError: the file is malformed or does not map every id once, to an original id of its own.
    """
    path = folder / f"{column[0]}_id_mapping.csv"
    if not path.exists():
        return None
    if not path.is_file():
        raise DataError(f"{path}: not a file")
    try:
        with path.open(encoding="utf-8-sig") as file:
            separator = "\t" if "\t" in file.readline() else ","
        table = pd.read_csv(
            path, sep=separator, header=None, dtype=str, keep_default_na=False, skip_blank_lines=False, na_filter=False
        )
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {brief(error)}; it needs two columns, an original id and {column}") from None
    header, table = table.iloc[0].tolist(), table[1:].reset_index(drop=True)
    if len(header) != 2 or header.count(column) != 1:
        raise DataError(f"{path}, line 1: needs two columns, an original id and {column}; found {brief(header)}")
    source = text_source(path, separator)
    ids = integers(source, column, table[header.index(column)])
    if not np.array_equal(np.sort(ids), np.arange(count)):
        raise DataError(f"{path}: {column} must name each of 0 .. {count - 1} once")
    original = table[1 - header.index(column)].str.strip()
    refuse(
        source,
        original.duplicated(),
        lambda row: f"the original id {brief(repr(original[row]))} is there twice; each id needs one of its own",
    )
    mapping = np.empty(count, object)
    mapping[ids] = original.to_numpy()
    return mapping
