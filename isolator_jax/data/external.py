"""Data of a model trained elsewhere: feature files and interactions in several formats."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from isolator_jax.data.arrays import read_features
from isolator_jax.data.dataset import SPLITS, Dataset, Interactions, warn_of_users_without_training
from isolator_jax.data.interactions import read_interactions
from isolator_jax.data.mmrec import FEATURE_SUFFIX
from isolator_jax.errors import DataError, brief


def read_external(
    features: Sequence[Path],
    splits: Mapping[str, Path],
    num_users: int,
    num_items: int,
    original: Mapping[str, np.ndarray] | None = None,
) -> Dataset:
    """Reads and checks the data that belongs to given embeddings or scores.

    Args:
      features: an `.npy` `[I, F]` for each modality, named after its file.
      splits: interactions by split (`interactions.read_interactions`); `train` is needed. A
        `train` file with the column `x_label` holds all three splits.
      num_users, num_items: the model's U and I.
      original: original ids of users and items, as in `interactions.read_interactions`.

    Returns:
      The dataset, features memory-mapped; splits that are not given are empty.

    Raises:
      DataError: anything malformed, or that does not fit the model or the other files.
    """
    tables = {split: read_interactions(path, num_users, num_items, original) for split, path in splits.items()}
    pairs = _all_pairs(tables, splits)
    _refuse_common_pairs(pairs, splits, original or {})
    interactions = {
        split: Interactions.from_pairs(table["userID"].to_numpy(), table["itemID"].to_numpy())
        for split, table in pairs.items()
    }
    trained = np.unique(interactions["train"].users)
    if not trained.size:
        raise DataError(f"{splits['train']}: no training interactions")
    for split in set(splits) - {"train"}:
        if not np.isin(interactions[split].users, trained).any():
            raise DataError(f"{splits[split]}: no user in it has training interactions")
    dataset = Dataset(
        name=splits["train"].stem,
        num_users=num_users,
        num_items=num_items,
        features=_named_features(features, num_items),
        **interactions,
    )
    warn_of_users_without_training(dataset, {split: splits.get(split, splits["train"]) for split in SPLITS})
    return dataset


def _all_pairs(tables: Mapping[str, pd.DataFrame], splits: Mapping[str, Path]) -> dict[str, pd.DataFrame]:
    """`userID` and `itemID` of the three splits."""
    labelled = [split for split, table in tables.items() if "x_label" in table.columns]
    if not labelled:
        no_pairs = pd.DataFrame({"userID": [], "itemID": []}, dtype=np.int64)
        return {split: tables.get(split, no_pairs) for split in SPLITS}
    if len(tables) > 1:
        raise DataError(
            f"{splits[labelled[0]]}: its column x_label says which split each pair is in; "
            "give a file with x_label alone, as the histories, or drop the column"
        )
    table = tables["train"]
    return {split: table[table["x_label"] == label] for label, split in enumerate(SPLITS)}


def _refuse_common_pairs(
    pairs: Mapping[str, pd.DataFrame], splits: Mapping[str, Path], original: Mapping[str, np.ndarray]
) -> None:
    together = pd.concat(pairs, names=["split"]).reset_index("split")
    common = together[together.duplicated(["userID", "itemID"], keep=False)]
    if len(common):
        user, item = common.iloc[0][["userID", "itemID"]]
        same = common[(common["userID"] == user) & (common["itemID"] == item)]
        files = " and ".join(str(splits[split]) for split in same["split"])
        named = [
            f"{row} ({brief(repr(str(original[column][row])))} of the mapping)" if column in original else f"{row}"
            for column, row in (("userID", user), ("itemID", item))
        ]
        raise DataError(
            f"{files}: user {named[0]} and item {named[1]} are in both; keep the pair in one, "
            "otherwise evaluation leaks into training"
        )


def _named_features(paths: Sequence[Path], num_items: int) -> dict[str, np.ndarray]:
    features: dict[str, np.ndarray] = {}
    for path in paths:
        name = path.name.removesuffix(FEATURE_SUFFIX).removesuffix(".npy")
        if name in features:
            raise DataError(f"{path}: two feature files are called {name!r}; modalities are named after their files")
        features[name] = read_features(path, least_items=0)
        if features[name].shape[0] != num_items:
            raise DataError(f"{path}: {features[name].shape[0]} rows, but the model has {num_items} items")
    return features
