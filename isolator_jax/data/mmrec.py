"""Reader of the MMRec format, refusing what is malformed before any work starts.

`DIR/NAME/NAME.inter` is tab-separated with a header that has at least `userID`, `itemID`
and `x_label` (0 training, 1 validation, 2 test); `DIR/NAME/*_feat.npy` holds one feature
matrix for each modality, row i belonging to item i.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from isolator_jax.data.arrays import read_features
from isolator_jax.data.dataset import SPLITS, DataError, Dataset, Interactions
from isolator_jax.data.interactions import COLUMNS, checked_pairs, integers, read_text_table, text_source

FEATURE_SUFFIX = "_feat.npy"


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
    table = _read_inter(path)
    rows_of_splits = [table[table["x_label"] == label] for label in range(len(SPLITS))]
    for label, (split, rows) in enumerate(zip(SPLITS, rows_of_splits, strict=True)):
        if rows.empty:
            raise DataError(
                f"{path}: the {split} split is empty (no line with x_label {label}); "
                "give every split at least one interaction"
            )
    least_items = int(table["itemID"].max()) + 1
    features = {
        modality: read_features(folder / f"{modality}{FEATURE_SUFFIX}", least_items)
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


def _read_inter(path: Path) -> pd.DataFrame:
    table = read_text_table(path)
    missing = [column for column in COLUMNS if column not in table.columns]
    if missing:
        raise DataError(
            f"{path}, line 1: no column {', '.join(missing)}; the header must name "
            f"{', '.join(COLUMNS)} (tab-separated), found: {', '.join(table.columns)}"
        )
    return checked_pairs(table, text_source(path))


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
    ids = integers(text_source(path), column, table[column])
    if not np.array_equal(np.sort(ids), np.arange(count)):
        raise DataError(f"{path}: {column} must name each of 0 .. {count - 1} once")
    (original,) = (name for name in table.columns if name != column)
    mapping = np.empty(count, object)
    mapping[ids] = table[original].to_numpy()
    return mapping
