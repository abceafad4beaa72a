"""A dataset made of tables in memory, and its original ids: what `prepare` is for files.

Users and items are numbered in the order of their ids, as numbers if all are whole numbers,
else by characters; so ids 0, 1, ... stay what they are.
"""

import dataclasses
import filecmp
import json
import os
import re
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from isolator_jax import checks
from isolator_jax.data.dataset import SPLITS, Dataset, Interactions, warn_of_users_without_training
from isolator_jax.data.folder import new_folder, write_mapping, write_splits
from isolator_jax.data.frames import Ids, Pairs, own_ids, read_features, read_pairs
from isolator_jax.data.lists import IdIndex
from isolator_jax.data.mmrec import FEATURE_SUFFIX
from isolator_jax.data.prepare.split import held_out_counts, label_last
from isolator_jax.data.raw import Codes
from isolator_jax.errors import DataError, brief
from isolator_jax.files import draft_beside, is_draft, write_json

# Training, validation and test, of what is not given.
RATIOS = (8, 1, 1)
_KINDS = "ids.json"
_DTYPES = ("int64", "uint64", "object")


@dataclasses.dataclass(frozen=True)
class Identified:
    """A dataset and the ids it has outside.

    Attributes:
      dataset: in dense ids.
      user_ids, item_ids: `[U]` and `[I]` original ids by dense id: integers, or text (objects).
    """

    dataset: Dataset
    user_ids: np.ndarray
    item_ids: np.ndarray


def identify(
    name: str,
    interactions: Any,
    features: Mapping[str, Any],
    *,
    validation: Any = None,
    test: Any = None,
    item_ids: Any = None,
    seed: int,
) -> Identified:
    """Tables in memory as a dataset.

    Args:
      name: the dataset's.
      interactions, validation, test: pairs, as of `read_pairs`. A split that is None is held out of
        the interactions, of each user by `RATIOS` and the seed, as `prepare` does.
      features: by modality, a DataFrame with a row an item, whose ids are a column of a usual name or
        else the index (a Series of vectors likewise); or an array `[I, F]`, whose row r is of item
        `item_ids[r]`, or of the item with the id r where `item_ids` is None.
      item_ids: `[I]`, the ids of the rows of arrays, and of tables whose index only counts the rows.
      seed: of the split.

    Returns:
      The dataset. Its items are those with features in all modalities; without features, those
      of the pairs.

    Raises:
      DataError, TypeError, ValueError: what is malformed, named by argument and row.
    """
    checks.instance("features", features, Mapping)
    if item_ids is not None and all(own_ids(modality, value) is not None for modality, value in features.items()):
        raise DataError(
            "item_ids: no features have rows that take it (a table's have ids of their own, by a column or the index); "
            "leave it out, or give rows without ids, as by reset_index(drop=True)"
        )
    given = {"train": read_pairs("interactions", interactions)}
    given |= {
        split: read_pairs(split, pairs)
        for split, pairs in zip(SPLITS[1:], (validation, test), strict=True)
        if pairs is not None
    }
    rows = {modality: read_features(modality, value, item_ids) for modality, value in features.items()}
    users, items = Codes(), Codes()
    catalogue = _in_all([row_of for row_of, _ in rows.values()])
    items.of(pa.array(catalogue, pa.string()))
    coded = {split: (users.of(pairs.users.texts)[0], items.of(pairs.items.texts)[0]) for split, pairs in given.items()}
    if rows:
        for split, pairs in given.items():
            _refuse_without_features(pairs, coded[split][1], rows, len(catalogue))
    user_texts, user_order = users.in_order()
    item_texts, item_order = items.in_order()
    ids = {
        "user": _original(user_texts, all(pairs.users.whole for pairs in given.values())),
        "item": _original(item_texts, all(pairs.items.whole for pairs in given.values()) and _are_digits(catalogue)),
    }
    dense = {
        split: _unique(given[split].name, user_order[of_users], item_order[of_items])
        for split, (of_users, of_items) in coded.items()
    }
    _refuse_common(dense, {split: pairs.name for split, pairs in given.items()}, ids["user"], ids["item"])
    dense = _held_out(dense, len(user_texts), seed)
    matrices = {modality: values[[row_of[text] for text in item_texts]] for modality, (row_of, values) in rows.items()}
    dataset = Dataset(name, len(user_texts), len(item_texts), **dense, features=matrices)
    warn_of_users_without_training(dataset, dict(zip(SPLITS, ("interactions", "validation", "test"), strict=True)))
    return Identified(dataset, ids["user"], ids["item"])


def held_out_of(name: str, value: Any, identified: Identified) -> Interactions:
    """Held-out pairs of users and items that a dataset knows.

    Raises:
      DataError: an unknown user or item, or a pair of training.
    """
    pairs, dataset = read_pairs(name, value), identified.dataset
    users = known(f"{name}, users", pairs.users, "userID", identified.user_ids)
    items = known(f"{name}, items", pairs.items, "itemID", identified.item_ids)
    held_out = _unique(name, users, items)
    _refuse_common(
        {"train": dataset.train, name: held_out}, {"train": "interactions"}, identified.user_ids, identified.item_ids
    )
    if not np.isin(held_out.users, dataset.train.users).any():
        raise DataError(f"{name}: no user of it has training items, so that there is nothing to measure")
    return held_out


def known(name: str, ids: Ids, column: str, original: np.ndarray) -> np.ndarray:
    """Dense ids `[N] int32` of original ones.

    Args:
      name: the argument, for messages.
      ids: the original ids.
      column: `userID` or `itemID`.
      original: `[count]` original ids by dense id.

    Raises:
      DataError: unknown ids, with how many and the first.
    """
    codes = Codes()
    rows, _ = codes.of(ids.texts)
    dense, _ = IdIndex.of(column, len(original), original).lookup(codes.texts(), "original")
    unknown = [text for text, found in zip(codes.texts(), dense, strict=True) if found < 0]
    if unknown:
        raise DataError(
            f"{name}: {len(unknown)} unknown, {brief(repr(unknown[0]), 60)} the first; the model knows "
            f"{len(original)}, such as {brief(repr(str(original[0])), 60)}; leave out those it has not been fitted with"
        )
    return dense.astype(np.int32)[rows]


def write_identified(target: Path, identified: Identified) -> None:
    """Writes a dataset in MMRec's format with its ids, as a new folder of the dataset's name.

    Raises:
      FileExistsError: the folder is there.
    """
    with new_folder(target) as draft:
        write_splits(draft, target.name, identified.dataset)
        kinds: dict[str, str] = {}
        for what, ids in (("user", identified.user_ids), ("item", identified.item_ids)):
            write_mapping(draft, f"{what}_id", f"{what}ID", list(map(str, ids)))
            kinds[f"{what}ID"] = ids.dtype.name
        write_json(draft / _KINDS, kinds)
        for modality, values in identified.dataset.features.items():
            np.save(draft / f"{modality}{FEATURE_SUFFIX}", values)


def keep_identified(target: Path, identified: Identified) -> None:
    """Writes a dataset as `write_identified` does in place of another, and leaves what is the same as it is.

    Whoever is interrupted has the folder as it was. The caller holds the lock of the folder around it: drafts there are
    of killed processes, and removed.
    """
    if target.parent.is_dir():
        for left in filter(is_draft, target.parent.iterdir()):
            shutil.rmtree(left, ignore_errors=True)
    draft = draft_beside(target)
    written, before = draft / target.name, draft / "before"
    try:
        write_identified(written, identified)
        if not _are_same(written, target):
            if target.exists():
                target.rename(before)
            written.rename(target)
    finally:
        if before.exists() and not target.exists():  # between the two renames
            before.rename(target)
        shutil.rmtree(draft, ignore_errors=True)


def _are_same(first: Path, second: Path) -> bool:
    """Whether two folders have the same files."""
    if not second.is_dir():
        return False
    names = set(os.listdir(first))
    equal, *_ = filecmp.cmpfiles(first, second, names, shallow=False)
    return names == set(os.listdir(second)) == set(equal)


def read_kinds(folder: Path) -> dict[str, str]:
    """The types of the original ids that `write_identified` noted, by `userID` and `itemID`; empty if there are none.

    Raises:
      DataError: the note is not what was written.
    """
    path = folder / _KINDS
    if not path.is_file():
        return {}
    try:
        kinds = json.loads(path.read_text(encoding="utf-8"))
        if not all(kinds[column] in _DTYPES for column in ("userID", "itemID")):
            raise ValueError("other types than " + ", ".join(_DTYPES))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path}: not what was written ({brief(error)}); remove it, and ids are read as text") from None
    return kinds


def _in_all(row_ofs: Sequence[Mapping[str, int]]) -> list[str]:
    """The items that all modalities have, in the order of the first."""
    return [text for text in row_ofs[0] if all(text in row_of for row_of in row_ofs)] if row_ofs else []


def _refuse_without_features(pairs: Pairs, codes: np.ndarray, rows: Mapping[str, Any], catalogue: int) -> None:
    without = codes >= catalogue
    if without.any():
        text = pairs.items.texts[int(without.argmax())].as_py()
        lacking = next(modality for modality, (row_of, _) in rows.items() if text not in row_of)
        raise DataError(
            f"{pairs.name}, row {int(without.argmax())}: item {brief(repr(text))} has no row in features[{lacking!r}], "
            f"and {np.unique(codes[without]).size - 1} others have none; leave them out, or give them rows of zeros "
            "(no content); rows of an array are of item_ids, or else of the items 0, 1, ..."
        )


def _original(texts: list[str], whole: bool) -> np.ndarray:
    """As integers of the first type that holds all, else as text."""
    numbers = [int(text) for text in texts] if whole else []
    for dtype in (np.int64, np.uint64):
        if numbers and np.iinfo(dtype).min <= min(numbers) and max(numbers) <= np.iinfo(dtype).max:
            return np.array(numbers, dtype)
    return np.array(texts, object)


def _are_digits(texts: Sequence[str]) -> bool:
    """Whether all are whole numbers as they are written, so that no two of them are one number."""
    return all(re.fullmatch(r"0|-?[1-9]\d*", text) for text in texts)


def _unique(name: str, users: np.ndarray, items: np.ndarray) -> Interactions:
    """Each pair once, with a warning of what is dropped."""
    pairs = Interactions.from_pairs(users, items)
    if len(pairs) < users.size:
        warnings.warn(f"{name}: dropped {users.size - len(pairs)} pairs that are there more than once", stacklevel=4)
    return pairs


def _refuse_common(
    splits: Mapping[str, Interactions], names: Mapping[str, str], user_ids: np.ndarray, item_ids: np.ndarray
) -> None:
    """Refuses a pair that is in two of the splits, each of which has it once."""
    keys = np.concatenate([split.users.astype(np.int64) * len(item_ids) + split.items for split in splits.values()])
    different, counts = np.unique(keys, return_counts=True)
    if (counts > 1).any():
        user, item = divmod(int(different[counts > 1][0]), len(item_ids))
        given = " and ".join(names.get(split, split) for split in splits)
        raise DataError(
            f"user {brief(repr(str(user_ids[user])))} and item {brief(repr(str(item_ids[item])))} are in more than one "
            f"of {given}; keep the pair in one, otherwise evaluation leaks into training"
        )


def _held_out(given: dict[str, Interactions], num_users: int, seed: int) -> dict[str, Interactions]:
    """All splits; those not given are held out of `train`."""
    train = given["train"]
    shares = [0 if split in given else ratio for split, ratio in zip(SPLITS, RATIOS, strict=True)][1:]
    ratios = [sum(RATIOS) - sum(shares), *shares]
    keys = np.random.default_rng(seed).random(len(train))
    counts = held_out_counts(np.bincount(train.users, minlength=num_users), ratios)
    labels = label_last(train.users, keys, *counts)
    parts = [Interactions(train.users[labels == label], train.items[labels == label]) for label in range(len(SPLITS))]
    splits = dict(zip(SPLITS, parts, strict=True)) | {split: given[split] for split in SPLITS[1:] if split in given}
    trained = splits["train"].users
    for split in SPLITS[1:]:
        if not np.isin(splits[split].users, trained).any():
            raise DataError(
                f"{split}: no user has {split} items beside training items, so that there is nothing to measure; "
                f"users of three and more interactions have some held out, or give {split} pairs"
            )
    return splits
